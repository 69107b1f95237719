"""The admin UI: server-rendered pages over the same database and Redis as the API."""

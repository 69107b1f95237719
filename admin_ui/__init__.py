"""The admin pages: server-rendered, over the same database and Redis as the API."""

"""The published contract: the descriptions of all views, assembled into an OpenAPI 3.1 document."""

"""`bountycoder batch`: batches over HTTP, for machines without a server."""

"""`bountycoder batch`: bulk work over HTTP, for a machine that has only the client's parts."""

"""Bulk work: from a file of requests to the rows of a batch, and from rows to a file of results."""

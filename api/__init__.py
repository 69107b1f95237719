"""The HTTP API: authenticates, validates, limits, writes the job, queues it and answers."""

"""The worker: fetches jobs from the queue, runs them on one engine, records their usage."""

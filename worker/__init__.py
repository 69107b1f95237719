"""The worker: fetches jobs, runs them on one engine, records their usage."""

"""The worker: takes jobs off the queue, runs them on one engine, records what they used."""

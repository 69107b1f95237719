"""Workers on rented GPUs: `python3 -m cloud`. Needs only Python's standard library."""

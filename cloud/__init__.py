"""Workers on rented GPUs: `python3 -m cloud`, with nothing but Python's standard library."""

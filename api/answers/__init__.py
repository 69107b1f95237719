"""What calls answer, as models for the published contract.

The views make these shapes by hand, as cheaply as they can; `tests/contract.py` holds every answer
that a test receives against them.
"""

"""The published contract: what each view says of itself, assembled into an OpenAPI 3.1 document."""

"""OpenAI's API over the same service: bodies, responses and views of `/v1`."""

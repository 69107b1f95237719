"""The face of OpenAI's API over the same service: bodies, answers and views of `/v1`."""

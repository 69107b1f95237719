"""Fuzzing of all code that reads untrusted bytes.

A target takes any bytes. It must return or raise an error of the contract, in bounded time.
`make test` runs each target for a moment with hypothesis. `make fuzz` runs each for minutes with
atheris, which follows the branches of the code.
"""

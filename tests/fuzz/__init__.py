"""Fuzzing of whatever reads bytes of strangers.

A target takes any bytes and must end well, or with the contract's own errors, in bounded time.
hypothesis feeds all of them for a moment in `make test`; `make fuzz` feeds them for minutes with
atheris, which follows the branches of the code.
"""

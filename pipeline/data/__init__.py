"""Fetch, read, split and check data sets; store them as memory-mapped arrays."""


class DataError(ValueError):
    """Data that cannot be used; the message names the file or class, the rule and the remedy."""

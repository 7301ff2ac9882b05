"""From published bytes to memory-mapped arrays."""


class DataError(ValueError):
    """Data that cannot be used: names the file or the class, says what is wrong and what to do."""

"""End a command on an error: one line for what the user can mend, a traceback for our own bugs."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from pipeline.config import ConfigError


@contextmanager
def one_line_errors() -> Iterator[None]:
    """End the process with one line on stderr after an error that the user can mend.

    ConfigError exits 2; every other exception class of our packages, and OSError, exits 1; Ctrl-C exits 130.
    Any other exception is a bug and passes through with its traceback.
    """
    try:
        yield
    except ConfigError as error:
        _leave(str(error), 2)
    except KeyboardInterrupt:
        _leave("interrupted; the same command continues from here", 130)
    except OSError as error:
        name = error.filename2 or error.filename  # filename2 is the target of a copy
        _leave(f"{name}: {error.strerror}" if name else str(error), 1)
    except Exception as error:
        # Only our own exceptions are written for users.
        if not type(error).__module__.startswith(("pipeline.", "study.")):
            raise
        _leave(str(error), 1)


def _leave(message: str, status: int) -> None:
    print(f"error: {message}", file=sys.stderr)
    sys.exit(status)

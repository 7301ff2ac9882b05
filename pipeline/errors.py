"""How a command ends when something is wrong: one line for what the user can help, a traceback for what only we can."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from pipeline.config import ConfigError


@contextmanager
def one_line_errors() -> Iterator[None]:
    """End the process with one clear line on stderr where the user can help, and leave the traceback where only we can.

    ConfigError exits 2; every other exception class defined in our packages, and an OSError, exits 1; Ctrl-C exits 130.
    Anything else is a programming error and passes through.
    """
    try:
        yield
    except ConfigError as error:
        _leave(str(error), 2)
    except KeyboardInterrupt:
        _leave("interrupted; the same command goes on from here", 130)
    except OSError as error:
        name = error.filename2 or error.filename  # of a copy, where it went
        _leave(f"{name}: {error.strerror}" if name else str(error), 1)
    except Exception as error:
        # Exceptions that we define are written for users; those of others are bugs until somebody translates them.
        if not type(error).__module__.startswith(("pipeline.", "study.")):
            raise
        _leave(str(error), 1)


def _leave(message: str, status: int) -> None:
    print(f"error: {message}", file=sys.stderr)
    sys.exit(status)

"""What can be wrong with a study."""

from pipeline.config import ConfigError


class StudyError(RuntimeError):
    """The work cannot go on: one line that says why and what to do. Exit status 1."""


class UsageError(ConfigError):
    """What was asked for cannot be: one line that says why and what is possible. Exit status 2."""

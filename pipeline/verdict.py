"""A verdict: one claim about the data or the model, with its evidence and what to do about it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Level = Literal["bad", "warn", "good", "info"]


@dataclass(frozen=True)
class Verdict:
    """One line of the report's first section; ``dataclasses.asdict`` is its form in JSON.

    level : bad (do not trust the result), warn (look at this), good (looked at, nothing found), info
    title : one claim, a sentence without its full stop
    evidence : the numbers behind it
    remedy : what to do; empty where there is nothing to do
    """

    level: Level
    title: str
    evidence: str
    remedy: str = ""

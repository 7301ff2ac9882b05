"""A verdict: one claim about the data or the model, with its evidence and what to do about it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Level = Literal["bad", "warn", "good", "info"]
LEVELS: dict[Level, tuple[str, str]] = {  # mark and word, worst first
    "bad": ("✕", "Problem"),
    "warn": ("!", "Warning"),
    "good": ("✓", "Good"),
    "info": ("i", "Note"),
}


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


def worst_first(verdicts: Iterable[Verdict]) -> list[Verdict]:
    """Sort by level; within a level the order stays."""
    return sorted(verdicts, key=lambda verdict: list(LEVELS).index(verdict.level))


def summary(verdicts: Iterable[Verdict]) -> str:
    """``1 problem and 2 warnings found.``"""
    levels = [verdict.level for verdict in verdicts]
    counts = [(levels.count(level), LEVELS[level][1].lower()) for level in ("bad", "warn")]
    parts = [f"{count} {word}{'' if count == 1 else 's'}" for count, word in counts if count]
    return f"{' and '.join(parts) or 'No problem'} found."

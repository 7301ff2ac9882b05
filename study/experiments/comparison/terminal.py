"""A comparison in a terminal: the verdicts, a column for each side, and what differs in their settings."""

from __future__ import annotations

from dataclasses import replace

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from pipeline.report import formats
from pipeline.verdict import LEVELS
from study.experiments.comparison import tables
from study.experiments.comparison.comparison import Comparison
from study.experiments.comparison.verdicts import judge

COLOURS = {"bad": "red", "warn": "yellow", "good": "green", "info": "dim"}
MOST_SETTINGS = 20


def render_terminal(comparison: Comparison) -> RenderableType:
    """Return the verdicts, then the sides, a column each as names are long, then the settings in which they differ."""
    verdicts = Table(box=None, padding=(0, 1, 0, 0), show_header=False)
    for verdict in judge(comparison):
        text = Text(verdict.title, style="bold" if verdict.level != "info" else "")
        text.append(f"\n{formats.sentence(verdict.evidence)}", style="not bold dim")
        if verdict.remedy:
            text.append(f"\n→ {formats.sentence(verdict.remedy)}", style="not bold dim")
        verdicts.add_row(Text(LEVELS[verdict.level][0], style=COLOURS[verdict.level]), text)
    sides = [table(comparison).across().terminal() for table in (tables.accuracy, tables.cost)]
    parts: list[RenderableType] = [verdicts, Text(), *sides]
    if settings := tables.settings(comparison):
        parts += [Text(), replace(settings, rows=settings.rows[:MOST_SETTINGS]).terminal()]
        if (more := len(settings.rows) - MOST_SETTINGS) > 0:
            parts.append(Text(f"… and {more} more on the page"))
    return Group(*parts)

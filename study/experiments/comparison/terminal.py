"""A comparison in a terminal: the verdicts, a column for each side, and what differs in their settings."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from pipeline.evaluation.statistics import p_text
from pipeline.report import formats
from study.experiments.comparison.comparison import Comparison
from study.experiments.comparison.verdicts import judge, points

MARKS = {"bad": ("✕", "red"), "warn": ("!", "yellow"), "good": ("✓", "green"), "info": ("i", "dim")}
MOST_SETTINGS = 20


def render_terminal(comparison: Comparison) -> RenderableType:
    """Verdicts, then the sides, then the settings in which they differ."""
    verdicts = Table(box=None, padding=(0, 1, 0, 0), show_header=False)
    for found in judge(comparison):
        mark, colour = MARKS[found.level]
        text = Text(found.title, style="bold" if found.level != "info" else "")
        text.append(f"\n{formats.sentence(found.evidence)}", style="not bold dim")
        if found.remedy:
            text.append(f"\n→ {formats.sentence(found.remedy)}", style="not bold dim")
        verdicts.add_row(Text(mark, style=colour), text)
    parts: list[RenderableType] = [verdicts, Text(), _sides(comparison)]
    if comparison.settings:
        parts += [Text(), _settings(comparison)]
    return Group(*parts)


def _sides(comparison: Comparison) -> Table:
    """A column for each side, as names are long and terminals narrow."""
    p = "p, Holm" if len(comparison.contrasts) > 1 else "p"
    table = _table("", *(side.label for side in comparison.sides))
    names = ("validation", "95 % interval", "n", "minus first", "95 % interval", p, "parameters", "time")
    columns = [_side(comparison, index) for index in range(len(comparison.sides))]
    for name, values in zip(names, zip(*columns, strict=True), strict=True):
        table.add_row(name, *values)
    return table


def _side(comparison: Comparison, index: int) -> tuple[str, ...]:
    side, told = comparison.sides[index], comparison.ranges[index]
    digits = formats.digits_for(comparison.first.images.validation)
    item = comparison.contrast_of(side)
    apart = ("", "", "")
    if item:
        interval = f"{points(item.main.low)} to {points(item.main.high)}"
        apart = (points(item.main.value), interval, p_text(item.p_holm))
    elif side.label in comparison.left_out:
        apart = ("other images", "", "")
    return (
        formats.percent(told.value, digits),
        f"{100 * told.low:.{digits}f} to {formats.percent(told.high, digits)}",
        str(len(side.trainings)),
        *apart,
        formats.count(side.first.parameters),
        formats.duration(sum(training.seconds for training in side.trainings) / len(side.trainings)),
    )


def _settings(comparison: Comparison) -> Table:
    table = _table("setting", *(side.label for side in comparison.sides), right=False)
    for setting in comparison.settings[:MOST_SETTINGS]:
        table.add_row(Text(setting.key), *(Text(value) for value in setting.values))
    if (more := len(comparison.settings) - MOST_SETTINGS) > 0:
        table.add_row(f"… and {more} more on the page")
    return table


def _table(*columns: str, right: bool = True) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for number, column in enumerate(columns):
        table.add_column(Text(column), justify="right" if right and number else "left", overflow="fold")
    return table

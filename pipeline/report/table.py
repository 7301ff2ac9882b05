"""A table as data: rows once, rendered for pages, terminals, Markdown, CSV and JSON, so that no two outputs can disagree."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import pandas as pd
from rich import table as rich_table
from rich.text import Text

from pipeline.report import formats


@dataclass(frozen=True)
class Estimate:
    """A value with its 95 % interval.

    kind : Wilson, of one training over its n images; t, of the mean over n seeds
    """

    value: float
    low: float
    high: float
    n: int
    kind: Literal["Wilson", "t"] = "Wilson"

    def __str__(self) -> str:
        """``98.96 % (95 % interval 98.74 to 99.14 %, n = 10,000)``"""
        images = self.n if self.kind == "Wilson" else 10_000  # two digits
        return f"{self.percent(images)} (95{formats.NARROW}% interval {self.interval(images)}, n = {self.n:,})"

    def percent(self, images: int) -> str:
        """The value, with as many digits as an accuracy over so many images has."""
        return formats.percent(self.value, formats.digits_for(images))

    def interval(self, images: int) -> str:
        """``98.74 to 99.14 %``"""
        return formats.span(self.low, self.high, lambda value: formats.percent(value, formats.digits_for(images)))

    @property
    def method(self) -> str:
        """How the interval was computed, and from what."""
        return f"t interval over {self.n} seeds" if self.kind == "t" else f"Wilson, one training, {self.n:,} images"


@dataclass(frozen=True)
class Cell:
    """One place of a table.

    value : exact, for CSV, JSON and programs that read the page
    text : as people read it
    style : CSS classes: ``code``, ``soft``, ``strong``, ``struck``, ``good``, ``bad``
    link : address that the text leads to; id : by which the page is entered here
    note : soft words behind the text; tag : a word in a frame behind it; details : what unfolds below it
    bar : low, value and high as shares of an axis, drawn in place of the text
    """

    value: Any
    text: str
    style: str = ""
    link: str | None = None
    id: str = ""
    note: str = ""
    tag: str = ""
    details: str = ""
    bar: Mapping[str, float] | None = None


@dataclass(frozen=True)
class Column:
    """What a table says of each row.

    key : name in CSV and JSON; empty: not written there
    title : heading for people; None: for programs only
    value : from a row: a plain value, a :class:`Cell`, or a tuple of cells that stand side by side; None is an en dash, and
        without cells the place above reaches down to it
    show : a plain value as text
    hint : explains the title
    """

    key: str
    title: str | None
    value: Callable[[Any], Any]
    show: Callable[[Any], str] = str
    hint: str = ""

    def cells(self, row: Any) -> tuple[Cell, ...]:
        value = self.value(row)
        if isinstance(value, tuple):
            return value
        if isinstance(value, Cell):
            return (value,)
        return (Cell(value, formats.NOTHING if value is None else self.show(value)),)

    def plain(self, row: Any) -> Any:
        """The exact value; of several cells their values, separated by spaces."""
        values = [cell.value for cell in self.cells(row)]
        return values[0] if len(values) == 1 else " ".join(map(str, values))


@dataclass(frozen=True)
class Table:
    """Rows and what is said of each.

    name : of its file; title : for people
    rows : any objects, which the columns read; best : which of them stand out
    foot : texts of a last row; notes : sentences below the table
    style : CSS classes: ``board`` (narrow columns), ``wrap`` (long codes break), ``config``
    """

    name: str
    title: str
    columns: Sequence[Column]
    rows: Sequence[Any]
    best: Callable[[Any], bool] = lambda row: False
    foot: Sequence[str] = ()
    notes: Sequence[str] = ()
    style: str = ""

    def __bool__(self) -> bool:
        return bool(self.rows)

    @cached_property
    def heads(self) -> list[Column]:
        """Columns for people."""
        return [column for column in self.columns if column.title is not None]

    @cached_property
    def body(self) -> list[list[tuple[Cell, ...]]]:
        """Cells for people, by row and column."""
        return [[column.cells(row) for column in self.heads] for row in self.rows]

    @cached_property
    def numeric(self) -> list[bool]:
        """Which of :attr:`heads` hold numbers, which are set to the right."""
        columns = zip(*self.body, strict=True) if self.rows else [()] * len(self.heads)
        known = [[cell.value for cells in column for cell in cells if cell.value is not None] for column in columns]
        return [bool(values) and all(isinstance(value, int | float) for value in values) for values in known]

    def reach(self, row: int, column: int) -> int:
        """How many rows a place covers: itself, and those below it that have no cells there."""
        below = (bool(cells[column]) for cells in self.body[row + 1 :])
        return 1 + next((index for index, filled in enumerate(below) if filled), len(self.body) - row - 1)

    def across(self) -> Table:
        """The table with a column for each row, named by its first cell, as suits few rows with long names."""

        def cells(index: int) -> Callable[[int], tuple[Cell, ...]]:
            return lambda column: self.body[index][column]

        titles = Column("", "", lambda column: self.heads[column].title)
        names = [" ".join(cell.text for cell in row[0]) for row in self.body]
        columns = [Column("", name, cells(index)) for index, name in enumerate(names)]
        return Table(self.name, self.title, [titles, *columns], range(1, len(self.heads)))

    def records(self) -> list[dict[str, Any]]:
        """Rows as plain data, for JSON."""
        return [{column.key: column.plain(row) for column in self.columns if column.key} for row in self.rows]

    def frame(self) -> pd.DataFrame:
        """Rows as a data frame, for CSV."""
        return pd.DataFrame(self.records(), columns=[column.key for column in self.columns if column.key])

    def markdown(self) -> str:
        """The table as GitHub writes it, its notes below."""
        lines = [[column.title or "" for column in self.heads]]
        lines.append(["---:" if numeric else "---" for numeric in self.numeric])
        lines += [[" ".join(map(_markdown, cells)) for cells in row] for row in self.body]
        lines += [list(self.foot)] if self.foot else []
        text = "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines)
        text = text.replace(formats.NARROW, " ").replace(formats.SPACE, " ")
        return "\n\n".join([text, *self.notes]) + "\n"

    def terminal(self) -> rich_table.Table:
        """The table as a terminal shows it."""
        table = rich_table.Table(box=None, padding=(0, 2, 0, 0), header_style="bold", show_footer=bool(self.foot))
        for index, (column, numeric) in enumerate(zip(self.heads, self.numeric, strict=True)):
            foot = self.foot[index] if self.foot else ""
            table.add_column(Text(column.title or ""), foot, justify="right" if numeric else "left", overflow="fold")
        for row, item in zip(self.body, self.rows, strict=True):
            texts = [Text(" ".join(_plain(cell) for cell in cells)) for cells in row]
            table.add_row(*texts, style="bold" if self.best(item) else "")
        return table


def text(words: str, note: str = "", link: str | None = None) -> Cell:
    """A cell of words that are no data."""
    return Cell("", words, note=note, link=link)


def code(words: str, note: str = "") -> Cell:
    """The same in a fixed-width face."""
    return Cell("", words, style="code", note=note)


def pairs(name: str, title: str, rows: Iterable[tuple[str, Cell]]) -> Table:
    """A table without headings: names and what belongs to each."""
    columns = [Column("name", "", lambda pair: pair[0]), Column("value", "", lambda pair: pair[1])]
    return Table(name, title, columns, list(rows), style="wrap")


def _plain(cell: Cell) -> str:
    return " ".join(part for part in (cell.text, cell.tag and f"({cell.tag})", cell.note) if part)


def _markdown(cell: Cell) -> str:
    text = f"`{cell.text}`" if cell.style == "code" else f"**{cell.text}**" if cell.style == "strong" else cell.text
    text = f"[{text}]({cell.link})" if cell.link else text
    return _plain(Cell(cell.value, text, note=cell.note, tag=cell.tag))

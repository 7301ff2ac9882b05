"""The vocabulary of pages: one table in five outputs, verdicts in order, estimates and dates as people read them."""

from __future__ import annotations

import io
from datetime import UTC, datetime

import pandas as pd
import pytest
from pages import Page as Html
from rich.console import Console

from pipeline.report import document, formats
from pipeline.report.table import Cell, Column, Estimate, Table, pairs
from pipeline.verdict import Verdict, summary, worst_first

WHEN = datetime(2026, 3, 7, 14, 5, tzinfo=UTC)
ROWS = [("a|b", 0.98123456, 5), ("c", None, 3)]
TABLE = Table(
    "scores",
    "Scores",
    [
        Column("name", "Name", lambda row: row[0]),
        Column("accuracy", "Accuracy", lambda row: row[1], formats.percent, hint="of validation images"),
        Column("n", None, lambda row: row[2]),
        Column("", "Seeds", lambda row: tuple(Cell(seed, str(seed), link=f"#{seed}") for seed in range(2))),
    ],
    ROWS,
    best=lambda row: row[2] == 5,
    foot=("All", "98 %", ""),
    notes=("One training each.",),
)  # fmt: skip


def page(table: Table, **changes: object) -> str:
    head = document.Head("small", "small – studyline", WHEN, "A title", "A lede.", **changes)  # type: ignore[arg-type]
    reproduce = {"title": "Reproduce", "commands": "make", "note": "The same."}
    tables = [Table("lineage", "Lineage", table.columns, table.rows, foot=table.foot, notes=table.notes)]
    sections = {"verdicts": "What to know first", "lineage": "Lineage"}
    made = document.Page((), "shared", head, sections, (), tables, ".", {"reproduce": reproduce})
    return document.render(made, [])


def test_one_table_says_the_same_on_a_page_in_a_terminal_in_markdown_in_csv_and_in_json() -> None:
    console = Console(file=io.StringIO(), width=100)
    console.print(TABLE.terminal())
    outputs = [Html(page(TABLE)).text, console.file.getvalue(), TABLE.markdown()]  # type: ignore[attr-defined]
    for text in outputs:
        assert "98.12" in text
        assert "Seeds" in text
        assert formats.NOTHING in text
    assert TABLE.records() == [{"name": "a|b", "accuracy": 0.98123456, "n": 5}, {"name": "c", "accuracy": None, "n": 3}]
    assert TABLE.frame().columns.tolist() == ["name", "accuracy", "n"]
    assert pd.isna(TABLE.frame().loc[1, "accuracy"])


def test_numbers_are_set_to_the_right_and_a_bar_in_a_name_breaks_no_markdown() -> None:
    assert TABLE.numeric == [False, True, True]
    lines = TABLE.markdown().splitlines()
    assert lines[:2] == ["| Name | Accuracy | Seeds |", "| --- | ---: | ---: |"]
    assert lines[2] == "| a\\|b | 98.12 % | [0](#0) [1](#1) |"
    assert lines[-1] == "One training each."


def test_a_cell_tells_its_style_its_note_and_its_tag() -> None:
    table = pairs("lineage", "Lineage", [("Commit", Cell("a", "a", style="code", note="dirty", tag="old"))])
    html = page(table)
    assert '<code>a</code> <span class="tag">old</span> <span class="soft">dirty</span>' in html
    assert "`a` (old) dirty" in table.markdown()


def test_a_section_without_content_is_left_out_and_the_page_draws_its_intervals() -> None:
    html = page(TABLE, number=(0.98, "98.0", "%"), intervals={})
    assert "What to know first" not in html
    assert '<time datetime="2026-03-07T14:05:00+00:00">7 Mar 2026, 14:05 UTC</time>' in html


def test_verdicts_are_sorted_worst_first_and_keep_their_order_within_a_level() -> None:
    verdicts = [Verdict(level, str(index), "") for index, level in enumerate(("info", "warn", "bad", "warn", "good"))]
    assert [verdict.title for verdict in worst_first(verdicts)] == ["2", "1", "3", "4", "0"]
    assert summary(verdicts) == "1 problem and 2 warnings found."
    assert summary(verdicts[:1]) == "No problem found."


def test_an_estimate_names_its_interval_its_method_and_its_n() -> None:
    estimate = Estimate(0.9896, 0.9874, 0.9914, 10_000)
    assert str(estimate).replace(formats.NARROW, " ") == "98.96 % (95 % interval 98.74 to 99.14 %, n = 10,000)"
    assert estimate.method == "Wilson, one training, 10,000 images"
    assert Estimate(0.9, 0.8, 1.0, 5, "t").method == "t interval over 5 seeds"


@pytest.mark.parametrize(
    ("names", "text"),
    [([], ""), (["a"], "a"), (["a", "b"], "a and b"), (["a", "b", "c"], "a, b and c"), (list("abcde"), "a, b and 3 more")],
)
def test_names_are_listed_with_commas_and_an_and(names: list[str], text: str) -> None:
    assert formats.listed(names, 3) == text


def test_differences_of_shares_are_signed_points_and_ranges_name_their_unit_once() -> None:
    assert [formats.signed(share) for share in (0.012, -0.0265, 0.0)] == ["+1.20", "\u22122.65", "+0.00"]
    assert formats.span(0.976, 0.9835) == f"97.60 to 98.35{formats.NARROW}%"
    assert formats.date(formats.moment(1_790_000_000_000)) == "21 Sep 2026, 14:13 UTC"

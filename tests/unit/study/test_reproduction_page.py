"""The page, the table and the Markdown of reproductions: everything that was judged stands there."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import reproductions
from pages import Page

from pipeline.evaluation.statistics import Proportion
from pipeline.verdict import Verdict
from study.experiments.reproduction import recipe
from study.experiments.reproduction.failure import Demonstration, Reading
from study.experiments.reproduction.figure import interval, title
from study.experiments.reproduction.figure import written as as_printed
from study.experiments.reproduction.judge import RecipeResult, judge
from study.experiments.reproduction.markdown import to_markdown
from study.experiments.reproduction.page import build
from study.experiments.reproduction.recipe import RecipeRow
from study.report.frame import Report
from study.state.history import Run

ABOUT = {
    "git_commit": "c" * 40,
    "git_dirty": False,
    "environment": {"python": "3.11.9", "torch": "2.13.0"},
    "hardware": "two cores of a small machine",
    "command": "study reproduce 001 003",
}


def reading(accuracy: Proportion, recall: float, *verdicts: Verdict) -> Reading:
    bad = verdicts if verdicts[0].level == "bad" else (None, None)
    confusion = tuple(tuple(90 * (row == column) for column in range(10)) for row in range(10))
    shares = tuple(recall if label in (0, 4, 7) else 0.98 for label in range(10))
    return Reading(accuracy, shares, confusion, verdicts, bad[0], bad[1])


DEMONSTRATION = Demonstration(
    network="cnn-1.s0",
    dataset="mnist",
    classes=tuple("0123456789"),
    broken_labels=(0, 4, 7),
    validation=Proportion.of(5900, 6000),
    whole=reading(Proportion.of(9800, 10_000), 0.98, Verdict("good", "Nothing suspicious found", "All is well.")),
    broken=reading(
        Proportion.of(6900, 9999),
        0.0,
        Verdict("bad", "Classes 0, 4 and 7 are never predicted correctly", "None of them.", "Check how test is read."),
        Verdict("bad", "Test is 29.3 points below validation, more than chance allows", "Far apart."),
    ),
)


def results(seeds: int = 2, quick: bool = False) -> list[RecipeResult]:
    """001 as printed, but for a row that is worse and one of which a training failed; 003 with its rows for later."""

    def score(row: RecipeRow, seed: int) -> Mapping[str, float] | None:
        values = dict(reproductions.near()(row, seed))
        if row.name == "exp2":
            values["test_accuracy"] = 0.90 + 0.001 * seed
        return None if row.name == "exp2-bn" and seed == 1 else values

    recipes = [recipe.load(source) for source in ("001", "003")]
    return [judge(item, reproductions.told(item, score, seeds, quick=quick)) for item in recipes]


def address(source: str, run: Run) -> str | None:
    return f"http://127.0.0.1:5000/#/{source}/{run.key}" if run.replicate == 0 else None


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Sequence[RecipeResult], Report, Path]:
    """What was judged, its report, and where that was written."""
    folder = tmp_path_factory.mktemp("reproduction")
    (folder / "page.html").write_text("the page of a row")
    found = results()
    report = build(
        found,
        DEMONSTRATION,
        now=reproductions.START,
        about=ABOUT,
        pages=address,
        own=lambda source, run: folder / "page.html" if run.key == "exp1.s0" else None,
    )
    report.write(folder / "report")
    return found, report, folder / "report"


def page_of(folder: Path) -> Page:
    return Page((folder / "index.html").read_text())


def test_the_page_refers_to_nothing_but_mlflow_and_pages_of_rows(written: tuple[Any, Report, Path]) -> None:
    page = page_of(written[2])
    outside = {href for href in page.attributes("href") if not href.startswith(("#", "data:"))}
    assert "001/exp1/index.html" in outside
    assert outside - {"001/exp1/index.html"} == {
        address(result.recipe.source, run) for result in written[0] for row in result.rows for run in row.runs
    } - {None}
    assert all(source.startswith("data:") for source in page.attributes("src"))
    assert (written[2] / "001/exp1/index.html").read_text() == "the page of a row"


def test_ids_are_unique_and_links_inside_the_page_lead_somewhere(written: tuple[Any, Report, Path]) -> None:
    page = page_of(written[2])
    ids = page.attributes("id")
    assert len(set(ids)) == len(ids)
    assert {href[1:] for href in page.attributes("href") if href.startswith("#")} <= set(ids)


def test_every_row_stands_there_with_what_is_reported_and_what_is_ours(written: tuple[Any, Report, Path]) -> None:
    text = page_of(written[2]).text
    for result in written[0]:
        assert f"{result.recipe.source}: {result.recipe.title}" in text
        assert all(sentence.removesuffix(".") in text for sentence in result.recipe.assumed)
        for row in result.rows:
            assert row.row.title in text
            for figure in row.figures:
                assert figure.reported is not None
                assert figure.reported.text in text
                if figure.ours:
                    assert " ".join(as_printed(figure.name, figure.reported, figure.ours.value).split()) in text
    assert "4,470 parameters, as printed" in text
    assert "4,526 parameters" in text
    assert text.count("later") >= 3


def test_the_headline_counts_verdicts_of_rows(written: tuple[Any, Report, Path]) -> None:
    found, report, _ = written
    words = [row.verdict for result in found for row in result.rows if row.verdict]
    assert "worse" in words
    head = report.page.head
    assert len(words) == 15
    assert head.number == (words.count("reproduced"), f"{words.count('reproduced')}", "of 15")
    assert [int(key.value or 0) for key in head.keys[:4]] == [
        words.count(word) for word in ("reproduced", "better", "worse", "not comparable")
    ]
    assert "1 failed" in page_of(written[2]).text


def test_findings_come_first_and_the_demonstration_is_among_them(written: tuple[Any, Report, Path]) -> None:
    text = page_of(written[2]).text
    titles = [verdict.title for verdict in written[1].page.verdicts]
    assert any("broken like that of 004 is caught" in title for title in titles)
    assert [text.index(title) for title in titles] == sorted(text.index(title) for title in titles)
    assert "Classes 0, 4 and 7 are never predicted correctly" in text
    assert "0 as 4, 4 as 7, 7 as 0" in text


def test_cost_and_lineage_are_told(written: tuple[Any, Report, Path]) -> None:
    text = page_of(written[2]).text
    for part in (*(value for value in ABOUT.values() if isinstance(value, str)), "a" * 40, "a" * 32, "4" * 32, "21 Sep 2026"):
        assert part in text
    spent = sum(run.seconds for result in written[0] for row in result.rows for run in row.runs)
    assert sum(row["device"] for row in written[1].tree["cost"]) == spent > 0


def test_the_table_has_a_line_for_each_figure(written: tuple[Any, Report, Path]) -> None:
    table = pd.read_csv(written[2] / "table.csv", dtype={"source": str})
    assert len(table) == sum(len(row.figures) for result in written[0] for row in result.rows)
    line = table[(table["source"] == "001") & (table["row"] == "exp1") & (table["figure"] == "test_accuracy")].iloc[0]
    assert (line["reported"], line["n"], line["parameters_printed"], line["parameters_ours"]) == ("97.93 %", 2, 4470, 4470)
    assert line["prediction_low"] <= line["low"] <= line["ours"] <= line["high"] <= line["prediction_high"]
    assert set(table.loc[table["row"] == "transfer", "verdict"]) == {"later"}


def test_the_numbers_are_kept_as_json_with_every_figure_beside_the_page(written: tuple[Any, Report, Path]) -> None:
    tree = json.loads((written[2] / "reproduction.json").read_text())
    assert Demonstration.of(tree["demonstration"]) == DEMONSTRATION
    assert sum(tree["rows"].values()) == 15
    names = {drawing.name for drawing in written[1].draw()}
    assert names == {"forest-001", "forest-003", "recalls", "broken-confusion"}
    assert {path.name for path in (written[2] / "figures").iterdir()} == {
        f"{name}{end}" for name in names for end in (".png", ".csv")
    }
    assert {f"figure-{name}" for name in names} <= set(page_of(written[2]).attributes("id"))


def test_a_printed_confusion_matrix_stands_beside_ours() -> None:
    found = judge(recipe.load("000"), reproductions.told(recipe.load("000"), reproductions.near(), seeds=2))
    report = build([found], None, now=reproductions.START, about={})
    drawing = next(drawing for drawing in report.draw() if drawing.name == "confusion-000-exp2")
    table = drawing.numbers.set_index(["true", "predicted"])
    assert table.loc[("0+6", "1+7"), "reported"] == 5
    ours = [run.test.confusion[3][3] for run in found.by_name["exp2"].complete]
    assert table.loc[("4+9", "4+9"), "ours"] == sum(ours) / 2
    assert "Wrong are 82 of 10,000 test images as reported" in drawing.caption
    assert "figure-confusion-000-exp2" in Page(report.html(report.draw())).attributes("id")


def test_markdown_says_the_same_with_commit_hardware_and_date(written: tuple[Any, Report, Path]) -> None:
    text = to_markdown(written[0], ABOUT, reproductions.START)
    assert f"Trained at commit `{'a' * 40}` (001, 003). This table: commit `{'c' * 40}`" in text
    for part in ("two cores of a small machine", "21 Sep 2026", "torch 2.13.0", "97.93 %", "Later", "| 9 of 10 |"):
        assert part.lower() in text.lower(), part
    tables = [line for line in text.splitlines() if line.startswith("|")]
    assert {line.count("|") for line in tables} == {8, 9}  # costs have seven columns, the others eight
    assert all(row.row.title in text for result in written[0] for row in result.rows)
    assert all(verdict.title in text for verdict in written[1].page.verdicts if "broken like" not in verdict.title)


@pytest.mark.parametrize("state", ["quick", "one seed", "nothing"])
def test_a_page_is_written_in_every_state(state: str, tmp_path: Path) -> None:
    found = {
        "quick": lambda: results(1, quick=True),
        "one seed": lambda: results(1),
        "nothing": lambda: [judge(recipe.load("001"), None)],
    }[state]()
    report = build(found, None, now=reproductions.START, about={})
    text = Page(report.html(report.draw())).text
    assert {
        "quick": "A quick look: published tables are trained, none is compared",
        "one seed": "With one seed a verdict knows only the chance of the images",
        "nothing": "No row of a published table can be compared yet",
    }[state] in text
    if state == "quick":
        rows = [row for result in found for row in result.rows if not row.row.later]
        assert text.count("10,000 images, 3 epochs instead of all, ") == len(rows)
    assert "made on purpose" not in text
    assert to_markdown(found, {}, reproductions.START)


@pytest.mark.parametrize(
    ("figure", "value", "text"),
    [
        ("test_accuracy", 0.98015, "98.02\u202f%"),
        ("train_loss", 0.03081, "0.0308"),
        ("epochs_run", 9.5, "9.5"),
        ("epochs_run", 9, "9"),
    ],
)
def test_ours_are_written_as_the_source_writes_its_own(figure: str, value: float, text: str) -> None:
    assert as_printed(figure, None, value) == text


def test_names_and_ranges_of_figures_read_well() -> None:
    assert title("first_validation_accuracy") == "validation accuracy, epoch 1"
    assert title("before_training_test_accuracy") == "test accuracy, untrained"
    assert interval("test_accuracy", None, (0.976, 0.9835)) == "97.60 to 98.35\u202f%"

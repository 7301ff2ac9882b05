"""Tables of reproductions: for the page, the Markdown, ``table.csv`` and ``reproduction.json``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from pipeline.report import formats
from pipeline.report.table import Cell, Column, Table, pairs
from pipeline.verdict import LEVELS
from study.experiments.reproduction.failure import Demonstration
from study.experiments.reproduction.figure import interval, title, written
from study.experiments.reproduction.judge import Judged, RecipeResult, RowResult
from study.experiments.reproduction.measure import WORDS, Ours
from study.report.cost import cost
from study.report.facts import WORDS as STATES
from study.state.history import Run
from study.state.records import Lineage

Pages = Callable[[str, Run], str | None]
STYLES = {"reproduced": "good", "better": "accent", "worse": "bad"}


@dataclass(frozen=True)
class Line:
    """One figure of a row; a row without figures has a single line.

    number : of the row's lines; note : number of the note that says why the figure cannot be compared
    """

    result: RecipeResult
    row: RowResult
    figure: Judged | None
    number: int
    note: int | None

    @property
    def ours(self) -> Ours | None:
        return self.figure.ours if self.figure else None


def lines(result: RecipeResult) -> list[Line]:
    reasons = notes(result)
    return [
        Line(result, row, figure, number, reasons.index(figure.basis) + 1 if figure and _noted(row, figure) else None)
        for row in result.rows
        for number, figure in enumerate(row.figures or (None,))
    ]


def notes(result: RecipeResult) -> list[str]:
    """Return the reasons why figures cannot be compared, without those that their row states itself."""
    return list(dict.fromkeys(figure.basis for row in result.rows for figure in row.figures if _noted(row, figure)))


def _noted(row: RowResult, figure: Judged) -> bool:
    return figure.verdict == "not comparable" and row.verdict is not None and figure.basis != row.cut


def figures(result: RecipeResult, pages: Pages, own: Mapping[str, Path]) -> Table:
    """Table every figure of a source beside ours.

    own : pages of rows, by their place relative to the report
    """

    def row(line: Line) -> tuple[Cell, ...]:
        if line.number:
            return ()
        source, name = line.result.recipe.source, line.row.row.name
        place, about = f"{source}/{name}/index.html", _about(line.row)
        seeds = [(run, pages(source, run), STATES[run.state] if run.state != "COMPLETE" else "") for run in line.row.runs]
        return (
            Cell(name, line.row.row.title, "strong", place if place in own else None),
            Cell(line.row.state, line.row.state, STYLES.get(line.row.state, "soft"), note=f"({about})" if about else ""),
            *(Cell(run.key, f"seed {run.replicate}", link=link, note=state) for run, link, state in seeds if link or state),
        )

    def reported(line: Line) -> Cell | None:
        known = line.figure.reported if line.figure else None
        return Cell(known.value, known.text) if known else None

    def ends(name: str, line: Line) -> str | None:
        known = getattr(line.ours, name) if line.ours else None
        return interval(line.figure.name, line.figure.reported, known) if line.figure and known else None

    def ours(line: Line) -> Cell | None:
        mine, figure = line.ours, line.figure
        return Cell(mine.value, written(figure.name, figure.reported, mine.value)) if mine and figure else None

    def verdict(line: Line) -> Cell:
        word = line.figure.verdict if line.figure and line.row.runs else line.row.state
        text = line.figure.verdict if line.figure and line.row.verdict else formats.NOTHING
        return Cell(word, text, STYLES.get(text, "soft"), note=f"[{line.note}]" if line.note else "")

    def prediction(index: int, line: Line) -> float | None:
        return line.ours.prediction[index] if line.ours and line.ours.prediction else None

    columns = [
        Column("source", None, lambda line: line.result.recipe.source),
        Column("row", None, lambda line: line.row.row.name),
        Column("title", None, lambda line: line.row.row.title),
        Column("", "Row", row),
        Column("figure", "Figure", lambda line: line.figure and Cell(line.figure.name, title(line.figure.name))),
        Column("reported", None, lambda line: line.figure and line.figure.reported and line.figure.reported.text),
        Column("reported_value", "Reported", reported),
        Column("ours", "Ours", ours),
        Column("low", None, lambda line: line.ours and line.ours.low),
        Column("high", None, lambda line: line.ours and line.ours.high),
        Column("", "95 % interval", partial(ends, "ends")),
        Column("prediction_low", None, partial(prediction, 0)),
        Column("prediction_high", None, partial(prediction, 1)),
        Column("", "A single training", partial(ends, "prediction")),
        Column("n", "n", lambda line: line.ours.n if line.ours else 0),
        Column("parameters_printed", None, lambda line: line.row.row.parameters),
        Column("parameters_ours", None, lambda line: line.row.parameters),
        Column("verdict", "Verdict", verdict),
        Column("basis", None, lambda line: (line.figure or line.row).basis),
        Column("row_verdict", None, lambda line: line.row.verdict),
        Column("device_seconds", None, lambda line: line.row.seconds),
        Column("assumed", None, lambda line: " ".join((*line.result.recipe.assumed, *line.row.row.assumed))),
    ]
    texts = [f"{number}. {formats.sentence(note)}" for number, note in enumerate(notes(result), 1)]
    name = f"figures-{result.recipe.source}"
    return Table(name, f"Rows of {result.recipe.source}", columns, lines(result), notes=texts, style="board")


def _about(row: RowResult) -> str:
    """Say how many parameters a row's network has, what was cut short, and why there is no verdict."""
    mine, printed = row.parameters, row.row.parameters
    counts = f"{printed:,} parameters printed" if printed is not None else ""
    if mine is not None:
        counts = f"{mine:,} parameters"
        counts += "" if printed is None else ", as printed" if row.exact else f", printed {printed:,}"
    alone = formats.sentence(row.basis) if not row.figures or row.verdict is None else ""
    return "; ".join(part for part in (counts, row.cut, alone) if part)


def sources(results: Sequence[RecipeResult]) -> Table:
    """Table how many rows of each source have each verdict."""

    def source(result: RecipeResult) -> Cell:
        name = result.recipe.source
        return Cell(name, name, link=f"#source-{name}", note=result.recipe.title)

    def count(word: Any, result: RecipeResult) -> int | None:
        return result.count(word) or None

    columns = [
        Column("source", "Source", source),
        *(Column(word, word.capitalize(), partial(count, word)) for word in WORDS),
        Column("later", "Later", lambda result: result.later or None),
        Column("rows", "Rows", lambda result: len(result.rows)),
        Column("seeds", "Seeds", lambda result: max((len(row.complete) for row in result.rows), default=0)),
    ]
    return Table("sources", "Verdicts by source", columns, results)


def costs(results: Sequence[RecipeResult]) -> Table:
    """Table what each source cost; wall time is that of its sessions, device time that of its epochs."""
    spent = {result.recipe.source: cost(result.history) for result in results if result.history}

    def wall(result: RecipeResult) -> float:
        return spent[result.recipe.source].seconds if result.history else 0.0

    columns = [
        Column("source", "Source", lambda result: result.recipe.source),
        Column("trainings", "Trainings", lambda result: len(result.runs), formats.count),
        Column("failed", "Failed", lambda result: sum(run.state == "FAIL" for run in result.runs), formats.count),
        Column("epochs", "Epochs", lambda result: sum(len(run.epochs) for run in result.runs), formats.count),
        Column("device", "Device time", lambda result: sum(run.seconds for run in result.runs), formats.duration),
        Column("wall", "Wall time", wall, formats.duration),
        Column("slots", "Slots", lambda result: len(spent[result.recipe.source].slots) if result.history else 0),
    ]
    foot = ["All", *(column.show(sum(map(column.value, results))) for column in columns[1:-1]), ""]
    return Table("cost", "Cost by source", columns, results, foot=foot)


def readings(demonstration: Demonstration) -> Table:
    """Table a network's accuracy on validation, on test as it is, and on test with its labels broken."""
    rows = [
        ("Validation", demonstration.validation, ()),
        ("Test as it is", demonstration.whole.accuracy, demonstration.whole.verdicts),
        ("Test, labels broken", demonstration.broken.accuracy, demonstration.broken.verdicts),
    ]
    columns = [
        Column("reading", "", lambda row: row[0]),
        Column("accuracy", "Accuracy", lambda row: row[1].value, formats.percent),
        Column("interval", "95 % interval", lambda row: formats.span(row[1].low, row[1].high)),
        Column("n", "Images", lambda row: row[1].n, formats.count),
        Column("verdicts", "Verdicts", lambda row: "; ".join(f"{LEVELS[item.level][0]} {item.title}" for item in row[2])),
    ]
    return Table("demonstration", "Whole and broken", columns, rows)


def lineage(results: Sequence[RecipeResult], about: Mapping[str, Any], now: int) -> Table:
    """Table what the report, and the trainings of each source, were made from."""
    begun = [(result.recipe.source, result.history) for result in results if result.history]
    hosts = {
        event["host"] for _, history in begun for event in history.sessions if event["kind"] == "opened" and event.get("host")
    }
    versions = ", ".join(f"{name} {version}" for name, version in about.get("environment", {}).items())
    rows = [
        ("Date", Cell("", formats.date(formats.moment(now)))),
        ("Git commit", Cell("", about.get("git_commit") or "not in a git repository", "code", note=Lineage.of(about).dirty)),
        ("Hardware", Cell("", about.get("hardware") or formats.NOTHING)),
        ("Environment", Cell("", versions)),
        *([("Command", Cell("", about["command"], "code"))] if about.get("command") else []),
        *(("Trained at", Cell("", commit, "code", note=note)) for commit, note in trained_at(results)),
        *([("Trained on", Cell("", ", ".join(sorted(hosts))))] if hosts else []),
    ]
    for source, history in begun:
        data = history.lineage.dataset
        prints = dict.fromkeys([run.fingerprint for run in history.planned if run.fingerprint] or [data.fingerprint])
        images = ", ".join(f"{count:,} {split}" for split, count in data.images.items())
        note = f"split seed {data.split_seed}, fingerprint {', '.join(prints)}"
        rows.append((f"Data of {source}", Cell("", f"{data.name}: {images} images", note=note)))
    return pairs("lineage", "Lineage", rows)


def trained_at(results: Sequence[RecipeResult]) -> list[tuple[str, str]]:
    """Return the commits of the trainings, each with its sources."""
    sources: dict[tuple[str, str], list[str]] = {}
    for result in results:
        if result.history is not None:
            origin = result.history.lineage
            key = (origin.git_commit or "not in a git repository", origin.dirty)
            sources.setdefault(key, []).append(result.recipe.source)
    return [(commit, ", ".join([*names, *([dirty] if dirty else [])])) for (commit, dirty), names in sources.items()]

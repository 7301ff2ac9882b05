"""The report of reproductions: one page over all sources, its tables beside it, and a page of each row."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from pipeline.report import formats
from pipeline.report.document import Head, Key, Page
from pipeline.report.table import Table
from pipeline.verdict import Verdict, worst_first
from study.experiments.reproduction import failure, figures, sources, tables
from study.experiments.reproduction.failure import Demonstration
from study.experiments.reproduction.judge import RecipeResult
from study.experiments.reproduction.measure import WORDS
from study.report import ledger
from study.report.cost import cost
from study.report.frame import PAGE, Report
from study.state.history import Run

SECTIONS = {
    "verdicts": "What to know first",
    "sources": "Reported and ours",
    "failure": "The failure of 004, made on purpose",
    "cost": "Cost",
    "lineage": "Lineage",
}
MEANINGS = {
    "reproduced": "chance explains what differs",
    "better": "ours is, by more than chance",
    "worse": "ours is, by more than chance",
    "not comparable": "the reason stands at each",
}
Own = Callable[[str, Run], Path | None]


def nowhere(source: str, run: Run) -> None:
    """Return None, as for a training that has no page."""
    return


def build(
    results: Sequence[RecipeResult],
    demonstration: Demonstration | None,
    *,
    now: int,
    about: Mapping[str, Any],
    pages: tables.Pages = nowhere,
    own: Own = nowhere,
) -> Report:
    """Compute the report of reproductions in any state.

    Parameters
    ----------
    now : milliseconds since 1970, printed as the page's date
    about : ``git_commit``, ``git_dirty``, ``environment`` (name → version), ``hardware`` and ``command``, of this report
    pages : the address of a source's training in MLflow, None where it has none
    own : the file with the page of a source's training, None where there is none; of a row the first seed's is taken
    """
    copies = {
        f"{result.recipe.source}/{row.row.name}/{PAGE}": path
        for result in results
        for row in result.rows
        if (path := next((path for run in row.complete if (path := own(result.recipe.source, run))), None))
    }
    rows = [tables.figures(result, pages, copies) for result in results]
    costs, lineage = tables.costs(results), tables.lineage(results, about, now)
    page = Page(
        packages=("study.experiments.reproduction",),
        kind="reproduction",
        head=head(results, now),
        sections=SECTIONS,
        verdicts=findings(results, demonstration),
        tables=(
            tables.sources(results),
            *rows,
            costs,
            lineage,
            *([tables.readings(demonstration)] if demonstration else []),
        ),
        origin=" from the ledgers of its trainings",
        view={
            "results": results,
            "demonstration": demonstration,
            "printed_failure": next((result.recipe.failure.printed for result in results if result.recipe.failure), ""),
            "reproduce": ledger.reproduce(
                "Train it again",
                _commands(results),
                "Test images decide nothing here; they are read once for each training, to stand beside a published test figure.",
            ),
        },
    )
    table = Table("table", "Every figure", rows[0].columns if rows else (), [line for one in rows for line in one.rows])
    tree = {
        "rows": {word: sum(result.count(word) for result in results) for word in WORDS},
        "verdicts": [asdict(verdict) for verdict in page.verdicts],
        "figures": table.records(),
        "demonstration": demonstration.to_tree() if demonstration else None,
        "cost": costs.records(),
        "lineage": {name: cell.text for name, cell in lineage.rows},
    }
    return Report(page, partial(figures.draw, results, demonstration), [table], "reproduction", tree, copies)


def findings(results: Sequence[RecipeResult], demonstration: Demonstration | None) -> list[Verdict]:
    """Return what is wrong in the sources, and whether our own checks would have noticed; worst first."""
    return worst_first([*sources.findings(results), *([failure.verdict(demonstration)] if demonstration else [])])


def head(results: Sequence[RecipeResult], now: int) -> Head:
    """Return how many rows of the published tables are reproduced, and what it took."""
    counts = {word: sum(result.count(word) for result in results) for word in WORDS}
    judged, reproduced = sum(counts.values()), counts["reproduced"]
    compared = judged > counts["not comparable"]
    better = f", {counts['better']} bettered" if counts["better"] else ""
    return Head(
        name="Reproduction",
        window=f"Reproduction: {reproduced} of {judged} rows – studyline",
        when=formats.moment(now),
        title=f"rows of published tables reproduced{better}" if compared else _nothing(results),
        lede=lede(results),
        keys=[*(Key(word.capitalize(), count, f"{count}", MEANINGS[word]) for word, count in counts.items()), *_spent(results)],
        number=(reproduced, f"{reproduced}", f"of {judged}") if compared else None,
    )


def _nothing(results: Sequence[RecipeResult]) -> str:
    """Say why no row is compared."""
    if any(row.cut for result in results for row in result.rows):
        return "A quick look: published tables are trained, none is compared"
    return "No row of a published table can be compared yet"


def lede(results: Sequence[RecipeResult]) -> str:
    """Say what was trained, and how far it can be compared, in a few sentences."""
    rows = [row for result in results for row in result.rows]
    later = sum(result.later for result in results)
    seeds = sorted({len(row.complete) for row in rows if row.complete})
    trained = sum(bool(row.complete) for row in rows)
    cuts = sorted({row.cut.partition(" instead of ")[0] for row in rows if row.cut})
    often = "no seed yet"
    if seeds:
        often = f"{seeds[0]} to {seeds[-1]} seeds" if len(seeds) > 1 else formats.plural(seeds[0], "seed")
    text = (
        f"{formats.plural(len(results), 'source') or 'no source'}, {formats.plural(len(rows), 'row') or 'no row'}: "
        f"{trained} trained here on {often} each, {later} left for later."
    )
    if trained + later < len(rows):
        text += f" {len(rows) - trained - later} are not trained to the end yet."
    if cuts:
        return f"{text} A quick look, which compares nothing: {'; '.join(cuts)}."
    if seeds and seeds[0] == 1:
        text += " With one seed a verdict knows only the chance of the images, not that of the seed."
    return text


def _spent(results: Sequence[RecipeResult]) -> list[Key]:
    runs = [run for result in results for run in result.runs]
    failed = sum(run.state == "FAIL" for run in runs)
    seconds = sum(run.seconds for run in runs)
    wall = sum(cost(result.history).seconds for result in results if result.history)
    exact = [row.exact for result in results for row in result.rows if row.exact is not None]
    return [
        Key("Parameter counts exact", sum(exact), f"{sum(exact)} of {len(exact)}", "of those printed and trained here"),
        Key("Trainings", len(runs), f"{len(runs)}", f"{failed} failed" if failed else "none failed"),
        Key("Device time", seconds, formats.duration(seconds), "of all trainings"),
        Key("Wall time", wall, formats.duration(wall), "of all sessions"),
    ]


def _commands(results: Sequence[RecipeResult]) -> list[str]:
    """Return what trains all this again."""
    histories = [result.history for result in results if result.history is not None]
    lines = [line for history in histories for line in ledger.checkout(history)]
    lines += [ledger.command(history) for history in histories if ledger.command(history)]
    return list(dict.fromkeys(lines)) or ["study reproduce --all"]

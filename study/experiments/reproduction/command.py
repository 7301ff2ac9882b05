"""``study reproduce``: train recipes as far as their ledgers lack them, score them on test, and write the report."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from rich.table import Table

from pipeline import artifacts, lineage
from pipeline.config import Evaluate, Params
from pipeline.report import formats
from study.engine.carry_out import carry_out
from study.engine.session import Result
from study.experiments.reproduction import recipe
from study.experiments.reproduction.failure import Demonstration, verdict
from study.experiments.reproduction.figure import Figure
from study.experiments.reproduction.judge import DECISIVE, RecipeResult, judge
from study.experiments.reproduction.markdown import to_markdown
from study.experiments.reproduction.measure import WORDS
from study.experiments.reproduction.page import build
from study.experiments.reproduction.pages import PAGE
from study.experiments.reproduction.scoring import FAILURE, score_all
from study.report.frame import PAGE as INDEX
from study.state.errors import UsageError
from study.state.history import History, Run, fold
from study.state.ledger import STUDIES, read
from study.stores.addresses import pages
from study.workers.slots import usable_cores

REPORT = Path("reports/reproduction")
QUICK_POINTS = 300  # of a t-SNE in a quick look, at most


@dataclass(frozen=True)
class Asked:
    """What is to be reproduced.

    sources : names of recipes; whole : all of them
    seeds : trainings of each row, >= 1; limit : of images; quick : few images and epochs
    """

    sources: tuple[str, ...]
    whole: bool
    seeds: int
    limit: int | None
    quick: bool

    @property
    def recipes(self) -> list[recipe.Recipe]:
        """Raises UsageError where none is named, or one that there is not."""
        if not self.sources and not self.whole:
            raise UsageError(f"name a source, {', '.join(recipe.names())}, or --all; `study reproduce --list` shows their rows")
        return [recipe.load(name) for name in (recipe.names() if self.whole else dict.fromkeys(self.sources))]

    def page_settings(self, settings: Evaluate) -> Evaluate:
        """Return what a row's page shows; a quick look has fewer points, as t-SNE takes most of a page's time."""
        return replace(settings, tsne_images=min(settings.tsne_images, QUICK_POINTS)) if self.quick else settings

    def plan_name(self, one: recipe.Recipe) -> str:
        return one.plan(self.seeds, self.limit, self.quick).name


def reproduce(
    asked: Asked, settings: Params, changes: Mapping[str, Any], root: Path, environ: Mapping[str, str]
) -> tuple[Result, Path | None, list[str]]:
    """Carry out recipes one after the other, and write the report of all that were carried out in this way.

    settings, changes : as :func:`study.engine.carry_out.carry_out`

    Returns
    -------
    How far the last one came; the page, None where no training has ended; lines for the terminal
    """
    problems: list[str] = []
    for one in asked.recipes:
        plan = one.plan(asked.seeds, asked.limit, asked.quick)
        carried = carry_out(
            plan,
            settings,
            changes,
            root,
            environ,
            after=partial(score_all, root=root, settings=asked.page_settings(settings.evaluate)),
        )
        problems += carried.problems
        if carried.outcome != "done" or carried.reason:
            break
    every = [recipe.load(name) for name in recipe.names()]
    results = [judge(one, history) for one in every if (history := history_of(asked.plan_name(one), root))]
    page, lines = write(results, asked, root) if any(row.complete for one in results for row in one.rows) else (None, [])
    return replace(carried, problems=problems, page=page), page, lines


def history_of(name: str, root: Path) -> History | None:
    return fold(read(root / STUDIES / name))


def write(results: list[RecipeResult], asked: Asked, root: Path) -> tuple[Path, list[str]]:
    """Write the page, its tables, and the same as Markdown; return where it is, and a line for each finding."""
    names = {result.recipe.source: asked.plan_name(result.recipe) for result in results}
    links = {source: pages(root / STUDIES / name) for source, name in names.items()}

    def own(source: str, run: Run) -> Path | None:
        path = root / STUDIES / names[source] / "runs" / run.key / PAGE
        return path if path.exists() else None

    about, now = about_now(root), time.time_ns() // 1_000_000
    failure = demonstration(names, root)
    report = build(results, failure, now=now, about=about, pages=lambda source, run: links[source](run), own=own)
    mode = "-".join(part for part in ("quick" if asked.quick else "", f"limit{asked.limit}" if asked.limit else "") if part)
    folder = root / (REPORT.with_name(f"{REPORT.name}-{mode}") if mode else REPORT)
    report.write(folder)
    text = to_markdown(results, about, now, [verdict(failure)] if failure else [])
    (folder / "reproduction.md").write_text(text, encoding="utf-8")
    counts = ", ".join(f"{sum(result.count(word) for result in results)} {word}" for word in WORDS)
    return folder / INDEX, [f"rows: {counts}", *(f"{one.level}: {one.title}" for one in report.page.verdicts)]


def demonstration(names: Mapping[str, str], root: Path) -> Demonstration | None:
    """Return the failure that was recreated on purpose, where that was done."""
    paths = [root / STUDIES / name / FAILURE for name in names.values()]
    return next((Demonstration.of(artifacts.read_sealed(path)) for path in paths if path.exists()), None)


def about_now(root: Path) -> dict[str, Any]:
    """Return what this report is made with."""
    commit, dirty = lineage.git_state(root)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    number = "" if device.type == "cuda" else f", {formats.plural(usable_cores(), 'core')}"
    return {
        "git_commit": commit,
        "git_dirty": dirty,
        "environment": lineage.environment(),
        "hardware": lineage.device_name(device) + number,
        "command": "study reproduce",
    }


def listing(root: Path) -> Table:
    """List rows, on how many seeds they are trained here, and what their sources report."""
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for column, width in (("row", 24), ("seeds", 5), ("reported", 18), ("title", 26)):
        table.add_column(column, no_wrap=True, overflow="ellipsis", max_width=width)
    for one in map(recipe.load, recipe.names()):
        history = history_of(one.plan(1).name, root)
        runs = history.planned if history else []
        for row in one.rows:
            done = sum(run.origin == row.name and run.state == "COMPLETE" for run in runs)
            table.add_row(f"{one.source}/{row.name}", "later" if row.later else str(done), _headline(row.reported), row.title)
    return table


def _headline(reported: Mapping[str, Figure]) -> str:
    """Return the figure that a row is known by: ``test 98.96 %``."""
    name = next((name for name in (*DECISIVE, *reported) if name in reported), None)
    return f"{name.replace('_accuracy', '').replace('_', ' ')} {reported[name].text}" if name else "–"

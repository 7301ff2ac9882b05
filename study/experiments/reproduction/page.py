"""The report of reproductions: one page over all sources, its table and numbers beside it, and a page of each row."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from pipeline.artifacts import atomic_folder
from pipeline.evaluation.drawing import Drawing, to_png
from pipeline.verdict import Verdict, summary
from study.experiments.reproduction import failure, figures, judge, sources, tables
from study.experiments.reproduction.failure import Demonstration
from study.experiments.reproduction.judge import RecipeResult
from study.experiments.reproduction.measure import WORDS
from study.report import frame
from study.state.history import Run

PAGE = "index.html"
TITLES = {
    "verdicts": "What to know first",
    "sources": "Reported and ours",
    "failure": "The failure of 004, made on purpose",
    "cost": "Cost",
    "lineage": "Lineage",
}
Own = Callable[[str, Run], Path | None]


@dataclass(frozen=True)
class Report:
    """What is told of reproductions; holds numbers and words, draws nothing before :meth:`write`.

    findings : on the sources and on ours, worst first
    view : what the templates read
    own : pages of trainings by where they go, relative to the report: ``001/exp1/index.html``
    """

    results: tuple[RecipeResult, ...]
    demonstration: Demonstration | None
    findings: tuple[Verdict, ...]
    view: Mapping[str, Any]
    own: Mapping[str, Path] = field(default_factory=dict)

    def drawings(self) -> list[Drawing]:
        return figures.draw(self.results, self.demonstration)

    def write(self, folder: Path) -> None:
        """Put the whole report in place of what ``folder`` held.

        ``index.html`` (complete by itself), ``table.csv`` (a line a figure), ``reproduction.json`` (verdicts and numbers),
        ``figures/NAME.png`` and ``figures/NAME.csv``, and ``SOURCE/ROW/index.html`` for each row that has a page.
        """
        drawings = self.drawings()
        with atomic_folder(folder) as made:
            (made / "figures").mkdir()
            for drawing in drawings:
                (made / "figures" / f"{drawing.name}.png").write_bytes(to_png(drawing.figure))
                drawing.numbers.to_csv(made / "figures" / f"{drawing.name}.csv", index=False, float_format="%.6g")
            (made / PAGE).write_text(self.render(drawings), encoding="utf-8")
            self.table().to_csv(made / "table.csv", index=False, float_format="%.6g")
            tree = json.dumps(self.to_tree(), indent=2, allow_nan=False, default=float)
            (made / "reproduction.json").write_text(f"{tree}\n", encoding="utf-8")
            for place, origin in self.own.items():
                (made / place).parent.mkdir(parents=True)
                shutil.copyfile(origin, made / place)

    def render(self, drawings: Sequence[Drawing]) -> str:
        """The page as one HTML file that refers to nothing outside itself, save links to MLflow and to pages of rows."""
        titles = {name: title for name, title in TITLES.items() if name != "failure" or self.demonstration}
        return frame.render("study.experiments.reproduction", "reproduction", titles, self.view, drawings)

    def table(self) -> pd.DataFrame:
        """A line for each figure."""
        return pd.DataFrame(judge.table(self.results))

    def to_tree(self) -> dict[str, Any]:
        """The numbers as plain data, the content of ``reproduction.json``."""
        return {
            "rows": {word: sum(result.count(word) for result in self.results) for word in WORDS},
            "verdicts": [asdict(verdict) for verdict in self.findings],
            "figures": judge.table(self.results),
            "demonstration": self.demonstration.to_tree() if self.demonstration else None,
            "cost": self.view["costs"],
            "lineage": {row.name: row.text for row in self.view["lineage"]},
        }


def nowhere(source: str, run: Run) -> None:
    """Of a training that has no page."""
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
    own : the file with the page of a source's training, None where there is none; of a row the first seed's is shown
    """
    found = findings(results, demonstration)
    trees = [asdict(verdict) for verdict in found]
    first = {
        f"{result.recipe.source}/{row.row.name}/{PAGE}": path
        for result in results
        for row in result.rows
        if (path := next((path for run in row.complete if (path := own(result.recipe.source, run))), None))
    }
    view = {
        "headline": tables.headline(results, now),
        "origin": " from the ledgers of its trainings",
        "verdicts": trees,
        "verdict_summary": f"On the sources and on what is measured here: {summary(found)}",
        "sources": [tables.source(result, pages, first) for result in results],
        "words": WORDS,
        "demonstration": demonstration,
        "exchanged": tables.exchanged(demonstration),
        "printed_failure": tables.printed_failure(results),
        "costs": tables.costs(results),
        "lineage": tables.lineage(results, about, now),
        "commands": tables.commands(results),
    }
    return Report(tuple(results), demonstration, tuple(found), view, first)


def findings(results: Sequence[RecipeResult], demonstration: Demonstration | None) -> list[Verdict]:
    """What is wrong in the sources, and whether our own checks would have noticed; worst first."""
    found = sources.findings(results)
    found += [failure.verdict(demonstration)] if demonstration else []
    return sorted(found, key=lambda verdict: ("bad", "warn", "good", "info").index(verdict.level))

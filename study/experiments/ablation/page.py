"""The report of an ablation: everything computed first, written as one page with its files beside it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pipeline.artifacts import atomic_folder
from pipeline.evaluation.drawing import Drawing, to_png
from pipeline.report.headline import order, verdict_summary
from pipeline.verdict import Verdict
from study.experiments.ablation import figures, headline, tables, verdicts
from study.experiments.ablation.definition import Ablation
from study.experiments.ablation.grammar import MARGIN
from study.experiments.ablation.results import Results, compute
from study.report import frame
from study.report.cost import Cost, cost
from study.state.history import History

PAGE = "index.html"
TITLES = {
    "verdicts": "What to know first",
    "hypotheses": "Hypotheses",
    "table": "Every row",
    "factors": "Factor by factor",
    "grid": "Two factors together",
    "cost": "Cost",
    "failures": "Failures",
    "config": "The base",
    "lineage": "Lineage",
}


@dataclass(frozen=True)
class Report:
    """What is told of an ablation; holds numbers and words, draws nothing before :meth:`write`.

    view : what the templates read
    """

    results: Results
    cost: Cost
    verdicts: tuple[Verdict, ...]
    view: Mapping[str, Any]

    def drawings(self) -> list[Drawing]:
        return figures.draw(self.results)

    def write(self, folder: Path) -> None:
        """Put the whole report in place of what ``folder`` held.

        ``index.html`` (complete by itself), ``table.csv``, ``ablation.json`` (verdicts and numbers), ``figures/NAME.png`` and
        ``figures/NAME.csv`` (what is drawn).
        """
        drawings = self.drawings()
        with atomic_folder(folder) as made:
            (made / "figures").mkdir()
            (made / PAGE).write_text(render(self.view, drawings))
            for drawing in drawings:
                (made / "figures" / f"{drawing.name}.png").write_bytes(to_png(drawing.figure))
                drawing.numbers.to_csv(made / "figures" / f"{drawing.name}.csv", index=False, float_format="%.6g")
            tables.table(self.results).to_csv(made / "table.csv", index=False, float_format="%.6g")
            (made / "ablation.json").write_text(json.dumps(self.to_tree(), indent=2, allow_nan=False) + "\n")

    def to_tree(self) -> dict[str, Any]:
        """The numbers as plain data, the content of ``ablation.json``."""
        results, ablation = self.results, self.results.ablation
        table = tables.table(results).astype(object)
        return {
            "ablation": ablation.name,
            "base": ablation.origin,
            "seeds": results.seeds,
            "finished": results.finished,
            "validation_images": results.images,
            "verdicts": [asdict(verdict) for verdict in self.verdicts],
            "hypotheses": self.view["hypotheses"],
            "rows": table.where(table.notna(), None).to_dict("records"),
            "factors": self.view["effects"],
            "grid": _grid(results),
            "cost": {"wall_seconds": self.cost.seconds, "device_seconds": self.cost.device},
            "failures": self.view["failures"],
        }


def build(history: History, ablation: Ablation, pages: tables.Pages, now: int) -> Report:
    """Compute the report of an ablation in any state.

    pages : the address of a run's page in MLflow, None where it has none
    now : milliseconds since 1970, printed as the page's date
    """
    results, spent = compute(history, ablation), cost(history)
    found = verdicts.judge(results)
    trees = [asdict(verdict) for verdict in found]
    view = {
        "results": results,
        "headline": headline.view(results, spent, now),
        "origin": f" from the ledger of study {history.spec.name}",
        "verdicts": order(trees),
        "verdict_summary": verdict_summary(trees),
        "hypotheses": tables.hypotheses(results),
        "rows": tables.rows(results, pages),
        "effects": tables.effects(results),
        "plots": [figures.factor_figure(effect) for effect in results.effects],
        "interaction": results.crossing.interaction if results.crossing else None,
        "margin": 100 * MARGIN,
        "cost": spent,
        "costs": tables.costs(results, spent),
        "slots": tables.slots(spent),
        "failures": tables.failures(results),
        "deaths": history.deaths,
        "config": tables.configuration(results),
        "written": ablation.text,
        "lineage": tables.lineage(results),
        "commands": tables.commands(results),
    }
    return Report(results, spent, tuple(found), view)


def render(view: Mapping[str, Any], drawings: list[Drawing]) -> str:
    """The report as one HTML file that refers to nothing outside itself, save links to runs in MLflow."""
    names = {drawing.name for drawing in drawings}
    present = {
        "verdicts": view["verdicts"],
        "hypotheses": view["hypotheses"],
        "grid": "grid" in names,
        "cost": view["costs"],
        "failures": view["failures"],
    }
    titles = {name: title for name, title in TITLES.items() if present.get(name, True)}
    return frame.render("study.experiments.ablation", "ablation", titles, view, drawings)


def _grid(results: Results) -> dict[str, Any] | None:
    """The grid as plain data."""
    crossed = results.crossing
    if crossed is None:
        return None
    cells = [
        {
            crossed.first.name: one.label,
            crossed.second.name: other.label,
            "accuracy": None if crossed.counts[row, column] == 0 else float(crossed.means[row, column]),
            "n": int(crossed.counts[row, column]),
            "beyond_adding_up": None if crossed.residuals is None else float(crossed.residuals[row, column]),
        }
        for row, one in enumerate(crossed.first.levels)
        for column, other in enumerate(crossed.second.levels)
    ]
    return {"cells": cells, "interaction": asdict(crossed.interaction) if crossed.interaction else None}

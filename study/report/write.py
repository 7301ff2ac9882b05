"""The report of a study: everything computed first, written as one page with its files beside it."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from pipeline.artifacts import atomic_folder
from pipeline.evaluation.drawing import Drawing, to_png
from pipeline.report import formats
from pipeline.report.headline import order, verdict_summary
from pipeline.verdict import Verdict
from study.report import figures, headline, page, tables, verdicts
from study.report.axes import short_name
from study.report.facts import Facts
from study.report.findings import Findings
from study.space.space import Space
from study.state.history import History
from study.state.ledger import STUDIES
from study.state.objective import OBJECTIVES
from study.state.records import content_of
from study.stores.addresses import pages

PAGE = "index.html"
REPORTS = Path("reports/studies")


@dataclass(frozen=True)
class Report:
    """What is told of a study; holds numbers and words, draws nothing before :meth:`write`.

    view : what the templates read; leaders : every configuration, best first
    """

    findings: Findings
    verdicts: tuple[Verdict, ...]
    leaders: tuple[tables.Row, ...]
    view: Mapping[str, Any]

    def drawings(self) -> list[Drawing]:
        return figures.draw(self.findings)

    def write(self, folder: Path) -> None:
        """Put the whole report in place of what ``folder`` held.

        ``index.html`` (complete by itself), ``leaderboard.csv``, ``report.json`` (verdicts and numbers), ``figures/NAME.png`` and
        ``figures/NAME.csv`` (what is drawn).
        """
        drawings = self.drawings()
        with atomic_folder(folder) as made:
            (made / "figures").mkdir()
            (made / PAGE).write_text(page.render(self.view, drawings))
            for drawing in drawings:
                (made / "figures" / f"{drawing.name}.png").write_bytes(to_png(drawing.figure))
                drawing.numbers.to_csv(made / "figures" / f"{drawing.name}.csv", index=False, float_format="%.6g")
            self.leaderboard().to_csv(made / "leaderboard.csv", index=False, float_format="%.6g")
            (made / "report.json").write_text(json.dumps(self.to_tree(), indent=2, allow_nan=False, default=float) + "\n")

    def leaderboard(self) -> pd.DataFrame:
        """Every configuration that was trained, a row each."""
        flat = [
            {name: value for name, value in row.items() if name not in ("trials", "settings")}
            | {"trials": " ".join(str(item["trial"]) for item in row["trials"])}
            | row["settings"]
            for row in self.leaders
        ]
        return pd.DataFrame(flat, columns=None if flat else ["rank", "trials", "accuracy"])

    def to_tree(self) -> dict[str, Any]:
        """The numbers as plain data, the content of ``report.json``."""
        facts, cost = self.findings.facts, self.findings.cost
        importances = self.findings.importances
        return {
            "study": facts.history.spec.name,
            "finished": facts.finished,
            "trials": len(facts.history.trials),
            "states": {state: facts.history.count(state) for state in ("COMPLETE", "PRUNED", "FAIL", "RUNNING", "PAUSED")},
            "verdicts": [asdict(verdict) for verdict in self.verdicts],
            "best": self.leaders[0] if self.leaders else None,
            "winner": facts.history.winner and content_of(facts.history.winner),
            "tested": facts.tested and content_of(facts.tested),
            "front": self.view["front"],
            "importances": {"ped_anova": importances.ped, "fanova": importances.fanova, "missing": importances.missing},
            "cost": {
                "wall_seconds": cost.seconds,
                "device_seconds": cost.device,
                "epochs": cost.epochs,
                "epochs_skipped": cost.skipped,
                "seconds_saved": cost.saved,
                "trials_per_hour": cost.trials_per_hour,
            },
            "failures": self.view["failures"],
        }


def write_report(history: History, space: Space, root: Path) -> Path:
    """Write ``reports/studies/NAME/``; return the path of its page."""
    addresses, folder = pages(root / STUDIES / history.spec.name), root / REPORTS / history.spec.name
    build(history, space=space, pages=addresses, now=time.time_ns() // 1_000_000).write(folder)
    return folder / PAGE


def build(history: History, *, space: Space, pages: tables.Pages, now: int) -> Report:
    """Compute the report of a study in any state.

    pages : the address of a run's page in MLflow, None where it has none
    now : milliseconds since 1970, printed as the page's date
    """
    findings = Findings.of(Facts(history, space))
    facts = findings.facts
    found = verdicts.judge(findings)
    leaders = tables.leaders(facts, pages)
    trees = [asdict(verdict) for verdict in found]
    view = {
        "facts": facts,
        "headline": headline.view(findings, now),
        "origin": f" from the ledger of study {history.spec.name}",
        "verdicts": order(trees),
        "verdict_summary": verdict_summary(trees),
        "board": tables.board(leaders),
        "configurations": len(leaders),
        "finalists": tables.finalists(facts, pages),
        "winner": history.winner,
        "front": tables.front(facts, pages),
        "respects": facts.respects,
        "importances": findings.importances,
        "chance": findings.chance,
        "cost": findings.cost,
        "costs": tables.costs(findings),
        "slots": tables.slots(findings),
        "failures": tables.failures(facts),
        "deaths": history.deaths,
        "lineage": tables.lineage(facts),
        "commands": tables.commands(facts),
        "space": tables.space_text(facts),
        "fixed": tables.fixed(facts),
        "quality": facts.quality,
        "objectives": OBJECTIVES,
        "short_name": short_name,
        "plain": lambda value: formats.percent(value, formats.digits_for(facts.images)).removesuffix(f"{formats.NARROW}%"),
        "quality_text": partial(formats.percent, digits=formats.digits_for(facts.images)),
        "pruner": history.spec.study.pruner,
    }
    return Report(findings, tuple(found), tuple(leaders), view)

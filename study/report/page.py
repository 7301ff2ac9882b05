"""The report of a study: everything computed first, laid out as one page with its files beside it."""

from __future__ import annotations

import time
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

from pipeline.lineage import without_password
from pipeline.report.document import Page
from pipeline.report.provenance import yaml_text
from pipeline.report.table import text
from study.report import figures, headline, ledger, tables, verdicts
from study.report.facts import TOP, Facts
from study.report.findings import Findings
from study.report.frame import PAGE, Report
from study.space.space import Space
from study.state.history import History
from study.state.ledger import STUDIES
from study.state.records import content_of
from study.stores.addresses import pages

REPORTS = Path("reports/studies")
SECTIONS = {
    "verdicts": "What to know first",
    "board": "Leader board",
    "front": "Accuracy against size",
    "importances": "What mattered",
    "effects": "What each setting does",
    "course": "How the search went",
    "rungs": "Stopping early",
    "chance": "Against random search",
    "cost": "Cost",
    "failures": "Failures",
    "lineage": "Lineage",
}
STATES = ("COMPLETE", "PRUNED", "FAIL", "RUNNING", "PAUSED")


def write_report(history: History, space: Space, root: Path) -> Path:
    """Write ``reports/studies/NAME/``; return the path of its page."""
    addresses, folder = pages(root / STUDIES / history.spec.name), root / REPORTS / history.spec.name
    build(history, space=space, pages=addresses, now=time.time_ns() // 1_000_000).write(folder)
    return folder / PAGE


def build(history: History, *, space: Space, pages: ledger.Pages, now: int) -> Report:
    """Compute the report of a study in any state.

    pages : the address of a run's page in MLflow, None where it has none
    now : milliseconds since 1970, printed as the page's date
    """
    findings = Findings.of(Facts(history, space))
    facts, cost, importances, spec = findings.facts, findings.cost, findings.importances, history.spec
    leaders, front, failures = tables.leaders(facts, pages), tables.front(facts, pages), tables.failures(facts)
    board = replace(leaders, name="board", rows=leaders.rows[:TOP])
    seeds = (f"study {spec.study.seed}", "those of the trainings follow from the study's")
    more = [("Sampler, pruner", text(f"{spec.study.sampler}, {spec.study.pruner}"))]
    lineage = ledger.lineage(history, others=more, seeds=seeds)
    page = Page(
        packages=("study.report",),
        kind="study",
        head=headline.head(findings, now),
        sections=SECTIONS,
        verdicts=verdicts.judge(findings),
        tables=(board, tables.finalists(facts, pages), front, failures, *ledger.cost_tables(history, cost), lineage),
        origin=f" from the ledger of study {spec.name}",
        view={
            "facts": facts,
            "quality": facts.quality,
            "configurations": len(leaders.rows),
            "winner": history.winner,
            "importances": importances,
            "chance": findings.chance,
            "cost": cost,
            "deaths": history.deaths,
            "pruner": spec.study.pruner,
            "space": yaml_text(spec.tree),
            "fixed": tables.fixed(facts),
            "reproduce": ledger.reproduce(
                "Go on, take over, reproduce",
                _commands(facts),
                "Proposals depend on which trials had ended, so with several workers a repeated study may try other points.",
            ),
        },
    )
    tree = {
        "study": spec.name,
        "finished": facts.finished,
        "trials": len(history.trials),
        "states": {state: history.count(state) for state in STATES},  # type: ignore[arg-type]
        "verdicts": [asdict(verdict) for verdict in page.verdicts],
        "best": next(iter(leaders.records()), None),
        "winner": history.winner and content_of(history.winner),
        "tested": facts.tested and content_of(facts.tested),
        "front": front.records(),
        "importances": {"ped_anova": importances.ped, "fanova": importances.fanova, "missing": importances.missing},
        "cost": {
            "wall_seconds": cost.seconds,
            "device_seconds": cost.device,
            "epochs": cost.epochs,
            "epochs_skipped": cost.skipped,
            "seconds_saved": cost.saved,
            "trials_per_hour": cost.trials_per_hour,
        },
        "failures": failures.records(),
    }
    return Report(page, partial(figures.draw, findings), [leaders], "report", tree)


def _commands(facts: Facts) -> list[str]:
    """What goes on with the study, takes its winner over, and would run it again."""
    spec, command = facts.history.spec, without_password(facts.history.lineage.command)
    total = max(len(facts.history.trials), spec.study.trials)
    lines = [f"study run --name {spec.name} --trials {total}  # goes on to that total"]
    if facts.complete:
        lines.append(f"study promote {spec.name}  # writes the best configuration into params.yaml")
    lines += ledger.checkout(facts.history)
    return [*lines, f"{command} --new  # the same search once more"] if command else lines

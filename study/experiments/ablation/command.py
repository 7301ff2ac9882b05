"""``study ablate``: train an ablation as far as its ledger lacks it, and write its report."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.table import Table

from pipeline.config import Params
from study.engine.carry_out import carry_out
from study.engine.session import Result
from study.experiments.ablation.definition import load
from study.experiments.ablation.page import build
from study.experiments.ablation.reading import SHIPPED
from study.state.history import History
from study.state.ledger import STUDIES
from study.stores.addresses import pages

REPORTS = Path("reports/ablations")


def ablate(
    file: str,
    limits: Mapping[str, int | None],
    settings: Params,
    changes: Mapping[str, Any],
    root: Path,
    environ: Mapping[str, str],
) -> tuple[Result, Path | None, list[str]]:
    """Carry out the ablation in ``file``, and write its report.

    limits : ``seeds`` in place of the file's, ``limit`` of images; None: as the file says
    settings, changes : as :func:`study.engine.carry_out.carry_out`

    Returns
    -------
    How far it came; the page, None where no training has ended; what to tell of it
    """
    ablation = load(file, root)
    if limits["seeds"] is not None:
        ablation = replace(ablation, seeds=limits["seeds"])
    plan = ablation.plan(limits["limit"])
    folder, told = root / REPORTS / plan.name.removeprefix("ablate-"), list[str]()

    def report(history: History) -> Path | None:
        if not any(run.state == "COMPLETE" for run in history.planned):
            return None
        made = build(history, ablation, pages(root / STUDIES / plan.name), time.time_ns() // 1_000_000)
        made.write(folder)
        told.extend(f"{verdict.title}. {verdict.evidence}" for verdict in made.page.verdicts)
        return folder / "index.html"

    carried = carry_out(plan, settings, changes, root, environ, report=report)
    return carried, carried.page, told


def listing() -> Table:
    """The shipped ablations."""
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for column in ("name", "rows", "seeds", "description"):
        table.add_column(column, no_wrap=column != "description")
    for path in sorted(SHIPPED.glob("*.yaml")):
        ablation = load(path.stem, Path.cwd())
        table.add_row(path.stem, str(len(ablation.rows)), str(ablation.seeds), ablation.description)
    return table

"""``reports/studies/NAME/``, and the addresses of runs in MLflow's user interface."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from pipeline import artifacts, tracking
from study.space.space import Space
from study.state.history import History, Run
from study.state.ledger import STUDIES

REPORTS = Path("reports/studies")
DEFAULT_UI = "http://127.0.0.1:5000"


def write_report(history: History, space: Space, root: Path) -> Path:
    """Write ``reports/studies/NAME/``; where its page is."""
    from study.report.write import build  # matplotlib and its friends take a second that no search shall wait for

    addresses = pages(root / STUDIES / history.spec.name)
    folder = root / REPORTS / history.spec.name
    build(history, space=space, pages=addresses, now=time.time_ns() // 1_000_000).write(folder)
    return folder / "index.html"


def pages(folder: Path) -> Callable[[Run], str | None]:
    """The addresses of runs in MLflow's user interface, as far as they were recorded."""
    path = folder / "mlflow.json"
    told = artifacts.read_sealed(path) if path.exists() else {"tracking_uri": "", "experiment_id": None, "runs": {}}
    base = told["tracking_uri"] if told["tracking_uri"].startswith("http") else DEFAULT_UI

    def page(run: Run) -> str | None:
        run_id = told["runs"].get(run.key)
        return tracking.run_page(base, told["experiment_id"], run_id) if run_id else None

    return page

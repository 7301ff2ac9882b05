"""``study ui``: MLflow and the Optuna dashboard side by side, on this machine only."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, ExitStack, suppress
from pathlib import Path
from types import FrameType
from urllib.parse import quote, urlencode

from pipeline import artifacts, tracking
from pipeline.config import load
from pipeline.tracking import TrackingError
from pipeline.ui import HOST, answering, free_port, serving, show
from study.state.ledger import STUDIES
from study.stores.addresses import STORES, locate_storage, read_stores

# The dashboard takes its address from the command line alone, which everybody sees; so it is told once it runs.
DASHBOARD = """
import os, sys
from importlib.metadata import entry_points
sys.argv.insert(1, os.environ.pop("STUDYLINE_DASHBOARD"))
(script,) = entry_points(group="console_scripts", name="optuna-dashboard")
script.load()()
"""


def stores(root: Path, environ: Mapping[str, str]) -> tuple[tracking.Store, str]:
    """MLflow and Optuna's storage: those of the study that ran last; without one, those that params.yaml names."""
    if found := latest(root):
        return read_stores(found)
    params = load(root / "params.yaml")
    return tracking.locate(params.tracking, environ), locate_storage(params.study, environ, root)


def latest(root: Path) -> Path | None:
    """The folder of the study that ran last."""
    found = (root / STUDIES).glob(f"*/{STORES}")
    return max((path.parent for path in found), key=lambda folder: (folder / STORES).stat().st_mtime_ns, default=None)


def trials(base: str, folder: Path) -> str | None:
    """The address of a study's trials in MLflow: their curves and values side by side, best first; None before the first."""
    path = folder / "mlflow.json"
    if not path.exists():
        return None
    # MLflow folds children into their parent; sorting by a metric is what unfolds them.
    query = {
        "workflowType": "machine_learning",
        "compareRunsMode": "CHART",
        "searchFilter": f"tags.study = '{folder.name}' and tags.kind != 'study'",
        "orderByKey": "metrics.`best/validation_accuracy`",
        "orderByAsc": "false",
    }
    experiment = artifacts.read_sealed(path)["experiment_id"]
    return f"{base.rstrip('/')}/#/experiments/{experiment}/runs?{urlencode(query, quote_via=quote)}"


def dashboard(storage: str, port: int, root: Path) -> AbstractContextManager[subprocess.Popen[bytes]]:
    """Optuna's dashboard, answering; it ends with the block. Raises TrackingError where it did not start."""
    command = [sys.executable, "-c", DASHBOARD, "--host", HOST, "--port", str(port)]
    return answering("Optuna", command, f"http://{HOST}:{port}", root, {"STUDYLINE_DASHBOARD": storage})


def serve(root: Path, environ: Mapping[str, str], port: int) -> None:
    """Run both until Ctrl-C, links printed; of MLflow only the links where a server of its own runs already.

    Raises
    ------
    TrackingError
        Nothing was tracked yet, or a server did not start.
    """
    store, storage = stores(root, environ)
    if store.database is not None and not store.database.exists():
        raise TrackingError("nothing tracked yet: make repro, or study run")
    _on_interrupt(signal.default_int_handler)  # whoever ends us, the servers go too
    with ExitStack() as stack, suppress(KeyboardInterrupt):
        try:
            _serve(stack, store, storage, root, port)
            signal.pause()
        finally:
            _on_interrupt(signal.SIG_IGN)  # a second Ctrl-C leaves no server behind


def _on_interrupt(handler: Callable[[int, FrameType | None], object] | signal.Handlers) -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, handler)


def _serve(stack: ExitStack, store: tracking.Store, storage: str, root: Path, port: int) -> None:
    if store.uri.startswith("http"):
        if why := tracking.problem(store):
            raise TrackingError(why)
        served = store
    else:
        served = stack.enter_context(serving(store, port))[0]
    show(served)
    if (study := latest(root)) and (address := trials(served.uri, study)):
        print(f"  trials of {study.name}\n              {address}", flush=True)
    if not storage.startswith("sqlite:///") or Path(storage.removeprefix("sqlite:///")).exists():
        stack.enter_context(dashboard(storage, own := free_port(port + 1), root))
        print(f"Optuna\n  dashboard   http://{HOST}:{own}", flush=True)
    print("Ctrl-C ends it", flush=True)

"""The addresses of a study's stores: Optuna's storage, MLflow, and its runs in MLflow's user interface."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path

from pipeline import artifacts, tracking
from pipeline.config import Study
from pipeline.lineage import without_password
from pipeline.tracking.store import Store, out_of_reach
from study.state.errors import UsageError
from study.state.history import Run

STORES = "stores.json"
DATABASE = "study.db"
SCHEMES = {"sqlite": "sqlite", "postgresql": "postgresql+psycopg", "mysql": "mysql"}
DEFAULT_UI = "http://127.0.0.1:5000"


def locate_storage(section: Study, environ: Mapping[str, str], root: Path) -> str:
    """Return the URL of Optuna's storage from the configuration, else STUDYLINE_STORAGE, else the default; paths are absolute.

    Raises UsageError if Optuna does not support the database.
    """
    url = section.storage or environ.get("STUDYLINE_STORAGE") or f"sqlite:///{DATABASE}"
    scheme, _, rest = url.partition("://")
    name, _, driver = scheme.partition("+")
    if name not in SCHEMES or not rest:
        raise UsageError(
            f"study.storage must start with sqlite:///, postgresql:// or mysql://, got {re.sub('(?<=://).*@', '', url)};"
            " give it in params.yaml, with --storage, or in STUDYLINE_STORAGE"
        )
    if name == "sqlite":
        return f"sqlite:///{root.absolute() / rest.removeprefix('/')}"
    return f"{scheme if driver else SCHEMES[name]}://{rest}"


def storage_problem(url: str) -> str | None:
    """Return why Optuna's storage cannot be used and the remedy, in one line; None if it answers. Takes at most 3 seconds."""
    reason = _postgresql(url) if url.startswith("postgresql+psycopg") else out_of_reach(url)
    return (
        reason and f"Optuna's storage at {without_password(url)} cannot be reached: {reason}; start it, or correct study.storage"
    )


def _postgresql(url: str) -> str | None:
    try:
        import psycopg
    except ImportError:
        return "psycopg is not installed (pip install 'studyline[postgresql]')"
    try:
        psycopg.connect(url.replace("+psycopg", "", 1), connect_timeout=3).close()
    except psycopg.Error as error:
        message = str(error).strip().split("\n\t")[0] or type(error).__name__  # without libpq's "Is the server running?"
        return without_password(message.splitlines()[-1])
    return None


def write_stores(folder: Path, store: Store, storage_url: str) -> None:
    """Write the addresses of a study's stores, readable by their owner only, as they may hold passwords."""
    stores = {"storage": storage_url, "store": {**asdict(store), "root": str(store.root)}}
    artifacts.write_sealed(folder / STORES, stores, private=True)


def read_stores(folder: Path) -> tuple[Store, str]:
    """Return the stores of a study: MLflow, and the URL of Optuna's storage."""
    stores = artifacts.read_sealed(folder / STORES)
    return Store(**{**stores["store"], "root": Path(stores["store"]["root"])}), stores["storage"]


def pages(folder: Path) -> Callable[[Run], str | None]:
    """Return a function from a run to its address in MLflow's user interface, None if it was not recorded."""
    path = folder / "mlflow.json"
    recorded = artifacts.read_sealed(path) if path.exists() else {"tracking_uri": "", "experiment_id": None, "runs": {}}
    base = recorded["tracking_uri"] if recorded["tracking_uri"].startswith("http") else DEFAULT_UI

    def page(run: Run) -> str | None:
        run_id = recorded["runs"].get(run.key)
        return tracking.run_page(base, recorded["experiment_id"], run_id) if run_id else None

    return page

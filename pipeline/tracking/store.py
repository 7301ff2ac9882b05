"""The MLflow store: which one, and whether it can be reached, without importing mlflow."""

from __future__ import annotations

import os
import re
import socket
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, urlsplit

import requests

from pipeline.artifacts import locked
from pipeline.config import Tracking
from pipeline.lineage import without_password

DATABASE = "mlflow.db"
ARTIFACTS = "mlartifacts"
PORTS = {"postgresql": 5432, "mysql": 3306, "mssql": 1433}
PATIENCE = 3.0  # seconds for a store to answer before the run starts


class TrackingError(RuntimeError):
    """MLflow cannot record the run; the message gives the reason and the remedy."""


@dataclass(frozen=True)
class Store:
    """The store of runs.

    uri : MLflow tracking URI, absolute
    artifacts : file URI of the folder for artifacts; None: the server chooses
    root : of the project; unsent records wait below it
    """

    uri: str
    artifacts: str | None
    root: Path
    experiment: str
    required: bool
    system_metrics: bool

    @property
    def database(self) -> Path | None:
        """The file of an SQLite store."""
        return Path(self.uri.removeprefix("sqlite:///")) if self.uri.startswith("sqlite:") else None

    def page(self, experiment_id: str, run_id: str | None = None) -> str:
        """Return the address of a run, or of the experiment's charts, in MLflow's user interface."""
        return run_page(self.uri, experiment_id, run_id)


@contextmanager
def alone_with(uri: str, make: Callable[[str], None]) -> Iterator[None]:
    """Hold the lock of an SQLite store and create a missing one atomically; do nothing for other stores.

    Without this, a kill or two concurrent creators would leave a broken database.

    make : creates the database at a URI and closes it
    """
    if not uri.startswith("sqlite:///"):
        yield
        return
    path = Path(uri.removeprefix("sqlite:///"))
    with locked(path):
        if not path.exists():
            fresh = path.with_name(f".{path.name}.new")
            for left in path.parent.glob(f"{fresh.name}*"):  # of a killed process, as we hold the lock
                left.unlink()
            make(f"sqlite:///{fresh}")
            fresh.replace(path)
        yield


def read_only(uri: str, table: str) -> str | None:
    """Return a URI that opens the database read-only; None if it lacks ``table`` because it was not created yet.

    MLflow servers, and databases other than SQLite and PostgreSQL, keep their URI.
    """
    if uri.startswith("http"):
        return uri
    import sqlalchemy  # slow, and many commands read no store

    address = uri
    if uri.startswith("sqlite:///"):
        path = Path(uri.removeprefix("sqlite:///"))
        if not path.exists():
            return None
        address = (
            f"sqlite+pysqlite:///file:{quote(str(path))}?mode=ro&uri=true"  # for sqlite:///file: MLflow would create a folder
        )
    elif uri.startswith("postgresql"):
        address += ("&" if "?" in uri else "?") + "options=-c%20default_transaction_read_only%3Don"
    engine = sqlalchemy.create_engine(address)
    try:
        return address if sqlalchemy.inspect(engine).has_table(table) else None
    finally:
        engine.dispose()


def locate(section: Tracking, environ: Mapping[str, str]) -> Store:
    """Return the store named by the configuration, else by MLFLOW_TRACKING_URI, else the default.

    Paths are relative to the project's root, or to DVC_ROOT: ``dvc exp run --temp`` works in another folder.

    Raises TrackingError if MLflow 3 does not accept the URI.
    """
    root = Path(environ.get("DVC_ROOT", Path.cwd())).absolute()
    uri = section.uri or environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{DATABASE}"
    scheme = re.split(r"[:+]", uri)[0] if "://" in uri else ""
    if scheme == "sqlite":
        uri = f"sqlite:///{root / uri.removeprefix('sqlite:///')}"
    elif scheme not in {"http", "https", *PORTS}:
        raise TrackingError(
            f"tracking.uri must start with sqlite:///, http(s):// or {', '.join(f'{name}://' for name in PORTS)},"
            f" got {without_password(uri)}; MLflow 3 no longer stores runs in plain folders"
        )
    else:
        _check_port(uri)
    artifacts = None if scheme in {"http", "https"} else (root / ARTIFACTS).as_uri()
    return Store(uri, artifacts, root, section.experiment, section.required, section.system_metrics)


def run_page(base: str, experiment_id: str, run_id: str | None = None) -> str:
    """Return the address of a run, or of the experiment's charts, in the user interface of the MLflow server at ``base``."""
    # MLflow 3 opens experiments in its GenAI mode unless the address says otherwise.
    place = f"/runs/{run_id}" if run_id else "/runs"
    mode = "?workflowType=machine_learning" + ("" if run_id else "&compareRunsMode=CHART")
    return f"{base.rstrip('/')}/#/experiments/{experiment_id}{place}{mode}"


def problem(store: Store) -> str | None:
    """Return why the store cannot be used and the remedy, in one line; None if it answers. Takes a few seconds at most."""
    reason = unreachable(store.uri)
    if reason is None:
        return None
    remedy = "start it, correct tracking.uri or MLFLOW_TRACKING_URI" if store.database is None else "correct this"
    return f"{reason}; {remedy}" + (", or set tracking.required: false" if store.required else "")


def unreachable(uri: str) -> str | None:
    """Return why the store at a URI of :func:`locate` cannot be used, in one line; None if it answers."""
    reason = out_of_reach(uri)
    return reason and f"MLflow at {without_password(uri)} cannot be reached: {reason}"


def out_of_reach(uri: str) -> str | None:
    """Return why a database or server cannot be reached; None if it answers."""
    try:
        if uri.startswith("sqlite:"):
            _try_sqlite(Path(uri.removeprefix("sqlite:///")))
        elif uri.startswith("http"):
            _try_server(uri)
        else:
            parts = urlsplit(uri)
            port = parts.port or PORTS[parts.scheme.partition("+")[0]]
            socket.create_connection((parts.hostname or "localhost", port), PATIENCE).close()
    except (OSError, sqlite3.Error, UnicodeError) as error:  # UnicodeError: an invalid host name
        return _reason(error)
    return None


def _check_port(uri: str) -> None:
    try:
        urlsplit(uri).port  # noqa: B018  # reading it checks it
    except ValueError:
        address = re.sub("(?<=://).*@", "", uri)  # a password that contains a slash looks like a port
        raise TrackingError(
            f"tracking.uri must be like scheme://user:password@host:port/name, the port a number up to 65535,"
            f" / and @ in a password written %2F and %40, got {address}"
        ) from None


def _try_sqlite(path: Path) -> None:
    if not path.parent.is_dir():
        raise FileNotFoundError(f"there is no folder {path.parent}")
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise PermissionError(f"no permission to write {path}")
    if path.exists():
        # Read only: other modes would create a missing file.
        with sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, timeout=PATIENCE) as connection:
            connection.execute("select count(*) from sqlite_master")
        connection.close()


def _try_server(uri: str) -> None:
    answer = requests.get(f"{uri.rstrip('/')}/health", timeout=PATIENCE)
    if answer.status_code in (401, 403):
        raise PermissionError(f"access refused (HTTP {answer.status_code}); set MLFLOW_TRACKING_USERNAME and _PASSWORD or _TOKEN")


def _reason(error: Exception) -> str:
    """Return the innermost cause, on which a user can act."""
    text = str(error)
    if isinstance(error, requests.Timeout):
        return f"no answer within {PATIENCE:.0f} s"
    if isinstance(error, requests.RequestException):
        refused = re.search(r"(Connection refused|Name or service not known|[Nn]o route to host|Failed to resolve[^(]*)", text)
        return refused[0].strip().lower() if refused else text.split("\n")[0][:200]
    return text

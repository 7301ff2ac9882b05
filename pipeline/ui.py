"""MLflow's user interface over the runs of this project, opened where it shows trainings and their charts."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import webbrowser
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import requests

from pipeline.tracking import Store, TrackingError

HOST, PORT = "127.0.0.1", 5000
PATIENCE = 90.0  # seconds for the server to answer; usually 4 to 11
# MLflow's own defaults start twelve processes with 2.7 GB between them, for features of its GenAI half.
LIGHT = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}


@contextmanager
def serving(store: Store, port: int = PORT) -> Iterator[tuple[Store, subprocess.Popen[bytes]]]:
    """A light MLflow server over a store on this machine, answering; it and its children end with the block.

    Yields the store as the server shows it, and the process. The port is the first free one from ``port`` on.

    Raises
    ------
    TrackingError
        The server ended, or did not answer in time.
    """
    assert store.artifacts is not None, "a server needs no other server"
    port = free_port(port)
    command = [sys.executable, "-m", "mlflow", "server", "--workers", "1", "--host", HOST, "--port", str(port)]
    command += ["--artifacts-destination", store.artifacts]
    url = f"http://{HOST}:{port}"
    environ = {**LIGHT, "MLFLOW_BACKEND_STORE_URI": store.uri}  # everybody sees command lines, and it may hold a password
    with answering("MLflow", command, f"{url}/health", store.root, environ) as process:
        yield replace(store, uri=url), process


@contextmanager
def answering(
    name: str, command: Sequence[str], url: str, root: Path, environ: Mapping[str, str]
) -> Iterator[subprocess.Popen[bytes]]:
    """A server process that answers at ``url``; it and its children end with the block.

    Raises
    ------
    TrackingError
        The server ended, or did not answer in time.
    """
    log = root / ".cache" / f"{name.lower()}-server.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as out:
        process = subprocess.Popen(command, env={**os.environ, **environ}, stdout=out, stderr=out, start_new_session=True)
    try:
        _await(name, url, process, log)
        yield process
    finally:
        _end(process)


def show(store: Store) -> None:
    """Print where the charts and the newest run are, and open the charts if there is a display."""
    charts, newest = addresses(store)
    print(f"MLflow\n  charts      {charts}\n  newest run  {newest or 'none yet: make repro'}", flush=True)
    if has_display(os.environ):
        webbrowser.open(charts)


def addresses(store: Store) -> tuple[str, str | None]:
    """The pages of the experiment's charts and of its newest run, from a server that answers."""
    api = f"{store.uri.rstrip('/')}/api/2.0/mlflow"
    found = requests.get(f"{api}/experiments/get-by-name", {"experiment_name": store.experiment}, timeout=10)
    if found.status_code == 404:
        return store.uri, None
    found.raise_for_status()
    experiment_id = found.json()["experiment"]["experiment_id"]
    search = {"experiment_ids": [experiment_id], "max_results": 1, "order_by": ["attributes.start_time DESC"]}
    runs = requests.post(f"{api}/runs/search", json=search, timeout=10).json().get("runs", [])
    return store.page(experiment_id), store.page(experiment_id, runs[0]["info"]["run_id"]) if runs else None


def has_display(environ: Mapping[str, str]) -> bool:
    return sys.platform == "darwin" or bool(environ.get("DISPLAY") or environ.get("WAYLAND_DISPLAY"))


def free_port(port: int) -> int:
    """The first port from this one on that nobody listens at."""
    return next(candidate for candidate in range(port, 65536) if _is_free(candidate))


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def _await(name: str, url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if requests.get(url, timeout=2).ok:
                return
        except requests.RequestException:
            time.sleep(0.2)
    raise TrackingError(f"the {name} server did not start; it wrote why to {log}")


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a server and all its children; some outlive a polite request to their parent alone."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
            process.wait(5)
        except ProcessLookupError:
            return
        except subprocess.TimeoutExpired:
            continue

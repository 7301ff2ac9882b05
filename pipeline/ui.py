"""Start MLflow's user interface for this project and open its training charts."""

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
    """Run a light MLflow server for a store on this machine; it and its children end with the block.

    Yields the store at the server's address, and the process. The port is the first free one from ``port`` on.

    Raises TrackingError if the server ended, or did not answer in time.
    """
    assert store.artifacts is not None, "a server needs no other server"
    port = free_port(port)
    command = [sys.executable, "-m", "mlflow", "server", "--workers", "1", "--host", HOST, "--port", str(port)]
    command += ["--artifacts-destination", store.artifacts]
    url = f"http://{HOST}:{port}"
    environ = {**LIGHT, "MLFLOW_BACKEND_STORE_URI": store.uri}  # it may hold a password, and command lines are public
    with answering("MLflow", command, f"{url}/health", store.root, environ) as process:
        yield replace(store, uri=url), process


@contextmanager
def answering(
    name: str, command: Sequence[str], url: str, root: Path, environ: Mapping[str, str]
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a server process and wait until it answers at ``url``; it and its children end with the block.

    Raises TrackingError if the server ended, or did not answer in time.
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
    """Print the addresses of the charts and of the newest run; open the charts if there is a display."""
    charts, newest = addresses(store)
    print(f"MLflow\n  charts      {charts}\n  newest run  {newest or 'none yet: make repro'}", flush=True)
    if has_display(os.environ):
        webbrowser.open(charts)


def addresses(store: Store) -> tuple[str, str | None]:
    """Return the addresses of the experiment's charts and of its newest run, None if there is no run."""
    api = f"{store.uri.rstrip('/')}/api/2.0/mlflow"
    answer = requests.get(f"{api}/experiments/get-by-name", {"experiment_name": store.experiment}, timeout=10)
    if answer.status_code == 404:
        return store.uri, None
    answer.raise_for_status()
    experiment_id = answer.json()["experiment"]["experiment_id"]
    search = {"experiment_ids": [experiment_id], "max_results": 1, "order_by": ["attributes.start_time DESC"]}
    runs = requests.post(f"{api}/runs/search", json=search, timeout=10).json().get("runs", [])
    return store.page(experiment_id), store.page(experiment_id, runs[0]["info"]["run_id"]) if runs else None


def has_display(environ: Mapping[str, str]) -> bool:
    return sys.platform == "darwin" or bool(environ.get("DISPLAY") or environ.get("WAYLAND_DISPLAY"))


def free_port(port: int) -> int:
    """Return the first free port from ``port`` on."""
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
    raise TrackingError(f"the {name} server did not start; see {log}")


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a server and all its children: SIGTERM, then SIGKILL, to the process group, as some children outlive their parent."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
            process.wait(5)
        except ProcessLookupError:
            return
        except subprocess.TimeoutExpired:
            continue

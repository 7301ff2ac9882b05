"""``make ui``: MLflow's user interface over the runs of this project, opened where it shows trainings and their charts."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import webbrowser
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import requests

from pipeline import config
from pipeline.stages import one_line_errors
from pipeline.tracking import Store, TrackingError, locate, problem

HOST, PORT = "127.0.0.1", 5000
PATIENCE = 90.0  # seconds for the server to answer; usually 4 to 11
# MLflow's own defaults start twelve processes with 2.7 GB between them, for features of its GenAI half.
LIGHT = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}


def main() -> None:
    with one_line_errors():
        store = locate(config.load().tracking, os.environ)
        if store.uri.startswith("http"):  # a server runs already
            if why := problem(store):
                raise TrackingError(why)
            show(store)
            return
        if store.database is not None and not store.database.exists():
            raise TrackingError("nothing tracked yet: make repro")
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # whoever ends us, the server goes too
            signal.signal(number, signal.default_int_handler)
        with serving(store) as (shown, process):
            show(shown)
            print("  Ctrl-C ends it", flush=True)
            with suppress(KeyboardInterrupt):
                process.wait()


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
    port = next(candidate for candidate in range(port, 65536) if _is_free(candidate))
    command = [sys.executable, "-m", "mlflow", "server", "--workers", "1", "--host", HOST, "--port", str(port)]
    command += ["--backend-store-uri", store.uri, "--artifacts-destination", store.artifacts]
    log = store.root / ".cache" / "mlflow-server.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as out:
        process = subprocess.Popen(command, env={**os.environ, **LIGHT}, stdout=out, stderr=out, start_new_session=True)
    try:
        url = f"http://{HOST}:{port}"
        _await(url, process, log)
        yield replace(store, uri=url), process
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


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def _await(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if requests.get(f"{url}/health", timeout=2).ok:
                return
        except requests.RequestException:
            time.sleep(0.2)
    raise TrackingError(f"the MLflow server did not start; it wrote why to {log}")


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


if __name__ == "__main__":
    main()

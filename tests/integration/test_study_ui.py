"""``study ui`` and ``make ui``: two servers on this machine, gone when their owner ends."""

import os
import signal
import subprocess
import sys
import time

import mlflow
import optuna
import psutil
import pytest
import requests

from pipeline.config import Tracking
from pipeline.tracking import locate
from study.cli.ui import stores
from study.stores.addresses import write_stores

STUDY = [sys.executable, "-c", "from study.cli.main import main; main()"]


def test_the_interface_over_nothing_says_what_to_do(tmp_path) -> None:
    (tmp_path / "params.yaml").write_text("tracking: {}")
    environ = {name: value for name, value in os.environ.items() if name not in ("DVC_ROOT", "MLFLOW_TRACKING_URI")}
    ended = subprocess.run([*STUDY, "ui"], cwd=tmp_path, env=environ, capture_output=True, text=True)
    assert (ended.returncode, ended.stderr) == (1, "error: nothing tracked yet: make repro, or study run\n")


def test_what_is_shown_is_where_the_last_study_was_recorded_else_what_the_configuration_names(tmp_path) -> None:
    (tmp_path / "params.yaml").write_text("study: {storage: 'sqlite:///named.db'}")
    environ = {"DVC_ROOT": str(tmp_path)}
    named = locate(Tracking(), environ)
    assert stores(tmp_path, environ) == (named, f"sqlite:///{tmp_path}/named.db")
    for number, name in enumerate(("second", "first"), 1):
        folder = tmp_path / "studies" / name
        write_stores(folder, named, f"sqlite:////of/{name}.db")
        os.utime(folder / "stores.json", (0, -number))
    assert stores(tmp_path, environ) == (named, "sqlite:////of/second.db")


def test_the_user_interfaces_go_with_the_command_that_began_them(tmp_path) -> None:
    (tmp_path / "params.yaml").write_text("")
    store = locate(Tracking(uri="sqlite:///runs.db"), {"DVC_ROOT": str(tmp_path)})
    write_stores(tmp_path / "studies" / "mine", store, f"sqlite:///{tmp_path / 'trials.db'}")
    mlflow.MlflowClient(f"sqlite:///{tmp_path / 'runs.db'}").search_experiments()
    optuna.create_study(storage=f"sqlite:///{tmp_path / 'trials.db'}", study_name="mine")
    away = ("DVC_ROOT", "MLFLOW_TRACKING_URI", "DISPLAY", "WAYLAND_DISPLAY")
    environ = {name: value for name, value in os.environ.items() if name not in away}
    command = [*STUDY, "ui"]
    with subprocess.Popen(command, cwd=tmp_path, env=environ, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(5)]
        address, dashboard = lines[1].split()[-1].split("/#")[0], lines[4].split()[-1]
        assert requests.get(f"{address}/health", timeout=10).ok
        assert "mine" in requests.get(f"{dashboard}/api/studies", timeout=10).text
        commands = [child.cmdline() for child in psutil.Process(process.pid).children(recursive=True)]
        assert len(commands) > 1
        assert not [command for command in commands if any(name in str(command) for name in ("runs.db", "trials.db"))]
        while process.poll() is None:  # by somebody who is impatient, too
            process.send_signal(signal.SIGINT)
            time.sleep(0.02)
        assert process.returncode == 0
    for gone in (address, dashboard):
        with pytest.raises(requests.ConnectionError):
            requests.get(gone, timeout=10)

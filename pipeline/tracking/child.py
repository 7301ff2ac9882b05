"""Child processes that send records to MLflow, the writer of a run and the recorder of a study, seen from their parent."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

# For a child's mlflow: no telemetry, and no retries of its own.
CALM = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1", "MLFLOW_HTTP_REQUEST_TIMEOUT": "20"}


def spawn(module: str, folder: Path, log: Path) -> subprocess.Popen[bytes]:
    """Start ``python -m module folder`` with its output in ``log``, readable by its owner only."""
    descriptor = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    with os.fdopen(descriptor, "ab") as out:
        os.fchmod(descriptor, 0o600)  # earlier versions created it for all
        return subprocess.Popen(
            [sys.executable, "-m", module, str(folder)],
            stdin=subprocess.PIPE,  # its end tells the child that this process ended, even by a kill
            stdout=out,
            stderr=out,
            env={**os.environ, **CALM},
            process_group=0,  # Ctrl-C ends us; the child must still send our last records
        )


def close_input(process: subprocess.Popen[bytes]) -> None:
    """Tell a child of :func:`spawn` that no more records come."""
    assert process.stdin is not None
    process.stdin.close()

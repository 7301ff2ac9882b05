"""A study of ours against the usual way, process start to last result durable and tracked: ``python -m benchmarks.study_speed``.

The same space, images, epochs and number of trials, no pruning, all tracking on: an Optuna objective over torchvision's
``DataLoader`` (``benchmarks/usual_study.py``, two threads as torch takes them), and ``study run`` with two workers. The images
are MNIST's; the variable STUDYLINE_MIRROR names a folder that holds them.
"""

from __future__ import annotations

import gzip
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from benchmarks.usual_study import BATCH, EPOCHS, TRAINING, VALIDATION

TRIALS = 100
SPACE: dict[str, Any] = {
    "description": "networks of one to three layers",
    "parameters": {
        "model.dense": {
            "repeat": {"low": 1, "high": 3},
            "each": {"out": {"low": 4, "high": 128}, "dropout": {"low": 0.2, "high": 0.5}},
        },
        "train.optimizer": {"choices": ["adam", "rmsprop", "sgd"]},
        "train.lr": {"low": 1e-5, "high": 1e-1, "log": True},
    },
}


def main(trials: int = TRIALS) -> None:
    mirror = os.environ.get("STUDYLINE_MIRROR")
    if not mirror or not Path(mirror, "mnist").is_dir():
        print("# A study against the usual way: left out, STUDYLINE_MIRROR names no folder with MNIST\n")
        return
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        usual = seconds(
            [sys.executable, "-m", "benchmarks.usual_study", str(lay_out(root, Path(mirror))), str(trials)], Path.cwd()
        )
        ours = seconds(prepare(root / "ours", trials), root / "ours")
    print(f"# A study of {trials} trials: seconds from the start of the process to the last result durable and in MLflow\n")
    print("| Optuna and DataLoader | studyline, two workers | ratio |\n|---:|---:|---:|")
    print(f"| {usual:.1f} | {ours:.1f} | {usual / ours:.1f} |\n")


def lay_out(root: Path, mirror: Path) -> Path:
    """MNIST's files where torchvision looks for them."""
    folder = root / "MNIST" / "raw"
    folder.mkdir(parents=True)
    for packed in Path(mirror, "mnist").glob("*.gz"):
        with gzip.open(packed) as source, (folder / packed.stem).open("wb") as target:
            shutil.copyfileobj(source, target)
    return root


def prepare(folder: Path, trials: int) -> list[str]:
    """A project with the same space and settings; the command that runs its study."""
    folder.mkdir()
    YAML(typ="safe").dump(SPACE, folder / "space.yaml")
    images = TRAINING + VALIDATION
    tree = {
        "data": {"name": "mnist", "limit": images, "validation": VALIDATION / images},
        "model": {"conv": [], "activation": "relu"},
        "train": {"epochs": EPOCHS, "batch_size": BATCH},
        "study": {"space": "space.yaml", "trials": trials, "pruner": "none", "finalists": {"top": 0}, "workers": 2},
    }
    YAML(typ="safe").dump(tree, folder / "params.yaml")
    return [sys.executable, "-c", "from study.cli.main import main; main()", "run"]


def seconds(command: list[str], folder: Path) -> float:
    environ = {name: value for name, value in os.environ.items() if name not in ("MLFLOW_TRACKING_URI", "DVC_ROOT")}
    environ["PYTHONPATH"] = str(Path.cwd())
    start = time.perf_counter()
    subprocess.run(command, cwd=folder, env=environ, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - start


if __name__ == "__main__":
    main()

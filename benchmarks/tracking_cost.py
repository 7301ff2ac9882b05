"""What tracking adds to the wall time of a ten-epoch training: ``python -m benchmarks.tracking_cost``.

The train stage runs as DVC runs it, a process of its own, with MLflow on SQLite and without a store, in turns, on random
images as many and as large as MNIST's: the time does not depend on what they show.
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from ruamel.yaml import YAML

from benchmarks import arms
from benchmarks.training_loop import CNN
from pipeline import artifacts
from pipeline.config import to_tree
from pipeline.data.dataset import DatasetInfo, SearchData, Split

PAIRS = 3
TRAINING, VALIDATION = 54_000, 6_000  # MNIST, 90:10


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        prepare(root)
        rows = [(run(root, tracked=True), run(root, tracked=False)) for _ in range(PAIRS)]
    print(f"# Tracking: seconds of the train stage, CNN of reference 001, ten epochs of {TRAINING:,} images\n")
    print("| tracked in MLflow on SQLite | not tracked | added |\n|---:|---:|---:|")
    for tracked, bare in rows:
        print(f"| {tracked:.1f} | {bare:.1f} | {tracked / bare - 1:+.1%} |")
    print(f"\nMedian: {statistics.median(tracked / bare for tracked, bare in rows) - 1:+.1%}. The first creates the database.\n")


def prepare(root: Path) -> None:
    split = arms.images(TRAINING + VALIDATION)
    parts = [Split(split.images[cut], split.labels[cut]) for cut in (slice(TRAINING), slice(TRAINING, None))]
    info = DatasetInfo("random", tuple("0123456789"), (1, 28, 28), (arms.MEAN,), (arms.STD,), "0" * 32, 0, {})
    SearchData(info, *parts).write(root / artifacts.SEARCH)
    tree = {"model": to_tree(CNN), "train": {"epochs": 10, "batch_size": 20}, "tracking": {"required": False}}
    YAML(typ="safe").dump(tree, root / "params.yaml")


def run(root: Path, tracked: bool) -> float:
    """Seconds from the start of the process to its end. Without a store: one that refuses connections, which is allowed."""
    shutil.rmtree(root / artifacts.MODEL, ignore_errors=True)
    environ = {name: value for name, value in os.environ.items() if name not in ("MLFLOW_TRACKING_URI", "DVC_ROOT")}
    environ |= {} if tracked else {"MLFLOW_TRACKING_URI": "http://127.0.0.1:9"}
    start = time.perf_counter()
    subprocess.run([sys.executable, "-m", "pipeline.stages.train"], cwd=root, env=environ, check=True, capture_output=True)
    return time.perf_counter() - start


if __name__ == "__main__":
    main()

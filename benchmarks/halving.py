"""Time to a good network, successive halving against no early stopping: ``python -m benchmarks.halving [SEED …]``.

``study run`` on MNIST with the space cnn, two workers, all tracking on; the clock runs from the start of the process to the
first epoch of any trial with 98.5 % of the validation images right. Three study seeds, each with both, in turns. The variable
STUDYLINE_MIRROR names a folder that holds MNIST.
"""

from __future__ import annotations

import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from ruamel.yaml import YAML

from study.ledger import tail

TARGET, EPOCHS, LIMIT = 0.985, 27, 300.0  # validation accuracy; of a full training; seconds


def main(seeds: tuple[int, ...] = (0, 1, 2)) -> None:
    mirror = os.environ.get("STUDYLINE_MIRROR")
    if not mirror or not Path(mirror, "mnist").is_dir():
        print("# Time to a good network: left out, STUDYLINE_MIRROR names no folder with MNIST\n")
        return
    print(f"# Seconds to {TARGET:.1%} validation accuracy on MNIST, space cnn, trainings of {EPOCHS} epochs, two workers\n")
    print("| study seed | none | asha | ratio |\n|---:|---:|---:|---:|")
    rows = []
    for seed in seeds:
        none, asha = until_good("none", seed), until_good("asha", seed)
        rows.append((none, asha))
        print(f"| {seed} | {none:.0f} | {asha:.0f} | {none / asha:.1f} |", flush=True)
    ratio = sum(none for none, _ in rows) / sum(asha for _, asha in rows)
    median = statistics.median(none / asha for none, asha in rows)
    print(f"\nOf the sums {ratio:.1f}, median {median:.1f}. {LIMIT:.0f} s: not reached.\n")


def until_good(pruner: str, seed: int) -> float:
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        study = {"space": "cnn", "trials": 500, "pruner": pruner, "finalists": {"top": 0}, "workers": 2, "seed": seed}
        YAML(typ="safe").dump({"data": {"name": "mnist"}, "train": {"epochs": EPOCHS}, "study": study}, root / "params.yaml")
        environ = {key: value for key, value in os.environ.items() if key not in ("MLFLOW_TRACKING_URI", "DVC_ROOT")}
        environ["PYTHONPATH"] = str(Path.cwd())
        command = [sys.executable, "-c", "from study.cli import main; main()", "run", "--name", "bench"]
        start, offset = time.perf_counter(), 0
        with subprocess.Popen(command, cwd=root, env=environ, stdout=subprocess.DEVNULL) as process:
            while process.poll() is None and time.perf_counter() - start < LIMIT:
                events, offset = tail(root / "studies" / "bench", offset)
                if any(event["kind"] == "epoch" and event["epoch"]["validation_accuracy"] >= TARGET for event in events):
                    break
                time.sleep(0.1)
            taken = time.perf_counter() - start
            process.send_signal(signal.SIGINT)
            process.wait(120)
    return min(taken, LIMIT)


if __name__ == "__main__":
    main(tuple(map(int, sys.argv[1:])) or (0, 1, 2))

"""Time to a good network, successive halving against no early stopping: ``python -m benchmarks.halving [SEED …]``.

``study run`` on MNIST with the space cnn, two workers, all tracking on. Two clocks, both from the start of the process:

- *held*: until the study holds a network with 98.5 % of the validation images right: a trial that is complete, or paused at a
  rung, with its weights on disk. Without early stopping that is the end of a training; so is Optuna's ``best_value``;
- *seen*: until the first epoch of any trial with so many right, whatever becomes of that training. A study without early
  stopping that is lucky in its first trials has this early, but nobody knows before the training has ended.

With asha an epoch is a ninth of the images, so that its rungs are 1/9, 1/3, 1, 3, 9 and 27 passes over them; both trainings
are 27 passes long. Three study seeds, each with both, in turns. The variable STUDYLINE_MIRROR names a folder that holds MNIST.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from ruamel.yaml import YAML

from study.state.history import fold
from study.state.ledger import STUDIES, tail

TARGET, PASSES, LIMIT = 0.985, 27, 900.0  # validation accuracy; over the images, of a full training; seconds
TRAIN = {"none": {"epochs": PASSES}, "asha": {"epochs": 9 * PASSES, "epoch_images": 6000}}


@dataclass
class Clocks:
    """Seconds; LIMIT where it was not reached by then."""

    seen: float = LIMIT
    held: float = LIMIT


def main(seeds: tuple[int, ...] = (0, 1, 2)) -> None:
    mirror = os.environ.get("STUDYLINE_MIRROR")
    if not mirror or not Path(mirror, "mnist").is_dir():
        print("# Time to a good network: left out, STUDYLINE_MIRROR names no folder with MNIST\n")
        return
    print(f"# Seconds to {TARGET:.1%} validation accuracy on MNIST, space cnn, trainings of {PASSES} passes, two workers\n")
    print("| study seed | held: none | asha | ratio | seen: none | asha | ratio |\n|---:|---:|---:|---:|---:|---:|---:|")
    rows = []
    for seed in seeds:
        none, asha = until_good("none", seed), until_good("asha", seed)
        rows.append((none, asha))
        print(
            f"| {seed} | {none.held:.0f} | {asha.held:.0f} | {none.held / asha.held:.1f} "
            f"| {none.seen:.0f} | {asha.seen:.0f} | {none.seen / asha.seen:.1f} |",
            flush=True,
        )
    held = sum(none.held for none, _ in rows) / sum(asha.held for _, asha in rows)
    seen = sum(none.seen for none, _ in rows) / sum(asha.seen for _, asha in rows)
    print(f"\nOf the sums: held {held:.1f}, seen {seen:.1f}. {LIMIT:.0f} s: not reached.\n")


def until_good(pruner: str, seed: int) -> Clocks:
    clocks = Clocks()
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        study = {"space": "cnn", "trials": 500, "pruner": pruner, "finalists": {"top": 0}, "workers": 2, "seed": seed}
        YAML(typ="safe").dump({"data": {"name": "mnist"}, "train": TRAIN[pruner], "study": study}, root / "params.yaml")
        environ = {key: value for key, value in os.environ.items() if key not in ("MLFLOW_TRACKING_URI", "DVC_ROOT")}
        environ["PYTHONPATH"] = str(Path.cwd())
        command = [sys.executable, "-c", "from study.cli.main import main; main()", "run", "--name", "bench"]
        start, offset, history = time.perf_counter(), 0, None
        output = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        with subprocess.Popen(command, cwd=root, env=environ, **output) as process:  # type: ignore[call-overload]
            while process.poll() is None and (taken := time.perf_counter() - start) < LIMIT and clocks.held == LIMIT:
                events, offset = tail(root / STUDIES / "bench", offset)
                if history is None:
                    history, events = fold(events[:1]), events[1:]
                for event in events:
                    assert history is not None
                    history.apply(event)
                    if event["kind"] == "epoch" and event["epoch"]["validation_accuracy"] >= TARGET:
                        clocks.seen = min(clocks.seen, taken)
                    if event["kind"] in ("paused", "ended") and (history.runs[event["run"]].accuracy or 0.0) >= TARGET:
                        clocks.held = min(clocks.held, taken)
                time.sleep(0.1)
            process.send_signal(signal.SIGINT)
            process.wait(120)
    return clocks


if __name__ == "__main__":
    main(tuple(map(int, sys.argv[1:])) or (0, 1, 2))

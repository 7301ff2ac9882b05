"""What a study adds to its trainings: ``python -m benchmarks.bookkeeping``.

1. Wall time of a study of ten-second trials on two workers, all tracking on, against the same trainings handed to such workers
   with no ledger, no sampler, no database. In turns.
2. The coordinator's own time per trial with 1,000 trials in the study: workers that answer at once, ten epochs a trial.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from pipeline import tracking
from pipeline.config import parse
from study.engine.arrays import arrays
from study.engine.coordinator import Coordinator, Limits
from study.engine.proposals import Proposer
from study.engine.request import lineage_of
from study.space.space import Space
from study.state.history import History, fold
from study.state.journal import Journal
from study.state.ledger import STUDIES, Event, Ledger, read
from study.state.spec import Spec
from study.stores.addresses import locate_storage
from study.stores.supervisor import Recorder
from study.workers.local import Local
from study.workers.protocol import EpochDone, Message, SegmentDone, Slot, Task
from study.workers.slots import slots

TURNS, TRIALS, MANY = 3, 24, 1_000
TREE: dict[str, dict[str, Any]] = {
    "model": {"conv": [{"out": 16, "kernel": 7, "pool": {}}, {"out": 8, "kernel": 5, "pool": {}}]},
    "train": {"epochs": 80},  # about ten seconds
    "study": {"space": "space.yaml", "trials": TRIALS, "sampler": "random", "pruner": "none", "workers": 2},
}
SPACE = {"description": "the learning rate", "parameters": {"train.lr": {"low": 1e-4, "high": 1e-2, "log": True}}}


def main() -> None:
    added()
    per_trial()


def added() -> None:
    print(f"# A study of {TRIALS} trials of ten seconds on two workers: seconds from the first beginning to the last end\n")
    print("| study | the trainings alone | added |\n|---:|---:|---:|")
    ratios = []
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        YAML(typ="safe").dump({**TREE, "study": {**TREE["study"], "finalists": {"top": 0}}}, root / "params.yaml")
        YAML(typ="safe").dump(SPACE, root / "space.yaml")
        run(root, "first", "--trials", "2", "--set", "train.epochs=1")  # makes the databases, seconds of work, once a project
        for turn in range(TURNS):
            history = run(root, f"turn{turn}")
            whole = (max(r.ended or 0 for r in history.trials) - min(r.segments[0].began for r in history.trials)) / 1000
            alone = bare(history)
            ratios.append(whole / alone - 1)
            print(f"| {whole:.1f} | {alone:.1f} | {ratios[-1]:+.1%} |", flush=True)
    seconds = statistics.median(run.seconds for run in history.trials)
    print(f"\nMedian {statistics.median(ratios):+.1%}; a trial took {seconds:.1f} s.\n")


def run(root: Path, name: str, *arguments: str) -> History:
    """A study, in a process of its own."""
    environ = {key: value for key, value in os.environ.items() if key not in ("MLFLOW_TRACKING_URI", "DVC_ROOT")}
    environ["PYTHONPATH"] = str(Path.cwd())
    command = [sys.executable, "-c", "from study.cli.main import main; main()", "run", "--name", name, *arguments]
    subprocess.run(command, cwd=root, env=environ, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    history = fold(read(root / STUDIES / name))
    assert history is not None
    return history


def bare(history: History) -> float:
    """Seconds of the same trainings on the same kind of workers, and nothing else."""
    params, data, fingerprint = history.spec.params, history.lineage.data, history.spec.fingerprint
    waiting = [
        Task(run.key, run.config.tree["model"], run.config.tree["train"], data, fingerprint, None, run.config.train.epochs)
        for run in history.trials
    ]
    executor = Local(slots(params.study, params.train), threads=params.train.threads)
    start, free, left = time.perf_counter(), list(executor.slots), len(waiting)
    while left:
        while free and waiting:
            executor.submit(free.pop(), waiting.pop(0))
        for slot, message in executor.messages(0.25):
            if isinstance(message, SegmentDone):
                free.append(slot)
                left -= 1
    taken = time.perf_counter() - start
    executor.close()
    return taken


class AtOnce:
    """An executor whose trainings take no time."""

    def __init__(self) -> None:
        self.slots: Sequence[Slot] = [Slot("cpu 0", "cpu", ""), Slot("cpu 1", "cpu", "")]
        self._messages: list[tuple[Slot, Message]] = []

    def submit(self, slot: Slot, task: Task) -> None:
        for number in range(1, task.until + 1):
            value = 0.5 + 0.4 * number / task.until - abs(hash(task.train["lr"]) % 100) / 1000
            epoch = {"train_loss": 1 - value, "train_accuracy": value, "validation_loss": 1 - value, "validation_accuracy": value}
            self._messages.append((slot, EpochDone(task.run, {"epoch": number, **epoch, "lr": task.train["lr"], "seconds": 0.0})))
        self._messages.append((slot, SegmentDone(task.run, task.until, True, None, task.until, None, b"x" * 20_000, b"{}")))

    def stop(self, slot: Slot) -> None:
        raise AssertionError("nothing runs")

    def kill(self, slot: Slot, reason: str) -> None:
        raise AssertionError("nothing hangs")

    def messages(self, timeout: float) -> list[tuple[Slot, Message]]:
        told, self._messages = self._messages, []
        return told

    def close(self) -> None:
        return None


class Unseen:
    """A view that nobody looks at."""

    def update(self, history: History, event: Event) -> None:
        return None

    def say(self, text: str) -> None:
        return None

    def tick(self, history: History, problems: list[str]) -> None:
        return None


def per_trial() -> None:
    """Wall time from one trial's beginning to the next, of the coordinator's own."""
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        params = parse({"train": {"epochs": 10}, "study": {"pruner": "none", "sampler": "tpe", "trials": MANY + 100}})
        place, space = arrays(params.data, root, None), Space.load("cnn")
        spec = Spec("bench", "cnn", space.tree, params, place.info.fingerprint)
        with Ledger.open(root / STUDIES / "bench") as ledger:
            ledger.append("created", spec=spec.to_tree(), lineage=lineage_of(place, root))
            history = fold(read(ledger.folder))
            assert history is not None
            store = tracking.locate(params.tracking, {"DVC_ROOT": name})
            with Recorder(ledger.folder, store, locate_storage(params.study, {}, root)) as recorder:
                times = [
                    per_trial_up_to(total, ledger, history, space, place.search, recorder) for total in (900, MANY, MANY + 100)
                ]
                recorder.finish()
    print("# The coordinator's time for one trial, space cnn, tpe, ten epochs a trial, all tracking on\n")
    print("| trials in the study | ms per trial |\n|---:|---:|")
    for total, (count, seconds) in zip((900, MANY, MANY + 100), times, strict=True):
        print(f"| {total - count} to {total} | {1000 * seconds / count:.0f} |")
    print()


def per_trial_up_to(
    total: int, ledger: Ledger, history: History, space: Space, data: Path, recorder: Recorder
) -> tuple[int, float]:
    """How many trials it took to get to this total, and their seconds."""
    before = len(history.trials)
    proposer = Proposer(history.spec, space, history)
    limits = Limits(total)
    start = time.perf_counter()
    journal = Journal(ledger, history, Unseen(), lambda: False, recorder.look_after)
    Coordinator(journal, proposer, AtOnce(), lambda run: data, limits, (10,)).search()
    return total - before, time.perf_counter() - start


if __name__ == "__main__":
    main()

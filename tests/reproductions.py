"""Ledgers of reproductions that never ran: the shipped recipes' plans, with made-up scores."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from pipeline.config import Data, Params, to_tree
from pipeline.data.dataset import DatasetInfo
from study.experiments.reproduction.recipe import Recipe, RecipeRow
from study.state.history import History, fold
from study.state.ledger import Event
from study.state.spec import Spec

START = 1_790_000_000_000  # milliseconds since 1970
TEST, TRAIN = 10_000, 60_000
SHARES = (980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009)
Score = Callable[[RecipeRow, int], Mapping[str, float] | None]


def info(section: Data) -> DatasetInfo:
    """MNIST as a section of data makes it, but for the images."""
    classes = 10 if section.merge is None else len(section.merge)
    images = TRAIN if section.limit is None else section.limit
    held_out = round(images * section.validation)
    test = np.array(SHARES) if section.merge is None else np.array([sum(SHARES[k] for k in group) for group in section.merge])
    if section.limit is not None:
        test = np.full(classes, section.limit // classes)
    parts = {"train": images - held_out, "validation": held_out}
    counts = {name: tuple(int(count) for count in np.full(classes, n // classes)) for name, n in parts.items()}
    return DatasetInfo(
        name="mnist",
        classes=tuple(str(label) for label in range(classes)),
        shape=(1, 28, 28),
        mean=(0.13,),
        std=(0.31,),
        fingerprint=f"{classes:x}" * 32,
        split_seed=0,
        counts=counts | {"test": tuple(int(count) for count in test)},
    )


def told(
    recipe: Recipe, score: Score, seeds: int = 3, *, limit: int | None = None, quick: bool = False, seconds: float = 20.0
) -> History:
    """A reproduction that has ended.

    score : of a row and the index of a seed the values of the last epoch and of test (``test_accuracy``); what it leaves out is
        as printed, or 0.97; None: that training fails
    """
    plan = recipe.plan(seeds, limit=limit, quick=quick)
    datasets = {row.data: info(row.data) for row in plan.rows}
    first = datasets[plan.rows[0].data]
    lineage = {
        "git_commit": "a" * 40,
        "git_dirty": False,
        "environment": {"python": "3.11.9", "torch": "2.13.0"},
        "data": "data",
        "dataset": {**vars(first), "counts": {name: list(counts) for name, counts in first.counts.items()}},
        "command": f"study reproduce {recipe.source} --seeds {seeds}",
    }
    spec = Spec(plan.name, "reproduction", {"title": plan.title}, Params(data=plan.rows[0].data), first.fingerprint)
    events: list[Event] = [{"kind": "created", "time": START, "spec": spec.to_tree(), "lineage": lineage}]

    def add(kind: str, **content: Any) -> None:
        events.append({"kind": kind, "time": START + 1000 * len(events), **content})

    add("opened", study=to_tree(spec.study), workers=["cpu 0", "cpu 1"], engine="local", host="box")
    for task in plan.tasks(datasets):
        row, data = recipe.row(task["origin"]), next(row.data for row in plan.rows if row.name == task["origin"])
        values = score(row, task["replicate"])
        add("asked", **task)
        add("started", run=task["run"], slot=f"cpu {task['replicate'] % 2}", epoch=0, until=10)
        if values is None:
            add("ended", run=task["run"], state="FAIL", cause="diverged", reason="the loss was no longer finite in epoch 1")
            continue
        for epoch in _course(row, values, int(task["config"]["train"]["epochs"])):
            add("epoch", run=task["run"], epoch={**epoch, "seconds": seconds})
        add("ended", run=task["run"], state="COMPLETE", values=[0.97], kept_epoch=1)
        add("scored", run=task["run"], test=scored(values, datasets[data].counts["test"]))
    add("closed", outcome="done", reason=None)
    history = fold(events)
    assert history is not None
    return history


def _course(row: RecipeRow, values: Mapping[str, float], most: int) -> list[dict[str, Any]]:
    """Epochs that end at the values wanted, and begin at those of epoch 1."""
    epochs = int(values.get("epochs_run", most))
    names = {"train_loss": 0.1, "train_accuracy": 0.97, "validation_loss": 0.11, "validation_accuracy": 0.97}
    last = {name: values.get(name, _printed(row, name, usual)) for name, usual in names.items()}
    first = {name: values.get(f"first_{name}", _printed(row, f"first_{name}", last[name])) for name in names}
    return [
        {"epoch": number, "lr": 0.001, **(first if number == 1 < epochs else last if number == epochs else first)}
        for number in range(1, epochs + 1)
    ]


def _printed(row: RecipeRow, name: str, otherwise: float) -> float:
    return row.reported[name].value if name in row.reported else otherwise


def scored(values: Mapping[str, float], counts: Sequence[int]) -> dict[str, Any]:
    """What a training scores on test, its errors spread evenly over the classes."""
    n, accuracy = sum(counts), values.get("test_accuracy", 0.97)
    right = [round(accuracy * count) for count in counts]
    confusion = np.diag(right)
    for label, count in enumerate(counts):
        confusion[label, (label + 1) % len(counts)] += count - right[label]
    share = sum(right) / n
    return {
        "accuracy": share,
        "successes": sum(right),
        "n": n,
        "log_loss": 0.1,
        "confusion": confusion.tolist(),
        "f1_weighted": share,
        "recall_weighted": share,
        "f1_macro": share,
        "first_accuracy": share - 0.01,
        "initial_accuracy": values.get("initial_accuracy", 0.1),
    }


def near(spread: float = 0.001, shift: float = 0.0) -> Score:
    """Scores around what is printed, a seed apart by ``spread``; around 97 % where what is printed is not to be compared."""

    def score(row: RecipeRow, seed: int) -> Mapping[str, float]:
        noise = spread * ((7 * seed + len(row.name)) % 5 - 2) / 2 + shift
        sound = {name: figure.value for name, figure in row.reported.items() if name not in row.not_comparable}
        values = {"test_accuracy": 0.97, "validation_accuracy": 0.97} | sound
        moved = {name: float(np.clip(value + noise, 0, 1)) for name, value in values.items() if "accuracy" in name}
        return {**{name: value * (1 + 10 * noise) for name, value in sound.items() if "loss" in name}, **moved}

    return score

"""Ledgers of studies that never ran: the real space, rungs and confirmation, with made-up learning curves and times."""

from __future__ import annotations

import copy
import heapq
import json
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import optuna

from pipeline.config import parse, to_tree
from pipeline.lineage import digest
from pipeline.models.plan import ArchitectureError, plan
from study.engine import finalists, halving
from study.space.space import Space
from study.state.history import ENDED, History, Run, fold
from study.state.ledger import Event
from study.state.records import Winner, content_of
from study.state.spec import Spec

START = 1_790_000_000_000  # milliseconds since 1970
SMALL = {  # a space of a few parameters, of every kind, so that its figures are drawn quickly
    "description": "a few parameters",
    "parameters": {
        "train.lr": {"low": 1.0e-4, "high": 1.0e-1, "log": True},
        "train.optimizer": {"choices": ["adam", "sgd"], "when": {"sgd": {"train.momentum": {"low": 0.0, "high": 0.95}}}},
        "model.dense": {"repeat": {"low": 1, "high": 3}, "each": {"out": {"low": 4, "high": 64, "log": True}}},
    },
}
SHAPE, CLASSES = (1, 28, 28), 10
REST = {"train_loss": 0.1, "train_accuracy": 0.9, "lr": 0.1, "seconds": 1.0}  # of an epoch that is told by its validation
COUNTS = {"train": [400] * 10, "validation": [100] * 10, "test": [200] * 10}


@dataclass
class Made:
    """A study in the making. ``ledger`` holds its events so far; each is also folded into ``history``.

    space : a shipped one, or small

    failing : share of trials that diverge in their first epochs; deaths : of segments that are lost to a dying worker
    """

    space: str = "cnn"
    trials: int = 30
    study: Mapping[str, Any] = field(default_factory=dict)
    epochs: int = 9
    slots: tuple[str, ...] = ("cpu 0", "cpu 1")
    failing: float = 0.05
    deaths: float = 0.0
    replicates: float = 0.05
    seed: int = 0
    ledger: list[Event] = field(default_factory=list)

    def __post_init__(self) -> None:
        section = {"space": self.space, "trials": self.trials, "finalists": {"top": 3, "seeds": 3}, **self.study}
        self.base = parse({"train": {"epochs": self.epochs, "batch_size": 64}, "study": section})
        self.searched = Space.of("small", SMALL) if self.space == "small" else Space.load(self.space)
        self.rng = np.random.default_rng(self.seed)
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.sampler = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=self.seed))
        self.time = START
        spec = Spec("made", self.space, self.searched.tree, self.base, "f" * 32)
        self.ladder = halving.rungs(self.epochs, self.base.study.first_rung, self.base.study.reduction)
        dataset = {
            "name": "digits",
            "classes": [str(label) for label in range(CLASSES)],
            "shape": list(SHAPE),
            "mean": [0.1],
            "std": [0.3],
            "fingerprint": "f" * 32,
            "split_seed": 0,
            "counts": copy.deepcopy(COUNTS),  # tests change them
        }
        lineage = {
            "git_commit": "a" * 40,
            "git_dirty": False,
            "environment": {"python": "3.11.9", "torch": "2.13.0"},
            "data": "data",
            "dataset": dataset,
            "changes": {},
            "seeds": [],
            "command": f"study run --space {self.space} --trials {self.trials}",
        }
        created = {"kind": "created", "time": self.time, "spec": spec.to_tree(), "lineage": lineage}
        self.ledger.append(created)
        made = fold([created])
        assert made is not None
        self.history: History = made

    def add(self, kind: str, **content: Any) -> None:
        event = json.loads(json.dumps({"kind": kind, "time": int(self.time), **content}, allow_nan=False))
        self.ledger.append(event)
        self.history.apply(event)

    def open(self) -> None:
        study = to_tree(self.base.study)
        self.add(
            "opened",
            trials=self.trials,
            study=study,
            workers=list(self.slots),
            engine="local",
            pid=1,
            host="box",
            command="study run",
        )

    def close(self, outcome: str = "done", reason: str | None = None) -> None:
        self.add("closed", outcome=outcome, reason=reason)

    def search(self, upto: int | None = None) -> None:
        """Run segments on the slots, the earliest free slot first, until ``upto`` trials were asked for (all: to the end)."""
        wanted = self.trials if upto is None else upto
        self._work(lambda: self._choose(wanted))
        if upto is None:
            for run in self.history.trials:
                if run.state == "PAUSED":
                    reason = f"not promoted after epoch {len(run.epochs)}"
                    self.add(
                        "ended", run=run.key, state="PRUNED", values=None, cause="asha", reason=reason, kept_epoch=1, latency=None
                    )

    def confirm(self) -> None:
        """Train the finalists, judge them, and read test."""
        for content in finalists.tasks(self.history):
            self.add("asked", **content)
        self._work(lambda: next((run for run in self.history.finals if run.state not in ENDED), None))
        winner = finalists.judge(self.history)
        assert winner is not None
        self.add("winner", **content_of(winner))
        self.add("tested", **self._tested(winner))

    def _work(self, choose: Callable[[], Run | None]) -> None:
        """Give segments to the slots, the one that is free first, until there is nothing to do."""
        free = [(self.time + index, slot) for index, slot in enumerate(self.slots)]
        heapq.heapify(free)
        while free:
            self.time, slot = heapq.heappop(free)
            run = choose()
            if run is not None:
                self._segment(run, slot)
                heapq.heappush(free, (self.time, slot))
        self.time = max((event["time"] for event in self.ledger), default=self.time)

    def _tested(self, winner: Winner) -> dict[str, Any]:
        right, n = 1945, 2000
        first = {"successes": right, "n": n, "value": right / n, "low": 0.964, "high": 0.979}
        told = {"mean": 0.972, "low": 0.969, "high": 0.975, "std": 0.001, "n": 3, "prediction": [0.967, 0.977]}
        runs = [run.key for run in self.history.finals if run.trial == winner.trial]
        summary = "test accuracy 97.20% ± 0.30 over 3 seeds on 2,000 images, opened once"
        named = {"trial": winner.trial, "group": winner.group}
        return {
            **named,
            "runs": runs,
            "accuracies": [0.972] * 3,
            **told,
            "first": first,
            "images": n,
            "openings": 1,
            "summary": summary,
        }

    def _choose(self, wanted: int) -> Run | None:
        if waiting := [run for run in self.history.trials if run.state == "PAUSED" and run.waits == "interrupted"]:
            return waiting[0]
        if self.base.study.pruner == "asha":
            objective = self.history.spec.quality
            if run := halving.promotable(self.history.trials, self.ladder, self.base.study.reduction, objective):
                return run
        while len(self.history.trials) < wanted:
            if run := self._ask():
                return run
        return None

    def _ask(self) -> Run | None:
        number = len(self.history.trials)
        complete = [run for run in self.history.trials if run.state == "COMPLETE"]
        again = number > 10 and complete and self.rng.random() < self.replicates
        if again:
            chosen = max(complete, key=lambda run: run.accuracy or 0.0)
            params, distributions = chosen.params, chosen.distributions
        else:
            points = [self._point() for _ in range(1 if number < 10 else 4)]
            params, distributions = max(points, key=lambda point: quality(point[0]))
        tree = self.searched.configure(to_tree(self.base), params)
        tree["train"]["seed"] = number
        config = {name: to_tree(parse(tree))[name] for name in ("model", "train")}
        group = digest({"model": config["model"], "train": {**config["train"], "seed": 0}})
        size, problem = None, None
        try:
            size = plan(parse(tree).model, SHAPE, CLASSES)
        except ArchitectureError as error:
            problem = str(error)
        self.add(
            "asked", run=str(number), phase="search", trial=number, params=params, distributions=distributions,
            config=config, group=group,
            replicate=sum(run.group == group for run in self.history.trials), seed=number,
            parameters=size.parameters if size else 0, multiply_adds=size.multiply_adds if size else 0,
            origin="replicate" if again else self.base.study.sampler,
        )  # fmt: skip
        if problem:
            self._end(self.history.runs[str(number)], "PRUNED", cause="impossible", reason=problem)
        return None if problem else self.history.runs[str(number)]

    def _point(self) -> tuple[dict[str, Any], dict[str, str]]:
        trial = self.sampler.ask()
        params = self.searched.suggest(trial)
        return params, {name: optuna.distributions.distribution_to_json(one) for name, one in trial.distributions.items()}

    def _segment(self, run: Run, slot: str) -> None:
        """One segment, its events at their times; the clock stands at its end."""
        final = run.phase == "final"
        asha = self.base.study.pruner == "asha" and not final
        until = halving.next_stop(run, self.ladder) if asha else self.epochs
        self.add("started", run=run.key, slot=slot, epoch=len(run.epochs), until=until)
        self.time += 15
        rng = np.random.default_rng([self.seed, run.trial, run.replicate, 7 if final else 3])
        fails = not final and rng.random() < self.failing
        noise = rng.normal(0, 0.004)
        for number in range(len(run.epochs) + 1, until + 1):
            if fails:
                reason = f"loss nan in epoch {number}"
                return self._end(run, "FAIL", cause="diverged", reason=reason)
            if self.rng.random() < self.deaths:
                return self.add("lost", run=run.key, why="ended by signal 9")
            seconds = 0.05 + run.multiply_adds / 1.5e7
            self.time += 1000 * seconds
            self.add("epoch", run=run.key, epoch=epoch(run, number, noise, seconds))
        if until < self.epochs:
            return self.add("paused", run=run.key, epoch=until, why=f"rung {until}")
        return self._end(run, "COMPLETE", values=self._values(run), kept_epoch=run.best.epoch if run.best else 0, latency=0.3)

    def _values(self, run: Run) -> list[float]:
        return [float(0.3 if one.name == "latency" else one.value(run) or 0.0) for one in self.history.spec.objectives]

    def _end(self, run: Run, state: str, **content: Any) -> None:
        self.add(
            "ended",
            run=run.key,
            state=state,
            **({"values": None, "kept_epoch": None, "latency": None, "cause": None, "reason": None} | content),
        )


def quality(params: Mapping[str, Any]) -> float:
    """What a configuration comes to in the end, in [0, 1]: learning rate and widths matter, the rest a little."""
    lr = math.log10(rate(params) / 3e-3)
    widths = [math.log2(value) for name, value in params.items() if name.endswith(".out")]
    text = json.dumps({name: value for name, value in sorted(params.items()) if not isinstance(value, float)})
    luck = int(digest(text), 16) % 1000 / 1000
    return 0.99 - 0.012 * lr * lr - 0.03 / (1 + sum(widths) / 4) - 0.006 * luck


def rate(params: Mapping[str, Any]) -> float:
    """The learning rate, whichever group of the space it belongs to."""
    return float(next(value for name, value in params.items() if name.endswith("train.lr")))


def epoch(run: Run, number: int, noise: float, seconds: float) -> dict[str, Any]:
    """The fields of one epoch, as ``pipeline.training.loop.Epoch`` has them; accuracies are whole numbers of images."""
    top = quality(run.params) + noise
    pace = 0.35 + 0.9 * top + 30 * noise - 0.3 * abs(math.log10(rate(run.params) / 3e-3))
    reached = top * (1 - 0.6 * math.exp(-max(pace, 0.1) * number)) + 0.002 * math.sin(number * 7 + run.trial)
    validation = min(max(round(reached * 1000), 0), 1000) / 1000
    return {
        "epoch": number,
        "train_loss": 0.9 * (1.02 - validation),
        "train_accuracy": min(round((validation + 0.002 * number) * 4000), 4000) / 4000,
        "validation_loss": 1.5 * (1.01 - reached) if reached < 1 else 0.01,
        "validation_accuracy": validation,
        "lr": float(rate(run.params)),
        "seconds": seconds,
        "validation_balanced_accuracy": validation,
        "validation_macro_f1": validation,
        "validation_calibration_error": 0.1 * (1 - validation),
        "validation_expected_cost": 1 - validation,
    }


def finished(**changes: Any) -> Made:
    """A whole study: search, finalists, test."""
    made = Made(**changes)
    made.open()
    made.search()
    if made.base.study.finalists.top:
        made.confirm()
    made.close()
    return made


def folded(events: Iterable[Event]) -> History:
    history = fold(events)
    assert history is not None
    return history

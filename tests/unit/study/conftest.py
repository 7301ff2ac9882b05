"""Studies told by hand: the events that a coordinator would write, without its trainings."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from pipeline.config import parse, to_tree
from pipeline.lineage import digest
from study.state.history import History, fold
from study.state.ledger import Event, Ledger
from study.state.spec import Spec

FINGERPRINT = "f" * 32


class Story:
    """A study's events, one call a trial; ``history`` is their fold, ``save`` writes them as a ledger."""

    def __init__(self, params: Mapping[str, Any] | None = None, images: int = 1000) -> None:
        self.spec = Spec("tale", "cnn", {}, parse(params or {}), FINGERPRINT)
        dataset = {"name": "digits", "fingerprint": FINGERPRINT, "counts": {"train": [1], "validation": [images], "test": [1]}}
        lineage = {
            "git_commit": "c" * 40,
            "git_dirty": True,
            "environment": {},
            "data": ".cache/data/x/search",
            "dataset": dataset,
        }
        self.events: list[Event] = [{"kind": "created", "time": 0, "spec": self.spec.to_tree(), "lineage": lineage}]

    @property
    def history(self) -> History:
        history = fold(self.events)
        assert history is not None
        return history

    def record(self, kind: str, **content: Any) -> None:
        self.events.append({"kind": kind, "time": len(self.events), **content})

    def trial(
        self,
        number: int,
        *values: float,
        state: str = "COMPLETE",
        parameters: int = 1000,
        like: int | None = None,
        model: Mapping[str, Any] | None = None,
        train: Mapping[str, Any] | None = None,
    ) -> None:
        """A trial that has ended. like : the trial of which it is a replicate"""
        base = to_tree(self.spec.params)
        config = {"model": {**base["model"], **(model or {})}, "train": {**base["train"], "seed": number, **(train or {})}}
        if not (model or train):
            config["train"]["lr"] = (1 + (number if like is None else like)) / 1e4
        unseeded = copy.deepcopy(config)
        del unseeded["train"]["seed"]
        told = {"params": {}, "distributions": {}, "replicate": 0, "seed": number, "multiply_adds": 0, "origin": "tpe"}
        group = {"config": config, "group": digest(unseeded), "parameters": parameters}
        self.record("asked", run=str(number), phase="search", trial=number, **told, **group)
        self.end(str(number), *values, state=state)

    def end(self, key: str, *values: float, state: str = "COMPLETE") -> None:
        cause = {"cause": None, "reason": None} if state == "COMPLETE" else {"cause": "diverged", "reason": "loss is nan"}
        told = {"values": list(values) if state == "COMPLETE" else None, "kept_epoch": 1, "latency": None}
        self.record("ended", run=key, state=state, **told, **cause)

    def save(self, studies: Path) -> Path:
        folder = studies / self.spec.name
        with Ledger.open(folder) as ledger:
            for event in self.events:
                ledger.append(**{name: value for name, value in event.items() if name != "time"})
        return folder


@pytest.fixture
def story() -> Callable[..., Story]:
    return Story

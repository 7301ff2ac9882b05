"""A plan: trainings that are listed, not searched. The rows of an ablation or of a reproduction, each on the same seeds."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from pipeline.config import Data, Params, to_tree
from pipeline.data.dataset import DatasetInfo
from pipeline.lineage import digest
from pipeline.models.plan import plan as planned_network
from study.state.errors import UsageError
from study.state.history import History
from study.state.spec import flat

NAME = re.compile(r"[A-Za-z0-9_-]+")


@dataclass(frozen=True)
class Row:
    """One configuration of a plan.

    name : unique in the plan; keys of its trainings are ``NAME.s0``, ``NAME.s1``, …
    title : for people
    params : complete; sections data, model and train are trained, but for the seed, which is this one plus the index
    changes : dotted paths of params.yaml and their values: what differs from the plan's base
    """

    name: str
    title: str
    params: Params
    changes: Mapping[str, Any]

    @property
    def data(self) -> Data:
        """Which images; where they come from is no matter of a plan."""
        return replace(self.params.data, mirror=None)


@dataclass(frozen=True)
class Plan:
    """Rows, and on how many seeds each is trained.

    name : of the study that keeps the trainings
    rows : at least one, of unlike names
    seeds : trainings of each row, >= 1; the same seeds for all rows
    """

    name: str
    kind: Literal["reproduction", "ablation"]
    title: str
    rows: tuple[Row, ...]
    seeds: int

    def __post_init__(self) -> None:
        names = [row.name for row in self.rows]
        assert names, "a plan has rows"
        assert len(set(names)) == len(names), f"rows must have unlike names, got {names}"
        assert all(NAME.fullmatch(name) for name in names), f"names of rows must be slugs, got {names}"

    def tasks(self, datasets: Mapping[Data, DatasetInfo]) -> Iterator[dict[str, Any]]:
        """The content of the ``asked`` events, seed by seed, so that every row is begun before any gets its second seed.

        datasets : of each section that a row has
        """
        for index in range(self.seeds):
            for number, row in enumerate(self.rows):
                info = datasets[row.data]
                network = planned_network(row.params.model, info.shape, len(info.classes))
                seed = row.params.train.seed + index
                config = config_of(row, seed)
                yield {
                    "run": f"{row.name}.s{index}",
                    "phase": "planned",
                    "trial": number,
                    "params": dict(row.changes),
                    "distributions": {},
                    "config": config,
                    "group": digest({**config, "train": {**config["train"], "seed": None}}),
                    "replicate": index,
                    "seed": seed,
                    "parameters": network.parameters,
                    "multiply_adds": network.multiply_adds,
                    "origin": row.name,
                    "fingerprint": info.fingerprint,
                }

    def refuse_others(self, history: History, tasks: list[dict[str, Any]]) -> None:
        """Raise UsageError where a training that is done, or under way, is another than the plan's of its name."""
        different = []
        for task in tasks:
            run = history.runs.get(task["run"])
            if run is not None and run.config.tree != task["config"]:
                before, after = flat(run.config.tree), flat(task["config"])
                different += [
                    f"{task['run']}: {path}: {before.get(path, 'nothing')} in the study, {after.get(path, 'nothing')} asked for"
                    for path in sorted(before.keys() | after.keys())
                    if before.get(path) != after.get(path)
                ]
        if different:
            more = [f"… and {len(different) - 12} more"] if len(different) > 12 else []
            shown = "\n  ".join(different[:12] + more)
            raise UsageError(f"{self.name} exists with other rows; set them back, or move its folder away:\n  {shown}")


def config_of(row: Row, seed: int) -> dict[str, Any]:
    """Sections data, model and train of one training, complete."""
    tree = to_tree(replace(row.params, data=row.data, train=replace(row.params.train, seed=seed)))
    return {name: tree[name] for name in ("data", "model", "train")}

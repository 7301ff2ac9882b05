"""What a study shall be: from ``params.yaml`` and the command line to its definition."""

from __future__ import annotations

import copy
import itertools
import re
import shlex
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from pipeline import lineage
from pipeline.config import ConfigError, load, parse, to_tree
from study.engine.arrays import Arrays
from study.space.space import Space
from study.state.errors import UsageError
from study.state.history import fold
from study.state.ledger import STUDIES, read

OF_ONE_SESSION = ("timeout", "workers", "per_gpu", "engine", "trial_timeout")  # of section study: not kept for the next
SECRETS = ("study.storage", "tracking.uri", "data.mirror")  # may hold passwords; stores.json keeps the stores
UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
SEEDS = 5  # best trials of another study that --seed-from tries first


@dataclass(frozen=True)
class Request:
    """What ``study run`` was asked for.

    name : of the study; None: data set and space
    new : another study, if one of this name exists
    changes : keys of params.yaml and their values, as given on the command line
    seed_from : studies or params.yaml files whose good points are tried first
    """

    name: str | None = None
    new: bool = False
    changes: Mapping[str, Any] = field(default_factory=dict)
    seed_from: tuple[str, ...] = ()


def name_of(request: Request, base: Mapping[str, Any], root: Path) -> str:
    """Return the study's name: the given one, or data set and space; with --new the first free one.

    The folder of a new study is made at once, so that two processes never choose the same name; the caller removes it if it
    stays empty.
    """
    params = parse(changed(base, request.changes))
    name = request.name or f"{params.data.name}-{Path(params.study.space).stem}"
    if not re.fullmatch(r"\w[\w.-]{0,59}", name):
        raise ConfigError(f"--name must be 1 to 60 letters, digits, _ . or -, got {name!r}")
    if not request.new:
        return name
    numbered = (f"{name}-{number}" for number in itertools.count(2))
    return next(fresh for fresh in itertools.chain([name], numbered) if _reserved(root / STUDIES / fresh))


def _reserved(folder: Path) -> bool:
    """Make the folder and return True, or return False if it exists."""
    try:
        folder.mkdir(parents=True)
    except FileExistsError:
        return False
    return True


def read_tree(path: Path) -> dict[str, Any]:
    """The plain content of ``params.yaml``, checked."""
    load(path)
    return YAML(typ="safe").load(path) or {}


def changed(tree: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """A copy with the values at dotted paths replaced: ``{"train.epochs": 5, "model.conv[0].out": 8}``.

    Raises
    ------
    ConfigError
        A path that leads nowhere.
    """
    result = copy.deepcopy(dict(tree))
    for path, value in changes.items():
        *way, last = [int(step) if step.isdigit() else step for step in re.findall(r"[^.\[\]]+", path)]
        node: Any = result
        try:
            for step in way:
                node = node.setdefault(step, {}) if isinstance(node, dict) else node[step]
            if isinstance(node, list) and last not in range(len(node)):
                raise IndexError
            node[last] = copy.deepcopy(value)
        except (KeyError, IndexError, TypeError, AttributeError):
            raise ConfigError(f"{path}: no such key") from None
    return result


def seconds(text: str) -> float:
    """``90``, ``90s``, ``45m``, ``2h``, ``1d`` or ``1h30m`` in seconds.

    Raises
    ------
    ConfigError
        Anything else.
    """
    parts = re.findall(r"(\d+(?:\.\d+)?)([smhd]?)", text)
    total = sum(float(number) * UNITS[unit or "s"] for number, unit in parts)
    if "".join(number + unit for number, unit in parts) != text or total <= 0:
        raise ConfigError(f"study.timeout: must be a time like 90m, 2h or 1h30m, got {text!r}")
    return total


def known_points(origin: str, root: Path, space: Space) -> list[dict[str, Any]]:
    """The points of a study's best trials, or of a params.yaml, as far as they lie in this space.

    Raises
    ------
    UsageError
        There is no such study or file, or none of its points lies in the space.
    """
    if origin.endswith((".yaml", ".yml")):
        configs = [to_tree(load(root / origin))]
    else:
        history = fold(read(root / STUDIES / origin))
        if history is None:
            raise UsageError(f"--seed-from {origin}: there is no such study; `study list` shows them")
        cost = history.spec.objectives[0].cost
        ended = [run for run in history.trials if run.values]
        best = sorted(ended, key=lambda run: cost(run.values[0]))[:SEEDS]  # type: ignore[index]
        configs = [{**to_tree(history.spec.params), **run.config.tree} for run in best]
    points = [params for config in configs if (params := space.params_of(config)) is not None]
    if not points:
        raise UsageError(f"--seed-from {origin}: none of its points lies in the space {space.name}; widen the space")
    return [{"params": params, "origin": origin} for params in points]


def kept(changes: Mapping[str, Any]) -> dict[str, Any]:
    """The changes that a study remembers, so that ``study run --name N`` alone goes on with it."""
    session = {f"study.{key}" for key in OF_ONE_SESSION}
    return {key: value for key, value in changes.items() if key not in session and key not in SECRETS}


def lineage_of(place: Arrays, root: Path) -> dict[str, Any]:
    commit, dirty = lineage.git_state(root)
    return {
        "git_commit": commit,
        "git_dirty": dirty,
        "environment": lineage.environment(),
        "data": str(place.search),
        "dataset": asdict(place.info),
        "command": shlex.join(["study", *sys.argv[1:]]),
    }


def refusal(name: str, different: list[str]) -> str:
    shown = "\n  ".join(different[:12] + ([f"… and {len(different) - 12} more"] if len(different) > 12 else []))
    return f"{name} exists with another definition; set it back, or start another study with --new:\n  {shown}"

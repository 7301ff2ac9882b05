"""What can be known to be wrong with a space before a study starts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.distributions import CategoricalDistribution, IntDistribution

from pipeline.config import ConfigError, Params, parse, to_tree
from pipeline.models.plan import ArchitectureError, Plan, plan
from study.space.keys import SpaceError, problem, to_text
from study.space.nodes import Choice, Fixed, Node, Path, Range, Repeat
from study.space.space import Space
from study.space.structure import every

POINTS = 300  # random points of which one at least must be possible
CHANGES_THE_LOSS = ("train.loss", "train.label_smoothing")


@dataclass(frozen=True)
class Fit:
    """Whether a configuration can be trained on images of a shape.

    config : sections model and train, complete where there is a plan
    plan : of the network; None where ``problem`` says why there is none
    problem : None, or why it is not to be trained; with a plan: the network has too many parameters
    """

    config: dict[str, Any]
    plan: Plan | None
    problem: str | None


def fit(tree: Mapping[str, Any], shape: Sequence[int], n_classes: int, most: int | None = None) -> Fit:
    """Parse sections model and train of a configuration, and plan its network.

    most : parameters that the network may have
    """
    raw = {name: tree[name] for name in ("model", "train")}
    try:
        params = parse(raw)
        channels, height, width = shape
        shift = params.train.augment.shift
        if shift >= min(height, width):
            raise ConfigError(f"train.augment.shift: must be less than the {min(height, width)} pixels of an image, got {shift}")
        planned = plan(params.model, (channels, height, width), n_classes)
    except (ConfigError, ArchitectureError) as error:
        return Fit(raw, None, str(error))
    too_large = most is not None and planned.parameters > most
    problem = f"{planned.parameters:,} parameters, and study.max_parameters is {most:,}" if too_large else None
    return Fit({"model": to_tree(params.model), "train": to_tree(params.train)}, planned, problem)


def check(space: Space, base: Params, shape: Sequence[int], n_classes: int) -> None:
    """Find what can be known to fail before anything starts.

    shape : of one image, (channels, height, width)

    Raises
    ------
    SpaceError
        A key that does not exist, a value that a key does not take, a sampler or objective that does not suit the space, or
        an architecture that cannot be built at any of many random points.
    """
    try:
        _check(space, base, shape, n_classes)
    except SpaceError as error:
        raise SpaceError(f"space {space.name}: {error}") from None


def _check(space: Space, base: Params, shape: Sequence[int], n_classes: int) -> None:
    for node in every(space.nodes):
        for path, value in _extremes(node):
            if why := problem(path, value):
                raise SpaceError(why)
    _check_study(space, base)
    tree = to_tree(base)
    reasons: Counter[str] = Counter()
    sampler = optuna.samplers.RandomSampler(seed=0)
    optuna.logging.set_verbosity(optuna.logging.ERROR)  # it announces every study in memory
    study = optuna.create_study(sampler=sampler)
    for _ in range(POINTS):
        params = space.suggest(study.ask())
        found = fit(space.configure(tree, params), shape, n_classes, base.study.max_parameters)
        if found.problem is None:
            return
        reasons[found.problem] += 1
    reason, count = reasons.most_common(1)[0]
    raise SpaceError(f"none of {POINTS} random points can be trained; {count} times because of {reason}")


def _check_study(space: Space, base: Params) -> None:
    """What the sampler and the objectives ask of the space."""
    study = base.study
    if study.sampler == "cmaes":
        if len(study.objectives) > 1:
            raise SpaceError(f"study.sampler: cmaes takes one objective, got {', '.join(study.objectives)}; take tpe or nsga2")
        numbers = [name for name, one in space.always.items() if not isinstance(one, CategoricalDistribution)]
        if len(numbers) < 2:
            raise SpaceError(f"study.sampler: cmaes needs two ranges that every point has, got {len(numbers)}; take tpe")
    if "loss" in study.objectives:
        for node in every(space.nodes):
            if isinstance(node, Range | Choice) and node.path and to_text(node.path) in CHANGES_THE_LOSS:
                raise SpaceError(
                    f"{to_text(node.path)}: cannot be searched with objective loss, which it changes; "
                    f"take accuracy, or a space that includes this one and fixes it"
                )


def _extremes(node: Node) -> Iterator[tuple[Path, Any]]:
    """The values by which to judge whether a key takes all that the space gives it."""
    if isinstance(node, Fixed):
        yield node.path, node.value
    elif isinstance(node, Range):
        yield node.path, node.distribution.low
        yield node.path, node.distribution.high
    elif isinstance(node, Choice) and node.path is not None:
        for value in node.values:
            yield node.path, value
    elif isinstance(node, Repeat):
        yield node.path, [{"out": 1}]


def most_epochs(space: Space, base: int) -> int:
    """Epochs of the longest trial that the space allows; ``base`` where it does not search them."""
    found = space.parameters.get("train.epochs")
    if isinstance(found, IntDistribution):
        return found.high
    if isinstance(found, CategoricalDistribution):
        return max(choice for choice in found.choices if isinstance(choice, int))
    return base

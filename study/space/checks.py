"""Check a search space before a study starts."""

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

POINTS = 300  # random points, of which at least one must be trainable
CHANGES_THE_LOSS = ("train.loss", "train.label_smoothing")


@dataclass(frozen=True)
class Fit:
    """The result of planning a configuration for images of a shape.

    config : sections model and train; complete if there is a plan
    plan : of the network; None if the configuration breaks a rule
    problem : why it cannot be trained, or None; with a plan: the network has too many parameters
    """

    config: dict[str, Any]
    plan: Plan | None
    problem: str | None


def fit(tree: Mapping[str, Any], shape: Sequence[int], n_classes: int, most: int | None = None) -> Fit:
    """Parse sections model and train of a configuration and plan its network.

    most : parameters allowed; None: any number
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
    """Check that a study of this space can start.

    shape : of one image, (channels, height, width)

    Raises SpaceError for an unknown key, a value that a key does not take, a sampler or objective that does not suit the space,
    or no trainable network at any of many random points.
    """
    try:
        _check(space, base, shape, n_classes)
    except SpaceError as error:
        raise SpaceError(f"space {space.name}: {error}") from None


def _check(space: Space, base: Params, shape: Sequence[int], n_classes: int) -> None:
    for node in every(space.nodes):
        for path, value in _extremes(node):
            if rule := problem(path, value):
                raise SpaceError(rule)
    _check_study(space, base)
    tree = to_tree(base)
    reasons: Counter[str] = Counter()
    sampler = optuna.samplers.RandomSampler(seed=0)
    optuna.logging.set_verbosity(optuna.logging.ERROR)  # Optuna announces each study
    study = optuna.create_study(sampler=sampler)
    for _ in range(POINTS):
        params = space.suggest(study.ask())
        result = fit(space.configure(tree, params), shape, n_classes, base.study.max_parameters)
        if result.problem is None:
            return
        reasons[result.problem] += 1
    reason, count = reasons.most_common(1)[0]
    raise SpaceError(f"none of {POINTS} random points can be trained; the reason {count} times: {reason}")


def _check_study(space: Space, base: Params) -> None:
    """Check that the sampler and the objectives suit the space."""
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
    """Yield the paths and extreme values of a node, which the keys must take."""
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
    """Return the epochs of the longest trial in the space; ``base`` if the space does not vary them."""
    epochs = space.parameters.get("train.epochs")
    if isinstance(epochs, IntDistribution):
        return epochs.high
    if isinstance(epochs, CategoricalDistribution):
        return max(choice for choice in epochs.choices if isinstance(choice, int))
    return base

"""What a study is: its space, its fixed configuration, and how it searches. Fixed when the study is created."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pipeline.config import Params, Study, parse, to_tree
from study.state.objective import OBJECTIVES, Objective

MAY_CHANGE = (  # in section study: these say how far and on what it runs, not what it searches
    "space",
    "trials",
    "finalists",
    "workers",
    "per_gpu",
    "engine",
    "storage",
    "timeout",
    "trial_timeout",
)


@dataclass(frozen=True)
class Kind:
    """What a study is: a search, or a plan whose trainings are listed.

    noun : for one of its members; phase : of these
    """

    name: Literal["search", "ablation", "reproduction"]
    noun: Literal["trial", "training"] = "training"
    phase: Literal["search", "planned"] = "planned"

    @property
    def plan(self) -> bool:
        return self.phase == "planned"


SEARCH = Kind("search", "trial", "search")
PLANS = {"ablation": Kind("ablation"), "reproduction": Kind("reproduction")}


@dataclass(frozen=True)
class Spec:
    """A study's own definition.

    space : name of the space, as shown; tree : the space itself, resolved
    params : the whole configuration that trials start from; a trial replaces the searched keys. Its section study is that of the
        latest session
    fingerprint : of the data set
    """

    name: str
    space: str
    tree: dict[str, Any]
    params: Params
    fingerprint: str

    @property
    def study(self) -> Study:
        return self.params.study

    @property
    def kind(self) -> Kind:
        return SEARCH if "parameters" in self.tree else PLANS.get(self.space, SEARCH)

    @property
    def title(self) -> str:
        """What is searched and how, or what is trained."""
        if self.kind.plan:
            return str(self.tree["title"])
        return f"{self.params.data.name}, space {self.space}, {self.study.sampler}, {self.study.pruner}"

    @property
    def objectives(self) -> tuple[Objective, ...]:
        return tuple(OBJECTIVES[name] for name in self.study.objectives)

    @property
    def quality(self) -> Objective:
        """The first objective that is measured on the validation images: it decides between finalists."""
        return next(one for one in self.objectives if one.measured)

    @classmethod
    def of(cls, tree: Mapping[str, Any]) -> Spec:
        return cls(tree["name"], tree["space"], tree["tree"], parse(tree["params"]), tree["fingerprint"])

    def to_tree(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "space": self.space,
            "tree": self.tree,
            "params": to_tree(self.params),
            "fingerprint": self.fingerprint,
        }


def flat(tree: Any, path: str = "") -> dict[str, Any]:
    """Nested mappings and lists as dotted paths: ``{"model.conv[0].out": 16}``; an empty list or mapping stays a value."""
    if isinstance(tree, Mapping) and tree:
        parts = [(f"{path}.{key}".removeprefix("."), value) for key, value in tree.items()]
    elif isinstance(tree, list | tuple) and tree:
        parts = [(f"{path}[{index}]", value) for index, value in enumerate(tree)]
    else:
        return {path: tree}
    return {name: leaf for inner, value in parts for name, leaf in flat(value, inner).items()}


def differences(old: Spec, new: Spec, searched: frozenset[str]) -> list[str]:
    """What of the definition differs, a line each: ``train.epochs: 10 in the study, 20 asked for``.

    searched : paths that the space sets; what ``params.yaml`` says of them does not matter
    """

    def fixed(spec: Spec) -> dict[str, Any]:
        tree = to_tree(spec.params)
        kept = {name: tree[name] for name in ("data", "model", "train")}
        kept["study"] = {key: value for key, value in tree["study"].items() if key not in MAY_CHANGE}
        kept["data"].pop("mirror")
        kept["evaluate"] = {"costs": tree["evaluate"]["costs"]}
        kept["space"] = spec.tree
        kept["fingerprint of the images"] = spec.fingerprint
        inside = tuple(searched)
        return {
            path: value
            for path, value in flat(kept).items()
            if not any(path == name or path.startswith((f"{name}.", f"{name}[")) for name in inside)
        }

    before, after = fixed(old), fixed(new)
    return [
        f"{path}: {before.get(path, 'nothing')} in the study, {after.get(path, 'nothing')} asked for"
        for path in sorted(before.keys() | after.keys())
        if before.get(path) != after.get(path)
    ]

"""Arrows point one way: the table of docs/architecture.md, read from the code."""

import ast
from collections.abc import Set
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2] / "pipeline"
EVERYWHERE = {"epochs", "config", "artifacts", "line_log", "tensors", "verdict", "lineage", "errors"}
MAY_IMPORT = {
    "epochs": set(),
    "config": {"epochs"},
    "errors": {"config"},
    "artifacts": set(),
    "line_log": {"artifacts"},
    "tensors": {"artifacts"},
    "verdict": set(),
    "lineage": set(),
    "vision": set(),
    "data": EVERYWHERE,
    "models": EVERYWHERE | {"data"},
    "tracking": EVERYWHERE | {"models"},
    "training": EVERYWHERE | {"data", "models", "tracking"},
    "evaluation": EVERYWHERE | {"data", "models"},
    "report": EVERYWHERE | {"data", "tracking"},
    "stages": EVERYWHERE | {"data", "models", "tracking", "training", "evaluation", "report"},
    "ui": EVERYWHERE | {"tracking"},
}
ONLY_IN = {
    "mlflow": ("tracking/client.py", "tracking/sink.py", "tracking/group.py"),
    "matplotlib": "evaluation/",
    "jinja2": "report/",
    "sklearn": ("data/digits.py", "evaluation/"),
}


def imported(path: Path) -> set[str]:
    """All modules that a file imports, at its head or anywhere below."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{name.name}" for name in node.names)}
    return found


@pytest.mark.parametrize("path", sorted(ROOT.rglob("*.py")), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_a_module_imports_only_what_lies_before_it(path):
    place = path.relative_to(ROOT)
    room = place.parts[0].removesuffix(".py")
    names = imported(path)
    rooms = {name.split(".")[1] for name in names if name.startswith("pipeline.")}
    if room != "__init__":
        assert rooms - {room} <= MAY_IMPORT[room]
    for library, home in ONLY_IN.items():
        if any(name.split(".")[0] == library for name in names):
            assert place.as_posix().startswith(home), library


STUDY = ROOT.with_name("study")
STUDY_MAY_IMPORT = {  # from top to bottom
    "cli": {"experiments", "report", "engine", "stores", "lineage", "workers", "space", "state"},
    "experiments": {"report", "engine", "stores", "lineage", "workers", "space", "state"},
    "report": {"engine", "stores", "space", "state"},
    "engine": {"stores", "workers", "space", "state"},
    "stores": {"state"},
    "lineage": {"state"},
    "workers": set(),
    "space": set(),
    "state": set(),
}
STUDY_ONLY_IN = {
    "optuna": (
        "engine/proposals.py",
        "engine/samplers.py",
        "engine/optuna_memory.py",
        "space",
        "stores/optuna_database.py",
        "stores/optuna.py",
        "report/",
    ),
    "ray": "workers/ray.py",
    "matplotlib": (
        "report/figures/",
        "experiments/ablation/figures.py",
        "experiments/reproduction/figures.py",
        "experiments/comparison/figures.py",
    ),
    "jinja2": "report/frame.py",
    "mlflow": "nowhere",
}


@pytest.mark.parametrize("path", sorted(STUDY.rglob("*.py")), ids=lambda path: path.relative_to(STUDY).as_posix())
def test_a_room_of_study_imports_only_rooms_below_it_no_stage_and_each_library_where_it_belongs(path):
    names = imported(path)
    assert not any(name.startswith("pipeline.stages") for name in names)
    place = path.relative_to(STUDY)
    room = place.parts[0]
    rooms = {name.split(".")[1] for name in names if name.startswith("study.")}
    if room != "__init__.py":
        assert rooms - {room} <= STUDY_MAY_IMPORT[room]
    for library, home in STUDY_ONLY_IN.items():
        if any(name.split(".")[0] == library for name in names):
            assert place.as_posix().startswith(home), library


def test_no_module_imports_itself_by_way_of_others():
    paths = {name_of(path): path for package in (ROOT, STUDY) for path in package.rglob("*.py")}
    TopologicalSorter({name: imports_of(path, paths.keys()) for name, path in paths.items()}).prepare()


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT.parent).with_suffix("").parts).removesuffix(".__init__")


def imports_of(path: Path, modules: Set[str]) -> set[str]:
    """Which of our modules a file imports; of a package out of which it imports a module, that module alone."""
    names = imported(path) & modules - {name_of(path)}
    return {name for name in names if not any(other.startswith(f"{name}.") for other in names)}

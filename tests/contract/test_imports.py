"""Arrows point one way: the table of docs/architecture.md, read from the code."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2] / "pipeline"
EVERYWHERE = {"config", "artifacts", "line_log", "tensors", "verdict", "lineage", "errors"}
MAY_IMPORT = {
    "config": set(),
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
STUDY_ONLY_IN = {
    "optuna": ("proposals.py", "samplers.py", "shown.py", "space", "storage.py", "to_optuna.py", "report/"),
    "ray": "executors/ray.py",
    "matplotlib": ("report/figures/", "ablation/figures.py", "reproduction/figures.py", "comparison/figures.py"),
    "jinja2": "page/",
    "mlflow": "nowhere",
}


@pytest.mark.parametrize("path", sorted(STUDY.rglob("*.py")), ids=lambda path: path.relative_to(STUDY).as_posix())
def test_a_study_imports_the_pipeline_but_no_stage_and_each_library_where_it_belongs(path):
    names = imported(path)
    assert not any(name.startswith("pipeline.stages") for name in names)
    place = path.relative_to(STUDY).as_posix()
    for library, home in STUDY_ONLY_IN.items():
        if any(name.split(".")[0] == library for name in names):
            assert place.startswith(home), library

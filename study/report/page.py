"""The page of a study: which sections it has, and what each needs to be there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.evaluation.drawing import Drawing
from study.report import frame

TITLES = {
    "verdicts": "What to know first",
    "board": "Leader board",
    "front": "Accuracy against size",
    "importances": "What mattered",
    "effects": "What each setting does",
    "course": "How the search went",
    "rungs": "Stopping early",
    "chance": "Against random search",
    "cost": "Cost",
    "failures": "Failures",
    "lineage": "Lineage",
}


def render(view: Mapping[str, Any], drawings: Sequence[Drawing]) -> str:
    """The report as one HTML file that refers to nothing outside itself, save links to runs in MLflow."""
    names = {drawing.name for drawing in drawings}
    titles = {name: title for name, title in TITLES.items() if _present(name, view, names)}
    return frame.render("study.report", "study", titles, view, drawings)


def _present(section: str, view: Mapping[str, Any], figures: set[str]) -> bool:
    """Whether a section has anything to show."""
    needed = {
        "verdicts": view["verdicts"],
        "board": view["board"],
        "front": view["front"],
        "importances": view["board"],
        "effects": figures & {"slices", "isolation", "parallel"},
        "course": "history" in figures,
        "rungs": figures & {"timeline", "epochs"},
        "chance": view["board"],
        "cost": view["costs"],
    }
    return bool(needed.get(section, True))

"""Figures of a study, each a :class:`pipeline.evaluation.drawing.Drawing`; those that have nothing to show are left out."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from pipeline.evaluation.drawing import Drawing
from study.report.figures import course, effects, results
from study.report.findings import Findings

FIGURES: Sequence[Callable[[Findings], Drawing | None]] = (
    results.finalists,
    results.pareto,
    effects.importances,
    effects.slices,
    effects.isolation,
    effects.parallel,
    effects.contour,
    course.history,
    course.curves,
    course.timeline,
    course.epochs,
    results.random_search,
)


def draw(findings: Findings) -> list[Drawing]:
    """All figures that there is something to show in, in the page's order."""
    return [drawing for function in FIGURES if (drawing := function(findings))]

"""Recipes against what was trained of them: each row with its figures, a verdict in a word, and what it rests on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from pipeline.report import formats
from study.experiments.reproduction.figure import Figure
from study.experiments.reproduction.measure import Ours, Word, compare, ours, value
from study.experiments.reproduction.recipe import Recipe, RecipeRow
from study.experiments.reproduction.words import trainings
from study.state.history import History, Run

DECISIVE = ("test_accuracy", "test_recall_weighted", "validation_accuracy")  # of a row, the first that can be compared
UNREPORTED = ("train_accuracy", "validation_accuracy", "test_accuracy")  # shown of a row that the source prints no figure of
SILENT = "the source prints no figure of this row"
GUESSES = "before training the network guesses, so no value is better than another; see the findings"


@dataclass(frozen=True)
class Judged:
    """One reported figure beside ours.

    reported : None where the source prints none, and ours stands alone
    basis : what the verdict rests on, or why there is none
    """

    name: str
    reported: Figure | None
    ours: Ours | None
    verdict: Word
    basis: str


@dataclass(frozen=True)
class RowResult:
    """One row of a recipe, and what came of it here.

    runs : its trainings, by seed; empty where it is marked later, or not trained yet
    cut : what was cut short, as ``10,000 images, 3 epochs instead of all, 10``; None: nothing
    parameters : of our network; None where there is none
    verdict : None where it is marked later, or not trained yet
    basis : what the verdict rests on; why there is none
    decisive : name of the figure that the verdict is of
    """

    row: RecipeRow
    runs: tuple[Run, ...]
    figures: tuple[Judged, ...]
    cut: str | None
    parameters: int | None
    verdict: Word | None
    basis: str
    decisive: str | None

    @property
    def complete(self) -> tuple[Run, ...]:
        return complete(self.runs)

    @property
    def exact(self) -> bool | None:
        """Whether our network has the parameters that are printed; None where one of both is unknown."""
        known = self.parameters is not None and self.row.parameters is not None
        return self.parameters == self.row.parameters if known else None

    def by_seed(self, name: str) -> dict[int, float]:
        """Values of a figure by index of the seed, of the trainings that have it."""
        return {run.replicate: found for run in self.complete if (found := value(run, name)) is not None}

    @cached_property
    def confusion(self) -> np.ndarray | None:
        """Ours, mean over the seeds, float (n_classes, n_classes), rows true; None where none was scored."""
        counts = [run.test.confusion for run in self.complete if run.test]
        return np.mean(counts, axis=0) if counts else None

    @property
    def seconds(self) -> float:
        """Of device time, all trainings together."""
        return sum(run.seconds for run in self.runs)


@dataclass(frozen=True)
class RecipeResult:
    """One source, judged; history : of its trainings, None where none was begun."""

    recipe: Recipe
    history: History | None
    rows: tuple[RowResult, ...]

    @cached_property
    def by_name(self) -> Mapping[str, RowResult]:
        return {result.row.name: result for result in self.rows}

    def count(self, word: Word) -> int:
        return sum(result.verdict == word for result in self.rows)


def judge(recipe: Recipe, history: History | None) -> RecipeResult:
    """Set every figure that a source reports beside what our trainings came to.

    history : of the plan :meth:`Recipe.plan` makes, in any state; what has not ended does not count
    """
    runs: dict[str, list[Run]] = {}
    for run in sorted(history.planned if history else [], key=lambda run: run.replicate):
        runs.setdefault(run.origin, []).append(run)
    images = history.lineage.dataset.images if history else {}
    return RecipeResult(recipe, history, tuple(_row(row, tuple(runs.get(row.name, ())), images) for row in recipe.rows))


def complete(runs: Sequence[Run]) -> tuple[Run, ...]:
    return tuple(run for run in runs if run.state == "COMPLETE" and run.epochs)


def _row(row: RecipeRow, runs: tuple[Run, ...], images: Mapping[str, int]) -> RowResult:
    cut = _cut(row, runs[0]) if runs else None
    parameters = runs[0].parameters if runs else None
    figures = tuple(_figure(row, name, runs, images, cut) for name in row.reported) or _alone(runs, images)
    word, basis, decisive = _verdict(row, runs, figures, cut)
    return RowResult(row, runs, figures, cut, parameters, word, basis, decisive)


def _cut(row: RecipeRow, run: Run) -> str | None:
    """What a quick look, or a limit on the images, took away."""
    limit, epochs = run.config.tree["data"]["limit"], run.config.train.epochs
    if limit == row.params.data.limit and epochs == row.params.train.epochs:
        return None

    asked, whole = row.params.data.limit, row.params.train.epochs
    images = "all images" if limit is None else f"{limit:,} images"
    return f"{images}, {formats.plural(epochs, 'epoch')} instead of {'all' if asked is None else f'{asked:,}'}, {whole}"


def _figure(row: RecipeRow, name: str, runs: Sequence[Run], images: Mapping[str, int], cut: str | None) -> Judged:
    ended, reported = complete(runs), row.reported[name]
    values = [found for run in ended if (found := value(run, name)) is not None]
    n = _images(name, ended, images)
    measured = ours(name, values, n) if values else None
    reason = row.not_comparable.get(name) or cut or row.later or (GUESSES if name.startswith("before_training_") else None)
    if reason is None and measured is not None:
        return Judged(name, reported, measured, *compare(name, reported, measured, n))
    return Judged(name, reported, measured, "not comparable", reason or _missing(runs, "not measured here"))


def _alone(runs: Sequence[Run], images: Mapping[str, int]) -> tuple[Judged, ...]:
    """Our accuracies of a row that the source prints no figure of."""
    found = {name: [share for run in complete(runs) if (share := value(run, name)) is not None] for name in UNREPORTED}
    ended = complete(runs)
    return tuple(
        Judged(name, None, ours(name, shares, _images(name, ended, images)), "not comparable", SILENT)
        for name, shares in found.items()
        if shares
    )


def _missing(runs: Sequence[Run], otherwise: str) -> str:
    """Why there is no value of our own."""
    if complete(runs):
        return otherwise
    failed = [run for run in runs if run.state == "FAIL"]
    if failed and len(failed) == len(runs):
        return f"{trainings(len(runs))} failed: {failed[0].reason or failed[0].cause}"
    return "not trained to the end yet"


def _images(name: str, ended: Sequence[Run], images: Mapping[str, int]) -> int | None:
    """Of which a figure is a share."""
    if "test_" in name:
        return next((run.test.n for run in ended if run.test), None)
    return images.get(name.removeprefix("first_").partition("_")[0])


def _verdict(
    row: RecipeRow, runs: Sequence[Run], figures: Sequence[Judged], cut: str | None
) -> tuple[Word | None, str, str | None]:
    """That of the row: of its decisive figure, with a word on trainings that failed."""
    if row.later is not None:
        return None, row.later, None
    if not complete(runs):
        ended = bool(runs) and all(run.state in ("FAIL", "COMPLETE", "PRUNED") for run in runs)
        return ("not comparable" if ended else None), _missing(runs, ""), None
    if cut:
        return "not comparable", cut, None
    if not figures:
        return "not comparable", SILENT, None
    order = sorted(figures, key=lambda figure: DECISIVE.index(figure.name) if figure.name in DECISIVE else len(DECISIVE))
    chosen = next((figure for figure in order if figure.verdict != "not comparable"), order[0])
    lost = len(runs) - len(complete(runs))
    basis = chosen.basis + (f"; {lost} of {trainings(len(runs))} did not end well" if lost else "")
    return chosen.verdict, basis, chosen.name


def table(results: Sequence[RecipeResult]) -> list[dict[str, Any]]:
    """A line for each figure, and one for a row that has none: the content of ``table.csv`` and of the page's tables."""
    return [
        _line(result.recipe, found, figure)
        for result in results
        for found in result.rows
        for figure in (found.figures or (None,))
    ]


def _line(recipe: Recipe, found: RowResult, figure: Judged | None) -> dict[str, Any]:
    mine, reported = (figure.ours, figure.reported) if figure else (None, None)
    low, high = (mine.prediction if mine else None) or (None, None)
    return {
        "source": recipe.source,
        "row": found.row.name,
        "title": found.row.title,
        "figure": figure.name if figure else None,
        "reported": reported.text if reported else None,
        "reported_value": reported.value if reported else None,
        "ours": mine.value if mine else None,
        "low": mine.low if mine else None,
        "high": mine.high if mine else None,
        "prediction_low": low,
        "prediction_high": high,
        "n": mine.n if mine else 0,
        "parameters_printed": found.row.parameters,
        "parameters_ours": found.parameters,
        "verdict": figure.verdict if figure and found.runs else found.verdict or ("later" if found.row.later else "not trained"),
        "basis": figure.basis if figure else found.basis,
        "row_verdict": found.verdict,
        "device_seconds": found.seconds,
        "assumed": " ".join((*recipe.assumed, *found.row.assumed)),
    }

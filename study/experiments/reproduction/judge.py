"""Recipes against their trainings: each row with its figures, a verdict in a word, and its basis."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from pipeline.report import formats
from study.experiments.reproduction.figure import Figure
from study.experiments.reproduction.measure import WORDS, Ours, Word, compare, ours, value
from study.experiments.reproduction.recipe import Recipe, RecipeRow
from study.state.history import History, Run

DECISIVE = ("test_accuracy", "test_recall_weighted", "validation_accuracy")  # of a row, the first that can be compared
UNREPORTED = ("train_accuracy", "validation_accuracy", "test_accuracy")  # given of a row that the source prints no figure of
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
    def state(self) -> str:
        """The verdict in a word; without one ``later`` or ``not trained``."""
        return self.verdict or ("later" if self.row.later else "not trained")

    @property
    def exact(self) -> bool | None:
        """Whether our network has the parameters that are printed; None where one of both is unknown."""
        known = self.parameters is not None and self.row.parameters is not None
        return self.parameters == self.row.parameters if known else None

    def by_seed(self, name: str) -> dict[int, float]:
        """Values of a figure by index of the seed, of the trainings that have it."""
        return {run.replicate: share for run in self.complete if (share := value(run, name)) is not None}

    @cached_property
    def confusion(self) -> np.ndarray | None:
        """Ours, mean over the seeds, float (n_classes, n_classes), rows true; None where none was scored."""
        counts = [run.test.confusion for run in self.complete if run.test]
        return np.mean(counts, axis=0) if counts else None

    @property
    def seconds(self) -> float:
        """Seconds of device time, all trainings together."""
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

    @property
    def runs(self) -> list[Run]:
        return [run for row in self.rows for run in row.runs]

    @property
    def later(self) -> int:
        """How many rows are marked later."""
        return sum(row.row.later is not None for row in self.rows)

    def count(self, word: Word) -> int:
        return sum(row.verdict == word for row in self.rows)

    @property
    def summary(self) -> str:
        """``9 reproduced, 41 better``"""
        counts = [f"{self.count(word)} {word}" for word in WORDS if self.count(word)]
        return ", ".join(counts) or "nothing is trained to the end yet"


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
    """Say what a quick look, or a limit on the images, took away."""
    limit, epochs = run.config.tree["data"]["limit"], run.config.train.epochs
    if limit == row.params.data.limit and epochs == row.params.train.epochs:
        return None
    asked, whole = row.params.data.limit, row.params.train.epochs
    images = "all images" if limit is None else f"{limit:,} images"
    return f"{images}, {formats.plural(epochs, 'epoch')} instead of {'all' if asked is None else f'{asked:,}'}, {whole}"


def _figure(row: RecipeRow, name: str, runs: Sequence[Run], images: Mapping[str, int], cut: str | None) -> Judged:
    ended, reported = complete(runs), row.reported[name]
    values = [share for run in ended if (share := value(run, name)) is not None]
    n = _images(name, ended, images)
    measured = ours(name, values, n) if values else None
    reason = row.not_comparable.get(name) or cut or row.later or (GUESSES if name.startswith("before_training_") else None)
    if reason is None and measured is not None:
        return Judged(name, reported, measured, *compare(name, reported, measured, n))
    return Judged(name, reported, measured, "not comparable", reason or _missing(runs, "not measured here"))


def _alone(runs: Sequence[Run], images: Mapping[str, int]) -> tuple[Judged, ...]:
    """Return our accuracies of a row that the source prints no figure of."""
    ended = complete(runs)
    values = {name: [share for run in ended if (share := value(run, name)) is not None] for name in UNREPORTED}
    return tuple(
        Judged(name, None, ours(name, shares, _images(name, ended, images)), "not comparable", SILENT)
        for name, shares in values.items()
        if shares
    )


def _missing(runs: Sequence[Run], otherwise: str) -> str:
    """Say why there is no value of our own."""
    if complete(runs):
        return otherwise
    failed = [run for run in runs if run.state == "FAIL"]
    if failed and len(failed) == len(runs):
        return f"{formats.plural(len(runs), 'training')} failed: {failed[0].reason or failed[0].cause}"
    return "not trained to the end yet"


def _images(name: str, ended: Sequence[Run], images: Mapping[str, int]) -> int | None:
    """Return the number of images that a figure is a share of."""
    if "test_" in name:
        return next((run.test.n for run in ended if run.test), None)
    return images.get(name.removeprefix("first_").partition("_")[0])


def _verdict(
    row: RecipeRow, runs: Sequence[Run], figures: Sequence[Judged], cut: str | None
) -> tuple[Word | None, str, str | None]:
    """Return the row's verdict: that of its decisive figure, noting failed trainings; its basis, and the figure's name."""
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
    basis = chosen.basis + (f"; {lost} of {formats.plural(len(runs), 'training')} did not end well" if lost else "")
    return chosen.verdict, basis, chosen.name

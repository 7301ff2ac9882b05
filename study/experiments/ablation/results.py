"""What an ablation found: every row against the base on the same seeds, every factor, every claim."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from pipeline.evaluation.statistics import ALPHA, PairedDifference, holm, paired_difference
from pipeline.report.table import Estimate
from study.engine.plan import Row
from study.experiments.ablation.claims import Claim, Judgement, judge, settle
from study.experiments.ablation.crossing import Crossing, crossing
from study.experiments.ablation.definition import BASE, Ablation, Factor, Level
from study.experiments.ablation.grammar import MARGIN
from study.report.facts import Facts
from study.space.space import Space
from study.state.history import ENDED, History, Run


@dataclass(frozen=True)
class Result:
    """One row, as far as it is trained.

    runs : of each seed, None where the training was not begun
    values : validation accuracy of the kept weights of each seed, in [0, 1]; None where the training failed or has not ended
    accuracy : mean over these with its 95 % t interval; of one training the Wilson interval; None of none
    gap : mean difference to the base over the seeds that both have; None where they share none, and of the base itself
    difference : the same with its interval and p-value; None of fewer than two pairs
    p_holm : that p-value corrected for all rows (Holm)
    seconds : of device time, mean of the trainings that are complete
    """

    row: Row
    runs: tuple[Run | None, ...]
    values: tuple[float | None, ...]
    accuracy: Estimate | None
    gap: float | None = None
    difference: PairedDifference | None = None
    p_holm: float | None = None

    @property
    def known(self) -> list[float]:
        return [value for value in self.values if value is not None]

    @property
    def losses(self) -> tuple[float | None, ...]:
        """Validation loss of the kept weights of each seed; None where ``values`` has None."""
        return tuple(run.best.validation_loss if run and run.best and run.state == "COMPLETE" else None for run in self.runs)

    @property
    def first(self) -> Run | None:
        """The first training of this row that was begun; all have the same network."""
        return next((run for run in self.runs if run is not None), None)

    @property
    def failed(self) -> list[Run]:
        return [run for run in self.runs if run is not None and run.state == "FAIL"]

    @property
    def missing(self) -> int:
        """Seeds whose training has not ended."""
        return sum(run is None or run.state not in ENDED for run in self.runs)

    @property
    def seconds(self) -> float | None:
        complete = [run.seconds for run in self.runs if run is not None and run.state == "COMPLETE"]
        return float(np.mean(complete)) if complete else None

    @property
    def told_apart(self) -> bool:
        """Whether the row differs from the base by more than chance allows, among so many rows."""
        return self.p_holm is not None and self.p_holm < ALPHA

    @property
    def within(self) -> bool:
        """Whether the whole interval of the difference lies within the margin."""
        return self.difference is not None and self.difference.low >= -MARGIN and self.difference.high <= MARGIN


@dataclass(frozen=True)
class Spread(PairedDifference):
    """The best minus the worst level of a factor, chosen after the fact, which flatters it.

    best, worst : labels, by mean accuracy
    distances : of each seed; None where one of the two failed or is missing
    """

    best: str
    worst: str
    distances: tuple[float | None, ...]


@dataclass(frozen=True)
class Effect:
    """What one factor does, all others as in the base.

    results : of each level, in the factor's order
    spread : None where fewer than two levels share two seeds
    """

    factor: Factor
    results: tuple[Result, ...]
    spread: Spread | None

    @cached_property
    def others(self) -> list[Result]:
        return [result for result in self.results if result.row.name != BASE]

    @property
    def order(self) -> list[str]:
        """Labels of the levels that have a mean, the best first."""
        pairs = zip(self.factor.levels, self.results, strict=True)
        ranked = [(result.accuracy.value, level.label) for level, result in pairs if result.accuracy]
        return [text for _, text in sorted(ranked, key=lambda item: -item[0])]

    @property
    def matters(self) -> bool:
        """Whether a level is told apart from the base."""
        return any(result.told_apart for result in self.others)

    @property
    def flat(self) -> bool:
        """Whether every level is shown to lie within the margin of the base."""
        return all(result.within for result in self.others)

    def of(self, level: Level) -> Result:
        return self.results[self.factor.levels.index(level)]


@dataclass(frozen=True)
class Hypothesis:
    """What was supposed of a factor.

    judgement : None where there is no claim that a program can judge
    """

    factor: Factor
    judgement: Judgement | None


@dataclass(frozen=True)
class Results:
    """Everything that the page tells; nothing here is drawn or worded yet.

    rows : by name, the base first
    effects : a factor each, in the ablation's order
    """

    ablation: Ablation
    facts: Facts
    rows: Mapping[str, Result]
    effects: tuple[Effect, ...]
    hypotheses: tuple[Hypothesis, ...]
    crossing: Crossing | None

    @property
    def base(self) -> Result:
        return self.rows[BASE]

    @property
    def seeds(self) -> int:
        return len(self.base.values)

    @cached_property
    def ranked(self) -> list[Effect]:
        """Factors by the distance between their best and their worst level, the largest first."""
        known = [effect for effect in self.effects if effect.spread is not None]
        return sorted(known, key=lambda effect: -effect.spread.value if effect.spread else 0.0)

    @cached_property
    def best(self) -> Result | None:
        """The row of the best mean; of equals the earlier."""
        known = [result for result in self.rows.values() if result.accuracy]
        return max(known, key=lambda result: result.accuracy.value if result.accuracy else 0.0, default=None)

    @property
    def images(self) -> int:
        """Validation images of the base."""
        return self.facts.images

    @property
    def finished(self) -> bool:
        return not any(result.missing for result in self.rows.values())


def compute(history: History, ablation: Ablation) -> Results:
    """All numbers of an ablation in any state: rows whose trainings are missing or failed are there as far as they are."""
    facts = Facts(history, Space(ablation.name, history.spec.tree))
    resolution = 1 / facts.images
    seeds = max([ablation.seeds, *(run.replicate + 1 for run in history.planned)])
    rows = {row.name: _result(row, history, seeds, facts) for row in ablation.rows}
    rows = _compared(rows, resolution)
    effects = tuple(_effect(factor, ablation, rows, resolution) for factor in ablation.factors)
    return Results(ablation, facts, rows, effects, _judged(effects, resolution), _crossed(ablation, rows, resolution))


def _result(row: Row, history: History, seeds: int, facts: Facts) -> Result:
    runs = {run.replicate: run for run in history.planned if run.origin == row.name}
    ordered = tuple(runs.get(index) for index in range(seeds))
    values = tuple(run.accuracy if run is not None and run.state == "COMPLETE" else None for run in ordered)
    known = [value for value in values if value is not None]
    return Result(row, ordered, values, facts.range(known) if known else None)


def _compared(rows: Mapping[str, Result], resolution: float) -> dict[str, Result]:
    """Each row with its paired difference to the base, p-values corrected for all of them."""
    base = rows[BASE]
    found = {name: _against(result, base, resolution) for name, result in rows.items() if name != BASE}
    tested = [name for name, result in found.items() if result.difference]
    corrected = holm([found[name].difference.p_value for name in tested])  # type: ignore[union-attr]
    for name, p_value in zip(tested, corrected, strict=True):
        found[name] = replace(found[name], p_holm=p_value)
    return {BASE: base, **found}


def _against(result: Result, base: Result, resolution: float) -> Result:
    first, second = shared(result.values, base.values)
    if not first:
        return result
    difference = compare(result.values, base.values, resolution)
    return replace(result, gap=float(np.mean(np.subtract(first, second))), difference=difference)


def shared(first: Sequence[float | None], second: Sequence[float | None]) -> tuple[list[float], list[float]]:
    """Of two rows the values on the seeds that both have."""
    pairs = [(one, other) for one, other in zip(first, second, strict=True) if one is not None and other is not None]
    return [one for one, _ in pairs], [other for _, other in pairs]


def compare(first: Sequence[float | None], second: Sequence[float | None], resolution: float) -> PairedDifference | None:
    """The paired difference on the seeds that both have; None of fewer than two."""
    one, other = shared(first, second)
    return paired_difference(one, other, resolution) if len(one) > 1 else None


def _effect(factor: Factor, ablation: Ablation, rows: Mapping[str, Result], resolution: float) -> Effect:
    results = tuple(rows[ablation.row(level).name] for level in factor.levels)
    ranked = sorted(
        ((result.accuracy.value, level, result) for level, result in zip(factor.levels, results, strict=True) if result.accuracy),
        key=lambda item: item[0],
    )
    if len(ranked) < 2:
        return Effect(factor, results, None)
    (_, worst, low), (_, best, high) = ranked[0], ranked[-1]
    difference = compare(high.values, low.values, resolution)
    if difference is None:
        return Effect(factor, results, None)
    pairs = zip(high.values, low.values, strict=True)
    distances = tuple(None if one is None or other is None else one - other for one, other in pairs)
    return Effect(factor, results, Spread(**vars(difference), best=best.label, worst=worst.label, distances=distances))


def _judged(effects: Sequence[Effect], resolution: float) -> tuple[Hypothesis, ...]:
    """Every factor of which something was supposed; the p-values of the claims corrected for each other."""
    claimed = [(effect, effect.factor.claim) for effect in effects if effect.factor.claim]
    settled = settle([judge(claim, *_measured(effect, claim, resolution)) for effect, claim in claimed])
    judgements = {judgement.claim.factor: judgement for judgement in settled}
    supposed = [effect.factor for effect in effects if effect.factor.hypothesis or effect.factor.claim]
    return tuple(Hypothesis(factor, judgements.get(factor.name)) for factor in supposed)


def _measured(effect: Effect, claim: Claim, resolution: float) -> tuple[dict[str, Sequence[float | None]], float]:
    """By level what the claim speaks of, of the kept weights of each seed, and the step of these values."""
    labels = [level.label for level in effect.factor.levels]
    if claim.measure == "accuracy":
        return {label: result.values for label, result in zip(labels, effect.results, strict=True)}, resolution
    return {label: result.losses for label, result in zip(labels, effect.results, strict=True)}, 0.0


def _crossed(ablation: Ablation, rows: Mapping[str, Result], resolution: float) -> Crossing | None:
    if ablation.grid is None:
        return None
    first, second = ablation.grid
    values = [[rows[ablation.row(one, other).name].values for other in second.levels] for one in first.levels]
    return crossing(first, second, values, resolution)

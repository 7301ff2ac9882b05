"""Claims that a program can judge: written before the trainings (``grammar.py``), decided by a test after them.

A claim is *supported* or *refuted* where a test says so with p < 0.05, corrected for all claims of the ablation. Else it is
*undecided*, which is no verdict against it: the seeds were too few for what separates the values.

beats   Paired t test of the accuracies, seed by seed. Supported: the mean difference is above 0; refuted: it is below.
ties    Supported: two one-sided tests show a difference of less than the margin. Refuted: the 95 % interval of the difference
        lies wholly outside the margin. That no difference was found supports nothing, and a real but small one refutes nothing.
trend   Each seed's slope over the ranks of the values, then a t test of the slopes. Supported: the mean slope has the claimed
        sign; refuted: the opposite one. Of a relation that bends it judges the linear part.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from pipeline.evaluation.statistics import (
    ALPHA,
    MOST_SEEDS,
    equivalence,
    holm,
    p_equals,
    paired_difference,
    seeds_for_equivalence,
    seeds_needed,
    trend,
)
from pipeline.report.formats import signed
from study.experiments.ablation.grammar import Beats, Claim, Ties, Trend, parse
from study.space.reading import label

__all__ = ["Beats", "Claim", "Judgement", "Ties", "Trend", "Verdict", "judge", "parse", "settle"]

Verdict = Literal["supported", "refuted", "undecided"]
Rows = Sequence[Sequence[float]]  # (seeds, values that the claim speaks of)


@dataclass(frozen=True)
class Judgement:
    """What the trainings say of a claim.

    evidence : a sentence with difference, interval, p and n
    n : seeds that finished at all values that the claim speaks of
    leaning : the verdict once p is small enough
    p_value : of the test that could decide it, for this claim alone; None with fewer than 2 seeds
    effect, std : what was tested, and its standard deviation from seed to seed; None with fewer than 2 seeds
    needed : of an undecided one the seeds that would decide it in 80 % of cases, if the truth is as it was measured; None where
        not even 1,000 would, or where it is unknown
    p_holm : corrected for all claims of the ablation; None before :func:`settle`
    """

    claim: Claim
    verdict: Verdict
    evidence: str
    n: int
    leaning: Verdict = "undecided"
    p_value: float | None = None
    effect: float | None = None
    std: float | None = None
    needed: int | None = None
    p_holm: float | None = None

    @property
    def outcome(self) -> str:
        """The verdict; of an undecided claim also what would decide it."""
        if self.verdict != "undecided":
            return self.verdict
        if self.p_value is None:
            return f"undecided at n = {self.n}: it takes 2 seeds at least"
        seeds = f"not even {MOST_SEEDS:,} seeds" if self.needed is None else f"{self.needed} seeds"
        return f"undecided at n = {self.n}: if the truth is as measured, {seeds} would decide it with 80 % power"


def judge(claim: Claim, values: Mapping[Any, Sequence[float | None]], resolution: float) -> Judgement:
    """Test a claim by itself; :func:`settle` then corrects for the other claims of the ablation.

    Parameters
    ----------
    values : by value of the factor those of the claim's measure, by index of the seed; None where the training failed. A seed
        counts where it finished at all values that the claim speaks of
    resolution : step of the values, e.g. 1 / images for an accuracy; 0 for a loss

    Raises
    ------
    KeyError
        A value that the claim speaks of is missing.
    """
    columns = [values[level] for level in claim.levels]
    found = [[value for value in row if value is not None] for row in zip(*columns, strict=True)]
    rows = [row for row in found if len(row) == len(columns)]
    if len(rows) < 2:
        names = ", ".join(label(level) for level in claim.levels)
        evidence = f"{len(rows)} of {len(found)} seeds finished at all of {names}: a test needs 2."
        return Judgement(claim, "undecided", evidence, len(rows))
    if isinstance(claim, Beats):
        tested = _beats(claim, rows, resolution)
    elif isinstance(claim, Ties):
        tested = _ties(claim, rows, resolution)
    else:
        tested = _trend(claim, rows, resolution)
    return _decided(tested, tested.p_value, ALPHA)


def settle(judgements: Sequence[Judgement]) -> list[Judgement]:
    """The final verdicts on all claims of one ablation, in the order given: p-values corrected by Holm's method.

    A claim without a p-value was asked too, and counts. The seeds needed are those at 0.05 divided by the number of claims:
    enough whatever becomes of the others.
    """
    corrected = holm([1.0 if item.p_value is None else item.p_value for item in judgements])
    return [
        item if item.p_value is None else replace(_decided(item, p_holm, ALPHA / len(judgements)), p_holm=p_holm)
        for item, p_holm in zip(judgements, corrected, strict=True)
    ]


def _decided(judgement: Judgement, p_value: float | None, alpha: float) -> Judgement:
    if p_value is not None and p_value < ALPHA:
        return replace(judgement, verdict=judgement.leaning, needed=None)
    return replace(judgement, verdict="undecided", needed=_needed(judgement, alpha))


def _needed(judgement: Judgement, alpha: float) -> int | None:
    claim, effect, std = judgement.claim, judgement.effect, judgement.std
    if effect is None or std is None:
        return None
    if not isinstance(claim, Ties):
        return seeds_needed(effect, std, alpha=alpha)
    if abs(effect) < claim.margin:
        return seeds_for_equivalence(effect, std, claim.margin, alpha=alpha)
    return seeds_needed(abs(effect) - claim.margin, std, alpha=alpha)


def _beats(claim: Beats, rows: Rows, resolution: float) -> Judgement:
    first, second = zip(*rows, strict=True)
    part = paired_difference(first, second, resolution)
    evidence = (
        f"{_against(claim)}: {signed(part.value)} points of accuracy "
        f"(95 % interval {signed(part.low)} to {signed(part.high)}, {p_equals(part.p_value)}, n = {part.n} seeds)."
    )
    leaning = _leaning(part.value, rises=True)
    return Judgement(claim, "undecided", evidence, part.n, leaning, part.p_value, part.value, part.std)


def _ties(claim: Ties, rows: Rows, resolution: float) -> Judgement:
    first, second = zip(*rows, strict=True)
    part = paired_difference(first, second, resolution)
    same = equivalence(first, second, claim.margin, resolution)
    leaning: Verdict
    if abs(part.value) < claim.margin:
        leaning, p_value = "supported", same.p_value
        question = f"90 % interval {signed(same.low)} to {signed(same.high)}, for a difference within the margin"
    else:
        leaning, p_value = "refuted", same.p_beyond
        question = f"95 % interval {signed(part.low)} to {signed(part.high)}, for a difference beyond the margin"
    evidence = (
        f"{_against(claim)}: {signed(part.value)} points of accuracy, margin ±{100 * claim.margin:g} "
        f"({question} {p_equals(p_value)}, n = {part.n} seeds)."
    )
    return Judgement(claim, "undecided", evidence, part.n, leaning, p_value, part.value, part.std)


def _trend(claim: Trend, rows: Rows, resolution: float) -> Judgement:
    part = trend(rows, resolution=resolution)
    shares = claim.measure == "accuracy"
    shown, unit, form = (signed, " points", ".2%") if shares else (_signed, "", ".4f")
    start, end = (format(sum(row[index] for row in rows) / len(rows), form) for index in (0, -1))
    evidence = (
        f"Mean {claim.measure} {start} at {label(claim.levels[0])}, {end} at {label(claim.levels[-1])}: "
        f"{shown(part.value)}{unit} from one of {len(claim.levels)} values to the next "
        f"(95 % interval {shown(part.low)} to {shown(part.high)}, {p_equals(part.p_value)}, n = {part.n} seeds)."
    )
    leaning = _leaning(part.value, claim.rises)
    return Judgement(claim, "undecided", evidence, part.n, leaning, part.p_value, part.value, part.std)


def _leaning(value: float, rises: bool) -> Verdict:
    if value == 0:
        return "undecided"
    return "supported" if (value > 0) == rises else "refuted"


def _against(claim: Beats | Ties) -> str:
    return " against ".join(label(level) for level in claim.levels)


def _signed(value: float) -> str:
    return f"{value:+.4f}".replace("-", "\u2212")

"""Verdicts on an ablation: each hypothesis, what mattered, what did not, and what the numbers cannot tell."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from pipeline.evaluation.statistics import ALPHA, PairedDifference, p_equals, paired_difference
from pipeline.report import formats
from pipeline.report.formats import listed, signed
from pipeline.verdict import Verdict, worst_first
from study.experiments.ablation.grammar import MARGIN
from study.experiments.ablation.results import Effect, Result, Results, shared

MOST = 4  # things named in one sentence
Rule = Callable[[Results], Iterator[Verdict]]


def judge(results: Results) -> list[Verdict]:
    """All verdicts that apply, worst first."""
    rules: Sequence[Rule] = (one_seed, failed, missing, other_images, hypotheses, most, interaction, leader, flat)
    return worst_first(verdict for rule in rules for verdict in rule(results))


def between(part: PairedDifference) -> str:
    """The interval in points: ``+0.10 to +0.94``."""
    return formats.span(part.low, part.high, signed)


def difference(part: PairedDifference) -> str:
    """``+0.52 points (+0.10 to +0.94, paired over 5 seeds)``"""
    return f"{signed(part.value)} points ({between(part)}, paired over {part.n} seeds)"


def against_base(result: Result) -> str:
    """A row's difference to the base, with its corrected p-value; as far as there is one."""
    if result.difference is None or result.p_holm is None:
        return "not compared" if result.gap is None else f"{signed(result.gap)} points on the one seed that both have"
    return f"{difference(result.difference)}, Holm-corrected {p_equals(result.p_holm)}"


def hypotheses(results: Results) -> Iterator[Verdict]:
    """Each claim: good where it is supported, a warning where it is refuted, info where the seeds were too few to tell.

    Supported and refuted need p < 0.05, corrected for all claims (:mod:`study.experiments.ablation.claims`).
    """
    for hypothesis in results.hypotheses:
        told = hypothesis.judgement
        if told is None:
            continue
        evidence = told.evidence
        if told.p_holm is not None and told.verdict == "undecided":
            evidence += f" Holm-corrected {p_equals(told.p_holm)}."
        if told.verdict == "undecided":
            remedy = told.outcome.partition(": ")[2]
            yield Verdict("info", f"Undecided at n = {told.n}: {told.claim.text}", evidence, formats.sentence(remedy))
        elif told.verdict == "refuted":
            yield Verdict("warn", f"Refuted: {told.claim.text}", evidence)
        else:
            yield Verdict("good", f"Supported: {told.claim.text}", evidence)


def most(results: Results) -> Iterator[Verdict]:
    """Info on the factor with the largest distance between its best and its worst level, among those that matter at all.

    A factor matters where a level differs from the base (Holm-corrected p < 0.05 among all rows). The distances of the first two
    factors are compared seed by seed: where the 95 % interval of what separates them holds 0, which is larger is not known.
    """
    if results.seeds < 2 or not results.ranked:
        return
    mattering = [effect for effect in results.ranked if effect.matters]
    distances = "; ".join(_distance(effect) for effect in results.ranked[:MOST])
    evidence = f"Points between the best and the worst level, picked after the fact, which flatters them: {distances}."
    if not mattering:
        least = min(result.difference.n for result in results.rows.values() if result.difference is not None)
        yield Verdict("info", f"No factor is shown to matter: no difference to the base found at n = {least}", evidence)
        return
    first = mattering[0]
    rivals = [effect for effect in results.ranked if effect is not first]
    apart = _apart(first, rivals[0], 1 / results.images) if rivals else None
    if not rivals:
        yield Verdict("info", f"{first.factor.name} matters", evidence)
    elif apart is not None and apart.low > 0:
        yield Verdict("info", f"{first.factor.name} matters most", evidence)
    else:
        tail = "" if apart is None else f" The first two distances differ by {difference(apart)}."
        title = f"{first.factor.name} matters; whether more than {rivals[0].factor.name} is not known at n = {results.seeds}"
        yield Verdict("info", title, evidence + tail)


def _distance(effect: Effect) -> str:
    assert effect.spread is not None
    assert effect.best is not None
    assert effect.worst is not None
    return f"{effect.factor.name} {100 * effect.spread.value:.2f} ({effect.best.label} over {effect.worst.label})"


def _apart(first: Effect, second: Effect, resolution: float) -> PairedDifference | None:
    """How much larger one factor's distance is than another's, seed by seed; None where they share fewer than two seeds."""

    def distances(effect: Effect) -> list[float | None]:
        assert effect.best is not None
        assert effect.worst is not None
        pairs = zip(effect.of(effect.best).values, effect.of(effect.worst).values, strict=True)
        return [None if high is None or low is None else high - low for high, low in pairs]

    one, other = shared(distances(first), distances(second))
    return paired_difference(one, other, resolution) if len(one) > 1 else None


def flat(results: Results) -> Iterator[Verdict]:
    """Info on factors shown to change little: the whole 95 % interval of every level's difference lies within ±0.5 points."""
    names = [effect.factor.name for effect in results.effects if effect.flat]
    if not names:
        return
    levels = [result for effect in results.effects if effect.flat for result in effect.others]
    low = min(result.difference.low for result in levels if result.difference)
    high = max(result.difference.high for result in levels if result.difference)
    verb = "changes" if len(names) == 1 else "change"
    evidence = (
        f"All 95 % intervals of their differences to the base lie between {signed(low)} and {signed(high)} points. "
        "That holds for the levels that were tried."
    )
    yield Verdict("info", f"{listed(names, MOST)} {verb} accuracy by less than {100 * MARGIN:g} points", evidence)


def leader(results: Results) -> Iterator[Verdict]:
    """Whether any row is better than the base: good where one is, by more than chance allows among so many rows.

    Where several are, the best of them is compared with the next: unless its interval leaves out 0, no single one leads. The best
    of several means is picked partly for its luck.
    """
    others = [result for result in results.rows.values() if result.difference is not None]
    if not others or results.base.accuracy is None:
        return
    better = sorted((result for result in others if result.told_apart and (result.gap or 0) > 0), key=_mean)
    if not better:
        top = max(others, key=lambda result: result.gap or 0.0)
        assert top.difference is not None
        evidence = f"Highest against it is {top.row.title}: {against_base(top)}."
        title = f"No row is better than the base: no difference found at n = {top.difference.n}"
        yield Verdict("info", title, evidence)
        return
    evidence = f"{better[0].row.title}: {against_base(better[0])}."
    if len(better) > 1:
        first, second = shared(better[0].values, better[1].values)
        between = paired_difference(first, second, 1 / results.images) if len(first) > 1 else None
        if between is None or between.low <= 0:
            names = listed([result.row.title for result in better], MOST)
            found = "" if between is None else f" The first two differ by {difference(between)}."
            tail = f" Between the first two no difference was found at n = {len(first)}.{found}"
            yield Verdict("good", f"Better than the base: {names}", evidence + tail, "Take the cheapest of them.")
            return
        evidence += f" Ahead of {better[1].row.title} by {difference(between)}."
    remedy = "It was picked among several by these validation images, which flatters it a little; a fresh seed will tell."
    yield Verdict("good", f"{better[0].row.title} is better than the base", evidence, remedy)


def _mean(result: Result) -> float:
    """For sorting, the best first."""
    return -result.accuracy.value if result.accuracy else 0.0


def interaction(results: Results) -> Iterator[Verdict]:
    """Info on whether two crossed factors only add up; a warning where they do not, as then one factor at a time misleads."""
    crossed = results.crossing
    if crossed is None:
        return
    names = f"{crossed.first.name} and {crossed.second.name}"
    told = crossed.interaction
    if told is None:
        yield Verdict(
            "info", f"Whether {names} interact is not known", "Fewer than two seeds finished in every cell of the grid."
        )
        return
    if told.value is not None and told.low is not None and told.high is not None:
        found = f"Difference of differences {signed(told.value)} points ({formats.span(told.low, told.high, signed)})"
    else:
        found = f"F({told.degrees[0]}, {told.degrees[1]}) = {min(told.statistic, 9999):.3g}"
    evidence = (
        f"{found}, {p_equals(told.p_value)}, over {told.n} seeds; a cell lies up to {100 * told.largest:.2f} points from what "
        "the two add up to."
    )
    if told.p_value < ALPHA:
        remedy = "Read the grid, not the single rows: what one does depends on the other."
        yield Verdict("warn", f"{names} interact", evidence, remedy)
    else:
        yield Verdict("info", f"No interaction of {names} found at n = {told.n}", evidence)


def one_seed(results: Results) -> Iterator[Verdict]:
    """Warns where there is but one seed: what another would change is unknown, so nothing can be told apart."""
    if results.seeds == 1:
        evidence = (
            "Intervals are those of single trainings over the validation images; there are no differences with an interval."
        )
        yield Verdict("warn", "One seed tells no difference from luck", evidence, "Raise seeds to 5 and run it again.")


def failed(results: Results) -> Iterator[Verdict]:
    """Warns where trainings failed: a mean over those that did not flatters a setting that sometimes fails."""
    rows = [result for result in results.rows.values() if result.failed]
    if not rows:
        return
    number = sum(len(result.failed) for result in rows)
    named = "; ".join(f"{result.row.title}: {len(result.failed)} of {results.seeds}" for result in rows[:MOST])
    more = f"; and {len(rows) - MOST} more rows" if len(rows) > MOST else ""
    reason = rows[0].failed[0].reason or rows[0].failed[0].cause or "no reason given"
    evidence = f"{named}{more}. First reason: {reason}. Their rows are judged by the other seeds, which flatters them."
    yield Verdict("warn", f"{formats.plural(number, 'training')} failed", evidence)


def missing(results: Results) -> Iterator[Verdict]:
    """Info while trainings are still to come."""
    number = sum(result.missing for result in results.rows.values())
    if number:
        of = formats.plural(results.seeds * len(results.rows), "training")
        evidence = "All below is as of now; rows are compared on the seeds that both have."
        yield Verdict(
            "info", f"{number} of {of} {'has' if number == 1 else 'have'} not ended", evidence, "Run it again: it goes on."
        )


def other_images(results: Results) -> Iterator[Verdict]:
    """Info on rows that change the data: their accuracy is of other validation images, so the seeds' pairs share less."""
    base = results.ablation.base.data
    names = [result.row.title for result in results.rows.values() if result.row.params.data != base]
    if names:
        evidence = (
            f"{listed(names, MOST)}: their data section differs from the base's. The difference may lie in the images that "
            "accuracy is measured on."
        )
        yield Verdict("info", "Some rows are judged on other validation images", evidence)

"""What is wrong in the sources: claims held against printed figures and our own trainings, and findings of the recipe."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from statistics import fmean, median

import numpy as np
import pandas as pd

from pipeline.evaluation import course
from pipeline.evaluation.statistics import ALPHA, Proportion, difference, holm, p_equals, paired_difference
from pipeline.models.plan import Plan, plan
from pipeline.report import formats
from pipeline.report.formats import percent, signed
from pipeline.verdict import Verdict, worst_first
from study.experiments.reproduction.figure import title as title_of
from study.experiments.reproduction.figure import written
from study.experiments.reproduction.judge import RecipeResult, RowResult
from study.experiments.reproduction.measure import CLASSES, SHAPE, TEST
from study.experiments.reproduction.recipe import Claim, RecipeRow

TESTED = "test_accuracy"


def findings(results: Sequence[RecipeResult]) -> list[Verdict]:
    """Return all findings on the sources, worst first; within a level in the order of the sources."""
    verdicts = [verdict for result in results for verdict in _of_source(result)]
    counts = parameter_counts(results)
    return worst_first([*verdicts, *([counts] if counts else [])])


def _of_source(result: RecipeResult) -> Iterator[Verdict]:
    tested = [claim for claim in result.recipe.claims if claim.figure == "test_accuracy" and len(claim.rows) == 2]
    p_values = dict(zip(tested, holm([_printed_difference(result, claim)[3] for claim in tested]), strict=True))
    claims = [claimed(result, claim, p_values.get(claim)) for claim in result.recipe.claims]
    yield from (verdict for verdict in claims if verdict)
    for finding in result.recipe.findings:
        evidence = finding.evidence + (OURS[finding.ours](result) if finding.ours else "")
        yield Verdict(finding.level, f"{result.recipe.source}: {finding.title}", evidence, finding.remedy)
    yield from recounted(result)


def claimed(result: RecipeResult, claim: Claim, p_corrected: float | None) -> Verdict | None:
    """Judge one claim; None where there is nothing to judge it by, or where another rule speaks of it."""
    rows = [result.by_name[name] for name in claim.rows]
    if claim.figure == "parameters":
        return geometry(result, claim, rows)
    if claim.figure.startswith("before_training_"):
        return None  # a finding of the recipe says it of all rows together
    if len(rows) == 1:
        return learns(result, claim, rows[0])
    if rows[0].row.same_configuration(rows[1].row):
        return two_figures(result, claim, rows)
    return effect(result, claim, rows, p_corrected) if p_corrected is not None else None


def network(row: RecipeRow) -> Plan:
    """Plan the network that a row describes, on the images that it is trained on."""
    return plan(row.params.model, SHAPE, len(row.params.data.merge or range(CLASSES)))


def sizes(row: RecipeRow) -> str:
    """Write how the image shrinks through the layers, and how many values reach the last one: ``28→22→20, 144 features``."""
    layers = network(row).layers
    heights = [layer.shape[1] for layer in layers if layer.kind in ("conv", "max", "avg")]
    features = next(layer.args["in_features"] for layer in layers if layer.name == "head")
    return f"{'→'.join(map(str, (SHAPE[1], *heights)))}, {features} features"


def geometry(result: RecipeResult, claim: Claim, rows: Sequence[RowResult]) -> Verdict | None:
    """Judge whether the network of the text, the claim's last row, has the parameters that the source prints for it."""
    printed = next((row.row.parameters for row in rows if row.row.parameters is not None), None)
    if printed is None:
        return None
    counts = {row.row.title: network(row.row).parameters for row in rows}
    matching = [title for title, count in counts.items() if count == printed]
    named = "; ".join(f"{row.row.title} ({sizes(row.row)}), {counts[row.row.title]:,}" for row in rows)
    evidence = f"Printed: {printed:,} parameters. Counted from the layers: {named}. " + (
        f"The printed count is that of {' and '.join(matching)}." if matching else "The printed count is that of neither."
    )
    evidence += _scores(rows, "test_accuracy")
    if rows[-1].row.title in matching:
        return Verdict("good", f"{result.recipe.source}: the text and its parameter count agree", evidence)
    title = f"{result.recipe.source}: the network of the text (“{claim.text}”) does not have the parameters that are printed"
    remedy = "Its figures stand beside the network whose count matches; the other has rows of its own."
    return Verdict("warn", title, evidence, remedy if matching else "")


def _scores(rows: Sequence[RowResult], figure: str) -> str:
    """Set our networks beside the printed figure: `` Printed test accuracy: 98.96 %. Ours: …``."""
    printed = next((row.row.reported[figure] for row in rows if figure in row.row.reported), None)
    mine = {row.row.title: list(row.by_seed(figure).values()) for row in rows if not row.cut}
    named = [f"{title} {percent(fmean(shares))} (n = {len(shares)})" for title, shares in mine.items() if shares]
    return f" Printed {title_of(figure)}: {printed.text}. Ours: {'; '.join(named)}." if printed and named else ""


def effect(result: RecipeResult, claim: Claim, rows: Sequence[RowResult], p_corrected: float) -> Verdict:
    """Hold a claimed difference of two printed test figures against chance, and against ours on the same seeds."""
    value, low, high, p_value = _printed_difference(result, claim)
    before, after = (row.row.reported[claim.figure].text for row in rows)
    chance = p_corrected >= ALPHA
    several = p_corrected != p_value
    evidence = (
        f"Printed: {before} and {after}, one training each. The difference is {signed(value)} points "
        f"({formats.span(low, high, signed)}, Newcombe's interval for {TEST:,} test images each), "
        f"{p_equals(p_value)} by Fisher's exact test"
        + (f", {p_equals(p_corrected)} corrected for the claims of this source (Holm)" if several else "")
        + f". What another seed changes comes on top. {_ours_paired(rows, claim.figure)}"
    )
    word = "which chance alone may explain" if chance else "small, but more than the sample of images explains"
    title = f"{result.recipe.source}: {claim.text}: it is {signed(value).lstrip('+')} points, {word}"
    remedy = "Train each on several seeds and give the interval of the paired difference."
    return Verdict("warn" if chance else "info", title, evidence, remedy)


def _printed_difference(result: RecipeResult, claim: Claim) -> tuple[float, float, float, float]:
    """Return second minus first, its 95 % interval and Fisher's p, of shares of the test images."""
    first, second = (
        Proportion.of(round(result.by_name[name].row.reported[claim.figure].value * TEST), TEST) for name in claim.rows
    )
    delta = difference(second, first)
    return delta.value, delta.low, delta.high, delta.p_value


def _ours_paired(rows: Sequence[RowResult], figure: str) -> str:
    """Give our own difference, second minus first, on the seeds that both rows have."""
    first, second = (row.by_seed(figure) for row in rows)
    seeds = sorted(first.keys() & second.keys())
    if any(row.cut for row in rows) or not seeds:
        return "Ours are not trained in full, so they cannot say."
    if len(seeds) == 1:
        return f"Ours, one seed: {signed(second[seeds[0]] - first[seeds[0]])} points."
    delta = paired_difference([second[seed] for seed in seeds], [first[seed] for seed in seeds], 1 / TEST)
    return (
        f"Ours, paired over {len(seeds)} seeds: {signed(delta.value)} points ({formats.span(delta.low, delta.high, signed)}), "
        f"{p_equals(delta.p_value)}."
    )


def learns(result: RecipeResult, claim: Claim, row: RowResult) -> Verdict | None:
    """Judge whether a network that is said not to learn does so here; the rule is that of a single training."""
    if not row.complete or result.history is None or row.cut:
        return None
    counts = result.history.lineage.dataset.counts["train"]
    stuck = [run for run in row.complete if course.learned_nothing(pd.DataFrame(run.epochs), counts)]
    reached = [max(epoch.train_accuracy for epoch in run.epochs) for run in row.complete]
    evidence = (
        f"{row.row.title}: {len(stuck)} of {formats.plural(len(row.complete), 'training')} learned nothing; best train accuracy "
        f"{', '.join(percent(share) for share in reached)}, always answering the largest class gives "
        f"{percent(max(counts) / sum(counts))}."
    )
    if len(stuck) == len(row.complete):
        return Verdict("good", f"{result.recipe.source}: {claim.text}: so it is here", evidence)
    return Verdict("warn", f"{result.recipe.source}: {claim.text}: not so here", evidence)


def two_figures(result: RecipeResult, claim: Claim, rows: Sequence[RowResult]) -> Verdict | None:
    """Point out one configuration that is printed with two figures: what is described cannot be all that differs."""
    first, second = (row.row.reported.get(claim.figure) for row in rows)
    if first is None or second is None or first.value == second.value:
        return None
    mine = rows[0].by_seed(claim.figure) | rows[1].by_seed(claim.figure)
    named = ", ".join(written(claim.figure, first, share) for share in mine.values()) or "none yet"
    evidence = (
        f"{rows[0].row.title} and {rows[1].row.title} are the same settings as far as the source describes them, and print "
        f"{first.text} and {second.text}. Ours with these settings: {named}."
    )
    title = f"{result.recipe.source}: one configuration has two figures, {first.text} and {second.text}"
    return Verdict("warn", title, evidence, "Print all settings beside a figure.")


def parameter_counts(results: Sequence[RecipeResult]) -> Verdict | None:
    """Judge whether our networks have the parameters that are printed, of all rows that print them and are trained here."""
    rows = [(result.recipe.source, row.row) for result in results for row in result.rows]
    known = [(source, row) for source, row in rows if row.parameters is not None and row.later is None]
    if not known:
        return None
    wrong = [(source, row, count) for source, row in known if (count := network(row).parameters) != row.parameters]
    if wrong:
        named = "; ".join(f"{source} {row.name}: printed {row.parameters:,}, ours {count:,}" for source, row, count in wrong)
        return Verdict("bad", "Networks that do not have the parameters printed", f"{named}.", "Mend the recipe.")
    named = ", ".join(f"{source} {row.name} {row.parameters:,}" for source, row in known)
    return Verdict("good", f"All {len(known)} printed parameter counts are met exactly", f"{named}.")


def _untrained(result: RecipeResult) -> str:
    """Give the range of our own untrained networks' test accuracies."""
    shares = [share for row in result.rows if not row.cut for share in row.by_seed("before_training_test_accuracy").values()]
    if not shares:
        return ""
    return f" Ours, of {len(shares)} untrained networks: {100 * min(shares):.1f} to {100 * max(shares):.1f} %."


def _differences(result: RecipeResult) -> str:
    """Give our own paired differences from the first row, and which of them chance does not explain (Holm)."""
    base, *others = (row for row in result.rows if TESTED in row.row.reported)
    start, gaps = base.by_seed(TESTED), {}
    for row in others:
        values = {} if row.cut else row.by_seed(TESTED)
        seeds = sorted(values.keys() & start.keys())
        if len(seeds) > 1 and not row.row.same_configuration(base.row):
            gaps[row.row.title] = [values[seed] - start[seed] for seed in seeds]
    if not gaps:
        return ""
    tested = {title: paired_difference(apart, [0.0] * len(apart), 1 / TEST) for title, apart in gaps.items()}
    corrected = zip(tested, holm([delta.p_value for delta in tested.values()]), strict=True)
    beyond = [f"{title} {signed(tested[title].value)}" for title, p_value in corrected if p_value < ALPHA]
    means = [delta.value for delta in tested.values()]
    return (
        f" Ours, paired over {max(map(len, gaps.values()))} seeds, lie between {signed(min(means))} and {signed(max(means))}; "
        f"beyond chance (Holm): {', '.join(beyond) or 'none'}."
    )


OURS: Mapping[str, Callable[[RecipeResult], str]] = {"untrained": _untrained, "differences": _differences}


def recounted(result: RecipeResult) -> Iterator[Verdict]:
    """Set our own test accuracies beside what they become if the classes that the source lost are counted as wrong."""
    lost = list(result.recipe.failure.classes) if result.recipe.failure else []
    rows = [row for row in result.rows if {TESTED, "validation_accuracy"} <= row.row.reported.keys()]
    tests = [(run.test, row.row.reported[TESTED].value) for row in rows for run in row.complete if run.test]
    if not lost or not tests or any(row.cut for row in rows):
        return
    whole = [test.accuracy for test, _ in tests]
    spoilt = [test.accuracy - float(np.diag(test.confusion)[lost].sum()) / test.n for test, _ in tests]
    apart = [ours - printed for ours, (_, printed) in zip(spoilt, tests, strict=True)]
    evidence = (
        f"Of {len(whole)} trainings of these rows our test accuracy is {percent(min(whole))} to {percent(max(whole))}, median "
        f"{percent(median(whole))}. With classes {', '.join(map(str, lost))} counted as wrong it would be "
        f"{percent(median(spoilt))}; printed is {percent(median(printed for _, printed in tests))} (medians). Ours so spoilt "
        f"minus printed: median {signed(median(apart))} points."
    )
    title = f"{result.recipe.source}: its networks are better than its test column, which ours on the whole test set show"
    yield Verdict("info", title, evidence)

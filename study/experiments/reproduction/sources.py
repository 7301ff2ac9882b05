"""What is wrong in the sources, found by computing: each from the recipe's printed figures and our own trainings."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from statistics import fmean

import pandas as pd

from pipeline.evaluation import course
from pipeline.evaluation.statistics import ALPHA, Proportion, difference, holm, p_equals, paired_difference
from pipeline.models.plan import plan
from pipeline.report import formats
from pipeline.verdict import Verdict
from study.experiments.reproduction import before_after, broken_column, words
from study.experiments.reproduction.judge import RecipeResult, RowResult
from study.experiments.reproduction.mnist import SHAPE, TEST, n_classes
from study.experiments.reproduction.recipe import Claim, RecipeRow
from study.experiments.reproduction.words import points, shown, trainings

MOST_NAMED = 4


def findings(results: Sequence[RecipeResult]) -> list[Verdict]:
    """All that can be said of the sources, worst first; within a level in the order of the sources."""
    found = [verdict for result in results for verdict in _of_source(result)]
    counts = parameter_counts(results)
    found += [counts] if counts else []
    return sorted(found, key=lambda verdict: ("bad", "warn", "good", "info").index(verdict.level))


def _of_source(result: RecipeResult) -> Iterator[Verdict]:
    tested = [claim for claim in result.recipe.claims if claim.figure == "test_accuracy" and len(claim.rows) == 2]
    p_values = dict(zip(tested, holm([_printed_difference(result, claim)[3] for claim in tested]), strict=True))
    rules = [
        *(claimed(result, claim, p_values.get(claim)) for claim in result.recipe.claims),
        before_after.before_training(result),
        before_after.rounded(result),
        *broken_column.findings(result),
    ]
    yield from (verdict for verdict in rules if verdict)


def claimed(result: RecipeResult, claim: Claim, p_corrected: float | None) -> Verdict | None:
    """Judge one claim; None where there is nothing to judge it by, or where another rule speaks of it."""
    rows = [result.by_name[name] for name in claim.rows]
    if claim.figure == "parameters":
        return geometry(result, claim, rows)
    if claim.figure.startswith("before_training_"):
        return None  # the rule before_training says it of all rows together
    if len(rows) == 1:
        return learns(result, claim, rows[0])
    if rows[0].row.same_configuration(rows[1].row):
        return two_figures(result, claim, rows)
    return effect(result, claim, rows, p_corrected) if p_corrected is not None else None


def parameters(row: RecipeRow) -> int:
    """Of the network that a row describes, on the images that it is trained on."""
    return plan(row.params.model, SHAPE, n_classes(row.params.data.merge)).parameters


def sizes(row: RecipeRow) -> str:
    """How the image shrinks through the layers, and how many values reach the last one: ``28→22→20, 144 features``."""
    layers = plan(row.params.model, SHAPE, n_classes(row.params.data.merge)).layers
    heights = [layer.shape[1] for layer in layers if layer.kind in ("conv", "max", "avg")]
    features = next(layer.args["in_features"] for layer in layers if layer.name == "head")
    return f"{'→'.join(map(str, (SHAPE[1], *heights)))}, {features} features"


def geometry(result: RecipeResult, claim: Claim, rows: Sequence[RowResult]) -> Verdict | None:
    """Whether the network of the text, the claim's last row, has the parameters that the source prints for it."""
    printed = next((found.row.parameters for found in rows if found.row.parameters is not None), None)
    if printed is None:
        return None
    counts = {found.row.title: parameters(found.row) for found in rows}
    matching = [title for title, count in counts.items() if count == printed]
    told = "; ".join(f"{found.row.title} ({sizes(found.row)}), {counts[found.row.title]:,}" for found in rows)
    evidence = f"Printed: {printed:,} parameters. Counted from the layers: {told}. " + (
        f"The printed count is that of {' and '.join(matching)}." if matching else "The printed count is that of neither."
    )
    evidence += _scores(rows, "test_accuracy")
    if rows[-1].row.title in matching:
        return Verdict("good", f"{result.recipe.source}: the text and its parameter count agree", evidence)
    title = f"{result.recipe.source}: the network of the text (“{claim.text}”) does not have the parameters that are printed"
    remedy = "Its figures stand beside the network whose count matches; the other has rows of its own."
    return Verdict("warn", title, evidence, remedy if matching else "")


def _scores(rows: Sequence[RowResult], figure: str) -> str:
    """Which of the networks comes near to what is printed: `` Printed test accuracy: 98.96 %. Ours: …``."""
    printed = next((found.row.reported[figure] for found in rows if figure in found.row.reported), None)
    mine = {found.row.title: list(found.by_seed(figure).values()) for found in rows if not found.cut}
    told = [f"{title} {formats.percent(fmean(shares))} (n = {len(shares)})" for title, shares in mine.items() if shares]
    return f" Printed {words.name(figure)}: {printed.text}. Ours: {'; '.join(told)}." if printed and told else ""


def effect(result: RecipeResult, claim: Claim, rows: Sequence[RowResult], p_corrected: float) -> Verdict:
    """How a claimed difference of two printed test figures stands to chance, and what ours is on the same seeds."""
    value, low, high, p_value = _printed_difference(result, claim)
    before, after = (found.row.reported[claim.figure].text for found in rows)
    chance = p_corrected >= ALPHA
    several = p_corrected != p_value
    evidence = (
        f"Printed: {before} and {after}, one training each. The difference is {points(value)} points ({points(low)} to "
        f"{points(high)}, Newcombe's interval for {TEST:,} test images each), {p_equals(p_value)} by Fisher's exact test"
        + (f", {p_equals(p_corrected)} corrected for the claims of this source (Holm)" if several else "")
        + f". What another seed changes comes on top. {_ours_paired(rows, claim.figure)}"
    )
    word = "which chance alone may explain" if chance else "small, but more than the sample of images explains"
    title = f"{result.recipe.source}: {claim.text}: it is {points(value).lstrip('+')} points, {word}"
    remedy = "Train each on several seeds and give the interval of the paired difference."
    return Verdict("warn" if chance else "info", title, evidence, remedy)


def _printed_difference(result: RecipeResult, claim: Claim) -> tuple[float, float, float, float]:
    """Second minus first, its 95 % interval and Fisher's p, of shares of the test images."""
    first, second = (
        Proportion.of(round(result.by_name[name].row.reported[claim.figure].value * TEST), TEST) for name in claim.rows
    )
    delta = difference(second, first)
    return delta.value, delta.low, delta.high, delta.p_value


def _ours_paired(rows: Sequence[RowResult], figure: str) -> str:
    """Our own difference, second minus first, on the seeds that both rows have."""
    first, second = (found.by_seed(figure) for found in rows)
    seeds = sorted(first.keys() & second.keys())
    if any(found.cut for found in rows) or not seeds:
        return "Ours are not trained in full, so they cannot say."
    if len(seeds) == 1:
        return f"Ours, one seed: {points(second[seeds[0]] - first[seeds[0]])} points."
    delta = paired_difference([second[seed] for seed in seeds], [first[seed] for seed in seeds], 1 / TEST)
    return (
        f"Ours, paired over {len(seeds)} seeds: {points(delta.value)} points ({points(delta.low)} to {points(delta.high)}), "
        f"{p_equals(delta.p_value)}."
    )


def learns(result: RecipeResult, claim: Claim, found: RowResult) -> Verdict | None:
    """Whether a network that is said not to learn does so here; the rule is that of a single training."""
    if not found.complete or result.history is None or found.cut:
        return None
    counts = result.history.lineage.dataset.counts["train"]
    stuck = [run for run in found.complete if course.learned_nothing(pd.DataFrame(run.epochs), counts)]
    reached = [max(epoch.train_accuracy for epoch in run.epochs) for run in found.complete]
    evidence = (
        f"{found.row.title}: {len(stuck)} of {trainings(len(found.complete))} learned nothing; best train accuracy "
        f"{', '.join(formats.percent(share) for share in reached)}, always answering the largest class gives "
        f"{formats.percent(max(counts) / sum(counts))}."
    )
    if len(stuck) == len(found.complete):
        return Verdict("good", f"{result.recipe.source}: {claim.text}: so it is here", evidence)
    return Verdict("warn", f"{result.recipe.source}: {claim.text}: not so here", evidence)


def two_figures(result: RecipeResult, claim: Claim, rows: Sequence[RowResult]) -> Verdict | None:
    """One configuration that is printed with two figures: what is described cannot be all that differs."""
    first, second = (found.row.reported.get(claim.figure) for found in rows)
    if first is None or second is None or first.value == second.value:
        return None
    mine = rows[0].by_seed(claim.figure) | rows[1].by_seed(claim.figure)
    told = ", ".join(shown(claim.figure, first, share) for share in mine.values()) or "none yet"
    evidence = (
        f"{rows[0].row.title} and {rows[1].row.title} are the same settings as far as the source describes them, and print "
        f"{first.text} and {second.text}. Ours with these settings: {told}."
    )
    title = f"{result.recipe.source}: one configuration has two figures, {first.text} and {second.text}"
    return Verdict("warn", title, evidence, "Print all settings beside a figure.")


def parameter_counts(results: Sequence[RecipeResult]) -> Verdict | None:
    """Whether our networks have the parameters that are printed, of all rows that print them and are trained here."""
    rows = [(result.recipe.source, found.row) for result in results for found in result.rows]
    known = [(source, row) for source, row in rows if row.parameters is not None and row.later is None]
    if not known:
        return None
    wrong = [(source, row, count) for source, row in known if (count := parameters(row)) != row.parameters]
    if wrong:
        told = "; ".join(f"{source} {row.name}: printed {row.parameters:,}, ours {count:,}" for source, row, count in wrong)
        return Verdict("bad", "Networks that do not have the parameters printed", f"{told}.", "Mend the recipe.")
    told = ", ".join(f"{source} {row.name} {row.parameters:,}" for source, row in known)
    return Verdict("good", f"All {len(known)} printed parameter counts are met exactly", f"{told}.")

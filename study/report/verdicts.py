"""Verdicts on what a study found: what won, by how much, and whether it is real."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd

from pipeline.evaluation import course
from pipeline.evaluation.statistics import Proportion, difference
from pipeline.report import formats
from pipeline.report.formats import signed
from pipeline.verdict import Verdict, worst_first
from study.report import search_verdicts
from study.report.facts import Facts
from study.report.findings import Findings
from study.state.history import Run

TOP = 5  # of the best trials: those that over-fitting is looked for in
GAP = 0.02  # of train accuracy over validation accuracy
Rule = Callable[[Findings], Verdict | None]


def judge(findings: Findings) -> list[Verdict]:
    """All verdicts that apply, worst first."""
    rules: Sequence[Rule] = (
        winner, left_out, optimism, tested, noise, over_fitted, rising,
        *search_verdicts.RULES,
    )  # fmt: skip
    return worst_first(verdict for rule in rules if (verdict := rule(findings)))


def winner(findings: Findings) -> Verdict | None:
    """Good where one finalist is told apart from all others; info where several tie; a warning where nothing is confirmed.

    Ties are those of the confirmation: Holm-corrected p of the paired difference to the leader at least 0.05; a finalist that
    could not win, as trainings of it failed, is not counted as beaten. Before it, all
    there is of a configuration is one training, and its Wilson interval over the validation images: trials inside the best one's
    interval are not told apart from it. The interval leaves out what another seed would change, so there are more of them rather
    than fewer.
    """
    facts = findings.facts
    told, best = facts.history.winner, facts.best
    if told is None:
        return _leader(facts, best) if best else None
    items = told.finalists
    text = formats.sentence(told.summary)
    others = [item for item in items if item.trial != told.trial and not told.out(item)]
    if len(items) == 1:
        return Verdict("info", f"Trial {told.trial} was the only finalist", text, "Raise study.finalists.top to compare.")
    if not others:
        return Verdict("info", f"No other finalist could be compared with trial {told.trial}", text, "See the failures below.")
    if len(told.ties) > 1:
        evidence = f"{text} {_differences(facts)}"
        remedy = "Take the winner for its size; to tell them apart raise study.finalists.seeds."
        return Verdict("info", f"{len(told.ties)} finalists cannot be told apart; the smallest was chosen", evidence, remedy)
    which = "every other finalist" + ("" if len(others) == len(items) - 1 else " that could win")
    return Verdict("good", f"Trial {told.trial} is better than {which}", f"{text} {_differences(facts)}")


def left_out(findings: Findings) -> Verdict | None:
    """Warns where a finalist that was excluded for trainings that failed has a better mean than the winner over the rest."""
    facts, told = findings.facts, findings.facts.history.winner
    if told is None:
        return None
    quality, images = facts.quality, facts.images
    won = told.own
    assert won is not None
    better = [item for item in told.finalists if told.out(item) and quality.cost(item.mean) < quality.cost(won.mean)]
    if not better:
        return None
    means = ", ".join(
        f"trial {item.trial} {quality.text(item.mean, images)} over {formats.plural(item.n, 'seed')} "
        f"({item.failures} of {len(item.values)} failed)"
        for item in better
    )
    evidence = f"Mean of the winner, trial {won.trial}: {quality.text(won.mean, images)}; {means}."
    remedy = "See the failures below; where it was the machine and not the configuration, run the study again (--new)."
    return Verdict("warn", "A finalist left out for failed trainings did better in the others than the winner", evidence, remedy)


def _leader(facts: Facts, best: Run) -> Verdict:
    accuracies = [run.accuracy or 0.0 for run in facts.complete if run.group != best.group]
    share = facts.proportion(best.accuracy or 0.0)
    alike = sum(value >= share.low for value in accuracies)
    evidence = f"Validation accuracy {share}."
    if accuracies:
        evidence += f" Of {len(accuracies)} other complete trials {alike} lie inside that interval."
    if not facts.history.spec.study.finalists.top:
        remedy = "Set study.finalists.top and run the study again: the best are then trained on fresh seeds."
    else:
        remedy = "" if facts.finished else f"Finish the study: study run --name {facts.history.spec.name}"
    title = f"Trial {best.trial} leads, on one training that nothing has confirmed"
    return Verdict("warn" if facts.finished else "info", title, evidence, remedy)


def _differences(facts: Facts) -> str:
    """The distance to the leader, with its interval: of the winner, or where it leads itself of the nearest to it."""
    told = facts.history.winner
    assert told is not None
    apart = [(item, item.difference) for item in told.finalists if item.difference and item.p_holm is not None]
    won = [pair for pair in apart if pair[0].trial == told.trial]
    if not apart:
        return ""
    shown, gap = won[0] if won else min(apart, key=lambda pair: abs(pair[1].value))
    value, low, high = (facts.quality.signed(one) for one in (gap.value, gap.low, gap.high))
    unit = " points" if facts.quality.share else ""
    what = "The winner's distance to" if won else f"Nearest is trial {shown.trial} to"
    return (
        f"{what} the leader, trial {told.leader}: {value}{unit} ({low} to {high}, paired over {shown.n} seeds,"
        f" Holm-corrected p = {shown.p_holm:.2g})."
    )


def optimism(findings: Findings) -> Verdict | None:
    """How far the search's best value was luck: it minus the mean of the same configuration over fresh seeds.

    The best of many noisy values is picked partly for its noise. A warning where the promised value lies above the 95 % interval
    of that mean and at least one validation image above the mean: then the single best trial must not be quoted. Good otherwise.
    """
    facts, told = findings.facts, findings.facts.history.winner
    if told is None:
        return None
    quality = facts.quality
    known = [item for item in told.finalists if item.optimism is not None and item.low is not None]
    if not known:
        return None
    top = min(known, key=lambda item: quality.cost(item.search_value))
    edge = top.high if quality.more else top.low
    high = min(top.high or 0.0, 1.0) if quality.share else top.high
    evidence = (
        f"The search's best value was {quality.text(top.search_value, facts.images)} (trial {top.trial}); over "
        f"{top.n} fresh seeds the same configuration has {quality.text(top.mean, facts.images)} on average "
        f"({quality.text(top.low, facts.images)} to {quality.text(high, facts.images)}). "
        f"Mean optimism of all finalists {quality.points(told.mean_optimism or 0.0)}."
    )
    if quality.cost(top.search_value) < quality.cost(edge) and (top.optimism or 0.0) > quality.resolution(facts.images):
        remedy = "Quote the mean over fresh seeds, not the best trial."
        return Verdict("warn", "The search's best value was partly luck", evidence, remedy)
    return Verdict("good", "The search's best value holds on fresh seeds", evidence)


def tested(findings: Findings) -> Verdict | None:
    """Warns where test was opened more than once for these data: a number that was chosen by is no longer fresh.

    Otherwise compares the winner's first training on test with the same on validation: a gap whose 95 % interval leaves out 0
    (Newcombe's, independent images) and is a loss is a warning, as the search may have fitted the validation images.
    """
    facts, told = findings.facts, findings.facts.tested
    run = facts.history.runs.get(told.runs[0]) if told else None
    if told is None or run is None or run.accuracy is None:
        return None
    first = told.first
    test, validation = Proportion.of(first.successes, first.n), facts.proportion(run.accuracy)
    gap = difference(test, validation)
    evidence = (
        f"Run {run.key}: test {formats.percent(test.value)} (n = {test.n:,}), validation {formats.percent(validation.value)} "
        f"(n = {validation.n:,}); difference {signed(gap.value)} points ({formats.span(gap.low, gap.high, signed)})."
    )
    if gap.high < 0:
        remedy = "Hold out more validation images (data.validation), or search with fewer trials."
        return Verdict("warn", "Test is worse than validation promised", evidence, remedy)
    if told.openings > 1:
        evidence += f" The test images of these data have been opened {told.openings} times."
        return Verdict("info", "Test agrees with validation, but was read before", evidence, "Do not choose by test results.")
    return Verdict("good", "Test agrees with validation", evidence)


def noise(findings: Findings) -> Verdict | None:
    """Sets the lead of the best configuration in the search against what another seed changes.

    The spread of one training between seeds is pooled over configurations that were trained completely at least twice, finalists
    included. Two trainings of equal configurations differ by more than its double in one case of six (2 / sqrt 2 deviations): a
    lead below that is info, as such a lead is no reason to prefer one.
    """
    facts = findings.facts
    families: dict[str, list[float]] = {}
    for run in (*facts.complete, *facts.history.finals):
        if run.state == "COMPLETE" and (value := facts.quality.value(run)) is not None:
            families.setdefault(f"{run.phase} {run.group}", []).append(value)
    repeated = [np.array(values) for values in families.values() if len(values) > 1]
    groups = [group for group in facts.groups if group.complete]
    if not repeated or len(groups) < 2:
        return None
    freedom = sum(len(values) - 1 for values in repeated)
    spread = float(np.sqrt(sum(((values - values.mean()) ** 2).sum() for values in repeated) / freedom))
    lead = facts.quality.sign * (groups[0].value - groups[1].value)
    if lead >= 2 * spread:
        return None
    first, second = (group.first.trial for group in groups[:2])
    lead_text, spread_text = (facts.quality.points(value).lstrip("+") for value in (lead, spread))
    evidence = (
        f"In the search trial {first} led trial {second} by {lead_text}; another seed moves one training by {spread_text} "
        f"(standard deviation, from {formats.plural(freedom + len(repeated), 'training')} of "
        f"{formats.plural(len(repeated), 'configuration')})."
    )
    return Verdict("info", "The lead in the search is smaller than the noise between seeds", evidence)


def over_fitted(findings: Findings) -> Verdict | None:
    """Warns where the best trials know their training images clearly better than the validation images.

    Median gap of the five best at the epoch kept above 2 points, and of the best one more than chance allows (95 % interval of
    the difference leaves out 0). Dropout and augmentation lower the training accuracy, so a gap in spite of them is real.
    """
    facts = findings.facts
    best = sorted(facts.complete, key=lambda run: facts.quality.cost(facts.quality.value(run)))[:TOP]
    kept = [run.best for run in best if run.best]
    if not kept:
        return None
    median = float(np.median([epoch.train_accuracy - epoch.validation_accuracy for epoch in kept]))
    n = facts.history.lineage.dataset.images["train"]
    n = min(best[0].config.train.epoch_images or n, n)
    train = Proportion.of(round(kept[0].train_accuracy * n), n)
    gap = difference(train, facts.proportion(kept[0].validation_accuracy))
    if median <= GAP or gap.low <= 0:
        return None
    evidence = (
        f"Median train minus validation accuracy of the {len(kept)} best trials: {100 * median:.1f} points; of the best one "
        f"{100 * gap.value:.1f} ({100 * gap.low:.1f} to {100 * gap.high:.1f})."
    )
    remedy = "Search over train.augment, model.dropout and train.weight_decay, or bring more images."
    return Verdict("warn", "The best trials over-fit", evidence, remedy)


def rising(findings: Findings) -> Verdict | None:
    """Passes on what the course of the best trial says of its end: still falling is a warning, its best epoch the last is info.

    The rule is that of a single training, :func:`pipeline.evaluation.course.unfinished`.
    """
    run = findings.facts.best
    if run is None:
        return None
    early = len(run.epochs) < run.config.train.epochs
    told = course.unfinished(pd.DataFrame(run.epochs), {"stopped_early": early, "state": "finished"})
    if told is None:
        return None
    title = "The best trial was still improving" if told.level == "warn" else "The best trial's best epoch is its last"
    return Verdict(told.level, f"{title}", f"Trial {run.trial}: {told.evidence}", "Raise train.epochs in another study (--new).")

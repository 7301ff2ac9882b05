"""Verdicts on a comparison: who is better and whether chance explains it, what differs, and what to be careful about."""

from __future__ import annotations

from collections.abc import Iterator

from pipeline.evaluation.statistics import ALPHA, McNemar, PairedDifference, p_equals, seeds_needed
from pipeline.report import formats
from pipeline.report.formats import signed
from pipeline.verdict import Level, Verdict, worst_first
from study.experiments.comparison.comparison import Comparison
from study.experiments.comparison.contrasts import ClassChange, Contrast
from study.experiments.comparison.sides import Side

MOST_NAMED = 6  # settings, classes
MUCH = 1.1  # times the parameters or the time, from which on it is worth a line
COMMON = "To compare the configurations, give trainings on common seeds: --by seed-group, or rows of study ablate."


def judge(comparison: Comparison) -> list[Verdict]:
    """Return all that apply: what cannot be trusted, the answer for each side, what to be careful about, what differs."""
    answers = [answer(item, comparison) for item in comparison.contrasts]
    careful = [*not_comparable(comparison), *cautions(comparison)]
    changed = [verdict for item in comparison.contrasts for verdict in classes(item)]
    sizes = [verdict for side in comparison.sides[1:] for verdict in size(comparison.first, side)]
    rest = worst_first([*careful, *changed, settings(comparison), *sizes])
    bad = [verdict for verdict in rest if verdict.level == "bad"]
    return [*bad, *answers, *rest[len(bad) :]]


def answer(item: Contrast, comparison: Comparison) -> Verdict:
    """Return good where one side is told apart from the first, info where chance explains the difference.

    Two common seeds or more are judged by the paired t test over them, which covers what another seed would change; one pair by
    McNemar's test, which holds for these two networks alone. Holm-corrected where several sides are compared with the first.
    """
    first, second = item.first.label, item.second.label
    evidence = f"{interval(item)}; {method(item, len(comparison.contrasts))}."
    if item.p_holm < ALPHA:
        better, worse = (second, first) if item.main.value > 0 else (first, second)
        distance = f"{100 * abs(item.main.value):.2f} points"
        return Verdict("good", f"{better} is {distance} better than {worse}: more than chance", evidence, _one_pair(item))
    sure = f"n = {formats.plural(len(item.pairs), 'seed')}" if item.seeds else f"n = {item.pairs[0].test.n:,} images"
    return Verdict("info", f"No difference found between {second} and {first} at {sure}", evidence, _more(item))


def interval(item: Contrast) -> str:
    """Second minus first: ``+0.42 points (95 % interval +0.10 to +0.74)``."""
    main = item.main
    return (
        f"{item.second.label} minus {item.first.label}: {signed(main.value)} points "
        f"(95{formats.NARROW}% interval {between(main)})"
    )


def between(difference: PairedDifference | McNemar | ClassChange) -> str:
    """Write the interval in points: ``+0.10 to +0.74``."""
    return formats.span(difference.low, difference.high, signed)


def method(item: Contrast, compared: int) -> str:
    """Name the test, its p-value and its n."""
    if isinstance(item.main, McNemar):
        pair = item.pairs[0]
        text = (
            f"McNemar {p_equals(item.main.p_value)}, n = {item.main.n:,} images, of which {item.main.only_first} only "
            f"{pair.second.name} has right and {item.main.only_second} only {pair.first.name}"
        )
    else:
        images = item.pairs[0].test.n
        text = f"paired t test over {item.main.n} seeds {p_equals(item.main.p_value)}, {images:,} validation images"
    return text + (f"; {p_equals(item.p_holm)} after Holm's correction for {compared} comparisons" if compared > 1 else "")


def _one_pair(item: Contrast) -> str:
    return "" if item.seeds else f"This is of two networks, and another seed could reverse this. {COMMON}"


def _more(item: Contrast) -> str:
    """Say how to find a difference, if there is one."""
    if item.seeds is None:
        return COMMON
    needed = seeds_needed(item.seeds.value, item.seeds.std)
    if needed is None:
        return ""
    return f"If the difference is what was measured here, {max(needed, item.seeds.n + 1)} seeds would show it in 4 of 5 cases."


def not_comparable(comparison: Comparison) -> Iterator[Verdict]:
    """Warn of each side whose accuracy is not of the same images."""
    for label, why in comparison.left_out.items():
        title = f"{label} is not comparable with {comparison.first.label} image by image"
        evidence = f"{formats.sentence(why)} Settings, curves, cost and size are compared, accuracies are not."
        yield Verdict("warn", title, evidence, "Compare trainings on the same data.")


def cautions(comparison: Comparison) -> Iterator[Verdict]:
    """Warn of what makes a difference mean less than it seems."""
    for name, value in comparison.unlike.items():
        recorded = next(t.accuracy for side in comparison.sides for t in side.trainings if t.name == name)
        evidence = f"Recorded {formats.percent(recorded)}, measured now {formats.percent(value)}, on the same validation images."
        remedy = "Its files were changed, or other code reads them: check out the commit that trained it."
        yield Verdict("bad", f"The weights of {name} do not give the accuracy that was recorded", evidence, remedy)
    for side in comparison.sides:
        if side.lost:
            title = f"{formats.plural(len(side.lost), 'training')} of {side.label} left out"
            yield Verdict("warn", title, f"Not complete, or without weights: {', '.join(side.lost)}.")
        if side.first.state != "COMPLETE":
            done, wanted = len(side.first.epochs), side.first.config.train.epochs
            evidence = f"{done} of {formats.plural(wanted, 'epoch')}; it is compared as it stood then."
            yield Verdict("warn", f"{side.label} was not trained to its end", evidence)
    yield from _flattered(comparison)
    yield from _other_code(comparison)


def _flattered(comparison: Comparison) -> Iterator[Verdict]:
    """Warn where a trial of a search, picked for what it came to there, stands against trainings that were not."""
    searched = [side for side in comparison.sides if side.searched]
    if searched and len(searched) < len(comparison.sides):
        named = formats.listed([side.label for side in searched])
        yield Verdict(
            "warn",
            f"The search may flatter {named}",
            "A trial is noticed because it did well on these validation images, partly by luck; the others were not chosen so.",
            "Compare trainings on fresh seeds: the study's winner by its name, or a finalist with --by seed-group.",
        )


def _other_code(comparison: Comparison) -> Iterator[Verdict]:
    commits = {side.source.git_commit for side in comparison.sides}
    if len(commits) > 1:
        named = ", ".join(f"{side.label} {(side.source.git_commit or 'unknown')[:8]}" for side in comparison.sides)
        yield Verdict("info", "They were trained by different commits", f"{named}.")


def classes(item: Contrast) -> Iterator[Verdict]:
    """Name the classes whose recall changes by more than chance, Holm-corrected over the classes; warn where one loses."""
    changed = [change for change in item.classes if change.p_holm < ALPHA]
    if not changed:
        return
    changed.sort(key=lambda change: -abs(change.value))
    named = formats.listed([f"{change.name} {signed(change.value)}" for change in changed], MOST_NAMED + 1)
    level: Level = "warn" if any(change.value < 0 for change in changed) and item.main.value > 0 else "info"
    evidence = f"In points of recall, {item.second.label} minus {item.first.label}: {named}; p < {ALPHA} after Holm's correction."
    signs = {change.value > 0 for change in changed}
    how = "more or less often" if len(signs) > 1 else "more often" if True in signs else "less often"
    title = f"{item.second.label} finds {len(changed)} {'class' if len(changed) == 1 else 'classes'} {how}"
    yield Verdict(level, title, evidence)


def settings(comparison: Comparison) -> Verdict:
    """Say how many settings differ, and which."""
    sides, differing = comparison.sides, comparison.settings
    if not differing:
        return Verdict("info", "They have the same configuration", "What differs is the seed, or where they were trained.")
    keys = {
        side.label: [setting.key for setting in differing if setting.values[number] != setting.values[0]]
        for number, side in enumerate(sides)
    }
    if len(sides) == 2:
        named = [f"{setting.key} {' → '.join(setting.values)}" for setting in differing[:MOST_NAMED]]
        named += [f"and {len(differing) - MOST_NAMED} more below"] if len(differing) > MOST_NAMED else []
    else:
        named = [f"{side.label}: {formats.listed(keys[side.label], MOST_NAMED + 1) or 'as the first'}" for side in sides[1:]]
    several = any(len(names) > 1 for names in keys.values())
    remedy = "Which of them matters, this cannot tell: study ablate changes one at a time." if several else ""
    return Verdict("info", f"They differ in {formats.plural(len(differing), 'setting')}", f"{'; '.join(named)}.", remedy)


def size(first: Side, second: Side) -> Iterator[Verdict]:
    """Say which is larger, where it is by a tenth at least."""
    factors = [
        (f"{theirs / ours:{'.2g' if theirs < 99 * ours else ',.0f'}} times the {name}", f"{theirs:,} {name} against {ours:,}")
        for name, ours, theirs in (
            ("parameters", first.first.parameters, second.first.parameters),
            ("multiply-adds", first.first.multiply_adds, second.first.multiply_adds),
        )
        if ours and theirs and max(ours, theirs) >= MUCH * min(ours, theirs)
    ]
    if factors:
        evidence = f"{', '.join(text for _, text in factors)}."
        yield Verdict("info", f"{second.label} has {factors[0][0]} of {first.label}", evidence)

"""Verdicts on how a study searched: range, size, failures, noise of the search itself."""

from __future__ import annotations

from collections import Counter
from statistics import median

from pipeline.evaluation.statistics import p_equals
from pipeline.report import formats
from pipeline.verdict import Verdict
from study.report import importance
from study.report.axes import short_name
from study.report.facts import WORDS
from study.report.findings import Findings
from study.state.history import Run

LATE = 0.2  # of the trials, at the end
ENOUGH = 10  # trials for each parameter that a trial has
MANY = 0.2  # of the trials
IMPOSSIBLE = 0.1  # of the trials
NAMED = 8  # parameters without effect, the least important first
SOME = 0.6  # of pairs that a guided trial wins
CHANCE = 0.05  # p-value above which guided trials are not shown to be better than random ones


def nothing(findings: Findings) -> Verdict | None:
    """Says so where there is nothing to judge: no trial, or none that ended well. Bad only where trials ended."""
    facts = findings.facts
    if facts.complete:
        return None
    ended, study = facts.history.count("COMPLETE", "PRUNED", "FAIL"), facts.history.spec.study
    if not facts.history.trials:
        return Verdict("info", "No trial was begun yet", "The ledger holds the study's definition only")
    told = ", ".join(f"{number} {WORDS[state]}" for state, number in Counter(run.state for run in facts.history.trials).items())
    if not ended or facts.history.count("RUNNING", "PAUSED"):
        return Verdict("info", "No trial is complete yet", told)
    if facts.measured:
        remedy = (
            f"Run more trials: {study.pruner} lets about one in {study.reduction} go on at each rung. Or set study.pruner: none."
        )
        return Verdict("warn", "Every trial was stopped early, so none is complete", told, remedy)
    return Verdict("bad", "No trial is complete", told, "See the failures below; one training by hand is `dvc repro`.")


def at_edge(findings: Findings) -> Verdict | None:
    """Warns where good configurations lie at the end of a range: better ones may lie beyond it.

    A value is at the edge within 2 % of the range (``Space.edges``), where 1 of 25 random values lies. So one configuration at an
    edge is info, and the best one and another of the three best at the same edge a warning.
    """
    facts = findings.facts
    judged = _winning(findings)
    top = [group.first for group in facts.groups if group.complete][:3]
    if judged is None:
        return None
    top = [judged, *(run for run in top if run.group != judged.group)][:3]
    edges = [facts.space.edges(run.params) for run in top]
    if not edges[0]:
        return Verdict("good", "No setting of the best configuration lies at the edge of its range", f"Trial {judged.trial}")
    shared = {name: side for name, side in edges[0].items() if any(other.get(name) == side for other in edges[1:])}
    named = shared or edges[0]
    shown = ", ".join(f"{short_name(name)} {_value(judged, name)} ({side})" for name, side in named.items())
    few = f"{formats.plural(len(named), 'setting')} of the best configuration {'lies' if len(named) == 1 else 'lie'}"
    title = f"{few} at the edge of {'its range' if len(named) == 1 else 'their ranges'}"
    evidence = f"Trial {judged.trial}: {shown}."
    if shared:
        evidence += " Another of the three best lies there too."
    remedy = (
        f"Widen {' and '.join(f'the {side} end of {name}' for name, side in named.items())} in the space, if wider makes sense."
    )
    return Verdict("warn" if shared else "info", title, evidence, remedy)


def _winning(findings: Findings) -> Run | None:
    told = findings.facts.history.winner
    return findings.facts.history.runs.get(str(told.trial)) if told else findings.facts.best


def _value(run: Run, name: str) -> str:
    value = run.params.get(name)
    return f"{value:.3g}" if isinstance(value, float) else formats.scalar(value)


def too_few(findings: Findings) -> Verdict | None:
    """Says that more trials may find better: few for the size of the space, or the best came late.

    Fewer than ten trials for each parameter that a trial has cannot tell what each does (Bergstra & Bengio 2012 need tens for the
    few that matter). In a search that has converged the best seldom lies in the last fifth of the trials; without any progress
    it does in one case of five. Each alone is info, both together a warning.
    """
    facts = findings.facts
    best, n = facts.best, len(facts.history.trials)
    if best is None:
        return None
    active = round(median(len(run.params) for run in facts.history.trials))
    late = n >= ENOUGH and best.trial >= (1 - LATE) * n
    few = n < ENOUGH * active
    if not late and not few:
        return None
    evidence = (
        f"{formats.plural(n, 'trial')} for {formats.plural(active, 'parameter')} of a trial, {n / max(active, 1):.1f} for each"
    )
    evidence += f"; the best is trial {best.trial}" + (f", among the last {LATE:.0%}." if late else ".")
    title = "The search was still finding better" if late else "Few trials for the size of the space"
    remedy = f"Go on: study run --name {facts.history.spec.name} --trials {max(2 * n, min(ENOUGH * active, max(4 * n, 40)))}"
    return Verdict("warn" if late and few else "info", title, evidence, remedy)


def failures(findings: Findings) -> Verdict | None:
    """Bad where more than half of the ended trials failed, a warning above 20 %, good where none did.

    A failed trial is budget spent on nothing, and a region that the sampler knows little about; where every fifth goes that way
    the space reaches too far. Trials stopped for being worse are no failures.
    """
    history = findings.facts.history
    failed = [run for run in history.trials if run.state == "FAIL"]
    ended = history.count("COMPLETE", "PRUNED", "FAIL")
    if not ended:
        return None
    if not failed:
        return Verdict("good", "No trial failed", f"{formats.plural(ended, 'trial')} ended, no divergence, no crash")
    causes = Counter(run.cause or "unknown" for run in failed).most_common()
    share = len(failed) / ended
    evidence = (
        f"{len(failed)} of {ended} ended trials ({share:.0%}): {', '.join(f'{number} {cause}' for cause, number in causes)}."
    )
    most = causes[0][0]
    remedies = {
        "diverged": "Lower the upper end of train.lr in the space, or let model.batch_norm be searched.",
        "memory": "Lower the upper ends of widths and batch size, or study.per_gpu.",
    }
    remedy = remedies.get(most, "Read the reasons under Failures.")
    level = "bad" if share > 0.5 else "warn" if share > MANY else "info"
    verb = "diverged" if most == "diverged" and len(causes) == 1 else "failed"
    return Verdict(level, f"{share:.0%} of the trials {verb}", evidence, remedy if level != "info" else "")  # type: ignore[arg-type]


def impossible(findings: Findings) -> Verdict | None:
    """Warns where more than 10 % of what the sampler proposed are networks that cannot be built.

    They cost no time, but each is a proposal that taught the sampler nothing but the border; a well-made space has < 2 %.
    """
    trials = findings.facts.history.trials
    found = [run for run in trials if run.cause == "impossible"]
    if len(found) <= IMPOSSIBLE * len(trials):
        return None
    reason = Counter(run.reason or "" for run in found).most_common(1)[0][0]
    evidence = f"{len(found)} of {len(trials)} trials, most often: {reason}"
    return Verdict("warn", "Many combinations of the space are impossible", evidence, "Narrow the space where it says so.")


def did_not_matter(findings: Findings) -> Verdict | None:
    """Names parameters with less than 5 % of the importance by each method that knows them.

    Info, never more: a share says how the values that were tried spread, not that a value outside, or together with another
    setting, would not matter; and the importances of few trials are noisy.
    """
    told = findings.importances
    if told.missing or not told.little or len(told.little) == len(told.names):
        return None
    least = [short_name(name) for name in told.little[::-1]]
    shown = ", ".join(least[:NAMED]) + (f" and {len(least) - NAMED} more" if len(least) > NAMED else "")
    unequal = (
        f"{told.stopped} of them were stopped early and count with what they had reached, so trials are compared at unequal "
        "numbers of epochs. "
        if told.stopped
        else ""
    )
    evidence = (
        f"{shown}: each below {importance.LITTLE:.0%} of the importance, by PED-ANOVA and, where it can tell, fANOVA, over "
        f"{told.n} trials. {unequal}That is no proof: it holds for the ranges searched, and on average over all other settings."
    )
    remedy = "Fix them at a cheap value in the next study to search the rest more closely."
    return Verdict("info", f"{formats.plural(len(told.little), 'parameter')} had no visible effect", evidence, remedy)


def no_better_than_random(findings: Findings) -> Verdict | None:
    """Warns where guided trials are not shown to be better than the random ones of the same study (Mann–Whitney, p >= 0.05).

    With at least ten guided trials, and a warning only where a guided trial wins less than 60 % of the pairs: ten random trials
    are too few to show every advantage, so the rest is info. So is all of it where trials were stopped early and are compared
    at the last epoch that all of them reached: what is ahead by then is not yet better in the end.
    """
    told = findings.chance
    if told.better is None or told.p_value is None or len(told.guided) < 10:
        return None
    evidence = (
        f"A guided trial is better than a random one in {told.better:.0%} of pairs ({len(told.guided)} guided, {len(told.drawn)} "
        f"random{told.at}, one-sided {p_equals(told.p_value)})."
    )
    if told.p_value < CHANCE:
        return Verdict("good", "The sampler learned: guided trials are better than random ones", evidence)
    remedy = "More trials, or a smaller space; or take random search, which needs no order."
    level = "warn" if told.better < SOME and told.epoch is None else "info"
    return Verdict(level, "The search is not shown to be better than random", evidence, remedy)  # type: ignore[arg-type]


RULES = (nothing, at_edge, too_few, failures, impossible, did_not_matter, no_better_than_random)

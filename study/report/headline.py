"""The top of the page: what won, how far the number can be trusted, and what it took."""

from __future__ import annotations

from pipeline.lineage import without_password
from pipeline.report import formats
from pipeline.report.document import Head, Key
from pipeline.report.table import Estimate
from study.engine.live import architecture
from study.report.cost import Cost
from study.report.facts import Facts
from study.report.findings import Findings
from study.report.ledger import device_time
from study.state.history import History, Run
from study.state.records import WinnerTest


def head(findings: Findings, now: int) -> Head:
    """The top of the page; ``now`` in milliseconds since 1970."""
    facts = findings.facts
    run, estimate = leader(facts)
    name = facts.history.spec.name
    number = f"{100 * estimate.value:.{formats.digits_for(facts.images)}f}" if estimate else None
    return Head(
        name=name + ("" if facts.finished else " (not finished)"),
        window=f"{name}: {number} % – studyline" if number else f"{name} – studyline",
        when=formats.moment(now),
        title=_title(facts, run),
        lede=lede(findings, run, estimate),
        keys=keys(findings, run),
        number=(estimate.value, number, "%") if estimate and number else None,
        intervals=_intervals(facts, estimate) if estimate else {},
    )


def leader(facts: Facts) -> tuple[Run | None, Estimate | None]:
    """The winner with the interval over its fresh seeds; before there is one, the best complete trial with its own."""
    told = facts.history.winner
    if told is not None:
        run = facts.history.runs[str(told.trial)]
        finals = [final.accuracy for final in facts.history.finals if final.trial == run.trial and final.state == "COMPLETE"]
        accuracies = [value for value in finals if value is not None]
        return (run, facts.range(accuracies)) if accuracies else (run, None)
    if facts.best is not None:
        return facts.best, facts.range([facts.best.accuracy or 0.0])
    return None, None


def _title(facts: Facts, run: Run | None) -> str:
    if run is None:
        return "No trial is complete" + ("" if facts.finished else " yet")
    if facts.history.winner is not None:
        return f"validation accuracy of the winner, trial {run.trial}"
    return f"validation accuracy of the best trial{'' if facts.finished else ' so far'}, trial {run.trial}"


def _intervals(facts: Facts, validation: Estimate) -> dict[str, Estimate]:
    """By name the rows of the axis below the headline."""
    tested = facts.tested
    if not tested:
        return {"Validation": validation}
    first = Estimate(tested.first.value, tested.first.low, tested.first.high, tested.first.n)
    if tested.mean is None or tested.low is None or tested.high is None:
        return {"Validation": validation, "Test": first}
    seeds = Estimate(tested.mean, max(tested.low, 0.0), min(tested.high, 1.0), tested.n, "t")
    return {"Validation": validation, "Test": seeds, "Test images": first}


def lede(findings: Findings, run: Run | None, shown: Estimate | None) -> str:
    """What was searched, how long, and what came of it, in a few sentences."""
    facts, told = findings.facts, findings.facts.history
    dataset, study = told.lineage.dataset.name, told.spec.study
    sentences = []
    if run is not None and shown is not None:
        method = f"t interval over {shown.n} fresh seeds" if shown.kind == "t" else shown.method
        sentences.append(f"95{formats.NARROW}% interval {shown.interval(facts.images)} ({method}).")
        if told.winner is None:
            sentences.append("It was picked as the best of many, which flatters it.")
        elif (rivals := len(told.winner.finalists)) > 1:
            sentences.append(
                f"It was chosen among {rivals} finalists by trainings judged on these same validation images, which flatters it "
                "a little: test is the unbiased figure."
            )
        sentences.append(f"Its network: {architecture(run)}, {run.parameters:,} parameters.")
    if facts.tested:
        sentences += _test_sentences(facts.tested)
    elif told.winner is not None:
        sentences.append("Test is not read for this winner yet.")
    wanted = f" of {study.trials}" if not facts.finished and study.trials > len(told.trials) else ""
    sentences.append(
        f"{len(told.trials):,}{wanted} trials of the space {told.spec.space} on {dataset} "
        f"in {formats.duration(findings.cost.seconds)}, {study.sampler} with pruner {study.pruner}."
    )
    if why := last_reason(facts):
        sentences.append(formats.sentence(f"The last session ended: {why}"))
    if not facts.finished:
        sentences.append("The study is not finished: all below is as of now.")
    return " ".join(sentences)


def _test_sentences(tested: WinnerTest) -> list[str]:
    """What test says, and by how much the sample of test images may be off, which the interval over seeds leaves out."""
    found = [formats.sentence(tested.summary)]
    if tested.n > 1:
        first = Estimate(tested.first.value, tested.first.low, tested.first.high, tested.first.n)
        found.append(
            "This t interval covers seeds only, not the sample of test images: the Wilson interval of the first training over "
            f"them is {first.interval(first.n)}."
        )
    return found


def last_reason(facts: Facts) -> str | None:
    """Why the last session ended, where it ended before all that was asked for was done."""
    last = facts.history.sessions[-1] if facts.history.sessions else {}
    reason = last.get("reason") if last.get("kind") == "closed" else None
    return without_password(reason) if reason else None


def keys(findings: Findings, run: Run | None) -> list[Key]:
    """The figures below the headline."""
    history = findings.facts.history
    parameters = run.parameters if run else None
    return [
        Key("Trials", len(history.trials), f"{len(history.trials):,}", _ended(history)),
        *_test(findings.facts),
        Key("Parameters", parameters, formats.short(parameters), "of that network"),
        *_spent(findings.cost),
        Key("Finalists", len(history.finals), f"{len(history.finals)}", "trainings on fresh seeds"),
    ]


def _ended(history: History) -> str:
    complete, stopped, failed = (history.count(state) for state in ("COMPLETE", "PRUNED", "FAIL"))
    others = len(history.trials) - complete - stopped - failed
    return f"{complete} complete, {stopped} stopped early, {failed} failed" + (f", {others} not ended" if others else "")


def _spent(told: Cost) -> list[Key]:
    """Time, and how it was used."""
    seconds = sum(told.device.values())
    searched = seconds - told.device.get("finalists", 0.0)
    part = formats.percent(told.saved / (told.saved + searched), 0) if searched else ""
    saved = f"{part} of what all trials would take" if searched else "no epochs yet"
    busy, there = (sum(values) for values in zip(*told.slots.values(), strict=True)) if told.slots else (0.0, 0.0)
    share = busy / there if there else None
    return [
        device_time(told),
        Key("Saved by stopping", told.saved, formats.duration(told.saved), saved),
        Key("Trials per hour", told.trials_per_hour, formats.short(told.trials_per_hour), "while searching"),
        Key("Utilisation", share, formats.percent(share, 0), "of the slots' time"),
    ]


def _test(facts: Facts) -> list[Key]:
    tested = facts.tested
    if tested is None:
        return (
            [] if facts.history.winner is None else [Key("Test accuracy", None, formats.NOTHING, "not read for this winner yet")]
        )
    often = "once" if tested.openings == 1 else f"{tested.openings} times"
    text = formats.percent(tested.mean, formats.digits_for(tested.images))
    return [Key("Test accuracy", tested.mean, text, f"{tested.images:,} images, opened {often}")]

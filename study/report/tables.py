"""Tables of a study's page: its configurations, its finalists, the front, and what failed."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial
from typing import Any

from pipeline.config import to_tree
from pipeline.evaluation.statistics import p_text
from pipeline.lineage import without_password
from pipeline.report import formats
from pipeline.report.table import Cell, Column, Table
from study.engine.live import architecture
from study.report import ledger
from study.report.axes import short_name
from study.report.facts import TOP, WORDS, Facts, Group, respect
from study.state.history import Run
from study.state.objective import OBJECTIVES
from study.state.records import Finalist, Winner
from study.state.spec import flat

MOST_REASONS = 3  # runs named for one reason


def leaders(facts: Facts, pages: ledger.Pages) -> Table:
    """Every configuration that was trained, best first."""
    digits, winner = formats.digits_for(facts.images), facts.history.winner
    group = winner.group if winner else None
    names = dict.fromkeys(name for item in facts.groups for name in item.first.params)
    low, high = _axis(facts)

    def trials(item: Group) -> tuple[Cell, ...]:
        *rest, last = item.runs[:2]
        more = f"+ {len(item.runs) - 2}" if len(item.runs) > 2 else ""
        shown = [Cell(run.key, f"{run.key},", link=pages(run), id=run.key) for run in rest]
        hidden = [Cell(run.key, "", id=run.key) for run in item.runs[2:]]
        return (*shown, Cell(last.key, last.key, link=pages(last), id=last.key, note=more), *hidden)

    def bar(item: Group) -> Cell:
        ends = {name: getattr(item.accuracy, name) for name in ("low", "value", "high")}
        places = {name: min(max((value - low) / ((high - low) or 1.0), 0.0), 1.0) for name, value in ends.items()}
        return Cell(None, "", bar=places if low <= item.accuracy.value <= high else None)

    def epochs(item: Group) -> Cell:
        count, state = len(item.first.epochs), WORDS[item.first.state]
        note = "" if item.complete else f"of {_planned(item)}, {state.removesuffix(' early')}"
        return Cell(count, str(count), note=note)

    def network(item: Group) -> Cell:
        text = architecture(item.first)
        settings = ", ".join(f"{short_name(name)} {_setting(value)}" for name, value in item.first.params.items())
        return Cell(text, text, details=settings, tag="winner" if item.first.group == group else "")

    quality = facts.quality
    ranks = {id(item): rank for rank, item in enumerate(facts.groups, 1)}
    columns = [
        Column("rank", "#", lambda item: ranks[id(item)]),
        Column("trials", "Trial", trials),
        Column("winner", None, lambda item: item.first.group == group),
        Column("accuracy", "Accuracy", lambda item: item.accuracy.value, partial(formats.percent, digits=digits)),
        Column("low", None, lambda item: item.accuracy.low),
        Column("high", None, lambda item: item.accuracy.high),
        Column("interval", None, lambda item: item.accuracy.kind),
        Column("", "95 % interval", lambda item: item.accuracy.interval(facts.images)),
        Column("", "", bar),
        *(
            Column(name, one.label if one == quality else None, partial(_mean, name), partial(one.text, images=facts.images))
            for name, one in OBJECTIVES.items()
            if one.measured and name != "accuracy"
        ),
        Column("seeds", "n", lambda item: len(item.runs)),
        Column("epochs", "Epochs", epochs),
        Column("of_epochs", None, _planned),
        Column("parameters", "Parameters", lambda item: item.first.parameters, formats.count),
        Column("seconds", "Time", lambda item: sum(run.seconds for run in item.runs), formats.duration),
        Column("state", None, lambda item: WORDS[item.first.state]),
        Column("network", "Network and settings", network),
        *(Column(name, None, partial(_param, name)) for name in names),
    ]
    return Table("leaderboard", "Leader board", columns, facts.groups, best=lambda item: item.first.group == group, style="board")


def _axis(facts: Facts) -> tuple[float, float]:
    """Lowest and highest end of the intervals that are shown; of those that lie far below, none."""
    shown = facts.groups[:TOP]
    judged = [item.accuracy for item in shown if item.complete] or [item.accuracy for item in shown]
    return min((item.low for item in judged), default=0.0), max((item.high for item in judged), default=1.0)


def _mean(name: str, item: Group) -> float | None:
    values = [value for run in item.runs if (value := OBJECTIVES[name].value(run)) is not None]
    return sum(values) / len(values) if values else None


def _planned(item: Group) -> int:
    return item.first.config.train.epochs


def _param(name: str, item: Group) -> str | None:
    return _setting(item.first.params[name]) if name in item.first.params else None


def _setting(value: Any) -> str:
    if isinstance(value, Mapping):
        return " ".join(f"{key} {formats.scalar(part)}" for key, part in value.items())
    return f"{value:.3g}" if isinstance(value, float) else formats.scalar(value)


def finalists(facts: Facts, pages: ledger.Pages) -> Table:
    """What the confirmation says of each finalist, best mean first, with links to its trainings."""
    winner, quality = facts.history.winner or Winner(trial=-1, group=""), facts.quality
    text = partial(quality.text, images=facts.images)

    def trial(item: Finalist) -> Cell:
        tag = "winner" if item.trial == winner.trial else "ties" if item.ties else ""
        return Cell(str(item.trial), str(item.trial), tag=tag)

    def seeds(item: Finalist) -> tuple[Cell, ...]:
        runs = [run for run in facts.history.finals if run.trial == item.trial]
        failed = (Cell(None, "", note=f"({item.failures} failed)"),) if item.failures else ()
        return (*(Cell(run.key, str(number), link=pages(run)) for number, run in enumerate(runs)), *failed)

    def interval(item: Finalist) -> str | None:
        low, high = (_within(facts, end) for end in (item.low, item.high))
        return None if low is None or high is None else formats.span(low, high, text)

    def apart(item: Finalist) -> str | None:
        difference = item.difference
        return formats.span(difference.low, difference.high, quality.signed) if difference else None

    columns = [
        Column("", "Trial", trial),
        Column("", "Mean", lambda item: item.mean, text),
        Column("", "95 % interval", interval),
        Column("", "Seeds", seeds),
        Column("", "In search", lambda item: item.search_value, text),
        Column("", "Optimism", lambda item: item.optimism, quality.signed),
        Column("", "To leader", lambda item: quality.signed(item.difference.value) if item.difference else
               "leader" if item.trial == winner.leader else None),
        Column("", "95 % interval", apart),
        Column("", "p", lambda item: item.p_holm if item.difference else None, p_text,
               hint="paired t test, corrected for all finalists by Holm's method"),
        Column("", "Parameters", lambda item: item.parameters, formats.count),
    ]  # fmt: skip
    rows = winner.finalists
    return Table("finalists", "Finalists", columns, rows, best=lambda item: bool(item.trial == winner.trial))


def _within(facts: Facts, value: float | None) -> float | None:
    """A bound of an accuracy as far as there are accuracies."""
    return min(max(value, 0.0), 1.0) if value is not None and facts.quality.share else value


def front(facts: Facts, pages: ledger.Pages) -> Table:
    """The non-dominated trials, what each is in every respect."""
    chosen = {*facts.respects, "accuracy", "parameters"}
    columns = [
        Column("trial", "Trial", lambda run: Cell(run.trial, run.key, link=pages(run))),
        *(
            Column(name, one.label, partial(respect, name=name), partial(one.text, images=facts.images))
            for name, one in OBJECTIVES.items()
            if name in chosen
        ),
        Column("network", "Network", lambda run: Cell(architecture(run), architecture(run), style="soft")),
    ]
    return Table("front", "Pareto front", columns, facts.front)


def failures(facts: Facts) -> Table:
    """Failed runs and impossible combinations by cause and reason, the most frequent first."""
    kinds: dict[tuple[str, str], list[Run]] = {}
    for run in facts.history.runs.values():
        if run.state == "FAIL" or run.cause == "impossible":
            alike = re.sub(r"\d[\d.e+-]*", "#", run.reason or "")  # numbers differ where the cause does not
            kinds.setdefault((run.cause or "unknown", alike), []).append(run)

    def examples(runs: list[Run]) -> str:
        return ", ".join([run.key for run in runs[:MOST_REASONS]] + ["…"] * (len(runs) > MOST_REASONS))

    rows = sorted(kinds.items(), key=lambda row: -len(row[1]))
    columns = [
        Column("cause", "Cause", lambda row: row[0][0]),
        Column("runs", "Runs", lambda row: len(row[1])),
        Column("reason", "Reason", lambda row: without_password(row[1][0].reason or formats.NOTHING)),
        Column("seconds", "Device time", lambda row: sum(run.seconds for run in row[1]), formats.duration),
        Column("examples", "Trials", lambda row: examples(row[1])),
    ]
    return Table("failures", "Failures", columns, rows)


def fixed(facts: Facts) -> str:
    """What no trial changed, as YAML: sections data, model and train without what the space sets, and the study's own."""
    tree = to_tree(facts.history.spec.params)
    values = flat({name: tree[name] for name in ("data", "model", "train", "study")})
    searched = tuple(f"{name}{end}" for name in facts.space.paths for end in (".", "["))
    lines = [
        f"{path}: {formats.scalar(without_password(value) if isinstance(value, str) else value)}\n"
        for path, value in values.items()
        if path != "train.seed" and path not in facts.space.paths and not path.startswith(searched)
    ]
    return "".join(lines)

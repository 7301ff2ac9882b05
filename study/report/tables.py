"""Tables of the page, as plain rows."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from pipeline.config import to_tree
from pipeline.epochs import MEASURES
from pipeline.lineage import without_password
from pipeline.report import formats
from pipeline.report.provenance import Origin, yaml_text
from study.engine.live import architecture
from study.report.facts import TOP, WORDS, Facts, Group, respect
from study.report.findings import Findings
from study.state.history import Run
from study.state.objective import OBJECTIVES
from study.state.spec import flat

Pages = Callable[[Run], str | None]
Row = dict[str, Any]
MOST_REASONS = 3  # runs named for one reason


def leaders(facts: Facts, pages: Pages) -> list[Row]:
    """Every configuration that was trained, best first, with what the leader board and ``leaderboard.csv`` say of it."""
    return [_leader(rank, group, facts, pages) for rank, group in enumerate(facts.groups, 1)]


def _leader(rank: int, group: Group, facts: Facts, pages: Pages) -> Row:
    run, accuracy = group.first, group.accuracy
    told = facts.history.winner
    return {
        "rank": rank,
        "trials": [{"trial": item.trial, "page": pages(item)} for item in group.runs],
        "winner": bool(told and told.group == run.group),
        "accuracy": accuracy.value,
        "low": accuracy.low,
        "high": accuracy.high,
        "interval": accuracy.kind,
        "seeds": len(group.runs),
        **{name: _mean([OBJECTIVES[name].value(item) for item in group.runs]) for name in MEASURES if name != "accuracy"},
        "epochs": len(run.epochs),
        "of_epochs": run.config.train.epochs,
        "parameters": run.parameters,
        "seconds": sum(item.seconds for item in group.runs),
        "state": WORDS[run.state],
        "network": architecture(run),
        "settings": {name: _setting(value) for name, value in run.params.items()},
    }


def _mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def _setting(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.3g}"
    if isinstance(value, Mapping):
        return " ".join(f"{key} {formats.scalar(part)}" for key, part in value.items())
    return formats.scalar(value)


def board(rows: list[Row]) -> list[Row]:
    """The rows that are shown, each with its interval as shares of an axis; of what lies far below, none."""
    shown = rows[:TOP]
    judged = [row for row in shown if row["state"] == WORDS["COMPLETE"]] or shown
    floor, top = min((row["low"] for row in judged), default=0.0), max((row["high"] for row in judged), default=1.0)
    scale = (top - floor) or 1.0

    def bar(row: Row) -> dict[str, float] | None:
        places = {"low": row["low"], "value": row["accuracy"], "high": row["high"]}
        inside = {name: min(max((value - floor) / scale, 0.0), 1.0) for name, value in places.items()}
        return inside if floor <= row["accuracy"] <= top else None

    return [row | {"bar": bar(row)} for row in shown]


def finalists(facts: Facts, pages: Pages) -> list[Row]:
    """What the confirmation says of each finalist, best mean first, with links to its trainings."""
    told = facts.history.winner
    if told is None:
        return []
    rows = []
    for item in told.finalists:
        finals = [run for run in facts.history.finals if run.trial == item.trial]
        links = [{"key": run.key, "page": pages(run)} for run in finals]
        first = facts.history.runs.get(str(item.trial))
        rows.append(
            {
                "item": replace(item, low=_within(facts, item.low), high=_within(facts, item.high)),
                "winner": item.trial == told.trial,
                "leader": item.trial == told.leader,
                "runs": links,
                "network": architecture(first) if first else formats.NOTHING,
            }
        )
    return rows


def _within(facts: Facts, value: float | None) -> float | None:
    """A bound of a share as far as there are shares."""
    return value if value is None or not facts.quality.share else min(max(value, 0.0), 1.0)


def front(facts: Facts, pages: Pages) -> list[Row]:
    """The non-dominated trials, what each is in every respect."""
    names = list(dict.fromkeys([*facts.respects, "accuracy", "parameters"]))
    return [
        {"trial": run.trial, "page": pages(run), "network": architecture(run)} | {name: respect(run, name) for name in names}
        for run in facts.front
    ]


def failures(facts: Facts) -> list[Row]:
    """Failed runs and impossible combinations by cause and reason, the most frequent first."""
    found = [run for run in facts.history.runs.values() if run.state == "FAIL" or run.cause == "impossible"]
    kinds = Counter((run.cause or "unknown", _alike(run.reason)) for run in found)
    rows = []
    for (cause, alike), number in kinds.most_common():
        same = [run for run in found if (run.cause or "unknown", _alike(run.reason)) == (cause, alike)]
        rows.append(
            {
                "cause": cause,
                "runs": number,
                "reason": without_password(same[0].reason or formats.NOTHING),
                "seconds": sum(run.seconds for run in same),
                "examples": ", ".join(run.key for run in same[:MOST_REASONS]) + (", …" if number > MOST_REASONS else ""),
            }
        )
    return rows


def _alike(reason: str | None) -> str:
    """A reason without its numbers, as they differ where the cause does not."""
    return re.sub(r"\d[\d.e+-]*", "#", reason or "")


def costs(findings: Findings) -> list[Row]:
    """Device seconds by what became of the trainings."""
    told, history = findings.cost, findings.facts.history
    rows = []
    for kind, seconds in sorted(told.device.items(), key=lambda item: -item[1]):
        runs = [run for run in history.runs.values() if ("finalists" if run.phase == "final" else run.state) == kind]
        epochs = sum(len(run.epochs) for run in runs)
        rows.append({"kind": WORDS.get(kind, kind), "runs": len(runs), "epochs": epochs, "seconds": seconds})
    return rows


def slots(findings: Findings) -> list[Row]:
    """Busy time of each slot, and of the time that there was such a slot the share."""
    return [
        {"slot": name, "busy": busy, "there": there, "share": busy / there if there > 0 else None}
        for name, (busy, there) in findings.cost.slots.items()
    ]


def fixed(facts: Facts) -> str:
    """What no trial changed, as YAML: sections data, model and train without what the space sets, and the study's own."""
    tree = to_tree(facts.history.spec.params)
    paths = facts.space.paths
    kept = {
        path: value
        for path, value in flat({name: tree[name] for name in ("data", "model", "train", "study")}).items()
        if not any(path == name or path.startswith((f"{name}.", f"{name}[")) for name in paths)
    }
    kept = {path: without_password(value) if isinstance(value, str) else value for path, value in kept.items()}
    return "\n".join(f"{path}: {formats.scalar(value)}" for path, value in kept.items() if path not in ("train.seed",)) + "\n"


def space_text(facts: Facts) -> str:
    return yaml_text(facts.history.spec.tree)


def lineage(facts: Facts) -> list[Origin]:
    """What the study was made from."""
    told, spec = facts.history.lineage, facts.history.spec
    dataset = told.dataset
    hosts = sorted({event["host"] for event in facts.history.sessions if event["kind"] == "opened"})
    return [
        Origin("Study", spec.name, code=True),
        Origin("Data", dataset.name, note=f"{dataset.images['train']:,} training, {facts.images:,} validation images"),
        Origin("Data fingerprint", spec.fingerprint, code=True),
        Origin("Git commit", told.git_commit or "not in a git repository", code=True, note=told.dirty),
        Origin(
            "Seeds",
            f"study {spec.study.seed}, split {dataset.split_seed}",
            note="those of the trainings follow from the study's",
        ),
        Origin("Sampler, pruner", f"{spec.study.sampler}, {spec.study.pruner}"),
        Origin("Environment", ", ".join(f"{name} {version}" for name, version in told.environment.items())),
        Origin("Machines", ", ".join(hosts) or formats.NOTHING),
        Origin("Begun with", without_password(told.command) or formats.NOTHING, code=True),
    ]


def commands(facts: Facts) -> str:
    """What goes on with the study, takes its winner over, and would run it again."""
    told, spec = facts.history.lineage, facts.history.spec
    lines = [
        f"study run --name {spec.name} --trials {max(len(facts.history.trials), spec.study.trials)}  # goes on to that total"
    ]
    if facts.complete:
        lines.append(f"study promote {spec.name}  # writes the best configuration into params.yaml")
    if told.git_commit:
        lines.append(f"git checkout {told.git_commit}")
    command = without_password(told.command)
    if command:
        lines.append(f"{command} --new  # the same search once more")
    return "\n".join(lines)

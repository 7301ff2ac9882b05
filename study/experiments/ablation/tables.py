"""Tables of the page, as plain rows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pandas as pd

from pipeline.config import to_tree
from pipeline.evaluation.statistics import p_text
from pipeline.lineage import without_password
from pipeline.report import formats
from pipeline.report.provenance import Origin, yaml_text
from study.experiments.ablation.definition import BASE
from study.experiments.ablation.grammar import MARGIN
from study.experiments.ablation.results import Effect, Hypothesis, Result, Results
from study.experiments.ablation.words import bounds, points
from study.report.axes import cell
from study.report.cost import Cost
from study.report.facts import WORDS
from study.state.history import Run

Pages = Callable[[Run], str | None]
Row = dict[str, Any]


def rows(results: Results, pages: Pages) -> list[Row]:
    """Every row with what the page says of it, the base first."""
    return [_row(result, results, pages) for result in results.rows.values()]


def _row(result: Result, results: Results, pages: Pages) -> Row:
    run, accuracy, difference = result.first, result.accuracy, result.difference
    return {
        "name": result.row.name,
        "title": result.row.title,
        "base": result.row.name == BASE,
        "changes": [f"{key} {formats.scalar(value)}" for key, value in result.row.changes.items()],
        "accuracy": accuracy.value if accuracy else None,
        "accuracy_text": _plain(accuracy.value, results) if accuracy else None,
        "interval": bounds(accuracy, results.images).removesuffix(f"{formats.NARROW}%") if accuracy else None,
        "gap": result.gap,
        "gap_text": None if result.gap is None else points(result.gap),
        "gap_interval": f"{points(difference.low)} to {points(difference.high)}" if difference else None,
        "p_holm": result.p_holm,
        "p_text": None if result.p_holm is None else p_text(result.p_holm),
        "told_apart": result.told_apart,
        "seconds": result.seconds,
        "parameters": run.parameters if run else None,
        "multiply_adds": run.multiply_adds if run else None,
        "n": len(result.known),
        "failed": len(result.failed),
        "runs": [
            {"seed": seed, "page": pages(run) if run else None, "failed": run in result.failed}
            for seed, run in enumerate(result.runs)
        ],
    }


def _plain(accuracy: float, results: Results) -> str:
    """In percent, without the sign."""
    return f"{100 * accuracy:.{formats.digits_for(results.images)}f}"


def hypotheses(results: Results) -> list[Row]:
    """What was supposed of each factor, and what became of it."""
    return [_hypothesis(item) for item in results.hypotheses]


def _hypothesis(item: Hypothesis) -> Row:
    told = item.judgement
    return {
        "factor": item.factor.name,
        "text": item.factor.hypothesis,
        "claim": item.factor.claim.text if item.factor.claim else None,
        "verdict": told.verdict if told else None,
        "outcome": told.outcome if told else "no claim that a program can judge",
        "evidence": told.evidence if told else "",
        "p_holm": told.p_holm if told else None,
        "p_text": None if told is None or told.p_holm is None else p_text(told.p_holm),
        "n": told.n if told else None,
        "needed": told.needed if told else None,
    }


def effects(results: Results) -> list[Row]:
    """Each factor: its levels from best to worst, and how far these are apart; the largest distance first."""
    rest = [effect for effect in results.effects if effect.spread is None]
    return [_effect(effect) for effect in [*results.ranked, *rest]]


def _effect(effect: Effect) -> Row:
    spread = effect.spread
    return {
        "factor": effect.factor.name,
        "base": effect.factor.base.label,
        "order": effect.order,
        "spread": spread.value if spread else None,
        "spread_text": f"{100 * spread.value:.2f}" if spread else None,
        "interval": f"{points(spread.low)} to {points(spread.high)}" if spread else None,
        "n": spread.n if spread else None,
        "word": _word(effect),
    }


def _word(effect: Effect) -> str:
    if effect.flat:
        return f"{'matters, by ' if effect.matters else ''}less than {100 * MARGIN:g} points"
    return "matters" if effect.matters else "not known"


def failures(results: Results) -> list[Row]:
    """Trainings that failed, in the order of their rows."""
    return [
        {"row": result.row.title, "run": run.key, "cause": run.cause, "reason": without_password(run.reason or formats.NOTHING)}
        | {"epochs": len(run.epochs), "seconds": run.seconds}
        for result in results.rows.values()
        for run in result.failed
    ]


def costs(results: Results, cost: Cost) -> list[Row]:
    """Device seconds by what became of the trainings."""
    planned = results.facts.history.planned
    found = []
    for state, seconds in sorted(cost.device.items(), key=lambda item: -item[1]):
        runs = [run for run in planned if run.state == state]
        epochs = sum(len(run.epochs) for run in runs)
        found.append({"kind": WORDS[state], "runs": len(runs), "epochs": epochs, "seconds": seconds})
    return found


def slots(cost: Cost) -> list[Row]:
    """Busy time of each slot, and of the time that there was such a slot the share."""
    return [
        {"slot": name, "busy": busy, "there": there, "share": busy / there if there > 0 else None}
        for name, (busy, there) in cost.slots.items()
    ]


def configuration(results: Results) -> str:
    """Sections data, model and train of the base, as YAML."""
    tree = to_tree(results.ablation.base)
    tree["data"]["mirror"] = None if tree["data"]["mirror"] is None else without_password(tree["data"]["mirror"])
    return yaml_text({name: tree[name] for name in ("data", "model", "train")})


def lineage(results: Results) -> list[Origin]:
    """What the ablation was made from."""
    history, ablation = results.facts.history, results.ablation
    told, dataset = history.lineage, history.lineage.dataset
    hosts = sorted({event["host"] for event in history.sessions if event["kind"] == "opened"})
    counts = dataset.images
    others = {run.fingerprint for run in history.planned if run.fingerprint} - {history.spec.fingerprint}
    first = ablation.base.train.seed
    return [
        Origin("Study", history.spec.name, code=True),
        Origin("Ablation", ablation.file, code=True),
        Origin("Base", ablation.origin),
        Origin("Data", dataset.name, note=f"{counts['train']:,} training, {counts['validation']:,} validation images"),
        Origin("Data fingerprint", history.spec.fingerprint, code=True),
        *(Origin("Data of other rows", text, code=True) for text in sorted(others)),
        Origin("Git commit", told.git_commit or "not in a git repository", code=True, note=told.dirty),
        Origin("Seeds", f"training {_range(first, results.seeds)}, split {dataset.split_seed}", note="the same for every row"),
        Origin("Environment", ", ".join(f"{name} {version}" for name, version in told.environment.items())),
        Origin("Machines", ", ".join(hosts) or formats.NOTHING),
        Origin("Begun with", without_password(told.command) or formats.NOTHING, code=True),
    ]


def _range(first: int, count: int) -> str:
    return str(first) if count == 1 else f"{first} to {first + count - 1}"


def commands(results: Results) -> str:
    """What goes on with the ablation, and would run it again."""
    told = results.facts.history.lineage
    lines = [f"git checkout {told.git_commit}"] if told.git_commit else []
    command = without_password(told.command) or f"study ablate {results.ablation.file}"
    return "\n".join([*lines, f"{command}  # trains what is missing, and writes this page"])


def table(results: Results) -> pd.DataFrame:
    """Every row with its numbers and each seed's accuracy: what ``table.csv`` holds. Accuracies and differences are shares."""
    return pd.DataFrame([_numbers(result) for result in results.rows.values()])


def _numbers(result: Result) -> Row:
    run, accuracy, difference = result.first, result.accuracy, result.difference
    return {
        "row": result.row.name,
        "title": result.row.title,
        "changes": "; ".join(f"{key}={cell(value)}" for key, value in result.row.changes.items()),
        "accuracy": accuracy.value if accuracy else None,
        "low": accuracy.low if accuracy else None,
        "high": accuracy.high if accuracy else None,
        "interval": accuracy.kind if accuracy else None,
        "n": len(result.known),
        "failed": len(result.failed),
        "difference": result.gap,
        "difference_low": difference.low if difference else None,
        "difference_high": difference.high if difference else None,
        "p": difference.p_value if difference else None,
        "p_holm": result.p_holm,
        "device_seconds": result.seconds,
        "parameters": run.parameters if run else None,
        "multiply_adds": run.multiply_adds if run else None,
        **{f"seed_{seed}": value for seed, value in enumerate(result.values)},
    }

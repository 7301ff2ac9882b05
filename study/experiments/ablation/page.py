"""The report of an ablation: its head, its tables and its numbers, laid out as one page with files beside it."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from functools import partial
from typing import Any

from pipeline.config import to_tree
from pipeline.lineage import without_password
from pipeline.report import formats
from pipeline.report.document import Head, Key, Page
from pipeline.report.provenance import yaml_text
from pipeline.report.table import Table, code, text
from study.experiments.ablation import figures, tables, verdicts
from study.experiments.ablation.definition import Ablation
from study.experiments.ablation.grammar import MARGIN
from study.experiments.ablation.results import Results, compute
from study.report import ledger
from study.report.cost import Cost, cost
from study.report.frame import Report
from study.state.history import History

SECTIONS = {
    "verdicts": "What to know first",
    "hypotheses": "Hypotheses",
    "table": "Every row",
    "factors": "Factor by factor",
    "grid": "Two factors together",
    "cost": "Cost",
    "failures": "Failures",
    "config": "The base",
    "lineage": "Lineage",
}


def build(history: History, ablation: Ablation, pages: ledger.Pages, now: int) -> Report:
    """Compute the report of an ablation in any state.

    pages : the address of a run's page in MLflow, None where it has none
    now : milliseconds since 1970, printed as the page's date
    """
    results, spent = compute(history, ablation), cost(history)
    command = ledger.command(history) or f"study ablate {ablation.file}"
    rows, hypotheses = tables.rows(results, pages), tables.hypotheses(results)
    factors, failures = tables.factors(results), tables.failures(results)
    page = Page(
        packages=("study.experiments.ablation", "study.report"),
        kind="ablation",
        head=head(results, spent, now),
        sections=SECTIONS,
        verdicts=verdicts.judge(results),
        tables=(rows, hypotheses, factors, failures, *ledger.cost_tables(history, spent), _lineage(results)),
        origin=f" from the ledger of study {history.spec.name}",
        view={
            "results": results,
            "plots": [figures.factor_figure(effect) for effect in results.effects],
            "interaction": results.crossing.interaction if results.crossing else None,
            "margin": 100 * MARGIN,
            "cost": spent,
            "deaths": history.deaths,
            "config": _configuration(results),
            "written": ablation.text,
            "reproduce": ledger.reproduce(
                "Go on, reproduce",
                [*ledger.checkout(history), f"{command}  # trains what is missing, and writes this page"],
                "Every row meets the images in the same order, as far as its factor allows.",
            ),
        },
    )
    tree = {
        "ablation": ablation.name,
        "base": ablation.origin,
        "seeds": results.seeds,
        "finished": results.finished,
        "validation_images": results.images,
        "verdicts": [asdict(verdict) for verdict in page.verdicts],
        "hypotheses": hypotheses.records(),
        "rows": rows.records(),
        "factors": factors.records(),
        "grid": _grid(results),
        "cost": {"wall_seconds": spent.seconds, "device_seconds": spent.device},
        "failures": failures.records(),
    }
    return Report(page, partial(figures.draw, results), [rows], "ablation", tree)


def head(results: Results, cost: Cost, now: int) -> Head:
    """What became of the hypotheses, around what, and what it took."""
    name, title = results.ablation.name, _title(results)
    return Head(
        name=name + ("" if results.finished else " (not finished)"),
        window=f"{name}: {title} – studyline",
        when=formats.moment(now),
        title=title,
        lede=_lede(results, cost),
        keys=_keys(results, cost),
    )


def _title(results: Results) -> str:
    if not any(result.known for result in results.rows.values()):
        return "No training is complete" + ("" if results.finished else " yet")
    counts = _judged(results)
    if not counts:
        return next((verdict.title for verdict in verdicts.most(results)), "One factor at a time")
    number, word = counts.total(), next(iter(counts))
    text = f"All {number} hypotheses are {word}" if number > 1 else f"The hypothesis is {word}"
    if len(counts) > 1:
        text = f"Of {number} hypotheses, {_counted(counts)}"
    return text if results.finished else f"So far {text[0].lower()}{text[1:]}"


def _judged(results: Results) -> Counter[str]:
    return Counter(item.judgement.verdict for item in results.hypotheses if item.judgement)


def _counted(counts: Counter[str]) -> str:
    return formats.listed([f"{counts[word]} {word}" for word in ("supported", "refuted", "undecided") if counts[word]])


def _lede(results: Results, cost: Cost) -> str:
    ablation, base = results.ablation, results.base.accuracy
    each = f"on {results.seeds} seeds, the same for every row" if results.seeds > 1 else "on one seed"
    sentences = [formats.sentence(ablation.description)] if ablation.description else []
    sentences.append(
        f"{formats.plural(len(ablation.factors), 'factor')} changed one at a time around {ablation.origin} on "
        f"{results.facts.history.lineage.dataset.name}{', and two of them crossed' if ablation.grid else ''}; "
        f"{formats.plural(len(results.rows), 'row')}, each trained {each}."
    )
    if base:
        interval = f"95{formats.NARROW}% interval {base.interval(results.images)}, {base.method}"
        sentences.append(f"The base has {base.percent(results.images)} validation accuracy ({interval}).")
    sentences.append(f"It took {formats.duration(cost.seconds)}. Test images were not opened.")
    if not results.finished:
        sentences.append("The ablation is not finished: all below is as of now.")
    return " ".join(sentences)


def _keys(results: Results, cost: Cost) -> list[Key]:
    history, base, run = results.facts.history, results.base.accuracy, results.base.first
    counts, complete, failed = _judged(results), history.count("COMPLETE"), history.count("FAIL")
    apart = sum(result.told_apart for result in results.rows.values())
    planned = f"of {results.seeds * len(results.rows):,} complete" + (f", {failed} failed" if failed else "")
    parameters, multiply_adds = (run.parameters, run.multiply_adds) if run else (None, None)
    images = f"validation accuracy, {results.images:,} images"
    return [
        Key("Base", base.value if base else None, base.percent(results.images) if base else formats.NOTHING, images),
        Key("Told apart", apart, str(apart), f"of {len(results.rows) - 1} rows, from the base"),
        Key("Hypotheses", counts.total(), str(counts.total()), _counted(counts) or "none to judge"),
        Key("Trainings", complete, f"{complete:,}", planned),
        ledger.device_time(cost),
        Key("One training", results.base.seconds, formats.duration(results.base.seconds), "of the base, device time"),
        Key("Parameters", parameters, formats.short(parameters), "of the base"),
        Key("Multiply-adds", multiply_adds, formats.short(multiply_adds), "of the base, for one image"),
    ]


def _configuration(results: Results) -> str:
    """Sections data, model and train of the base, as YAML."""
    tree = to_tree(results.ablation.base)
    tree["data"]["mirror"] = tree["data"]["mirror"] and without_password(tree["data"]["mirror"])
    return yaml_text({name: tree[name] for name in ("data", "model", "train")})


def _lineage(results: Results) -> Table:
    """What the ablation was made from."""
    history, ablation, first = results.facts.history, results.ablation, results.ablation.base.train.seed
    others = sorted({run.fingerprint for run in history.planned if run.fingerprint} - {history.spec.fingerprint})
    seeds = f"{first}" if results.seeds == 1 else f"{first} to {first + results.seeds - 1}"
    return ledger.lineage(
        history,
        before=[("Ablation", code(ablation.file)), ("Base", text(ablation.origin))],
        others=[("Data of other rows", code(name)) for name in others],
        seeds=(f"training {seeds}", "the same for every row"),
    )


def _grid(results: Results) -> dict[str, Any] | None:
    """The grid as plain data."""
    crossed = results.crossing
    if crossed is None:
        return None
    cells = figures.grid_numbers(crossed).rename(columns={"validation_accuracy": "accuracy"}).astype(object)
    interaction = asdict(crossed.interaction) if crossed.interaction else None
    return {"cells": cells.where(cells.notna(), None).to_dict("records"), "interaction": interaction}

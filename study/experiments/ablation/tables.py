"""Tables of an ablation: every row, every hypothesis, every factor, and the trainings that failed."""

from __future__ import annotations

from functools import partial

from pipeline.evaluation.statistics import p_text
from pipeline.lineage import without_password
from pipeline.report import formats
from pipeline.report.table import Cell, Column, Table
from study.experiments.ablation import verdicts
from study.experiments.ablation.definition import BASE
from study.experiments.ablation.grammar import MARGIN
from study.experiments.ablation.results import Effect, Hypothesis, Result, Results
from study.report import ledger
from study.report.axes import cell


def rows(results: Results, pages: ledger.Pages) -> Table:
    """Every row with its numbers and each seed's accuracy, the base first; accuracies and differences are shares."""

    def percent(share: float) -> str:
        return f"{100 * share:.{formats.digits_for(results.images)}f}"

    def title(result: Result) -> Cell:
        changes = [f"{key} {formats.scalar(value)}" for key, value in result.row.changes.items()]
        return Cell(result.row.title, result.row.title, details=", ".join(changes) if len(changes) > 1 else "")

    def corrected(result: Result) -> Cell | None:
        p = result.p_holm
        return None if p is None else Cell(p, p_text(p), style="strong" if result.told_apart else "")

    def seeds(result: Result) -> tuple[Cell, ...]:
        links = [pages(run) if run else None for run in result.runs]
        kinds = [(run in result.failed, link) for run, link in zip(result.runs, links, strict=True)]
        styles = ["struck" if failed else "" if link else "soft" for failed, link in kinds]
        return tuple(Cell(seed, str(seed), style, link) for seed, (style, link) in enumerate(zip(styles, links, strict=True)))

    holm = "paired t test, corrected for all rows by Holm's method"
    columns = [
        Column("row", None, lambda item: item.row.name),
        Column("title", "Change", title),
        Column("changes", None, lambda item: "; ".join(f"{key}={cell(value)}" for key, value in item.row.changes.items())),
        Column("accuracy", "Mean, %", lambda item: item.accuracy and item.accuracy.value, percent),
        Column("low", None, lambda item: item.accuracy and item.accuracy.low),
        Column("high", None, lambda item: item.accuracy and item.accuracy.high),
        Column("interval", None, lambda item: item.accuracy and item.accuracy.kind),
        Column("", "95 % interval", lambda item: item.accuracy, lambda found: formats.span(found.low, found.high, percent)),
        Column("difference", "To base", lambda item: item.gap, formats.signed),
        Column("difference_low", None, lambda item: item.difference and item.difference.low),
        Column("difference_high", None, lambda item: item.difference and item.difference.high),
        Column("", "95 % interval", lambda item: item.difference, verdicts.between),
        Column("p", None, lambda item: item.difference and item.difference.p_value),
        Column("p_holm", "p, Holm", corrected, hint=holm),
        Column("n", "n", lambda item: len(item.known)),
        Column("failed", None, lambda item: len(item.failed)),
        Column("device_seconds", "Time", lambda item: item.seconds, formats.duration),
        Column("parameters", "Parameters", lambda item: item.first and item.first.parameters, formats.short),
        Column("multiply_adds", "M-adds", lambda item: item.first and item.first.multiply_adds, formats.short,
               hint="multiply-adds for one image"),
        Column("", "Seeds", seeds),
        *(Column(f"seed_{seed}", None, partial(_value, seed)) for seed in range(results.seeds)),
    ]  # fmt: skip
    rows = list(results.rows.values())
    return Table("table", "Every row", columns, rows, best=lambda item: item.row.name == BASE, style="board")


def _value(seed: int, result: Result) -> float | None:
    return result.values[seed]


def hypotheses(results: Results) -> Table:
    """What was supposed of each factor, and what became of it."""

    def supposed(item: Hypothesis) -> tuple[Cell, ...]:
        text, claim = item.factor.hypothesis, item.factor.claim
        cells = [Cell(text, formats.sentence(text))] if text else []
        return (*cells, Cell(claim.text, claim.text, style="code")) if claim else tuple(cells)

    def outcome(item: Hypothesis) -> Cell:
        if item.judgement is None:
            return Cell(None, "no claim that a program can judge", style="info")
        verdict = item.judgement.verdict
        return Cell(verdict, item.judgement.outcome, style={"supported": "good", "refuted": "bad"}.get(verdict, "info"))

    columns = [
        Column("factor", "Factor", lambda item: item.factor.name),
        Column("", "Hypothesis and claim", supposed),
        Column("text", None, lambda item: item.factor.hypothesis),
        Column("claim", None, lambda item: item.factor.claim and item.factor.claim.text),
        Column("verdict", "Verdict", outcome),
        Column("evidence", "Evidence", lambda item: item.judgement.evidence if item.judgement else ""),
        Column("p_holm", "p, Holm", lambda item: item.judgement and item.judgement.p_holm, p_text,
               hint="corrected for all claims by Holm's method"),
        Column("n", None, lambda item: item.judgement and item.judgement.n),
        Column("needed", None, lambda item: item.judgement and item.judgement.needed),
    ]  # fmt: skip
    return Table("hypotheses", "Hypotheses", columns, results.hypotheses)


def factors(results: Results) -> Table:
    """Each factor: its levels from best to worst, and how far these are apart; the largest distance first."""

    def levels(effect: Effect) -> tuple[Cell, ...]:
        base, last = effect.factor.base.label, len(effect.order) - 1
        cells = [(label, label + "," * (rank < last), "strong" * (label == base)) for rank, label in enumerate(effect.order)]
        return tuple(Cell(*values) for values in cells) or (Cell(None, formats.NOTHING),)

    def summary(effect: Effect) -> str:
        if effect.flat:
            return f"{'matters, by ' if effect.matters else ''}less than {100 * MARGIN:g} points"
        return "matters" if effect.matters else "not known"

    columns = [
        Column("factor", "Factor", lambda effect: effect.factor.name),
        Column("base", None, lambda effect: effect.factor.base.label),
        Column("order", None, lambda effect: effect.order),
        Column("", "Levels, best first", levels),
        Column(
            "spread", "Best to worst", lambda effect: effect.spread and effect.spread.value, lambda value: f"{100 * value:.2f}"
        ),
        Column("", "95 % interval", lambda effect: effect.spread, verdicts.between),
        Column("n", None, lambda effect: effect.spread and effect.spread.n),
        Column("word", "Against the base", summary),
    ]  # fmt: skip
    rest = [effect for effect in results.effects if effect.spread is None]
    return Table("factors", "Factors", columns, [*results.ranked, *rest])


def failures(results: Results) -> Table:
    """Trainings that failed, in the order of their rows."""
    columns = [
        Column("row", "Row", lambda pair: pair[0].row.title),
        Column("run", "Training", lambda pair: Cell(pair[1].key, pair[1].key, style="code")),
        Column("cause", "Cause", lambda pair: pair[1].cause),
        Column("reason", "Reason", lambda pair: without_password(pair[1].reason or formats.NOTHING)),
        Column("epochs", "Epochs", lambda pair: len(pair[1].epochs)),
        Column("seconds", "Device time", lambda pair: pair[1].seconds, formats.duration),
    ]
    return Table("failures", "Failures", columns, [(row, run) for row in results.rows.values() for run in row.failed])

"""What `study list`, `status`, `show` and `best` print."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

from rich.console import Console
from rich.table import Table

from pipeline import tracking
from pipeline.artifacts import DamagedError
from pipeline.config import load
from study.engine.live import WORDS, Clock, architecture, best_line, draw, duration, line, sparkline
from study.state.best import best, front
from study.state.errors import UsageError
from study.state.history import History, Run, fold
from study.state.ledger import STUDIES, held, read
from study.state.objective import OBJECTIVES
from study.state.spec import Spec
from study.stores.addresses import STORES, locate_storage, read_stores


def history_of(name: str, root: Path) -> History:
    """Raises UsageError where there is no such study."""
    history = fold(read(root / STUDIES / name))
    if history is None:
        known = ", ".join(sorted(path.parent.name for path in (root / STUDIES).glob("*/ledger.jsonl"))) or "none yet"
        raise UsageError(f"there is no study {name} here; studies: {known}")
    return history


def run_of(history: History, key: str) -> Run:
    """Raises UsageError where the study has no such run."""
    if key not in history.runs:
        last = len(history.trials) - 1
        raise UsageError(f"{history.spec.name} has no trial {key}; it has 0 to {last}" if last >= 0 else "no trial was begun yet")
    return history.runs[key]


def state(history: History, folder: Path) -> str:
    """running, interrupted (the same command goes on), or how its last session ended."""
    if held(folder):
        return "running"
    last = history.sessions[-1] if history.sessions else {}
    return str(last.get("outcome", "interrupted"))


def listing(root: Path) -> Table | str:
    """All studies of this project, a line each."""
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for column in ("study", "state", "trials", "best validation", "data", "space", "begun"):
        table.add_column(column, no_wrap=True)
    for folder in sorted((root / STUDIES).glob("*")):
        try:
            history = fold(read(folder))
        except DamagedError:  # `study status NAME` says what to do; the others are listed all the same
            table.add_row(folder.name, "damaged", "–", "–", "–", "–", "–")
            continue
        if history is not None:
            found = history.leading()
            so_far = "" if found is None or found.state == "COMPLETE" else " so far"
            table.add_row(
                history.spec.name,
                state(history, folder),
                f"{len(history.members)}/{history.spec.study.trials}",
                f"{found.accuracy:.2%}{so_far}" if found else "–",
                history.spec.params.data.name,
                history.spec.space,
                datetime.fromtimestamp(history.created / 1000).strftime("%Y-%m-%d %H:%M"),
            )
    return table if table.row_count else "no study yet; `study run` begins one"


def show(name: str, root: Path) -> None:
    """How far the study is."""
    history, folder = history_of(name, root), root / STUDIES / name
    console = Console(highlight=False, soft_wrap=True)
    how = state(history, folder)
    spec, planned = history.spec, history.spec.kind.plan
    console.print(f"[bold]{name}[/]: {how}; {spec.title}")
    counts = [f"{history.count(each)} {WORDS[each]}" for each in WORDS if history.count(each)]  # type: ignore[arg-type]
    begun = f"{len(history.members)} of {spec.study.trials}: {', '.join(counts) or 'none yet'}"
    console.print(f"{'trained ' if planned else 'trials  '} {begun}")
    if not planned:
        console.print(f"best     {best_line(history)}")
    seconds = sum(run.seconds for run in history.runs.values())
    console.print(f"cost     {duration(seconds)} of device time, {sum(len(run.epochs) for run in history.runs.values())} epochs")
    if history.winner:
        console.print(f"winner   {history.winner.summary}")
    if history.test:
        console.print(f"test     {history.test.summary}")
    if history.sessions and history.sessions[-1].get("reason"):
        console.print(f"reason   {history.sessions[-1]['reason']}", markup=False)
    if how == "stopped" or how == "interrupted":
        console.print(f"go on    {history.command if planned else f'study run --name {name}'}", markup=False)
    console.print()
    console.print(rows(history) if planned else leaders(history))


def rows(history: History) -> Table:
    """The rows of a plan, in its order, with the means over their seeds as they are now."""
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for column in ("row", "seeds", "validation", "test", "parameters", "network"):
        table.add_column(column, no_wrap=True, justify="left" if column in ("row", "network") else "right")
    for name in dict.fromkeys(run.origin for run in history.planned):
        own = [run for run in history.planned if run.origin == name]
        done = [run for run in own if run.state == "COMPLETE"]
        tested = [run.test.accuracy for run in done if run.test]
        accuracies = [run.accuracy or 0.0 for run in done]
        means = [f"{sum(values) / len(values):.2%}" if values else "–" for values in (accuracies, tested)]
        table.add_row(name, f"{len(done)}/{len(own)}", *means, f"{own[0].parameters:,}", architecture(own[0]))
    return table


def leaders(history: History, count: int = 10) -> Table:
    """The best trials."""
    first, quality = history.spec.objectives[0], history.spec.quality
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for column in ("trial", "validation", "epochs", "curve", "parameters", "lr", "network"):
        table.add_column(column, no_wrap=True, justify="right" if column in ("validation", "epochs", "parameters") else "left")
    ranked = sorted((run for run in history.trials if run.values), key=lambda run: first.cost(run.values[0]))  # type: ignore[index]
    for run in ranked[:count]:
        curve = sparkline([quality.of(epoch) or 0.0 for epoch in run.epochs], width=12)
        table.add_row(
            run.key,
            quality.shown(run),
            str(len(run.epochs)),
            curve,
            f"{run.parameters:,}",
            f"{run.config.train.lr:.2g}",
            architecture(run),
        )
    return table


def watch(name: str, root: Path) -> None:
    """The live view of a study that another process runs, until it ends or Ctrl-C."""
    from rich.live import Live

    folder = root / STUDIES / name
    history = history_of(name, root)
    clock = Clock(history)
    try:
        with Live(auto_refresh=False) as live:
            while held(folder):
                history = history_of(name, root)
                ended = sorted((run for run in history.runs.values() if run.ended), key=lambda run: run.ended or 0)[-5:]
                live.update(draw(history, history.sessions[-1].get("workers", []), clock, ended, []), refresh=True)
                time.sleep(1.0)
    except KeyboardInterrupt:
        return
    show(name, root)


def show_run(name: str, key: str, root: Path) -> None:
    """One trial: parameters, course, result."""
    history = history_of(name, root)
    run = run_of(history, key)
    console = Console(highlight=False, soft_wrap=True)
    console.print(line(run, history.spec.quality), markup=False)
    table = Table(box=None, padding=(0, 2, 0, 0), show_header=False)
    for parameter, value in run.params.items():
        table.add_row(parameter, f"{value:.4g}" if isinstance(value, float) else str(value))
    console.print(table)
    console.print(f"seed {run.seed}, group {run.group}, replicate {run.replicate}, origin {run.origin}", markup=False)
    if run.epochs:
        console.print(course(run, history.spec))
    if run.reason:
        console.print(f"{run.cause}: {run.reason}", markup=False)
    traceback = root / STUDIES / name / "runs" / key / "traceback.txt"
    if traceback.exists():
        console.print(traceback.read_text(), markup=False)


def course(run: Run, spec: Spec) -> Table:
    """A row for each epoch."""
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    measured = dict.fromkeys([OBJECTIVES["loss"], OBJECTIVES["accuracy"], spec.quality])
    for column in ("epoch", "train loss", "train accuracy", *(one.label for one in measured), "lr", "seconds"):
        table.add_column(column, justify="right")
    for epoch in run.epochs:
        table.add_row(
            f"{epoch.epoch}" + ("*" if epoch.epoch == (run.kept_epoch or 0) else ""),
            f"{epoch.train_loss:.4f}",
            f"{epoch.train_accuracy:.2%}",
            *(one.short(one.of(epoch)) for one in measured),
            f"{epoch.lr:.2g}",
            f"{epoch.seconds:.1f}",
        )
    return table


def show_best(name: str, rule: str | None, root: Path) -> None:
    """The best trial; of several objectives the Pareto front, and with a rule one trial of it."""
    history = history_of(name, root)
    console = Console(highlight=False, soft_wrap=True)
    if len(history.spec.study.objectives) > 1:
        table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
        for column in ("trial", *history.spec.study.objectives, "network"):
            table.add_column(column)
        for run in front(history):
            table.add_row(run.key, *(f"{value:.6g}" for value in run.values or []), architecture(run))
        console.print(table)
    chosen = best(history, rule)
    show_run(name, chosen.key, root)


def verify(name: str, root: Path, environ: Mapping[str, str]) -> list[str]:
    """Every disagreement between ledger, Optuna and MLflow."""
    from study.stores.verify import verify

    history_of(name, root)
    folder = root / STUDIES / name
    if (folder / STORES).exists():  # where it was recorded, whatever params.yaml says by now
        return verify(folder, *read_stores(folder))
    params = load(root / "params.yaml")
    return verify(folder, tracking.locate(params.tracking, environ), locate_storage(params.study, environ, root))

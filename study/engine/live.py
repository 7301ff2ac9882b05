"""What people see of a running study: one live view in a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any, Self

from rich.console import Console, Group
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from study.engine import finalists
from study.state.history import History, Run
from study.state.ledger import Event
from study.state.objective import Objective

BARS = "▁▂▃▄▅▆▇█"
COLOURS = {"COMPLETE": "green", "PRUNED": "yellow", "FAIL": "red", "RUNNING": "cyan", "PAUSED": "blue"}
WORDS = {"COMPLETE": "complete", "PRUNED": "pruned", "FAIL": "failed", "RUNNING": "running", "PAUSED": "paused"}
REFRESH = 0.25  # seconds


def sparkline(values: list[float], width: int = 16) -> str:
    """The last values as bars between their lowest and highest."""
    shown = values[-width:]
    low, high = min(shown, default=0.0), max(shown, default=0.0)
    if high == low:
        return BARS[0] * len(shown)
    return "".join(BARS[round((value - low) / (high - low) * (len(BARS) - 1))] for value in shown)


def duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes}:{rest:02}"


def architecture(run: Run) -> str:
    """``conv 16-8, dense 50``."""
    model = run.config.model
    widths = {"conv": [block.out for block in model.conv], "dense": [block.out for block in model.dense]}
    return ", ".join(f"{kind} {'-'.join(map(str, outs))}" for kind, outs in widths.items() if outs) or "linear"


def best_line(history: History) -> str:
    """The best trial so far with its interval; before any is complete, of those that are on their way."""
    best = history.leading()
    if best is None:
        return "no trial has completed an epoch yet"
    from pipeline.evaluation.statistics import Proportion  # scipy takes most of a second, and there is time by now

    images = history.lineage.dataset.images["validation"]
    share = Proportion.of(round((best.accuracy or 0.0) * images), images)
    quality = history.spec.quality
    other = "" if quality.name == "accuracy" else f", {quality.title} {quality.shown(best)}"
    way = "" if best.state == "COMPLETE" else f" after {len(best.epochs)} of {best.config.train.epochs} epochs"
    return (
        f"{share.value:.2%} validation ({share.low:.2%} to {share.high:.2%}){other}, trial {best.key}{way}, "
        f"{architecture(best)}, {best.parameters:,} parameters"
    )


def line(run: Run, quality: Objective) -> str:
    """An ended run in one line."""
    name = {"search": "trial ", "final": "finalist ", "planned": ""}[run.phase] + run.key
    text = f"{name:<16} {WORDS[run.state]:<9} {quality.shown(run):>8}  {len(run.epochs):>3} epochs {run.seconds:>7.1f} s  "
    text += f"{run.parameters:>9,} parameters  {architecture(run)}"
    return text + (f"  [{run.reason}]" if run.reason and run.cause != "asha" else "")


class Clock:
    """How fast a session goes: counted from its own start, not from that of sessions before."""

    def __init__(self, history: History) -> None:
        self.began = time.monotonic()
        self._images = _images(history)
        self._ended = self._over(history)

    @staticmethod
    def _over(history: History) -> int:
        return history.count("COMPLETE", "PRUNED", "FAIL", "PAUSED")

    @property
    def elapsed(self) -> float:
        return time.monotonic() - self.began

    def throughput(self, history: History) -> float:
        """Training images per second of wall time, over all workers."""
        return (_images(history) - self._images) / self.elapsed

    def left(self, history: History) -> float | None:
        """Seconds until the trials that are wanted have been tried, at this session's pace; None before the first."""
        done = self._over(history) - self._ended
        wanted = history.spec.study.trials - self._over(history)
        return self.elapsed / done * max(wanted, 0) if done > 0 else None


def _images(history: History) -> int:
    """Training images that all epochs have gone over."""
    total = history.lineage.dataset.images["train"]
    trained = [run for run in history.runs.values() if run.epochs]
    return sum(len(run.epochs) * min(run.config.train.epoch_images or total, total) for run in trained)


class PlainView:
    """A line for every trial that ends, every new best, every problem."""

    def __init__(self, history: History, slots: list[str]) -> None:
        self.console = Console(highlight=False, soft_wrap=True)
        self.quality = history.spec.quality
        self.best: str | None = None
        self.problems: list[str] = []
        self.console.print(_title(history, slots))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        return None

    def update(self, history: History, event: Event) -> None:
        if event["kind"] == "ended":
            run = history.runs[event["run"]]
            best = history.best()
            new = run.phase == "search" and best is run and best.key != self.best
            self.best = best.key if best else None
            self.console.print(line(run, self.quality) + ("  best so far" if new else ""), markup=False)
        elif event["kind"] == "paused":
            self.console.print(line(history.runs[event["run"]], self.quality), markup=False)
        elif event["kind"] == "lost":
            self.console.print(f"{event['run']}: its worker {event['why']}; it goes on from its checkpoint", markup=False)
        elif event["kind"] == "winner":
            self.console.print(event["summary"], markup=False)
        elif event["kind"] == "scored":
            self.console.print(f"{event['run']:<16} test {event['test']['accuracy']:.2%}", markup=False)

    def say(self, text: str) -> None:
        self.console.print(text, markup=False)

    def tick(self, history: History, problems: list[str]) -> None:
        for problem in problems:
            if problem not in self.problems:
                self.console.print(f"waiting: {problem}", markup=False)
        for problem in self.problems:
            if problem not in problems:
                self.console.print(f"again in order: {problem}", markup=False)
        self.problems = problems


class LiveView:
    """The same, drawn in place."""

    def __init__(self, history: History, slots: list[str]) -> None:
        self.slots, self.clock = slots, Clock(history)
        self.quality = history.spec.quality
        self.ended: list[Run] = []
        self.live = Live(console=Console(), auto_refresh=False, transient=False)
        self.drawn = 0.0

    def __enter__(self) -> Self:
        self.live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.live.stop()

    def update(self, history: History, event: Event) -> None:
        if event["kind"] == "ended":
            self.ended = [*self.ended[-4:], history.runs[event["run"]]]
        elif event["kind"] == "scored":  # no training ticks any more
            self.live.update(draw(history, self.slots, self.clock, self.ended, []), refresh=True)

    def say(self, text: str) -> None:
        self.live.console.print(text, markup=False)

    def tick(self, history: History, problems: list[str]) -> None:
        if time.monotonic() - self.drawn >= REFRESH:
            self.drawn = time.monotonic()
            self.live.update(draw(history, self.slots, self.clock, self.ended, problems), refresh=True)


def draw(history: History, slots: list[str], clock: Clock, ended: list[Run], problems: list[str]) -> Panel:
    """The whole view."""
    quality = history.spec.quality
    best = [] if history.spec.kind.plan else [Text.assemble(("best  ", "bold"), best_line(history))]
    parts: list[Any] = [_progress(history), *best, Text("")]
    parts += [_running(history, quality)]
    if ended:
        parts += [
            Text(""),
            *(Text(line(run, quality), style=COLOURS[run.state], overflow="ellipsis", no_wrap=True) for run in ended),
        ]
    parts += [Text(""), _speed(history, slots, clock)]
    parts += [Text(problem, style="bold red") for problem in problems]
    parts += [Text("Ctrl-C once: keep all and stop; twice: at once", style="dim")]
    return Panel(Group(*parts), title=_title(history, slots), title_align="left")


def _title(history: History, slots: list[str]) -> str:
    spec = history.spec
    workers = f"{len(slots)} {'worker' if len(slots) == 1 else 'workers'}"
    if spec.kind.plan:
        return f"{spec.name}: {spec.title}, {spec.study.trials} trainings, {workers}"
    return f"study {spec.name}: {spec.title}, {workers}"


def _progress(history: History) -> Table:
    row = Table.grid(padding=(0, 2))
    finals = history.finals
    scored = sum(run.test is not None for run in history.members)
    if scored:
        done, total, what = scored, history.count("COMPLETE"), "scored on test"
    elif finals:
        wanted = finalists.keys(history)
        done, total, what = sum(run.ended is not None and run.key in wanted for run in finals), len(wanted), "finalists"
    else:
        what = f"{history.spec.kind.noun}s"
        done, total = history.count("COMPLETE", "PRUNED", "FAIL", "PAUSED"), history.spec.study.trials
    states = [
        (f"{history.count(state)} {WORDS[state]}", COLOURS[state])
        for state in ("COMPLETE", "RUNNING", "PAUSED", "PRUNED", "FAIL")
        if history.count(state)
    ]
    text = Text("  ").join(Text(words, style=colour) for words, colour in states)
    row.add_row(f"{done}/{total} {what}", ProgressBar(total=max(total, 1), completed=done, width=24), text)
    return row


def _running(history: History, quality: Objective) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for name in ("slot", "trial", "epoch", "validation", "curve", "learning rate", "network"):
        table.add_column(name, no_wrap=True)
    for run in history.runs.values():
        if run.state == "RUNNING" and run.segments:
            curve = [quality.of(epoch) or 0.0 for epoch in run.epochs]
            epochs = f"{len(run.epochs)}/{run.config.train.epochs}"
            lr = f"{run.config.train.lr:.2g}"
            table.add_row(run.segments[-1].slot, run.key, epochs, quality.shown(run), sparkline(curve), lr, architecture(run))
    return table


def _speed(history: History, slots: list[str], clock: Clock) -> Text:
    left = clock.left(history)
    about = f", about {duration(left)} to the last one" if left and not history.finals else ""
    devices = ", ".join(slots) if len(slots) <= 8 else f"{len(slots)} slots"
    return Text(f"{duration(clock.elapsed)}{about}   {clock.throughput(history):,.0f} images/s on {devices}", style="dim")


def make_view(history: History, slots: list[str]) -> AbstractContextManager[PlainView | LiveView]:
    """Live where the output is a terminal."""
    return LiveView(history, slots) if Console().is_terminal else PlainView(history, slots)

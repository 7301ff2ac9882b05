"""Show training in a terminal: a line per epoch and, on a terminal, a progress bar."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from pipeline.epochs import Epoch

HEADER = "epoch   train loss   accuracy   validation loss   accuracy         lr   seconds   left"


class Display:
    """The display of one training, a context manager; pass :meth:`progress` to ``Training.run_epoch``."""

    def __init__(self, epochs: int, history: list[Epoch]) -> None:
        self.epochs, self.seconds = epochs, [epoch.seconds for epoch in history]
        columns = (TextColumn("epoch {task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
        self.bar = Progress(*columns, console=Console(file=sys.stdout), transient=True, disable=not sys.stdout.isatty())
        self.task = self.bar.add_task("", total=None)

    def __enter__(self) -> Self:
        self.bar.start()
        self._print(HEADER)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.bar.stop()

    def progress(self, done: int, total: int) -> None:
        """Move the bar, which spans all epochs, so that it shows the time to the end of training."""
        before = len(self.seconds)
        self.bar.update(
            self.task, description=f"{before + 1}/{self.epochs}", completed=before * total + done, total=self.epochs * total
        )

    def epoch(self, record: Epoch, best: bool) -> None:
        self.seconds.append(record.seconds)
        left = (self.epochs - record.epoch) * sum(self.seconds) / len(self.seconds)
        self._print(
            f"{record.epoch:>5}   {record.train_loss:>10.4f}   {record.train_accuracy:>8.2%}   {record.validation_loss:>15.4f}"
            f"   {record.validation_accuracy:>8.2%} {record.lr:>10.2g}   {record.seconds:>7.1f}   {_duration(left):>4}"
            + ("   best" if best else "")
        )

    def _print(self, line: str) -> None:
        if self.bar.disable:
            print(line, flush=True)
        else:
            self.bar.console.print(line, highlight=False)


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02}" if hours else f"{minutes}:{seconds:02}"

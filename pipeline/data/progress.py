"""Show the progress of a long step: a bar on a terminal, a few lines elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

LONG_BYTES, LONG_COUNT = 20_000_000, 1000


@contextmanager
def progress(label: str, total: int, *, is_bytes: bool = False) -> Iterator[Callable[[int], None]]:
    """Yield a function to call with the amount done, in [0, total]; output goes to stderr."""
    if sys.stderr.isatty():
        from rich import progress as rich
        from rich.console import Console

        count = rich.DownloadColumn() if is_bytes else rich.MofNCompleteColumn()
        columns = (rich.TextColumn("{task.description}", markup=False), rich.BarColumn(), count, rich.TimeRemainingColumn())
        with rich.Progress(*columns, console=Console(stderr=True), transient=True) as bar:
            task = bar.add_task(label, total=total)
            yield lambda done: bar.update(task, completed=done)
    else:
        yield _Lines(label, total, is_bytes)


class _Lines:
    """Prints a line per quarter of a long step, one at the end of a short step."""

    def __init__(self, label: str, total: int, is_bytes: bool) -> None:
        self.label, self.total, self.is_bytes, self.quarter = label, total, is_bytes, 0
        self.steps = 4 if total >= (LONG_BYTES if is_bytes else LONG_COUNT) else 1

    def __call__(self, done: int) -> None:
        quarter = self.steps * done // self.total if self.total else 0
        if quarter > self.quarter:
            self.quarter = quarter
            share = f"{_size(done)} of {_size(self.total)}" if self.is_bytes else f"{done} of {self.total}"
            print(f"{self.label}: {share}", file=sys.stderr, flush=True)


def _size(count: int) -> str:
    return f"{count / 1e6:.1f} MB" if count >= 1e5 else f"{count} bytes"

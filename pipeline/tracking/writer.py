"""The writer process of a run: send its queue to the store, and retry while the store is unreachable."""

from __future__ import annotations

import os
import select
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from pipeline.lineage import without_password
from pipeline.tracking.client import RefusedError, is_passing
from pipeline.tracking.run import AWAY, REFUSED, SENT
from pipeline.tracking.sink import Sink
from pipeline.tracking.spool import Record, Spool, State, waiting
from pipeline.tracking.store import unreachable

INTERVAL = 2.0  # seconds between two batches or tries
PATIENCE = 30.0  # seconds that an ended run waits for an unreachable store
CHARITY = 10.0  # seconds after which an ended run starts no other run's queue


@dataclass
class Feed:
    """Passes records from a queue to its sink, in order; after any failure it can be retried."""

    sink: Sink
    offset: int = 0
    pending: list[list[Record]] = field(default_factory=list)
    ended: bool = False
    written: State | None = None

    @property
    def where(self) -> str:
        """URI of the store in the first opening."""
        return str(self.sink.spool.read()[0][0]["uri"])

    def flush(self) -> None:
        """Send the records now in the queue.

        Raises
        ------
        Exception
            The store is unreachable; unsent records stay pending.
        RefusedError
            The store refuses the run.
        """
        records, self.offset = self.sink.spool.read(self.offset)
        for record in records:
            if self.pending and record["kind"] == "metrics" == self.pending[-1][0]["kind"]:
                self.pending[-1].append(record)
            else:
                self.pending.append([record])
        while self.pending:
            kind = self.pending[0][0]["kind"]
            try:
                self.sink.send(self.pending[0])
            except Exception as error:
                if is_passing(error):
                    raise
                if kind == "open":
                    raise RefusedError(str(error)) from error
                self.sink.warnings.append(f"MLflow did not take one record ({kind}) of the run: {_line(error)}")
            self.ended = {"open": False, "finish": True}.get(kind, self.ended)
            del self.pending[0]


def serve(folder: Path) -> int:
    """Send one run's records until its process ends or closes our standard input; return the exit status."""
    os.nice(10)  # training has priority if cores are few
    spool = Spool(folder)
    with spool.sole_writer(wait=True):
        feed, others = Feed(Sink(spool)), _send_others(folder)
        deadline, pause, warm = None, 0.0, False
        while True:
            if deadline is None and select.select([sys.stdin], [], [], pause)[0]:  # the run ended or closed the pipe
                deadline = time.monotonic() + PATIENCE
            try:
                problem = _attempt(feed, last=deadline is not None)
            except RefusedError as error:
                spool.write_state(replace(feed.sink.state, problem=str(error)))
                return REFUSED
            if deadline is not None:
                if problem is None:
                    enough = time.monotonic() + CHARITY
                    while time.monotonic() < enough and next(others, None):
                        pass
                    return SENT
                if time.monotonic() > deadline:
                    return AWAY
                time.sleep(INTERVAL / 4)
            elif problem is None and pause and not warm:
                warm = True
                _warm_up()
            elif problem is None:
                next(others, None)
            pause = INTERVAL


def send_left_over(root: Path) -> int:
    """Send the backlog of earlier runs; return 1 if any remains."""
    left = waiting(root)
    away: dict[str, str] = {}
    problems = {spool.folder.name: _send_left(spool, away) for spool in left}
    for name, problem in problems.items():
        print(f"{name}: {problem or 'sent'}")
    if not left:
        print("nothing is left to send")
    return int(any(problems.values()))


def _attempt(feed: Feed, last: bool) -> str | None:
    """Send the queue and, after the ``last`` record, end the run; return the problem if a retry may help, else None."""
    try:
        feed.flush()
        if last and not feed.ended:
            feed.sink.end_abandoned()
        problem = None
    except RefusedError:
        raise
    except Exception as error:
        if not is_passing(error):
            raise
        problem = unreachable(feed.where) or f"MLflow at {without_password(feed.where)} takes no records now: {_line(error)}"
    state = replace(feed.sink.state, problem=problem)
    if state != feed.written:
        feed.sink.spool.write_state(state)
        feed.written = state
    return problem


def _send_others(own: Path) -> Iterator[Spool]:
    """Send the queues of earlier runs, one per step; yield each."""
    away: dict[str, str] = {}
    for spool in waiting(own.parents[2]):
        if spool.folder != own:
            _send_left(spool, away)
            yield spool


def _send_left(spool: Spool, away: dict[str, str]) -> str | None:
    """Send and delete the queue of an ended process; return the problem, or None.

    away : problems of unreachable stores, which are not asked again
    """
    with spool.sole_writer(wait=False) as alone:
        if not alone or spool.in_use():
            return "a running process sends it"
        feed = Feed(Sink(spool))
        try:
            if spool.read()[0]:  # empty if the run was killed at once
                problem = away.get(feed.where) or unreachable(feed.where)
                if problem:
                    away[feed.where] = problem
                    return problem
                problem = _attempt(feed, last=True)
                if problem:
                    return problem
        except Exception as error:  # one bad queue must not stop the others
            return _line(error)
        with suppress(BlockingIOError), spool.append_to():
            if spool.records.stat().st_size <= feed.offset:
                spool.delete()
        return None


def _warm_up() -> None:
    """Import the modules that recording a model needs, which takes seconds, while training uses the other cores."""
    import torch

    import pipeline.models.classifier  # noqa: F401

    torch.export.export(torch.nn.Identity(), (torch.zeros(2),))


def _line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:300]

"""The writer process of a run: reads its queue, keeps the store up to date, and waits for a store that is away."""

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

INTERVAL = 2.0  # seconds from one batch to the next, and from one try to the next
PATIENCE = 30.0  # seconds that a run which has ended waits for a store that is away
CHARITY = 10.0  # seconds after which a run that has ended begins no other's queue


@dataclass
class Feed:
    """The way of records from a queue to its sink, in order; it can be tried again after any failure."""

    sink: Sink
    offset: int = 0
    pending: list[list[Record]] = field(default_factory=list)
    ended: bool = False
    told: State | None = None

    @property
    def where(self) -> str:
        """The store of the first opening."""
        return str(self.sink.spool.read()[0][0]["uri"])

    def flush(self) -> None:
        """Send all that is in the queue now.

        Raises
        ------
        Exception
            The store is away; what is unsent stays pending.
        RefusedError
            The store does not take the run.
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
    """Send one run's records as they come, until its process ends or closes our standard input; how that went."""
    os.nice(10)  # training goes first where cores are few
    spool = Spool(folder)
    with spool.sole_writer(wait=True):
        feed, others = Feed(Sink(spool)), _send_others(folder)
        deadline, pause, warm = None, 0.0, False
        while True:
            if deadline is None and _closed(pause):
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
    """Send what earlier runs left; 1 where something is left still."""
    left = waiting(root)
    away: dict[str, str] = {}
    problems = {spool.folder.name: _send_left(spool, away) for spool in left}
    for name, problem in problems.items():
        print(f"{name}: {problem or 'sent'}")
    if not left:
        print("nothing is left to send")
    return int(any(problems.values()))


def _attempt(feed: Feed, last: bool) -> str | None:
    """Send what there is, and after the ``last`` record end the run; why that failed, if it may succeed later."""
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
        problem = unreachable(feed.where) or f"MLflow at {without_password(feed.where)} does not take records now: {_line(error)}"
    state = replace(feed.sink.state, problem=problem)
    if state != feed.told:
        feed.sink.spool.write_state(state)
        feed.told = state
    return problem


def _send_others(own: Path) -> Iterator[Spool]:
    """Send what earlier runs left, a queue at each step."""
    away: dict[str, str] = {}
    for spool in waiting(own.parents[2]):
        if spool.folder != own:
            _send_left(spool, away)
            yield spool


def _send_left(spool: Spool, away: dict[str, str]) -> str | None:
    """Send what a process that is no more left behind, and delete it; why that failed.

    away : why the stores that did not answer before did not; they are not asked again
    """
    with spool.sole_writer(wait=False) as alone:
        if not alone or spool.in_use():
            return "a run under way sends it"
        feed = Feed(Sink(spool))
        try:
            if spool.read()[0]:  # none, where a run was killed before its first word
                problem = away.get(feed.where) or unreachable(feed.where)
                if problem:
                    away[feed.where] = problem
                    return problem
                problem = _attempt(feed, last=True)
                if problem:
                    return problem
        except Exception as error:  # whatever is wrong with it, others go on
            return _line(error)
        with suppress(BlockingIOError), spool.append_to():
            if spool.records.stat().st_size <= feed.offset:
                spool.delete()
        return None


def _warm_up() -> None:
    """Import and set up what recording the model needs, seconds of work, while training has the other cores."""
    import torch

    import pipeline.models.classifier  # noqa: F401

    torch.export.export(torch.nn.Identity(), (torch.zeros(2),))


def _closed(seconds: float) -> bool:
    """Whether our run's process has ended or closed its end, waiting that long for it."""
    return bool(select.select([sys.stdin], [], [], seconds)[0])


def _line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:300]

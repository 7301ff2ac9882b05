"""What a study cost: sessions, slots, device seconds, and what stopping early saved."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from study.state.history import History, Run, Segment

HOUR = 3600.0


@dataclass(frozen=True)
class Span:
    """One session of `study run`, in milliseconds since 1970; ``workers`` are the names of its slots."""

    began: int
    ended: int
    workers: tuple[str, ...]

    @property
    def seconds(self) -> float:
        return (self.ended - self.began) / 1000


@dataclass(frozen=True)
class Bar:
    """A segment of a run on a slot, its end known; ``why`` it ended there: rung, ended, or broken off."""

    run: Run
    slot: str
    began: int
    ended: int
    why: str


@dataclass(frozen=True)
class Cost:
    """spans : sessions; bars : all segments; seconds : of wall time in sessions
    device : seconds in epochs by state, finalists' as ``finalists``
    slots : name → busy seconds, and seconds in which there was such a slot
    epochs : done by trials; skipped : left out by stopping early; saved : seconds these would have taken at each trial's own pace
    """

    spans: tuple[Span, ...]
    bars: tuple[Bar, ...]
    device: dict[str, float]
    slots: dict[str, tuple[float, float]]
    epochs: int
    skipped: int
    saved: float
    trials_per_hour: float | None

    @property
    def seconds(self) -> float:
        return sum(span.seconds for span in self.spans)


def cost(history: History) -> Cost:
    """From the ledger's times. A session whose end was not written (it was killed, or still runs) ends with its last event."""
    spans = tuple(_spans(history))
    bars = tuple(bar for run in history.runs.values() for bar in _bars(run))
    device: dict[str, float] = {}
    for run in history.runs.values():
        kind = kind_of(run)
        device[kind] = device.get(kind, 0.0) + run.seconds
    skipped = [(epochs, epochs * run.seconds / len(run.epochs)) for run in history.trials if (epochs := _skipped(run))]
    searched = [run for run in history.trials if run.ended]
    times = [run.asked for run in history.trials] + [run.ended or 0 for run in searched]
    inside = [max(0, min(span.ended, max(times)) - span.began) / 1000 for span in spans] if times else []
    return Cost(
        spans=spans,
        bars=bars,
        device=device,
        slots=_slots(spans, bars),
        epochs=sum(len(run.epochs) for run in history.trials),
        skipped=sum(epochs for epochs, _ in skipped),
        saved=sum(seconds for _, seconds in skipped),
        trials_per_hour=len(searched) * HOUR / sum(inside) if searched and sum(inside) > 0 else None,
    )


def kind_of(run: Run) -> str:
    """What a run's time counts as: its state, or ``finalists``."""
    return "finalists" if run.phase == "final" else run.state


def _skipped(run: Run) -> int:
    """Epochs that a trial was not given because others were better."""
    stopped = run.state == "PRUNED" or (run.state == "PAUSED" and run.waits != "interrupted")
    if not stopped or not run.epochs:
        return 0
    return run.config.train.epochs - len(run.epochs)


def _spans(history: History) -> Iterator[Span]:
    events = history.sessions
    for index, event in enumerate(events):
        if event["kind"] != "opened":
            continue
        after = events[index + 1] if index + 1 < len(events) else None
        if after is not None and after["kind"] == "closed":
            end = after["time"]
        else:
            end = _last(history, event["time"], after["time"] if after else None)
        yield Span(event["time"], end, tuple(event["workers"]))


def _last(history: History, began: int, before: int | None) -> int:
    """The last sign of life between two times."""
    seen = [began]
    for run in history.runs.values():
        seen += [run.asked, *([run.ended] if run.ended else []), *(epoch.time for epoch in run.epochs)]
        seen += [time for segment in run.segments for time in (segment.began, segment.ended or 0)]
    return max(time for time in seen if time >= began and (before is None or time < before))


def _bars(run: Run) -> Iterator[Bar]:
    for index, segment in enumerate(run.segments):
        last = index + 1 == len(run.segments)
        yield Bar(run, segment.slot, segment.began, _end(run, segment, index), _why(run, segment, last))


def _end(run: Run, segment: Segment, index: int) -> int:
    """Where the end was not written, the last epoch that fell into the segment."""
    if segment.ended is not None:
        return segment.ended
    after = run.segments[index + 1].began if index + 1 < len(run.segments) else None
    inside = [epoch.time for epoch in run.epochs if epoch.time >= segment.began and (after is None or epoch.time < after)]
    return int(max(inside, default=segment.began))


def _why(run: Run, segment: Segment, last: bool) -> str:
    if segment.ended is None:
        return "broken off"
    return "ended" if last and run.ended == segment.ended else "paused"


def _slots(spans: tuple[Span, ...], bars: tuple[Bar, ...]) -> dict[str, tuple[float, float]]:
    names = sorted({bar.slot for bar in bars} | {name for span in spans for name in span.workers})
    busy = {name: sum(bar.ended - bar.began for bar in bars if bar.slot == name) / 1000 for name in names}
    there = {name: sum(span.seconds for span in spans if name in span.workers) for name in names}
    return {name: (busy[name], there[name]) for name in names}

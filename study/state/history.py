"""The state of a study: a fold over the events of its ledger."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from pipeline import epochs
from pipeline.config import parse
from study.state.ledger import Event
from study.state.records import Epoch, Lineage, RunConfig, RunTest, Winner, WinnerTest, parsed
from study.state.spec import Spec

State = Literal["RUNNING", "PAUSED", "COMPLETE", "PRUNED", "FAIL"]
ENDED = ("COMPLETE", "PRUNED", "FAIL")


@dataclass(frozen=True)
class Segment:
    """A stretch of a training on one slot: what the timeline shows.

    first, last : epochs already done when it began, and when it ended
    began, ended : milliseconds since 1970; ended is None while it runs, or where the coordinator died
    """

    slot: str
    first: int
    began: int
    last: int | None = None
    ended: int | None = None


@dataclass
class Run:
    """One training: a trial of the search, or one seed of a finalist.

    key : unique in the study: the trial's number, or ``12.s3`` for seed 3 of finalist 12, or ``ROW.s3`` for that of a row
    phase : search, final (of a finalist), or planned (of an ablation or a reproduction)
    trial : number of the trial; of a finalist's training, of the trial it confirms; of a planned one, of its row
    params : Optuna's parameters, by name; of a planned one the keys that its row changes; distributions : as JSON of Optuna
    group : digest of the configuration without its seed; the same for replicates
    replicate : 0 for the first trial of a group; for a finalist the index of the seed
    origin : sampler, replicate, or the study or file it was seeded from; of a planned one its row
    epochs : in order, without gaps, from epoch 1
    values : one per objective; None until COMPLETE
    cause : of a failed or pruned one a word for it (diverged, memory, exception, died, hang, impossible, median, …)
    reason : the whole of it in a sentence
    problem : what makes the combination impossible; such a run is never started
    fingerprint : of a planned one's data; empty: the study's
    test : of a reproduction what its weights score on the test images
    seconds : of device time, from the epochs
    """

    key: str
    phase: Literal["search", "final", "planned"]
    trial: int
    params: dict[str, Any]
    distributions: dict[str, str]
    config: RunConfig
    group: str
    replicate: int
    seed: int
    parameters: int
    multiply_adds: int
    origin: str
    asked: int
    state: State = "RUNNING"
    epochs: list[Epoch] = field(default_factory=list)
    segments: list[Segment] = field(default_factory=list)
    values: list[float] | None = None
    cause: str | None = None
    reason: str | None = None
    kept_epoch: int | None = None
    latency: float | None = None
    problem: str | None = None
    fingerprint: str = ""
    test: RunTest | None = None
    ended: int | None = None
    waits: str | None = None  # why it is paused: "rung 3", or "interrupted" and to be gone on with first
    deaths: int = 0

    @property
    def seconds(self) -> float:
        return float(sum(epoch.seconds for epoch in self.epochs))

    def course(self, upto: int | None = None) -> list[Epoch]:
        """Return for each epoch the one whose weights were kept after it."""
        return list(epochs.kept(self.epochs[:upto], self.config.train.keep))

    def kept(self, upto: int | None = None) -> Epoch | None:
        """Return the epoch whose weights were kept after so many; None before the first."""
        return next(reversed(self.course(upto)), None)

    @property
    def best(self) -> Epoch | None:
        """The epoch whose weights are kept as things stand."""
        return self.kept()

    @property
    def accuracy(self) -> float | None:
        """Validation accuracy of the kept weights as things stand."""
        return None if self.best is None else self.best.validation_accuracy


@dataclass
class History:
    """A whole study as its ledger tells it."""

    spec: Spec
    lineage: Lineage
    created: int
    runs: dict[str, Run] = field(default_factory=dict)
    sessions: list[Event] = field(default_factory=list)  # opened and closed
    winner: Winner | None = None
    tested: WinnerTest | None = None
    artifacts: list[Event] = field(default_factory=list)
    deaths: int = 0

    @property
    def changes(self) -> dict[str, Any]:
        """Keys of params.yaml that the command line has set, of all sessions; the latest word counts."""
        return {key: value for session in self.sessions for key, value in session.get("changes", {}).items()}

    @property
    def seeds(self) -> list[dict[str, Any]]:
        """Known good points that were to be tried first: params and origin."""
        return [seed for session in self.sessions for seed in session.get("seeds", [])]

    @property
    def test(self) -> WinnerTest | None:
        """What the present winner scored on test; None where that was not read."""
        same = self.tested and self.winner and self.tested.group == self.winner.group
        return self.tested if same else None

    @property
    def trials(self) -> list[Run]:
        """The trials of the search, by number."""
        return [run for run in self.runs.values() if run.phase == "search"]

    @property
    def finals(self) -> list[Run]:
        """The trainings of the finalists."""
        return [run for run in self.runs.values() if run.phase == "final"]

    @property
    def planned(self) -> list[Run]:
        """The trainings of a plan, in its order as far as they were begun."""
        return [run for run in self.runs.values() if run.phase == "planned"]

    @property
    def members(self) -> list[Run]:
        """The trials of a search, or the trainings of a plan."""
        return [run for run in self.runs.values() if run.phase == self.spec.kind.phase]

    @property
    def command(self) -> str:
        """The latest that worked on the study."""
        return next((session["command"] for session in reversed(self.sessions) if "command" in session), "")

    @property
    def latest(self) -> int:
        """When a training last ended, was scored, won, or was read on test: a report that is older lacks it."""
        results = [self.winner, self.tested, *(run.test for run in self.runs.values())]
        return max([0, *(run.ended or 0 for run in self.runs.values()), *(result.time for result in results if result)])

    def count(self, *states: State) -> int:
        """How many members are in one of these states."""
        return sum(run.state in states for run in self.members)

    def best(self) -> Run | None:
        """The trial with the best first objective; of equals the smaller network, then the earlier."""
        ended = [run for run in self.trials if run.state == "COMPLETE" and run.values]
        cost = self.spec.objectives[0].cost
        return min(ended, key=lambda run: (cost(run.values[0]), run.parameters, run.trial), default=None)  # type: ignore[index]

    def leading(self) -> Run | None:
        """The best trial; before any is complete, the best of those on their way, or paused at a rung."""
        quality = self.spec.quality
        begun = (run for run in self.trials if run.epochs)
        return self.best() or min(begun, key=lambda run: quality.cost(quality.value(run)), default=None)

    def apply(self, event: Event) -> None:
        """Take in one event. Events that were written twice, around a kill, change nothing the second time."""
        getattr(self, f"_on_{event['kind']}")(event)

    def _on_opened(self, event: Event) -> None:
        self.sessions.append(event)
        study = parse({"study": event["study"]}).study  # of a session its own: how far, and on what
        self.spec = replace(self.spec, params=replace(self.spec.params, study=study))
        for run in self.runs.values():  # what the session before left running waits for this one
            if run.state == "RUNNING":
                run.state, run.waits = "PAUSED", "interrupted"

    def _on_closed(self, event: Event) -> None:
        self.sessions.append(event)

    def _on_asked(self, event: Event) -> None:
        content = {name: value for name, value in event.items() if name not in ("kind", "time", "run")}
        content["config"] = RunConfig(content["config"])
        self.runs.setdefault(event["run"], Run(key=event["run"], asked=event["time"], **content))

    def _on_started(self, event: Event) -> None:
        run = self.runs[event["run"]]
        run.state, run.waits = "RUNNING", None
        run.segments.append(Segment(event["slot"], event["epoch"], event["time"]))

    def _on_epoch(self, event: Event) -> None:
        run = self.runs[event["run"]]
        number = event["epoch"]["epoch"]
        if number == len(run.epochs) + 1:  # one that was trained again, after a kill, has the same numbers
            run.epochs.append(parsed(Epoch, event["epoch"], time=event["time"]))

    def _on_paused(self, event: Event) -> None:
        run = self.runs[event["run"]]
        run.state, run.waits = "PAUSED", event["why"]
        self._end_segment(run, event["time"])

    def _on_lost(self, event: Event) -> None:
        """A worker died in the middle of a segment; the run goes on from its checkpoint."""
        run = self.runs[event["run"]]
        run.state, run.waits, run.deaths = "PAUSED", "interrupted", run.deaths + 1
        self.deaths += 1
        self._end_segment(run, event["time"])

    def _on_ended(self, event: Event) -> None:
        run = self.runs[event["run"]]
        if run.state in ENDED:
            return
        for name in ("state", "values", "cause", "reason", "kept_epoch", "latency"):
            setattr(run, name, event.get(name))
        run.ended = event["time"]
        self._end_segment(run, event["time"])

    def _on_scored(self, event: Event) -> None:
        self.runs[event["run"]].test = parsed(RunTest, event["test"], time=event["time"])

    def _on_winner(self, event: Event) -> None:
        self.winner = Winner.of(event)

    def _on_tested(self, event: Event) -> None:
        self.tested = WinnerTest.of(event)

    def _on_artifacts(self, event: Event) -> None:
        self.artifacts.append(event)

    @staticmethod
    def _end_segment(run: Run, time: int) -> None:
        if run.segments and run.segments[-1].ended is None:
            last = run.segments[-1]
            run.segments[-1] = Segment(last.slot, last.first, last.began, len(run.epochs), time)


def fold(events: Iterable[Event]) -> History | None:
    """The state after these events; None where the study was never created."""
    history = None
    for event in events:
        if event["kind"] == "created":
            history = history or History(Spec.of(event["spec"]), Lineage.of(event["lineage"]), event["time"])
        elif history is not None:
            history.apply(event)
    return history

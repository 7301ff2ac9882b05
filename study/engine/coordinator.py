"""The loop of the one process that owns a study: asks, hands out segments, decides, and writes every event down first."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from pipeline import tensors
from pipeline.artifacts import DamagedError
from study.engine import finalists, halving
from study.engine.proposals import Proposer
from study.state.history import ENDED, Run
from study.state.journal import CHECKPOINT, Journal
from study.state.records import content_of
from study.workers.protocol import Checkpoint, EpochDone, Executor, Message, SegmentDone, SegmentFailed, Slot, Task, WorkerDied

DEATHS = 3  # of workers in one run, after which it is the run's fault
ALIKE = 3  # failures that stop a study at its start
START_UP = 60.0  # seconds that a new worker may take to import torch and map the data, on a busy machine
GRACE = 20.0  # seconds that running trials have to end their epoch after Ctrl-C

Outcome = Literal["done", "stopped", "failed"]


@dataclass
class Busy:
    """A slot's present work."""

    run: Run
    heard: float  # time.monotonic() of its last message
    verdict: dict[str, Any] | None = None  # the end that the run gets when its segment ends: it was pruned


@dataclass(frozen=True)
class Limits:
    """trials : in total; deadline : time.monotonic() after which no trial begins; None: no such time"""

    trials: int
    deadline: float | None = None


class Coordinator:
    """Runs a study to its end. Whatever happens, a new coordinator with the same ledger goes on from there.

    proposer : None for a plan, whose trainings are listed
    data : the folder with the images of a run
    """

    def __init__(
        self,
        journal: Journal,
        proposer: Proposer | None,
        executor: Executor,
        data: Callable[[Run], Path],
        limits: Limits,
        ladder: tuple[int, ...],
    ) -> None:
        self.journal, self.history, self.proposer, self.executor = journal, journal.history, proposer, executor
        self.data, self.limits = data, limits
        self.study = self.history.spec.study
        self.ladder = ladder
        self.busy: dict[str, Busy] = {}  # by name of the slot
        self.awake: set[str] = set()  # slots whose worker has answered since it was started
        self.exhausted = False  # the sampler has no more points
        self.data_problem: str | None = None  # why no worker can train: the images are not what they were
        self.failures: list[str] = []  # of this session, one for each trial that paused or ended, "" where it did not fail

    def search(self) -> tuple[Outcome, str | None]:
        """Run trials until the total is reached, and end what was paused and not promoted."""
        for run in self.history.trials:
            if run.problem and run.state not in ENDED:  # killed between asking and ending it
                self._end(run, "PRUNED", cause="impossible", reason=run.problem)
        outcome = self._work(self._next_trial)
        if outcome[0] == "done":
            for run in self.history.trials:
                if run.state == "PAUSED":
                    self._end(run, "PRUNED", cause="asha", reason=f"not promoted after epoch {len(run.epochs)}")
            if self._late() and len(self.history.trials) < self.limits.trials:
                return "done", f"the time is up: {len(self.history.trials)} of {self.limits.trials} trials"
        return outcome

    def confirm(self) -> tuple[Outcome, str | None]:
        """Train the finalists on fresh seeds, and judge them."""
        wanted = finalists.keys(self.history)
        for run in self.history.finals:
            if run.key not in wanted and run.state not in ENDED:
                self._end(run, "PRUNED", cause="overtaken", reason="no longer among the finalists, or one seed too many")
        outcome = self._work(self._next_final)
        if outcome[0] == "done" and (winner := finalists.judge(self.history)) and winner != self.history.winner:
            self.journal.record("winner", **content_of(winner))
        return outcome

    def carry_out(self, tasks: Sequence[Mapping[str, Any]]) -> tuple[Outcome, str | None]:
        """Train what a plan lists and the ledger lacks; ``tasks`` are the contents of ``asked`` events."""
        outcome = self._work(partial(self._next_planned, tasks))
        done = sum(task["run"] in self.history.runs for task in tasks)
        if outcome[0] == "done" and done < len(tasks):
            return "done", f"the time is up: {done} of {len(tasks)} trainings"
        return outcome

    # -- the loop

    def _work(self, choose: Callable[[], Run | None]) -> tuple[Outcome, str | None]:
        while True:
            if self.journal.stop_asked():
                self._interrupt()
                return "stopped", None
            if why := self._cause_to_stop():
                self._interrupt()
                return "failed", why
            for slot in self.executor.slots:
                if slot.name not in self.busy and (run := choose()):
                    self._begin(slot, run)
            if not self.busy:
                return "done", None
            for slot, message in self.executor.messages(timeout=0.25):
                self._take(slot, message)
            self._look_for_hangs()
            self.journal.tick()

    def _next_trial(self) -> Run | None:
        """What an idle slot does next: go on with what was interrupted, then what was promoted, then something new."""
        trials = [run for run in self.history.trials if run.state == "PAUSED"]
        if waiting := [run for run in trials if run.waits == "interrupted"]:
            return waiting[0]
        if self._late():
            return None
        if self.study.pruner == "asha":
            quality = self.history.spec.quality
            if run := halving.promotable(self.history.trials, self.ladder, self.study.reduction, quality):
                return run
        while len(self.history.trials) < self.limits.trials and not self.exhausted:
            if run := self._ask():
                return run
        return None

    def _late(self) -> bool:
        return self.limits.deadline is not None and time.monotonic() > self.limits.deadline

    def _next_final(self) -> Run | None:
        if waiting := [run for run in self.history.finals if run.state == "PAUSED" or _is_new(run)]:
            return waiting[0]
        for content in finalists.tasks(self.history)[:1]:
            self.journal.record("asked", **content)
            return self.history.runs[content["run"]]
        return None

    def _next_planned(self, tasks: Sequence[Mapping[str, Any]]) -> Run | None:
        if waiting := [run for run in self.history.planned if run.state == "PAUSED" or _is_new(run)]:
            return waiting[0]
        if self._late():
            return None
        for task in tasks:
            if task["run"] not in self.history.runs:
                self.journal.record("asked", **task)
                return self.history.runs[task["run"]]
        return None

    def _ask(self) -> Run | None:
        """A new trial; None where its combination is impossible, which ends it, or where the sampler has no more."""
        assert self.proposer is not None
        proposal = self.proposer.propose()
        if proposal is None:
            self.exhausted = True
            return None
        self.journal.record("asked", run=str(proposal.trial), phase="search", **vars(proposal))
        run = self.history.runs[str(proposal.trial)]
        if proposal.problem:
            self._end(run, "PRUNED", cause="impossible", reason=proposal.problem)
            return None
        return run

    def _begin(self, slot: Slot, run: Run) -> None:
        until = self._until(run)
        task = Task(
            run=run.key,
            model=run.config.tree["model"],
            train=run.config.tree["train"],
            data=str(self.data(run)),
            fingerprint=run.fingerprint or self.history.spec.fingerprint,
            checkpoint=self._checkpoint(run),
            until=until,
            latency="latency" in self.study.objectives or run.phase != "search",
            first=run.phase == "planned",
            costs=self.history.spec.params.evaluate.costs,
        )
        self.journal.record("started", run=run.key, slot=slot.name, epoch=len(run.epochs), until=until)
        self.executor.submit(slot, task)
        self.busy[slot.name] = Busy(run, time.monotonic())
        self._propose_after(run)

    def _checkpoint(self, run: Run) -> bytes | None:
        """What the run goes on from; None where it begins, or begins anew because its checkpoint is damaged."""
        path = self.journal.folder_of(run) / CHECKPOINT
        if not path.exists():
            return None
        content = path.read_bytes()
        try:
            tensors.check(content)
        except DamagedError:
            path.unlink()
        else:
            return content
        self.journal.say(f"run {run.key}: its checkpoint is damaged; it trains again from the start, to the same numbers")
        self.journal.record("lost", run=run.key, why="had a damaged checkpoint; it begins anew")
        return None

    def _until(self, run: Run) -> int:
        if run.phase == "search" and self.study.pruner == "asha":
            return halving.next_stop(run, self.ladder)
        return run.config.train.epochs

    # -- messages

    def _take(self, slot: Slot, message: Message) -> None:
        busy = self.busy.get(slot.name)
        if isinstance(message, WorkerDied):
            self.awake.discard(slot.name)
        else:
            self.awake.add(slot.name)
        if busy is None or busy.run.key != message.run:
            return  # an idle worker died, and another has taken its place
        busy.heard = time.monotonic()
        if isinstance(message, EpochDone):
            self._on_epoch(slot, busy, message)
        elif isinstance(message, Checkpoint):
            self.journal.keep(busy.run, {CHECKPOINT: message.data})
        else:
            del self.busy[slot.name]
            if isinstance(message, SegmentDone):
                self._on_done(busy, message)
            elif isinstance(message, SegmentFailed) and message.cause == "data":
                self.data_problem = message.reason
                self.journal.record("paused", run=busy.run.key, epoch=len(busy.run.epochs), why="interrupted")
            elif isinstance(message, SegmentFailed):
                self.journal.keep(busy.run, {"traceback.txt": message.trace.encode()})
                self._end(busy.run, "FAIL", cause=message.cause, reason=message.reason)
            else:
                self._on_died(busy, message)

    def _on_epoch(self, slot: Slot, busy: Busy, message: EpochDone) -> None:
        run = busy.run
        if message.epoch["epoch"] <= len(run.epochs):
            return  # trained again after a kill, to the same numbers
        self.journal.record("epoch", run=run.key, epoch=message.epoch)
        if run.phase == "search" and self.study.pruner not in ("none", "asha") and not busy.verdict:
            assert self.proposer is not None
            self.proposer.tell(run)
            if self.proposer.should_prune(run):
                reason = f"{self.study.pruner}: {run.accuracy:.2%} after epoch {len(run.epochs)}"
                busy.verdict = {"state": "PRUNED", "cause": self.study.pruner, "reason": reason}
                self.executor.stop(slot)

    def _on_done(self, busy: Busy, message: SegmentDone) -> None:
        run = busy.run
        files = {"model.json": message.card, "weights.safetensors": message.weights}
        if message.checkpoint is not None:
            files[CHECKPOINT] = message.checkpoint
        if message.first is not None:
            files["weights_epoch1.safetensors"] = message.first
        self.journal.keep(run, files)
        if message.epoch != len(run.epochs) and not message.diverged:
            # The checkpoint knows epochs that the ledger does not: it was cut by hand, or by a broken disk.
            (self.journal.folder_of(run) / CHECKPOINT).unlink(missing_ok=True)
            self.journal.record("lost", run=run.key, why="had a checkpoint that the ledger does not know; it begins anew")
            return
        told: dict[str, Any] = {"kept_epoch": message.kept_epoch, "latency": message.latency}
        if message.diverged:
            self._end(run, "FAIL", cause="diverged", reason=message.diverged, **told)
        elif message.ended:
            self._end(run, "COMPLETE", values=self._values(run, message), **told)
        elif busy.verdict:
            self._end(run, **busy.verdict, **told)
        else:
            at_rung = self.study.pruner == "asha" and len(run.epochs) in self.ladder and run.phase == "search"
            why = f"rung {message.epoch}" if at_rung else "interrupted"
            self.journal.record("paused", run=run.key, epoch=message.epoch, why=why)
            if run.phase != "final":
                self.failures.append("")
            self._propose_after(run)

    def _on_died(self, busy: Busy, message: WorkerDied) -> None:
        run = busy.run
        if busy.verdict:
            self._end(run, **busy.verdict)
        elif run.deaths + 1 >= DEATHS:
            self.journal.record("lost", run=run.key, why=message.reason)
            self._end(run, "FAIL", cause="died", reason=f"its worker {message.reason}, {DEATHS} times; out of memory, perhaps")
        else:
            self.journal.record("lost", run=run.key, why=message.reason)

    def _look_for_hangs(self) -> None:
        for slot in self.executor.slots:
            busy = self.busy.get(slot.name)
            allowed = self.study.trial_timeout + (0.0 if slot.name in self.awake else START_UP)
            if busy and time.monotonic() - busy.heard > allowed:
                reason = f"no epoch within {self.study.trial_timeout:g} s (study.trial_timeout)"
                self.executor.kill(slot, reason)
                del self.busy[slot.name]  # whatever its worker still has to say comes too late
                self._end(busy.run, **(busy.verdict or {"state": "FAIL", "cause": "hang", "reason": reason}))

    # -- ends

    def _values(self, run: Run, message: SegmentDone) -> list[float]:
        run.latency = message.latency
        return [float(one.value(run)) for one in self.history.spec.objectives]  # type: ignore[arg-type]

    def _end(self, run: Run, state: str, **content: Any) -> None:
        self.journal.record("ended", run=run.key, state=state, **content)
        self._propose_after(run)
        if run.phase != "final":
            failed = state == "FAIL" and content["cause"] != "diverged"
            self.failures.append(re.sub(r"\d+", "#", f"{content['cause']}: {content['reason']}") if failed else "")
        for left in (self.journal.folder_of(run) / CHECKPOINT, *self.journal.folder_of(run).glob(".*")):  # of kills in mid-write
            left.unlink(missing_ok=True)

    def _propose_after(self, run: Run) -> None:
        """Have proposals take in how a trial stands."""
        if run.phase == "search" and self.proposer is not None:
            self.proposer.tell(run)

    def _cause_to_stop(self) -> str | None:
        """The cause that the first trials of this session have all failed of, or that no trial can be trained for."""
        if self.data_problem:
            return self.data_problem
        first = self.failures[:ALIKE]
        if len(first) == ALIKE and first[0] and len(set(first)) == 1:
            failed = [run for run in self.history.runs.values() if run.state == "FAIL"]
            return f"the first {ALIKE} {self.history.spec.kind.noun}s failed alike: {failed[-1].reason}"
        return None

    def _interrupt(self) -> None:
        """Let running trials end their epoch and keep their checkpoints; what takes too long goes on from its last one."""
        for slot in self.executor.slots:
            if slot.name in self.busy:
                self.executor.stop(slot)
        deadline = time.monotonic() + GRACE
        while self.busy and time.monotonic() < deadline:
            for slot, message in self.executor.messages(timeout=0.25):
                self._take(slot, message)
            self.journal.tick()
        for busy in self.busy.values():
            self.journal.record("paused", run=busy.run.key, epoch=len(busy.run.epochs), why="interrupted")
        self.busy.clear()


def _is_new(run: Run) -> bool:
    return run.state == "RUNNING" and not run.segments

"""Where trainings run: processes of this machine, or a Ray cluster, behind one protocol.

Workers hold no state. A worker gets a :class:`Task` (configuration, checkpoint, until which epoch) and answers with a stream
of messages: an :class:`EpochDone` for each epoch, now and then a :class:`Checkpoint`, and at last one :class:`SegmentDone` or
:class:`SegmentFailed`. If it dies the executor says :class:`WorkerDied`, starts another, and the task is given again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True)
class Task:
    """One segment of one training.

    run : key of the run
    model, train : the sections, as plain trees
    data : folder with SearchData, the same path or a copy of it on every machine
    fingerprint : of the data that it must hold
    checkpoint : content of the file that Training.save writes; None to begin
    until : stop after this epoch, unless the training ends before
    save_every : seconds from one Checkpoint message to the next
    latency : whether to measure the time for one image when the training ends
    first : whether to give the weights after epoch 1, too, when the training ends
    costs : ``evaluate.costs``
    """

    run: str
    model: dict[str, Any]
    train: dict[str, Any]
    data: str
    fingerprint: str
    checkpoint: bytes | None
    until: int
    save_every: float = 30.0
    latency: bool = False
    first: bool = False
    costs: Sequence[Sequence[float]] | None = None


@dataclass(frozen=True)
class EpochDone:
    run: str
    epoch: dict[str, Any]  # the fields of pipeline.epochs.Epoch


@dataclass(frozen=True)
class Checkpoint:
    run: str
    epoch: int
    data: bytes


@dataclass(frozen=True)
class SegmentDone:
    """The end of a segment that went as it should.

    epoch : epochs done
    ended : whether the training is over (all epochs, early stopping, divergence)
    diverged : why, if it did
    kept_epoch : whose weights ``weights`` are; 0: the initial ones
    checkpoint : to go on from; None where it ended
    weights : safetensors; card : the content of model.json, with which ``pipeline.models.classifier.load`` takes them
    latency : milliseconds for one image, median; first : weights after epoch 1; None unless asked for and ended
    """

    run: str
    epoch: int
    ended: bool
    diverged: str | None
    kept_epoch: int
    checkpoint: bytes | None
    weights: bytes
    card: bytes
    latency: float | None = None
    first: bytes | None = None


@dataclass(frozen=True)
class SegmentFailed:
    """cause : memory, data (the images are not what they were), or exception; trace : the whole traceback, for the log"""

    run: str
    cause: str
    reason: str
    trace: str


@dataclass(frozen=True)
class WorkerDied:
    """run : whose segment is lost; None if it was idle. reason : e.g. ended by signal 9"""

    run: str | None
    reason: str


Message = EpochDone | Checkpoint | SegmentDone | SegmentFailed | WorkerDied


@dataclass(frozen=True)
class Slot:
    """One place where one training runs at a time.

    name : shown to people: ``cpu 0``, ``cuda 1 (b)``, ``ray 3``
    device : cpu or cuda
    device_name : the processor's name
    gpu : as CUDA_VISIBLE_DEVICES names it; empty on a CPU, and where the executor chooses it
    """

    name: str
    device: str
    device_name: str
    gpu: str = ""


class Executor(Protocol):
    """All executors pass the same tests, ``tests/contract/test_executors.py``. Messages of one slot come in order."""

    @property
    def slots(self) -> Sequence[Slot]:
        """The slots that take work; with Ray their number changes as actors are replaced."""

    def submit(self, slot: Slot, task: Task) -> None:
        """Start a segment on an idle slot."""

    def stop(self, slot: Slot) -> None:
        """End the running segment at the next epoch's end; it answers SegmentDone as if ``until`` had been that epoch."""

    def kill(self, slot: Slot, reason: str) -> None:
        """End the worker process now, and start another in its place; it answers WorkerDied with this reason."""

    def messages(self, timeout: float) -> list[tuple[Slot, Message]]:
        """What has come from the workers; waits up to ``timeout`` seconds for the first."""

    def close(self) -> None:
        """End all workers; no process is left behind."""

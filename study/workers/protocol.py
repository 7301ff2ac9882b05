"""The protocol of executors: processes of this machine or a Ray cluster.

Workers hold no state. A worker gets a :class:`Task` (configuration, checkpoint, last epoch) and answers with messages: an
:class:`EpochDone` per epoch, occasionally a :class:`Checkpoint`, and finally a :class:`SegmentDone` or :class:`SegmentFailed`. If
it dies, the executor reports :class:`WorkerDied` and starts another worker, and the coordinator submits the task again.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Any, Protocol, TypeVar

Item = TypeVar("Item")


@dataclass(frozen=True)
class Task:
    """One segment of one training.

    run : key of the run
    model, train : the sections, as plain data
    data : folder of SearchData, the same path (or a copy there) on every machine
    fingerprint : of the data in that folder
    checkpoint : bytes of Training.dump; None for a new training
    until : stop after this epoch, unless the training ends earlier
    save_every : seconds between two Checkpoint messages
    latency : measure the time for one image when the training ends
    first : also return the weights after epoch 1 when the training ends
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
    """The end of a successful segment.

    epoch : completed epochs
    ended : whether the training is over (all epochs, early stopping, divergence)
    diverged : the reason, if it diverged
    kept_epoch : the epoch of ``weights``; 0: initial weights
    checkpoint : to resume from; None if the training ended
    weights : safetensors; card : content of model.json, for ``pipeline.models.classifier.load``
    latency : median milliseconds for one image; first : weights after epoch 1; None unless requested and ended
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
    """A failed segment. cause : memory, data (changed images) or exception; trace : the traceback, for the log"""

    run: str
    cause: str
    reason: str
    trace: str


@dataclass(frozen=True)
class WorkerDied:
    """The death of a worker. run : of the lost segment; None if the worker was idle. reason : e.g. ended by signal 9"""

    run: str | None
    reason: str


Message = EpochDone | Checkpoint | SegmentDone | SegmentFailed | WorkerDied


@dataclass(frozen=True)
class Slot:
    """A place for one training at a time.

    name : shown to people: ``cpu 0``, ``cuda 1 (b)``, ``ray 3``
    device : cpu or cuda
    device_name : the processor's name
    gpu : its name in CUDA_VISIBLE_DEVICES; empty on a CPU, or if the executor chooses it
    """

    name: str
    device: str
    device_name: str
    gpu: str = ""


def drain(queue: SimpleQueue[Item], timeout: float) -> list[Item]:
    """Return all items of a queue; wait up to ``timeout`` seconds for the first."""
    items = []
    with suppress(Empty):
        items.append(queue.get(timeout=max(timeout, 0)))
        while True:
            items.append(queue.get_nowait())
    return items


class Executor(Protocol):
    """Runs segments on slots. All executors pass ``tests/contract/test_executors.py``; messages of one slot arrive in order."""

    @property
    def slots(self) -> Sequence[Slot]:
        """The usable slots; with Ray their number changes as actors are replaced."""

    def submit(self, slot: Slot, task: Task) -> None:
        """Start a segment on an idle slot."""

    def stop(self, slot: Slot) -> None:
        """End the running segment after the current epoch; it answers SegmentDone as if ``until`` had been that epoch."""

    def kill(self, slot: Slot, reason: str) -> None:
        """Kill the worker process and start another; it answers WorkerDied with this reason."""

    def messages(self, timeout: float) -> list[tuple[Slot, Message]]:
        """Return the messages received from workers; wait up to ``timeout`` seconds for the first."""

    def close(self) -> None:
        """End all workers; no process is left behind."""

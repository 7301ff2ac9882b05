"""Run one segment of one training in a worker: configuration and checkpoint in, epochs and weights out."""

from __future__ import annotations

import statistics
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch

from pipeline.artifacts import DamagedError
from pipeline.config import parse
from pipeline.data import DataError
from pipeline.data.dataset import SearchData
from pipeline.models.classifier import card_content, pack_weights
from pipeline.training.device import OutOfMemoryError, choose_device, memory_errors, use_cpu
from pipeline.training.loop import Training
from study.workers.protocol import Checkpoint, EpochDone, Message, SegmentDone, SegmentFailed, Task

CAUSES = {"memory": (OutOfMemoryError, MemoryError), "data": (DamagedError, DataError)}  # of a failed segment
WARM_UP, REPEATS = 5, 50  # of the measurement of latency


@dataclass
class Cache:
    """The data and training that a worker keeps between tasks, to save time; the numbers are the same without it.

    folder, data : the data last read, memory-mapped
    task, training : the training last paused, and the task that would resume it
    """

    folder: str = ""
    data: SearchData | None = None
    task: Task | None = None
    training: Training | None = None

    def read(self, folder: str, fingerprint: str) -> SearchData:
        """Return the data in a folder; check their digests on the first read.

        Raises
        ------
        DamagedError
            The data have changed since they were written.
        DataError
            The data have another fingerprint.
        """
        if self.data is None or self.folder != folder:
            self.folder, self.data = folder, SearchData.read(Path(folder))
        if self.data.info.fingerprint != fingerprint:
            raise DataError(
                f"{folder} must hold the images that this study began with: their fingerprint must be {fingerprint},"
                f" got {self.data.info.fingerprint}; restore that folder from a copy"
            )
        return self.data

    def take(self, task: Task) -> Training | None:
        """Return the paused training if ``task`` resumes exactly its state, else None; the cache forgets it."""
        kept, training = self.task, self.training
        self.task = self.training = None
        return training if kept == replace(task, until=0, save_every=0.0, latency=False, first=False) else None

    def keep(self, task: Task, training: Training, checkpoint: bytes) -> None:
        self.task = replace(task, checkpoint=checkpoint, until=0, save_every=0.0, latency=False, first=False)
        self.training = training


Emit = Callable[[Message], None]
Work = Callable[[Task, Emit, Callable[[], bool], Cache], None]


def run(task: Task, emit: Emit, asked_to_stop: Callable[[], bool], cache: Cache) -> None:
    """Train until ``task.until``, the end of the training, or the first epoch after which ``asked_to_stop()`` is true.

    Emits an EpochDone per epoch, a Checkpoint every ``task.save_every`` seconds, and a SegmentDone at the end. Raises any error;
    see :func:`attempt`.
    """
    training = cache.take(task) or _begin(task, cache)
    saved, stopped = time.monotonic(), False
    while not (training.ended or stopped or len(training.history) >= task.until):
        epoch = training.run_epoch()
        if epoch is None:
            break
        emit(EpochDone(task.run, asdict(epoch)))
        stopped = asked_to_stop()
        if not training.ended and epoch.epoch < task.until and not stopped and time.monotonic() - saved >= task.save_every:
            emit(Checkpoint(task.run, epoch.epoch, training.dump()))
            saved = time.monotonic()
    done = _result(task, training)
    if done.checkpoint is not None:
        cache.keep(task, training, done.checkpoint)
    emit(done)


def attempt(work: Work, task: Task, emit: Emit, asked_to_stop: Callable[[], bool], cache: Cache) -> None:
    """Do ``work``; emit an error as SegmentFailed, after which the worker can continue.

    After a CUDA error no call on that device would work, so the process ends with the error as its message.
    """
    try:
        with memory_errors():
            work(task, emit, asked_to_stop, cache)
        return
    except Exception as error:
        cause = next((name for name, kinds in CAUSES.items() if isinstance(error, kinds)), "exception")
        trace = traceback.format_exc()
        text = " ".join(str(error).split())
        plain = cause == "data" or isinstance(error, OutOfMemoryError)  # messages written for users
        reason = text if plain else ": ".join(part for part in (type(error).__name__, text) if part)
    cache.take(task)  # a failed training has no valid state to resume from
    if cause == "exception" and "CUDA error" in reason:
        sys.exit(reason)
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()
    emit(SegmentFailed(task.run, cause, reason, trace))


def latency(training: Training) -> float:
    """Return the time for one image in milliseconds, median of 50 after a warm-up.

    Uses the device and threads of the training; the image is already on the device.
    """
    classifier, image = training.classifier.eval(), training.validation.images[:1]
    wait = torch.cuda.synchronize if training.device.type == "cuda" else (lambda: None)
    seconds = []
    with torch.inference_mode():
        for _ in range(WARM_UP + REPEATS):
            start = time.perf_counter()
            classifier(image)
            wait()
            seconds.append(time.perf_counter() - start)
    return 1000 * statistics.median(seconds[WARM_UP:])


def _begin(task: Task, cache: Cache) -> Training:
    """Return a new training, or one resumed from the task's checkpoint."""
    params = parse({"model": task.model, "train": task.train})
    use_cpu(params.train.threads)
    data, device = cache.read(task.data, task.fingerprint), choose_device(params.train.device)
    training = Training(params.model, params.train, data, device, task.costs)
    if task.checkpoint is not None:
        training.load(task.checkpoint)
    return training


def _result(task: Task, training: Training) -> SegmentDone:
    card = card_content(training.classifier.card)
    weights = training.kept_weights()
    milliseconds = None
    if training.ended and task.latency:
        training.classifier.network.load_state_dict(weights)
        milliseconds = latency(training)
    return SegmentDone(
        run=task.run,
        epoch=len(training.history),
        ended=training.ended,
        diverged=training.diverged,
        kept_epoch=training.kept_epoch,
        checkpoint=None if training.ended else training.dump(),
        weights=pack_weights(weights, card),
        card=card,
        latency=milliseconds,
        first=pack_weights(training.first, card) if training.ended and task.first else None,
    )

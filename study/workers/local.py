"""Trainings in processes of this machine: one worker a slot, warm from one task to the next."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from multiprocessing import Pipe
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import IO, TYPE_CHECKING

from study.workers import process
from study.workers.protocol import Message, SegmentDone, SegmentFailed, Slot, Task, WorkerDied

if TYPE_CHECKING:  # else a coordinator waits for torch before its workers begin to import it
    from study.workers.segment import Work

LAST_WORDS = 2000  # bytes of a worker's output that may hold the error it ended with


class Local:
    """See :class:`study.workers.protocol.Executor`.

    A worker is a program of its own (nothing is forked, and nothing of the coordinator's main module is imported): it starts
    in the time that torch needs to be imported, while the constructor has long returned. It ends at once when the coordinator
    does, however that ends. One that dies at work is replaced at once; one that dies idle, when there is work for it.
    """

    def __init__(self, slots: Sequence[Slot], work: Work | None = None, threads: int = 1) -> None:
        """
        Parameters
        ----------
        work : what is done with a task, by default :func:`study.workers.segment.run`; a function of a module that can be imported
        threads : CPU threads of each worker
        """
        self._work, self._threads = pickle.dumps(work), threads
        self._inbox: SimpleQueue[tuple[_Worker, Message]] = SimpleQueue()
        self._alive: set[_Worker] = set()
        self._workers: dict[Slot, _Worker | None] = {slot: self._start(slot) for slot in slots}

    @property
    def slots(self) -> Sequence[Slot]:
        return list(self._workers)

    def submit(self, slot: Slot, task: Task) -> None:
        target = self._workers[slot] or self._start(slot)
        assert target.run is None, f"{slot.name} is busy with run {target.run}"
        self._workers[slot] = target
        target.run = task.run
        target.send(pickle.dumps(task))

    def stop(self, slot: Slot) -> None:
        if target := self._workers[slot]:
            target.send(process.STOP)

    def kill(self, slot: Slot, reason: str) -> None:
        if target := self._workers[slot]:
            target.kill(reason)
            self._workers[slot] = self._start(slot)

    def messages(self, timeout: float) -> list[tuple[Slot, Message]]:
        found = []
        with suppress(Empty):
            found.append(self._taken(*self._inbox.get(timeout=max(timeout, 0))))
            while True:
                found.append(self._taken(*self._inbox.get_nowait()))
        return found

    def close(self) -> None:
        for target in self._alive:
            target.kill("closed")
        for target in self._alive:
            target.join()
        self._alive.clear()
        self._workers.clear()

    def _start(self, slot: Slot) -> _Worker:
        started = _Worker(slot, self._work, self._threads, self._inbox)
        self._alive.add(started)
        return started

    def _taken(self, source: _Worker, message: Message) -> tuple[Slot, Message]:
        """A message as the coordinator gets it."""
        if isinstance(message, WorkerDied):
            message = replace(message, run=source.run)
            self._alive.discard(source)
            if self._workers.get(source.slot) is source:  # else it was killed, and has a successor
                self._workers[source.slot] = self._start(source.slot) if source.run else None
        if isinstance(message, WorkerDied | SegmentDone | SegmentFailed):
            source.run = None
        return source.slot, message


class _Worker:
    """One process, and two threads that talk with it, so that a process that does not listen keeps nobody waiting.

    run : whose segment it works on, as far as the coordinator knows
    """

    def __init__(self, slot: Slot, work: bytes, threads: int, inbox: SimpleQueue[tuple[_Worker, Message]]) -> None:
        self.slot = slot
        self.run: str | None = None
        self._reason: str | None = None
        self._inbox = inbox
        self._outbox: SimpleQueue[bytes | None] = SimpleQueue()
        self._connection, theirs = Pipe()
        self._words: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 (it lives as long as the process)
        environment = {"CUDA_VISIBLE_DEVICES": slot.gpu, "OMP_NUM_THREADS": str(threads)}  # read when torch is imported
        with theirs, _without_interrupts():
            self._process = subprocess.Popen(
                [sys.executable, "-P", process.__file__, str(theirs.fileno())],
                env=os.environ | environment,
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=self._words,
                stderr=self._words,
            )
        self.send(pickle.dumps([str(Path(path).absolute()) for path in sys.path]))
        self.send(work)
        self._threads = [threading.Thread(target=target, daemon=True) for target in (self._send, self._receive)]
        for thread in self._threads:
            thread.start()

    def send(self, content: bytes) -> None:
        self._outbox.put(content)

    def kill(self, reason: str) -> None:
        self._reason = reason
        self._process.kill()

    def join(self) -> None:
        for thread in self._threads:
            thread.join()

    def _send(self) -> None:
        with suppress(OSError):  # it died: what _receive will tell
            while (content := self._outbox.get()) is not None:
                self._connection.send_bytes(content)

    def _receive(self) -> None:
        with suppress(EOFError, OSError):
            while True:
                self._inbox.put((self, self._connection.recv()))
        self._process.wait()
        self._outbox.put(None)
        self._inbox.put((self, WorkerDied(None, self._reason or self._end())))
        self._threads[0].join()
        self._connection.close()
        self._words.close()

    def _end(self) -> str:
        """How the process ended: ``ended by signal 9``, ``ended with status 1: ModuleNotFoundError: …``."""
        status = self._process.returncode
        if status < 0:
            return f"ended by signal {-status}"
        self._words.seek(0)
        lines = self._words.read()[-LAST_WORDS:].decode(errors="replace").strip().splitlines()
        return ": ".join([f"ended with status {status}", *lines[-1:]])


@contextmanager
def _without_interrupts() -> Iterator[None]:
    """What is started here inherits that Ctrl-C is blocked, and so is spared one before it can ignore it; we get ours after."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)

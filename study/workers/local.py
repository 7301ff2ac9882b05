"""Train in processes of this machine: one worker per slot, kept warm between tasks."""

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
from queue import SimpleQueue
from typing import IO, TYPE_CHECKING

from study.workers import process
from study.workers.protocol import Message, SegmentDone, SegmentFailed, Slot, Task, WorkerDied, drain

if TYPE_CHECKING:  # at run time the coordinator would import torch before its workers could start to
    from study.workers.segment import Work

TAIL = 2000  # bytes of a worker's output that may hold its last error


class Local:
    """An :class:`study.workers.protocol.Executor` of local processes.

    A worker is a program of its own, not a fork; it imports torch after the constructor has returned. It ends at once when
    the coordinator ends, even by a kill. A worker that dies at work is replaced at once, one that dies idle with the next task.
    """

    def __init__(self, slots: Sequence[Slot], work: Work | None = None, threads: int = 1) -> None:
        """Start a worker per slot.

        work : the function that runs a task, of an importable module; None: :func:`study.workers.segment.run`
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
        return [self._accept(*item) for item in drain(self._inbox, timeout)]

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

    def _accept(self, source: _Worker, message: Message) -> tuple[Slot, Message]:
        """Update the books of a slot for a message; return both for the coordinator."""
        if isinstance(message, WorkerDied):
            message = replace(message, run=source.run)
            self._alive.discard(source)
            if self._workers.get(source.slot) is source:  # a killed worker already has a successor
                self._workers[source.slot] = self._start(source.slot) if source.run else None
        if isinstance(message, WorkerDied | SegmentDone | SegmentFailed):
            source.run = None
        return source.slot, message


class _Worker:
    """One process and two threads that communicate with it, so that a process that does not listen blocks nobody.

    run : of the segment it works on; None: idle
    """

    def __init__(self, slot: Slot, work: bytes, threads: int, inbox: SimpleQueue[tuple[_Worker, Message]]) -> None:
        self.slot = slot
        self.run: str | None = None
        self._reason: str | None = None
        self._inbox = inbox
        self._outbox: SimpleQueue[bytes | None] = SimpleQueue()
        self._connection, theirs = Pipe()
        self._output: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 (it lives as long as the process)
        environment = {"CUDA_VISIBLE_DEVICES": slot.gpu, "OMP_NUM_THREADS": str(threads)}  # read when torch is imported
        with theirs, _without_interrupts():
            self._process = subprocess.Popen(
                [sys.executable, "-P", process.__file__, str(theirs.fileno())],
                env=os.environ | environment,
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=self._output,
                stderr=self._output,
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
        with suppress(OSError):  # the process died; _receive reports it
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
        self._output.close()

    def _end(self) -> str:
        """Return how the process ended: ``ended by signal 9`` or ``ended with status 1: ModuleNotFoundError: …``."""
        status = self._process.returncode
        if status < 0:
            return f"ended by signal {-status}"
        self._output.seek(0)
        lines = self._output.read()[-TAIL:].decode(errors="replace").strip().splitlines()
        return ": ".join([f"ended with status {status}", *lines[-1:]])


@contextmanager
def _without_interrupts() -> Iterator[None]:
    """Block Ctrl-C for processes started in the block, until they can ignore it; ours arrives after the block."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)

"""Train in actors of a Ray cluster, an existing one or one on this machine: one actor per slot.

With GPUs only Ray's bookkeeping was tested.
"""

from __future__ import annotations

import logging
import os
import pickle
import socket
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Literal

from pipeline import artifacts
from pipeline.config import ConfigError
from pipeline.data.dataset import SearchData
from study.workers.protocol import Message, SegmentDone, SegmentFailed, Slot, Task, WorkerDied, drain
from study.workers.segment import Cache, Work, attempt, run
from study.workers.slots import PER_GPU, usable_cores

LOOPBACK = "127.0.0.1"
Shared = tuple[str, Any]  # fingerprint of the data, and a reference to SearchData in the object store


class Ray:
    """An :class:`study.workers.protocol.Executor` of Ray actors.

    A slot whose actor died leaves :attr:`slots` until the cluster has placed another.
    """

    def __init__(
        self,
        address: str | None,
        workers: int | Literal["auto"] = "auto",
        per_gpu: int | Literal["auto"] = "auto",
        work: Work = run,
        threads: int = 1,
        device: str = "auto",
    ) -> None:
        """Connect to the cluster and start an actor per slot. Raises ConfigError if Ray is not installed, or no cluster answers.

        Parameters
        ----------
        address : of the cluster; None: that of the variable RAY_ADDRESS, else a cluster on this machine that ends with close
        workers : actors; auto: ``per_gpu`` for each GPU of the cluster, or without a GPU one per ``threads`` cores
        per_gpu : actors that share a GPU; auto: :data:`study.workers.slots.PER_GPU`
        work : the function that runs a task, of an importable module
        threads, device : of section train
        """
        self._ray, self._ours = _connect(address or os.environ.get("RAY_ADDRESS"), workers, threads)
        self._work = pickle.dumps(work)
        self._followers: set[threading.Thread] = set()
        resources = self._ray.cluster_resources()
        gpus = 0 if device == "cpu" else int(resources.get("GPU", 0))
        sharing = PER_GPU if per_gpu == "auto" else per_gpu
        self._needs = {"num_gpus": 1 / sharing, "num_cpus": 0} if gpus else {"num_cpus": threads}
        fitting = gpus * sharing if gpus else int(resources.get("CPU", 0)) // threads
        count = max(fitting, 1) if workers == "auto" else workers
        kind, name = ("cuda", "GPU of a Ray cluster") if gpus else ("cpu", "CPU of a Ray cluster")
        self._inbox: SimpleQueue[tuple[_Actor, Message]] = SimpleQueue()
        self._arrays: dict[str, Shared] = {}  # by folder
        self._actors = {slot: self._start(slot) for slot in (Slot(f"ray {index}", kind, name) for index in range(count))}
        self._unplaced: set[Slot] = set()

    @property
    def slots(self) -> Sequence[Slot]:
        return [slot for slot in self._actors if slot not in self._unplaced]

    def submit(self, slot: Slot, task: Task) -> None:
        actor = self._actors[slot]
        assert actor.run is None, f"{slot.name} is busy with run {actor.run}"
        actor.run, actor.number = task.run, actor.number + 1
        follower = threading.Thread(target=self._follow, args=(actor, task, self._shared(task.data)), daemon=True)
        self._followers = {thread for thread in self._followers if thread.is_alive()} | {follower}
        follower.start()

    def stop(self, slot: Slot) -> None:
        actor = self._actors[slot]
        actor.handle.stop.remote(actor.number)

    def kill(self, slot: Slot, reason: str) -> None:
        actor = self._actors[slot]
        actor.reason = reason
        self._ray.kill(actor.handle)
        if actor.run is None:  # no thread follows it
            self._inbox.put((actor, WorkerDied(None, reason)))
        self._replace(slot)

    def messages(self, timeout: float) -> list[tuple[Slot, Message]]:
        items = [self._accept(*item) for item in drain(self._inbox, timeout)]
        self._place()
        return items

    def close(self) -> None:
        for actor in self._actors.values():
            actor.reason = "closed"
            self._ray.kill(actor.handle)
        self._actors.clear()
        for follower in self._followers:  # a thread waiting for Ray during its shutdown would crash the process
            follower.join()
        if self._ours:
            self._ray.shutdown()

    def _start(self, slot: Slot) -> _Actor:
        kind = self._ray.remote(_Trainer).options(max_concurrency=2, max_restarts=0, **self._needs)
        return _Actor(slot, kind.remote(sys.path, self._work))

    def _replace(self, slot: Slot) -> None:
        self._actors[slot] = self._start(slot)
        self._unplaced.add(slot)

    def _place(self) -> None:
        """Return the slots whose new actors have been placed to :attr:`slots`."""
        waiting = {self._actors[slot].placed: slot for slot in self._unplaced}
        if not waiting:
            return
        for reference in self._ray.wait(list(waiting), num_returns=len(waiting), timeout=0)[0]:
            slot = waiting[reference]
            self._unplaced.discard(slot)  # an actor that did not start reports why with its first task

    def _shared(self, folder: str) -> Shared | None:
        """Return fingerprint and object-store reference of the data; None on a single machine, which has the folder."""
        if folder not in self._arrays and sum(node["Alive"] for node in self._ray.nodes()) > 1:
            data = SearchData.read(Path(folder))
            self._arrays[folder] = data.info.fingerprint, self._ray.put(data)
        return self._arrays.get(folder)

    def _follow(self, actor: _Actor, task: Task, data: Shared | None) -> None:
        """Forward an actor's messages for one segment, in a thread."""
        try:
            for reference in actor.handle.run.options(num_returns="streaming").remote(actor.number, task, data):
                self._inbox.put((actor, self._ray.get(reference)))
        except Exception as error:  # Ray raises many types, e.g. if an object was lost with its node
            self._inbox.put((actor, WorkerDied(None, actor.reason or _end(error))))

    def _accept(self, actor: _Actor, message: Message) -> tuple[Slot, Message]:
        """Update the books of a slot for a message; return both for the coordinator."""
        if isinstance(message, WorkerDied):
            message = replace(message, run=actor.run)
            if self._actors.get(actor.slot) is actor:  # a killed actor already has a successor
                self._ray.kill(actor.handle)  # it may only be unreachable, and must not go on training
                self._replace(actor.slot)
        if isinstance(message, WorkerDied | SegmentDone | SegmentFailed):
            actor.run = None
        return actor.slot, message


class _Actor:
    """The state of an actor: its slot, the run of its segment, the number of its segments, why it was killed."""

    def __init__(self, slot: Slot, handle: Any) -> None:
        self.slot, self.handle = slot, handle
        self.run: str | None = None
        self.number = 0
        self.reason: str | None = None
        self.placed = handle.placed.remote()


class _Trainer:
    """The actor. Two methods may run concurrently: a segment, and the request to stop it."""

    def __init__(self, path: list[str], work: bytes) -> None:
        sys.path += [folder for folder in path if folder not in sys.path]  # so that both can import the same
        self.work, self.cache, self.stopped = pickle.loads(work), Cache(), 0

    def placed(self) -> None:
        """Return when the actor runs."""

    def stop(self, number: int) -> None:
        self.stopped = number

    def run(self, number: int, task: Task, shared: Shared | None) -> Iterator[Message]:
        """Yield the messages of one segment; fetch the ``shared`` data only if this machine lacks the folder."""
        messages: SimpleQueue[Message | None] = SimpleQueue()

        def work(task: Task, emit: Callable[[Message], None], asked_to_stop: Callable[[], bool], cache: Cache) -> None:
            self.work(replace(task, data=_local_folder(task.data, shared)), emit, asked_to_stop, cache)

        def segment() -> None:
            try:
                attempt(work, task, messages.put, lambda: self.stopped >= number, self.cache)
            except BaseException:  # sys.exit in a thread would not end the process
                os._exit(1)
            messages.put(None)

        threading.Thread(target=segment, daemon=True).start()
        while (message := messages.get()) is not None:
            yield message


def _local_folder(folder: str, shared: Shared | None) -> str:
    """Return ``folder``, or if this machine lacks it, the folder of a copy of the ``shared`` data, made once."""
    if shared is None or Path(folder).exists():
        return folder
    import ray

    fingerprint, reference = shared
    copy = copy_of(fingerprint)
    with artifacts.locked(copy.with_name(f"{copy.name}.copying")):
        if not copy.exists():
            data: Any = ray.get(reference)
            with artifacts.atomic_folder(copy) as fresh:
                data.write(fresh)
    return str(copy)


def copy_of(fingerprint: str) -> Path:
    """Return the folder of a machine's copy of the data, which stays for the next study."""
    return Path(tempfile.gettempdir(), f"studyline-{os.getuid()}-{fingerprint}")


def _connect(address: str | None, workers: int | str, threads: int) -> tuple[Any, bool]:
    """Connect to Ray; return the package and whether we must end the connection."""
    if address is not None:
        _check(address)
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    if address is None or address.partition(":")[0] in (LOOPBACK, "localhost"):
        os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")  # makes Ray stay on the loopback interface
    try:
        import ray
    except ImportError:
        raise ConfigError("study.engine: ray is not installed; pip install studyline[ray], or use local") from None
    if ray.is_initialized():
        return ray, False
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if address is None:
        cores = usable_cores() if workers == "auto" else max(usable_cores(), int(workers) * threads)
        options |= {"address": "local", "num_cpus": cores, "include_dashboard": False, "_node_ip_address": LOOPBACK}
    else:
        options["address"] = address
    try:
        ray.init(**options)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise ConfigError(f"study.engine: no Ray cluster at {address or 'this machine'}: {_one_line(error)}") from None
    return ray, True


def _check(address: str) -> None:
    """Raise ConfigError within seconds if no cluster answers; Ray itself tries for minutes."""
    host, _, port = address.rpartition(":")
    if address == "auto":
        return
    if not port.isdigit() or "//" in host:
        raise ConfigError(f"study.engine: the address of a Ray cluster must be host:port of its head, or auto, got {address}")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()
    except OSError as error:
        raise ConfigError(f"study.engine: no Ray cluster at {address}: {error.strerror or error}") from None


def _end(error: Exception) -> str:
    """Return how an actor ended, as far as Ray reports it."""
    text = str(error)
    if "running low on memory" in text:
        return "ended by Ray, as its node was running out of memory"
    if "node has died" in text or "node was terminated" in text or "node is dead" in text:
        return "its node died"
    if type(error).__name__ == "ActorUnavailableError":
        return "its process, or its whole node, can no longer be reached"
    if "creation task" in text:
        return f"could not start: {text.strip().splitlines()[-1].strip()}"
    return "ended without an error message" if type(error).__name__ == "ActorDiedError" else _one_line(error)


def _one_line(error: Exception) -> str:
    """Return the first two lines of a Ray error, without its fields and traces."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip() and not line.startswith("\t")]
    return " ".join(lines[:2])[:300] or type(error).__name__

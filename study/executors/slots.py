"""The places of this machine where trainings run: GPUs, and CPU cores that we may use.

Nothing here that concerns GPUs was tried on one.
"""

from __future__ import annotations

import math
import os
import subprocess
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import torch

from pipeline.config import ConfigError, Study, Train
from pipeline.lineage import device_name
from study.executors import Slot

MOST_PER_GPU = 8  # workers; beyond that the driver's switching between processes eats what they bring
FULL = 0.9  # of a GPU's memory, and of its time
READINGS = 3  # of a GPU's load before it gets more workers
BETWEEN = 2.0  # seconds from one reading to the next


def slots(section: Study, train: Train) -> list[Slot]:
    """The slots of the local executor.

    ``study.per_gpu`` on every visible GPU (auto: one, to which :class:`Growth` may add); where there is none, or ``train.device``
    is cpu, one for each ``train.threads`` cores.

    Raises
    ------
    ConfigError
        More workers than per_gpu allows, or cuda without a GPU.
    """
    gpus = [] if train.device == "cpu" else visible_gpus()
    if not gpus:
        if train.device == "cuda":
            raise ConfigError("train.device: cuda needs a GPU that PyTorch can see, and there is none; use auto or cpu")
        count = max(1, usable_cores() // train.threads) if section.workers == "auto" else section.workers
        return [Slot(f"cpu {index}", "cpu", _cpu_name()) for index in range(count)]
    return on_gpus(section, gpus, gpu_names())


def on_gpus(section: Study, gpus: Sequence[str], names: Mapping[str, str]) -> list[Slot]:
    """The slots on these GPUs, one on each before any gets a second."""
    per_gpu = 1 if section.per_gpu == "auto" else section.per_gpu
    count = per_gpu * len(gpus) if section.workers == "auto" else section.workers
    if section.per_gpu != "auto" and count > per_gpu * len(gpus):
        raise ConfigError(
            f"study.workers: must be at most study.per_gpu times the GPUs, {per_gpu} x {len(gpus)}, got {count}; raise per_gpu"
        )
    places = [(round_, index) for round_ in range(math.ceil(count / len(gpus))) for index in range(len(gpus))][:count]
    return [gpu_slot(index, round_, gpus[index], names.get(gpus[index], "GPU")) for round_, index in places]


def gpu_slot(index: int, place: int, gpu: str, name: str) -> Slot:
    """The slot number ``place`` of a GPU: ``cuda 1 (b)``."""
    return Slot(f"cuda {index} ({chr(ord('a') + place) if place < 26 else place})", "cuda", name, gpu)


def visible_gpus() -> list[str]:
    """The GPUs that PyTorch sees, as CUDA_VISIBLE_DEVICES names each; no CUDA context is made."""
    named = [name.strip() for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name.strip()]
    return (named or [str(index) for index in range(1024)])[: torch.cuda.device_count()]


def usable_cores() -> int:
    """CPU cores that this process may use: of its affinity, and of the quota of its cgroups, rounded down; at least 1."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, math.floor(min(allowed, cpu_quota())))


def cpu_quota(mounted: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")) -> float:
    """Cores that the cgroups (v1 and v2) of this process grant it; infinity where nothing limits them.

    A group is limited by those above it too. In a container the path may be the host's, and what is mounted the group itself.
    """
    try:
        groups = [line.split(":", 2) for line in own.read_text().splitlines()]
    except OSError:
        return math.inf
    found = [math.inf]
    for _, controllers, path in groups:
        if controllers and "cpu" not in controllers.split(","):
            continue
        for top in [mounted] if not controllers else [mounted / controllers, mounted / "cpu"]:
            inner = top / path.lstrip("/")
            found += [_quota(folder) for folder in (inner, *inner.parents) if folder.is_relative_to(top)]
    return min(found)


def _quota(group: Path) -> float:
    """Cores granted by one cgroup: ``cpu.max`` of v2, ``cpu.cfs_*`` of v1."""
    try:
        if (group / "cpu.max").exists():
            quota, period = (group / "cpu.max").read_text().split()
        else:
            quota, period = ((group / f"cpu.cfs_{name}_us").read_text().strip() for name in ("quota", "period"))
        return int(quota) / int(period) if int(quota) > 0 else math.inf
    except (OSError, ValueError):  # there is no such group, or it says max
        return math.inf


@dataclass(frozen=True)
class Load:
    """used, total : memory, in bytes; utilisation : fraction of the time in which the GPU computed something"""

    used: int
    total: int
    utilisation: float


def more_per_gpu(used_bytes_per_worker: float, total_bytes: int, utilisation: float, present: int) -> int:
    """How many workers to add to a GPU on which ``present`` are working.

    So many that its time is used to 90 %, as far as 90 % of its memory and ``MOST_PER_GPU`` allow; at most twice as many as
    now, because two workers seldom use twice what one does.
    """
    wanted = present if utilisation >= FULL else min(2 * present, math.ceil(FULL * present / max(utilisation, 0.01)))
    room = int(FULL * total_bytes // max(used_bytes_per_worker, 1))
    return max(0, min(wanted, room, MOST_PER_GPU) - present)


def nvidia_smi(fields: str) -> list[list[str]]:
    """One row per GPU, index and uuid first, then what was asked for; none where there is no nvidia-smi."""
    command = ["nvidia-smi", f"--query-gpu=index,uuid,{fields}", "--format=csv,noheader,nounits"]
    try:
        lines = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout.splitlines()
    except (OSError, subprocess.SubprocessError):
        return []
    return [[part.strip() for part in line.split(",")] for line in lines]


def gpu_names() -> dict[str, str]:
    """Names of the GPUs, by index and by uuid."""
    return {key: row[2] for row in nvidia_smi("name") for key in row[:2]}


def gpu_loads() -> dict[str, Load]:
    """Load of the GPUs that tell it, by index and by uuid."""
    loads = {}
    for index, uuid, *numbers in nvidia_smi("memory.used,memory.total,utilization.gpu"):
        if all(number.isdigit() for number in numbers):  # a part of a divided GPU says [N/A]
            used, total, percent = map(int, numbers)
            loads[index] = loads[uuid] = Load(used << 20, total << 20, percent / 100)
    return loads


class Growth:
    """Adds workers to GPUs that have time and memory left, by what is measured while all workers present are working."""

    def __init__(self, read: Callable[[], Mapping[str, Load]] = gpu_loads, between: float = BETWEEN) -> None:
        self._read, self._between = read, between
        self._reader = ThreadPoolExecutor(1)  # nvidia-smi takes up to a second
        self._reading: Future[Mapping[str, Load]] | None = None
        self._read_at = -math.inf
        self._seen: dict[tuple[str, int], list[Load]] = {}  # by GPU and number of workers

    def more(self, present: Iterable[Slot], busy: Collection[Slot]) -> list[Slot]:
        """Slots to add now; mostly none. Called whenever an epoch has ended, in the middle of work."""
        if self._reading is None:
            if time.monotonic() - self._read_at >= self._between:
                self._read_at, self._reading = time.monotonic(), self._reader.submit(self._read)
            return []
        if not self._reading.done():
            return []
        loads, self._reading = self._reading.result(), None
        workers: dict[str, list[Slot]] = {}
        for slot in present:
            if slot.device == "cuda":
                workers.setdefault(slot.gpu, []).append(slot)
        return [
            slot
            for gpu, own in workers.items()
            if gpu in loads and all(slot in busy for slot in own)
            for slot in self._decide(own, loads[gpu])
        ]

    def close(self) -> None:
        self._reader.shutdown(wait=False, cancel_futures=True)

    def _decide(self, own: list[Slot], load: Load) -> list[Slot]:
        seen = self._seen.setdefault((own[0].gpu, len(own)), [])
        seen.append(load)
        if len(seen) != READINGS:  # then it is decided for this number of workers
            return []
        used = max(reading.used for reading in seen) / len(own)
        count = more_per_gpu(used, load.total, median(reading.utilisation for reading in seen), len(own))
        index = int(own[0].name.split()[1])
        return [gpu_slot(index, len(own) + new, own[0].gpu, own[0].device_name) for new in range(count)]


def _cpu_name() -> str:
    return device_name(torch.device("cpu"))

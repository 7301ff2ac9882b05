"""The slots of this machine: GPUs, or the CPU cores that this process may use.

The code for GPUs was not tested on one.
"""

from __future__ import annotations

import math
import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from pipeline.config import ConfigError, Study, Train
from pipeline.lineage import device_name
from study.workers.protocol import Slot

PER_GPU = 2  # study.per_gpu: auto; one small network leaves a GPU idle between its kernels


def slots(section: Study, train: Train) -> list[Slot]:
    """Return the slots of the local executor. Raises ConfigError for more workers than ``per_gpu`` allows, or cuda without a GPU.

    ``study.per_gpu`` on each visible GPU; without a GPU, or if ``train.device`` is cpu, one per ``train.threads`` cores.
    """
    gpus = [] if train.device == "cpu" else visible_gpus()
    if not gpus:
        if train.device == "cuda":
            raise ConfigError("train.device: cuda needs a GPU that PyTorch can see, and there is none; use auto or cpu")
        count = max(1, usable_cores() // train.threads) if section.workers == "auto" else section.workers
        name = device_name(torch.device("cpu"))
        return [Slot(f"cpu {index}", "cpu", name) for index in range(count)]
    return on_gpus(section, gpus, gpu_names())


def on_gpus(section: Study, gpus: Sequence[str], names: Mapping[str, str]) -> list[Slot]:
    """Return the slots on these GPUs, one on each before any gets a second. Raises ConfigError as :func:`slots`."""
    per_gpu = PER_GPU if section.per_gpu == "auto" else section.per_gpu
    count = per_gpu * len(gpus) if section.workers == "auto" else section.workers
    if section.per_gpu != "auto" and count > per_gpu * len(gpus):
        raise ConfigError(
            f"study.workers: must be at most study.per_gpu times the GPUs, {per_gpu} x {len(gpus)}, got {count}; raise per_gpu"
        )
    places = [(round_, index) for round_ in range(math.ceil(count / len(gpus))) for index in range(len(gpus))][:count]
    letters = [chr(ord("a") + round_) if round_ < 26 else str(round_) for round_, _ in places]
    return [
        Slot(f"cuda {index} ({letter})", "cuda", names.get(gpus[index], "GPU"), gpus[index])
        for (_, index), letter in zip(places, letters, strict=True)
    ]


def visible_gpus() -> list[str]:
    """Return the GPUs that PyTorch sees, as in CUDA_VISIBLE_DEVICES; creates no CUDA context."""
    named = [name.strip() for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name.strip()]
    return (named or [str(index) for index in range(1024)])[: torch.cuda.device_count()]


def usable_cores() -> int:
    """Return the CPU cores that this process may use by its affinity and its cgroups' quota, rounded down; at least 1."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, math.floor(min(allowed, cpu_quota())))


def cpu_quota(mounted: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")) -> float:
    """Return the cores granted by the cgroups (v1 and v2) of this process; infinity without a limit.

    Parent groups limit a group, too. In a container the path may be the host's, and the mount the group itself.
    """
    try:
        groups = [line.split(":", 2) for line in own.read_text().splitlines()]
    except OSError:
        return math.inf
    quotas = [math.inf]
    for _, controllers, path in groups:
        if controllers and "cpu" not in controllers.split(","):
            continue
        for top in [mounted] if not controllers else [mounted / controllers, mounted / "cpu"]:
            inner = top / path.lstrip("/")
            quotas += [_quota(folder) for folder in (inner, *inner.parents) if folder.is_relative_to(top)]
    return min(quotas)


def _quota(group: Path) -> float:
    """Return the cores granted by one cgroup: ``cpu.max`` of v2, ``cpu.cfs_*`` of v1; infinity without a limit."""
    try:
        if (group / "cpu.max").exists():
            quota, period = (group / "cpu.max").read_text().split()
        else:
            quota, period = ((group / f"cpu.cfs_{name}_us").read_text().strip() for name in ("quota", "period"))
        return int(quota) / int(period) if int(quota) > 0 else math.inf
    except (OSError, ValueError):  # no such group, or "max"
        return math.inf


def gpu_names() -> dict[str, str]:
    """Return the names of the GPUs, by index and by uuid; empty without nvidia-smi."""
    command = ["nvidia-smi", "--query-gpu=index,uuid,name", "--format=csv,noheader"]
    try:
        lines = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout.splitlines()
    except (OSError, subprocess.SubprocessError):
        return {}
    rows = [[part.strip() for part in line.split(",")] for line in lines]
    return {key: name for index, uuid, name in rows for key in (index, uuid)}

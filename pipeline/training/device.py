"""Choose the device, set up the CPU, and report errors of memory."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from pipeline.config import ConfigError

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h


def use_cpu(threads: int) -> None:
    """Set the number of CPU threads, and let glibc keep freed memory.

    glibc returns the memory of each batch to the system, and the next batch faults it in again page by page, which for maps of
    a few megabytes took as long as the arithmetic. Other C libraries are left as they are.
    """
    torch.set_num_threads(threads)
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if os.name == "posix" else None
    if mallopt is not None:
        mallopt(M_MMAP_THRESHOLD, 1 << 30)
        mallopt(M_TRIM_THRESHOLD, 2**31 - 1)


def choose_device(name: str) -> torch.device:
    """Return the device by name; ``auto`` is cuda if PyTorch sees a GPU, else the CPU.

    Raises ConfigError if ``name`` is cuda and there is no GPU.
    """
    available = torch.cuda.is_available()
    if name == "cuda" and not available:
        raise ConfigError("train.device: cuda needs a GPU that PyTorch can see, and there is none; use auto or cpu")
    if name == "cpu" or not available:
        return torch.device("cpu")
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # makes cuBLAS deterministic
    torch.backends.cudnn.benchmark = False
    torch.use_deterministic_algorithms(True, warn_only=True)
    return torch.device("cuda")


class OutOfMemoryError(RuntimeError):
    """A network or batch too large for the device's memory; the message says what to make smaller."""


@contextmanager
def memory_errors() -> Iterator[None]:
    """Turn PyTorch's out-of-memory errors into OutOfMemoryError, which names the remedy."""
    try:
        yield
    except RuntimeError as error:
        if isinstance(error, torch.OutOfMemoryError) or "allocate memory" in str(error):
            first = str(error).splitlines()[0]
            raise OutOfMemoryError(f"out of memory; lower train.batch_size or make the network smaller ({first})") from None
        raise

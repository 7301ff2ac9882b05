"""Which device to train on, and what happens where its memory ends."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from pipeline.config import ConfigError

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h


def use_cpu(threads: int) -> None:
    """How this process computes on the CPU: with so many threads, and with memory that it keeps.

    glibc gives what a batch has freed back to the system, and the next batch faults it in again, page by page: with maps of a
    few megabytes that took as long as the arithmetic itself. Where the C library is another one nothing is changed.
    """
    torch.set_num_threads(threads)
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if os.name == "posix" else None
    if mallopt is not None:
        mallopt(M_MMAP_THRESHOLD, 1 << 30)
        mallopt(M_TRIM_THRESHOLD, 2**31 - 1)


def choose_device(name: str) -> torch.device:
    """``auto`` is cuda where there is one, else the CPU.

    Raises
    ------
    ConfigError
        cuda was asked for and there is none.
    """
    available = torch.cuda.is_available()
    if name == "cuda" and not available:
        raise ConfigError("train.device: cuda needs a GPU that PyTorch can see, and there is none; use auto or cpu")
    if name == "cpu" or not available:
        return torch.device("cpu")
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # what cuBLAS needs to repeat itself
    torch.backends.cudnn.benchmark = False
    torch.use_deterministic_algorithms(True, warn_only=True)
    return torch.device("cuda")


class OutOfMemoryError(RuntimeError):
    """A network or batch that the device's memory does not hold: one line that says what to make smaller."""


@contextmanager
def memory_errors() -> Iterator[None]:
    """Say what to do where PyTorch says that memory has ended."""
    try:
        yield
    except RuntimeError as error:
        if isinstance(error, torch.OutOfMemoryError) or "allocate memory" in str(error):
            first = str(error).splitlines()[0]
            raise OutOfMemoryError(f"out of memory; lower train.batch_size or make the network smaller ({first})") from None
        raise

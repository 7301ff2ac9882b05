"""Which device to train on, and what happens where its memory ends."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from pipeline.config import ConfigError


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

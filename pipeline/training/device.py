"""Which device to train on."""

from __future__ import annotations

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
    return torch.device("cuda" if available and name != "cpu" else "cpu")

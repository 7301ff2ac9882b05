"""A split on its device: one uint8 tensor of all images, from which batches are gathered."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from pipeline.data.dataset import Split


@dataclass(frozen=True)
class DeviceSplit:
    """images : uint8 (n, channels, height, width); labels : int64 (n,)"""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    @classmethod
    def of(cls, split: Split, device: torch.device) -> DeviceSplit:
        """On a CPU the tensors are the mapped files themselves, not copies; on a GPU they are copied there once."""
        return cls(torch.from_numpy(split.images).to(device), torch.from_numpy(split.labels).to(device))

"""Shift and rotate the images of a batch at random, on its device."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from pipeline.config import Augment


def augment(images: Tensor, config: Augment, generator: torch.Generator) -> Tensor:
    """Shift and rotate each image by a random amount; new pixels repeat the border.

    Parameters
    ----------
    images : (n, channels, height, width), any dtype

    Returns
    -------
    float32 of the same shape. Shifts are whole pixels, rotations bilinear.
    """
    n, _, height, width = images.shape
    draws = torch.rand(3, n, generator=generator, device=images.device)
    angle = (2 * draws[0] - 1) * math.radians(config.rotation)
    shifts = torch.floor(draws[1:] * (2 * config.shift + 1)) - config.shift  # (2, n), whole pixels
    cos, sin = angle.cos(), angle.sin()
    # affine_grid measures in half heights and half widths; the ratio keeps a rotation rigid when they differ
    rows = [cos, -sin * height / width, 2 * shifts[0] / width, sin * width / height, cos, 2 * shifts[1] / height]
    theta = torch.stack(rows, dim=1).reshape(n, 2, 3)
    grid = F.affine_grid(theta, list(images.shape), align_corners=False)
    return F.grid_sample(images.float(), grid, padding_mode="border", align_corners=False)

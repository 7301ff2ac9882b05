"""Learning-rate schedules as pure functions of the step: no state to save or restore."""

from __future__ import annotations

import math
from collections.abc import Sequence

from pipeline.config import Schedule


def lr_at(
    step: int, lr: float, schedule: Schedule, steps_per_epoch: int, epochs: int, validation_losses: Sequence[float]
) -> float:
    """Return the learning rate of one step.

    ``step``, ``exponential`` and ``plateau`` change between epochs; warm-up, ``cosine`` and ``one_cycle`` within them.
    They follow ``StepLR``, ``ExponentialLR``, ``ReduceLROnPlateau``, ``CosineAnnealingLR`` (counted in steps) and ``OneCycleLR``
    of ``torch.optim.lr_scheduler``. Warm-up rises linearly from 0; cosine then spans the remaining steps, while the others count
    from the first epoch.

    step : steps done before this one, >= 0
    lr : peak, > 0
    epochs : planned, >= 1
    validation_losses : of the completed epochs
    """
    epoch, total = step // steps_per_epoch, steps_per_epoch * epochs
    warmup = round(schedule.warmup_epochs * steps_per_epoch)
    if step < warmup:
        return lr * (step + 1) / warmup
    match schedule.name:
        case "step":
            return lr * schedule.gamma ** (epoch // schedule.step_size)
        case "exponential":
            return lr * schedule.gamma**epoch
        case "cosine":
            return _cosine(lr, 0.0, (step - warmup) / max(total - warmup, 1))
        case "one_cycle":
            return _one_cycle(step, lr, total)
        case "plateau":
            return lr * schedule.gamma ** plateau_drops(validation_losses, schedule.patience)
        case _:
            return lr


def plateau_drops(losses: Sequence[float], patience: int) -> int:
    """Return how many times the loss failed for ``patience + 1`` epochs in a row to fall 0.01 % below its minimum."""
    best, bad, drops = math.inf, 0, 0
    for loss in losses:
        if loss < best * (1 - 1e-4):
            best, bad = loss, 0
        else:
            bad += 1
        if bad > patience:
            bad, drops = 0, drops + 1
    return drops


def _one_cycle(step: int, lr: float, total: int) -> float:
    """Return the rate of the cycle: lr / 25 up to lr in 30 % of the steps, down to lr / 250,000 (Smith & Topin 2018, cosine)."""
    peak = 0.3 * total - 1
    if step <= peak:
        return _cosine(lr / 25, lr, step / peak)
    return _cosine(lr, lr / 250_000, (step - peak) / (total - 1 - peak)) if total > 1 else lr


def _cosine(start: float, end: float, fraction: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * fraction)) / 2

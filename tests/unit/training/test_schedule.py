import pytest
import torch
from torch.optim import lr_scheduler

from pipeline.config import Schedule
from pipeline.training.schedule import lr_at, plateau_drops

STEPS, EPOCHS = 7, 12
LOSSES = [1.0, 0.9, 0.9, 0.95, 0.8999, 0.91, 0.5, 0.6, 0.7, 0.8, 0.49, 0.5]


def ours(schedule, losses=()):
    """The learning rate of every step of a training."""
    return [lr_at(step, 0.1, schedule, STEPS, EPOCHS, losses[: step // STEPS]) for step in range(STEPS * EPOCHS)]


def torchs(make, per_step=False, losses=None):
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], 0.1)
    scheduler, rates = make(optimizer), []
    for epoch in range(EPOCHS):
        for _ in range(STEPS):
            rates.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            if per_step and len(rates) < STEPS * EPOCHS:
                scheduler.step()
        if not per_step:
            scheduler.step(*(() if losses is None else (losses[epoch],)))
    return rates


CASES = {
    "none": (Schedule(), lambda o: lr_scheduler.ConstantLR(o, 1.0), {}),
    "step": (Schedule(name="step", step_size=3, gamma=0.5), lambda o: lr_scheduler.StepLR(o, 3, 0.5), {}),
    "exponential": (Schedule(name="exponential", gamma=0.8), lambda o: lr_scheduler.ExponentialLR(o, 0.8), {}),
    "cosine": (Schedule(name="cosine"), lambda o: lr_scheduler.CosineAnnealingLR(o, STEPS * EPOCHS), {"per_step": True}),
    "one_cycle": (
        Schedule(name="one_cycle"),
        lambda o: lr_scheduler.OneCycleLR(o, 0.1, total_steps=STEPS * EPOCHS, cycle_momentum=False),
        {"per_step": True},
    ),
    "plateau": (
        Schedule(name="plateau", gamma=0.2, patience=1),
        lambda o: lr_scheduler.ReduceLROnPlateau(o, factor=0.2, patience=1, eps=0),
        {"losses": LOSSES},
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_each_schedule_gives_the_rates_of_its_namesake_in_pytorch(name):
    schedule, make, how = CASES[name]
    assert ours(schedule, LOSSES) == pytest.approx(torchs(make, **how), rel=1e-9, abs=1e-15)


def test_plateau_drops_when_patience_is_exceeded_and_counts_anew():
    assert plateau_drops([1.0, 1.0, 1.0], patience=2) == 0
    assert plateau_drops([1.0, 1.0, 1.0, 1.0], patience=2) == 1
    assert plateau_drops([1.0] * 7, patience=2) == 2
    assert plateau_drops([1.0, 0.5, 0.4, 0.3], patience=0) == 0


@pytest.mark.parametrize("name", ["none", "cosine", "step", "exponential", "plateau"])
def test_warm_up_rises_linearly_to_the_rate_and_then_the_schedule_goes_on(name):
    rates = ours(Schedule(name=name, warmup_epochs=2.0, step_size=100, gamma=1.0), LOSSES)
    assert rates[: 2 * STEPS] == pytest.approx([0.1 * (step + 1) / (2 * STEPS) for step in range(2 * STEPS)])
    assert rates[2 * STEPS] == pytest.approx(0.1)


def test_a_schedule_of_one_step_does_not_divide_by_zero():
    for name in ("cosine", "one_cycle"):
        assert 0 < lr_at(0, 0.1, Schedule(name=name), 1, 1, []) <= 0.1

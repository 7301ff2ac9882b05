"""Every objective: direction, value, kept epoch, how it is shown."""

import math

import numpy as np
import pytest
import torch
from histories import finished

from pipeline.config import ConfigError, Params, Train, parse
from pipeline.epochs import BINS, MEASURES, Outcome, measured
from pipeline.evaluation.calibration import reliability
from pipeline.evaluation.metrics import score
from pipeline.training.loop import Training
from study.report import tables
from study.report.facts import Facts
from study.state.history import Run
from study.state.objective import OBJECTIVES
from study.state.records import Epoch, RunConfig, parsed

MEASURED = [one for one in OBJECTIVES.values() if one.measured]


def trained(losses: list[float], keep: str, **values: float) -> Run:
    config = {"model": {}, "train": {"keep": keep}}
    run = Run("0", "search", 0, {}, {}, RunConfig(config), "g", 0, 0, 500, 20, "tpe", 0, latency=0.5)
    columns = {"train_loss": 1.0, "train_accuracy": 0.5, "lr": 0.1, "seconds": 1.0, "validation_accuracy": 0.5, **values}
    for number, loss in enumerate(losses, 1):
        run.epochs.append(parsed(Epoch, columns, epoch=number, validation_loss=loss))
    return run


@pytest.mark.parametrize("one", OBJECTIVES.values(), ids=OBJECTIVES)
def test_a_better_value_costs_less_and_none_costs_most(one):
    assert one.more == (one.name in ("accuracy", "balanced_accuracy", "macro_f1"))
    better, worse = (0.9, 0.8) if one.more else (0.1, 0.2)
    assert one.cost(better) < one.cost(worse) < one.cost(None)
    assert one.sign * (better - worse) > 0
    assert one.limit.startswith(f"{one.name}{'>=' if one.more else '<='}")


@pytest.mark.parametrize("keep", ["best", "last"])
@pytest.mark.parametrize("one", MEASURED, ids=lambda one: one.name)
def test_the_value_is_that_of_the_epoch_whose_weights_were_kept_then(one, keep):
    losses = [0.5, 0.7, 0.3, 0.3, 0.9]
    run = trained(losses, keep)
    run.epochs = [parsed(Epoch, vars(epoch) | {f"validation_{one.name}": epoch.validation_loss}) for epoch in run.epochs]
    expected = [0.5, 0.5, 0.3, 0.3, 0.3] if keep == "best" else losses
    assert [one.value(run, upto) for upto in range(1, 6)] == expected
    assert one.value(run) == one.value(run, 99) == expected[-1]
    assert one.value(trained([], keep)) is None
    assert run.kept().epoch == (3 if keep == "best" else 5)  # of equals the first


@pytest.mark.parametrize("keep", ["best", "last"])
def test_a_study_and_the_training_itself_keep_the_same_epoch(tiny_data, keep):
    model = parse({"model": {"dense": [{"out": 4}]}}).model
    training = Training(model, Train(epochs=4, lr=0.05, keep=keep), tiny_data, torch.device("cpu"))
    run = trained([], keep)
    while not training.ended:
        run.epochs.append(parsed(Epoch, vars(training.run_epoch())))
        assert run.kept().epoch == training.kept_epoch


def test_sizes_are_the_networks_own_at_any_epoch():
    run = trained([0.5], "best")
    assert [OBJECTIVES[name].value(run, 1) for name in ("parameters", "multiply_adds", "latency")] == [500, 20, 0.5]


@pytest.mark.parametrize("one", MEASURED[2:], ids=lambda one: one.name)
def test_an_epoch_of_an_earlier_version_has_no_value_and_is_shown_as_a_dash(one):
    run = trained([0.5, 0.4], "best")
    assert one.value(run) is None
    assert one.shown(run) == one.text(None, 1000) == "–"


@pytest.mark.parametrize("one", MEASURED, ids=lambda one: one.name)
def test_every_measure_can_be_the_objective_of_a_study_and_is_a_column_of_its_board(one):
    made = finished(space="small", trials=6, failing=0.0, study={"objectives": [one.name], "pruner": "none"})
    best = made.history.best()
    values = [run.values[0] for run in made.history.trials if run.values]
    assert best.values[0] == (max if one.more else min)(values)
    assert made.history.winner is not None
    assert tables.leaders(Facts(made.history, made.searched), lambda run: None).records()[0][one.name] == pytest.approx(
        best.values[0]
    )
    assert params_of(one.name).study.objectives == (one.name,)


def params_of(name: str) -> Params:
    return parse({"study": {"objectives": [name]}})


def test_a_study_needs_an_objective_that_is_measured():
    with pytest.raises(ConfigError, match="must name one of accuracy loss balanced_accuracy macro_f1"):
        params_of("parameters")
    with pytest.raises(ConfigError, match="calibration_error"):
        params_of("calibration_eror")


def outcome(probs: np.ndarray, labels: np.ndarray, costs: np.ndarray) -> Outcome:
    n_classes = probs.shape[1]
    confusion = np.zeros((n_classes, n_classes), int)
    np.add.at(confusion, (labels, probs.argmax(1)), 1)
    bins = np.clip(np.ceil(probs.max(1) * BINS).astype(int) - 1, 0, BINS - 1)
    gaps = np.bincount(bins, (probs.argmax(1) == labels) - probs.max(1), BINS)
    return Outcome(0.3, confusion, np.abs(gaps), costs)


def test_measures_are_those_of_the_test_report():
    rng = np.random.default_rng(0)
    probs, labels = rng.dirichlet(np.full(4, 0.4), 500), rng.integers(0, 3, 500)  # a class without images
    report, costs = score(probs, labels, list("abcd")), np.arange(16.0).reshape(4, 4)
    values = measured(outcome(probs, labels, costs))
    assert values["validation_accuracy"] == report.accuracy.value
    assert values["validation_balanced_accuracy"] == pytest.approx(report.balanced_accuracy)
    assert values["validation_macro_f1"] == pytest.approx(report.macro["f1"])
    assert values["validation_calibration_error"] == pytest.approx(reliability(probs, labels, BINS, rng, 2).ece)
    assert values["validation_expected_cost"] == pytest.approx(costs[labels, probs.argmax(1)].mean())


def test_a_training_measures_every_epoch_and_without_costs_an_error_costs_one(tiny_data):
    model = parse({"model": {"dense": [{"out": 4}]}}).model
    training = Training(model, Train(epochs=1), tiny_data, torch.device("cpu"))
    epoch = training.run_epoch()
    with torch.no_grad():
        probs = training.classifier(training.validation.images).double().numpy()
    labels = training.validation.labels.numpy()
    ece = reliability(probs, labels, BINS, np.random.default_rng(0), 2).ece
    assert epoch.validation_calibration_error == pytest.approx(ece, abs=1e-6)
    assert epoch.validation_expected_cost == pytest.approx(1 - epoch.validation_accuracy)
    assert all(math.isfinite(getattr(epoch, f"validation_{name}")) for name in MEASURES)


def test_costs_have_a_row_and_a_column_for_each_class(tiny_data):
    costs = parse({"evaluate": {"costs": [[0.0, 1.0], [5.0, 0.0]]}}).evaluate.costs
    with pytest.raises(ConfigError, match=r"evaluate.costs: must be \d+ rows of \d+ costs, one for each class, got"):
        Training(parse({}).model, Train(), tiny_data, torch.device("cpu"), costs)

"""The published systems as data: every row, every figure as printed, every parameter count; and what is refused."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from pipeline.config import ConfigError, parse, to_tree
from pipeline.models.build import build
from pipeline.models.plan import Plan as Network
from pipeline.models.plan import plan as planned
from study.engine.plan import config_of
from study.engine.request import changed
from study.experiments.ablation.definition import load as load_ablation
from study.experiments.reproduction.figure import Figure
from study.experiments.reproduction.recipe import Recipe, RecipeRow, load, names, read
from study.state.errors import UsageError

# What the sources print, row by row, in the order of their columns.
COLUMNS = {
    "000": (
        "first_train_loss",
        "train_loss",
        "first_validation_loss",
        "validation_loss",
        "first_test_accuracy",
        "test_accuracy",
    ),
    "001": ("train_loss", "validation_loss", "first_validation_accuracy", "validation_accuracy", "test_accuracy"),
    "002": ("test_accuracy", "test_f1_weighted"),
    "003": (
        "trainable_parameters",
        "before_training_test_accuracy",
        "epochs_run",
        "train_accuracy",
        "validation_accuracy",
        "test_accuracy",
        "photographs_accuracy",
        "photographs_loss",
    ),
    "004": ("epochs_run", "train_accuracy", "validation_accuracy", "test_accuracy"),
}
PRINTED = {
    "000": {
        "exp1": "0.2559 → 0.0308, 0.1006 → 0.0310, 97.83 → 98.96 %",
        "exp2": "0.1527 → 0.0214, 0.0716 → 0.0195, 98.24 → 99.18 %",
        "exp1-padded": "",
        "exp2-padded": "",
    },
    "001": {
        "exp1": "0.0624 / 0.0731 | 93.08 → 97.70 | 97.93",
        "exp1-bn": "0.0354 / 0.0532 | 97.2 → 98.48 | 98.33",
        "exp2": "0.0278 / 0.0327 | 96.52 → 99.00 | 98.94",
        "exp2-bn": "0.0191 / 0.0344 | 98.03 → 99.00 | 99.18",
    },
    "002": {
        "mlp": "0.9070 | 0.9070",
        "mlp-5-epochs": "0.9171 | 0.9184",
        "mlp-batch-32": "0.8946 | 0.8947",
        "mlp-128-64-32": "0.9071 | 0.9074",
        "cnn": "0.9504 | 0.9509",
        "cnn-5-epochs": "0.9492 | 0.9492",
        "cnn-batch-32": "0.9384 | 0.9388",
        "cnn-no-bn": "0.9466 | 0.9468",
    },
    "003": {
        "base": "10→96",  # as kernel 5 and as batch 40
        "dropout-03": "12→97",
        "dropout-04": "13→96",
        "dropout-05": "7→96",
        "dropout-06": "6→96",
        "dropout-07": "10→95",
        "kernel-4": "7→96",
        "batch-80": "12→94",
        "batch-100": "8→94",
        "batch-120": "10→92",
        "batch-150": "10→92",
        "photographs": "9 of 10",
        "transfer": "153 trainable, 12 epochs to 100 % training accuracy; photographs 12 of 15, loss 0.8956",
        "resnet-152": "527114 trainable; 0.9149",
    },
    "004": {
        "mlp-192": "93.9/92.8/67.8",
        "mlp-392": "94.6/93.4/68.1",
        "mlp-two-hidden-1": "95.3/93.6/68.4",
        "mlp-two-hidden-2": "95.2/94.3/60.5",
        "mlp-deep": "does not learn",
        "mlp": "94.9/94.2/68.5",
        "mlp-lr-0_001": "84.5/84.4/62.1",
        "mlp-patience-3": "6 epochs, 93.6/92.6",
        "mlp-step": "95",
        "mlp-patience-5-step": "10 epochs, 93.8",
        "mlp-sgd-step": "15",
        "mlp-adam-step": "90",
        "mlp-final": "93.3/91.8/67.3",
        "cnn-1": "92.1/93.6/67.9",
        "cnn-2": "stopped at 16, 95.1/94.9/69.0",
        "cnn-3": "65.4/64.4/47.0",
        "cnn-4": "90.3/90.3/65.8",
        "cnn-1-long": "93.8/94.2/68.4",  # as more epochs and as no scheduler
        "cnn-3-long": "88.5/88.3/64.8",
        "cnn-1-step-10": "89.9/89.1/64.9",
        "cnn-1-step-20": "stopped at 26, 93.2/93.1/67.9",
        "cnn-1-leaky-relu": "92.2/92.0/67.1",
        "cnn-1-elu": "94.3/94.1/68.7",
        "cnn-1-elu-bn": "98.1/97.9/69.9",
        "cnn-1-dropout-last": "96.7/96.5/87.1",
        "cnn-1-dropout-first": "94.9/94.6/69.1",
        "cnn-1-dropout-both": "94.5/94.1/68.8",
    },
}
COUNTS = {  # of parameters, as printed
    "000": {"exp1": 5750, "exp2": 4880},
    "001": {"exp1": 4470, "exp2": 4368},
    "002": {},
    "003": {"base": 21_840, "transfer": 21_483},
    "004": {},
}
INPUTS = {  # of the last layer, which 000 and 004 print or imply
    "000/exp1": 144,
    "000/exp1-padded": 676,
    "003/base": 50,
    "004/mlp": 64,
    "004/cnn-1": 800,
    "004/cnn-2": 256,
    "004/cnn-3": 72,
    "004/cnn-4": 32,
}
SOURCES = tuple(PRINTED)
ROWS = [(source, row) for source, rows in PRINTED.items() for row in rows]
TRAINED = [f"{source}/{row}" for source, row in ROWS if row not in ("photographs", "transfer", "resnet-152")]

recipe = cache(load)


def network(row: RecipeRow) -> Network:
    """On MNIST, which all sources use."""
    assert row.params.data.name == "mnist"
    return planned(row.params.model, (1, 28, 28), len(row.params.data.merge or range(10)))


def test_there_is_a_recipe_for_each_source_and_a_row_for_each_that_is_printed():
    assert tuple(names()) == SOURCES
    for source in SOURCES:
        assert recipe(source).source == source
        assert sorted(row.name for row in recipe(source).rows) == sorted(PRINTED[source])
    assert [len(recipe(source).rows) for source in SOURCES] == [4, 4, 8, 14, 27]


@pytest.mark.parametrize(("source", "name"), ROWS)
def test_a_row_has_the_figures_of_the_source_digit_for_digit(source, name):
    reported = recipe(source).row(name).reported
    assert set(reported) - set(COLUMNS[source]) <= {"test_recall_weighted"}
    texts = " ".join(reported[column].text.replace(",", "") for column in COLUMNS[source] if column in reported)
    assert re.findall(r"[\d.]*\d", texts) == re.findall(r"[\d.]*\d", PRINTED[source][name])


def test_in_002_accuracy_is_printed_as_the_weighted_recall():
    for row in recipe("002").rows:
        assert row.reported["test_recall_weighted"] == row.reported["test_accuracy"]


@pytest.mark.parametrize("source", SOURCES)
def test_no_row_is_reported_twice(source):
    seen = [(row.params, tuple(row.reported.items()), row.later) for row in recipe(source).rows]
    assert len({repr(row) for row in seen}) == len(seen)


@pytest.mark.parametrize("source", SOURCES)
def test_the_networks_have_exactly_the_parameters_that_are_printed(source):
    rows = recipe(source).rows
    assert {row.name: row.parameters for row in rows if row.parameters is not None} == COUNTS[source]
    for row in rows:
        if row.parameters is not None and row.later is None:
            assert network(row).parameters == row.parameters, row.name


def test_the_geometry_of_000s_text_has_another_count_and_6770_of_it_in_the_linear_layer():
    padded = network(recipe("000").row("exp1-padded"))
    assert padded.layers[-1].parameters == 6770 == 13 * 13 * 4 * 10 + 10
    assert padded.parameters == 11_070
    assert any(claim.figure == "parameters" for claim in recipe("000").claims)


def test_the_rows_of_later_work_have_the_counts_of_their_arithmetic():
    greek = planned(recipe("003").base.model, (1, 28, 28), 3)
    assert greek.parameters == recipe("003").row("transfer").parameters
    assert greek.layers[-2].parameters == recipe("003").row("transfer").reported["trainable_parameters"].value
    head = 2048 * 256 + 256 + 256 * 10 + 10
    assert recipe("003").row("resnet-152").reported["trainable_parameters"].value == head


@pytest.mark.parametrize("name", TRAINED)
def test_a_row_that_is_trained_is_a_network_on_its_images_and_keeps_the_last_weights(name):
    row = recipe(name[:3]).row(name[4:])
    layers = network(row).layers
    if name in INPUTS:
        assert next(layer for layer in layers if layer.name == "head").args["in_features"] == INPUTS[name]
    assert row.params.train.keep == "last"
    assert row.params == parse(changed(to_tree(recipe(name[:3]).base), deepcopy(dict(row.changes))))


def test_rows_of_004_differ_from_their_neighbours_in_what_their_title_says():
    def differences(one: str, other: str) -> dict:
        first, second = (to_tree(recipe("004").row(name).params) for name in (one, other))
        return {
            (section, key): value
            for section in ("data", "model", "train")
            for key, value in second[section].items()
            if first[section][key] != value
        }

    assert differences("cnn-1", "cnn-1-long") == {("train", "epochs"): 50}
    assert differences("cnn-1-long", "cnn-1-elu") == {("model", "activation"): "elu"}
    assert differences("cnn-1-elu", "cnn-1-elu-bn") == {("model", "batch_norm"): True}
    assert list(differences("cnn-1-elu-bn", "cnn-1-dropout-last")) == [("model", "conv")]
    dropouts = {
        name: [block.dropout for block in recipe("004").row(f"cnn-1-dropout-{name}").params.model.conv]
        for name in ("first", "last", "both")
    }
    assert dropouts == {"first": [0.25, None], "last": [None, 0.25], "both": [0.1, 0.1]}
    assert differences("mlp", "mlp-lr-0_001") == {("train", "lr"): 0.001}
    assert differences("mlp-patience-5-step", "mlp-final") == {}


def test_all_of_004s_test_column_is_not_comparable_and_nothing_else():
    for row in recipe("004").rows:
        assert set(row.not_comparable) == {"test_accuracy"} & set(row.reported)
    for source in SOURCES[:-1]:
        assert not any(row.not_comparable for row in recipe(source).rows)


def test_the_confusion_of_000_has_the_classes_of_mnist_and_its_own_test_accuracy():
    row = recipe("000").row("exp2")
    assert row.confusion is not None
    assert [sum(line) for line in row.confusion] == [980 + 958, 1135 + 1028, 1032 + 1010 + 892 + 974, 982 + 1009]
    right = sum(line[index] for index, line in enumerate(row.confusion))
    assert right / 10_000 == pytest.approx(row.reported["test_accuracy"].value)


def test_dropping_channels_before_pooling_and_relu_gives_the_numbers_of_003_as_well():
    built = build(recipe("003").row("base").params.model, (1, 28, 28), 10, seed=0).train()
    names_of = [name for name, _ in built.named_children()]
    here = ["conv2", "pool2", "act2", "drop2"]
    assert names_of[names_of.index("conv2") :][:4] == here
    there = ["conv2", "drop2", "pool2", "act2"]
    images = torch.randn(16, 10, 12, 12, generator=torch.Generator().manual_seed(0))
    results = []
    for order in (here, there):
        with torch.random.fork_rng():
            torch.manual_seed(1)
            results.append(nn.Sequential(*(built.get_submodule(name) for name in order))(images))
    torch.testing.assert_close(*results)
    assert (results[0] == 0).all((2, 3)).any()


@pytest.mark.parametrize(
    ("name", "text", "value", "half_unit", "unit"),
    [
        ("test_accuracy", "97.93 %", 0.9793, 0.00005, "%"),
        ("first_validation_accuracy", "97.2 %", 0.972, 0.0005, "%"),
        ("before_training_test_accuracy", "7 %", 0.07, 0.005, "%"),
        ("test_f1_weighted", "0.9070", 0.907, 0.00005, ""),
        ("train_loss", "0.0624", 0.0624, 0.00005, ""),
        ("epochs_run", "16", 16, 0, ""),
        ("trainable_parameters", "527,114", 527_114, 0, ""),
        ("photographs_accuracy", "12 of 15", 0.8, 0, "of 15"),
    ],
)
def test_a_figure_is_its_value_and_how_far_rounding_moved_it(name, text, value, half_unit, unit):
    figure = Figure.of(name, text)
    assert (figure.text, figure.unit) == (text, unit)
    assert (figure.value, figure.half_unit) == pytest.approx((value, half_unit), abs=1e-12)


@given(st.floats(0, 1), st.integers(0, 6), st.booleans())
def test_a_share_lies_within_half_a_unit_of_what_is_printed_of_it(share, decimals, percent):
    text = f"{100 * share:.{decimals}f} %" if percent else f"{share:.{decimals}f}"
    figure = Figure.of("test_accuracy", text)
    assert abs(figure.value - share) <= figure.half_unit + 1e-12


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("accuracy", "0.9", "accuracy: no such figure; there are train_accuracy, validation_accuracy, test_accuracy"),
        ("first_epochs_run", "1", "first_epochs_run: no such figure"),
        ("train_loss", 0.0624, "train_loss: must be text in quotes, so that the printed digits are known, got 0.0624"),
        ("train_loss", "about 3", "train_loss: must be a number like 0.0624, 97.93 % or 9 of 10, got 'about 3'"),
        ("train_loss", "3 %", "train_loss: must be a number without unit, got '3 %'"),
        ("test_accuracy", "97.93", "test_accuracy: must be a share like 97.93 % or 0.9793, got '97.93'"),
        ("test_accuracy", "9 of 0", "test_accuracy: must be a number like"),
        ("epochs_run", "2.5", "epochs_run: must be a whole number, got '2.5'"),
    ],
)
def test_a_figure_that_cannot_be_is_refused(name, text, message):
    with pytest.raises(ConfigError, match=re.escape(message)):
        Figure.of(name, text)


WHOLE = """
    source: "900"
    title: a tale
    base:
      data: {name: mnist, validation: 0.1}
      model: {conv: [{out: 4}, {out: 8}]}
    rows:
      one: {title: the first, parameters: 1, reported: {test_accuracy: "97 %"}}
      two:
        title: the second
        set: {"model.conv[1].out": 9, model.conv: [{out: 1}, {out: 2}]}
    claims:
      - {text: one is better, rows: [one, two], figure: test_accuracy}
"""
Write = Callable[[str], Recipe]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Reads a recipe that is written so."""

    def recipe_of(text: str) -> Recipe:
        (tmp_path / "900.yaml").write_text(textwrap.dedent(text))
        return read(tmp_path / "900.yaml")

    return recipe_of


def test_a_part_is_replaced_after_the_whole_that_it_lies_in_however_they_are_written(write):
    assert [block.out for block in write(WHOLE).row("two").params.model.conv] == [1, 9]


def test_a_base_stands_on_the_defaults_and_not_on_params_yaml(write, tmp_path, monkeypatch):
    (tmp_path / "params.yaml").write_text("train: {epochs: 77}\n")
    monkeypatch.chdir(tmp_path)
    assert write(WHOLE).base.train == parse({}).train


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "title: a tale",
            "titel: a tale",
            "900.yaml: titel: no such key; valid here: source, title, assumed, base, rows, claims",
        ),
        ("title: a tale", "", "900.yaml: title: this key is required"),
        ("title: a tale", "title: 3", "900.yaml: title: must be text, got 3; write it in quotes"),
        ('source: "900"', "source: 900", "900.yaml: source: must be text, got 900; write it in quotes"),
        ("title: a tale", "title: [", "900.yaml: line 5: not valid YAML: "),
        ("title: the first, ", "", "900.yaml: row one: title: this key is required"),
        ("title: the first", "titel: x", "900.yaml: row one: titel: no such key; valid here: title, set, parameters"),
        ("title: the first", "title: x, title: y", "900.yaml: line 8: not valid YAML: "),
        ("one: {", "1: {", "900.yaml: 1: a key must be text; write it in quotes"),
        ("one: {", "one.s0: {", "900.yaml: row one.s0: a name must be letters, digits, _ and -"),
        ("validation: 0.1", "validation: 2", "900.yaml: data.validation: must be less than 1, got 2"),
        ("name: mnist", "nam: mnist", "900.yaml: data.nam: no such key; did you mean data.name?"),
        ("data: {", "study: {", "900.yaml: study: no such key; valid here: data, model, train"),
        ('"model.conv[1].out": 9', '"model.conv[7].out": 9', "900.yaml: row two: model.conv[7].out: no such key"),
        ('"model.conv[1].out": 9', "train.epoch: 9", "900.yaml: row two: train.epoch: no such key; did you mean train.epochs?"),
        (
            '"model.conv[1].out": 9',
            "train.epochs: 0",
            "900.yaml: row two: train.epochs: must be greater than or equal to 1, got 0",
        ),
        ('"model.conv[1].out": 9', "study.trials: 9", "900.yaml: row two: set: study.trials: must begin with data, model, train"),
        ("parameters: 1", "parameters: many", "900.yaml: row one: parameters: must be a whole number, got 'many'"),
        ('"97 %"', "0.97", "900.yaml: row one: test_accuracy: must be text in quotes"),
        (
            "parameters: 1",
            "not_comparable: {loss: x}",
            "row one: not_comparable: loss: must be a figure that is reported: test_acc",
        ),
        ("parameters: 1", "not_comparable: {test_accuracy: 1}", "row one: test_accuracy: must be text, got 1"),
        ("parameters: 1", "assumed: x", "900.yaml: row one: assumed: must be a list of sentences or names, got 'x'"),
        (
            "parameters: 1",
            "confusion: [[1, 2]]",
            "row one: confusion: must be as many rows as columns of whole numbers, got [[1, 2]]",
        ),
        ("parameters: 1", "later: 3", "900.yaml: row one: later: must be text, got 3"),
        (
            "rows: [one, two]",
            "rows: [one, three]",
            "claims[0]: rows: must name rows of the recipe, one, two; got ['one', 'three']",
        ),
        ("rows: [one, two]", "rows: []", "claims[0]: rows: must name rows of the recipe, one, two; got []"),
        ("figure: test_accuracy", "figure: fame", "900.yaml: claims[0]: fame: no such figure; there are"),
        ("figure: test_accuracy", "", "900.yaml: claims[0]: figure: this key is required"),
    ],
)
def test_a_recipe_that_breaks_a_rule_is_refused_in_one_line_with_its_place(write, old, new, message):
    assert old in WHOLE
    with pytest.raises(UsageError) as caught:
        write(WHOLE.replace(old, new, 1))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("source", "row", "message"),
    [
        ("005", "base", "there is no recipe 005; did you mean 00"),
        ("003", "bas", "recipe 003 has no row bas; did you mean base? there are base, dropout-03"),
    ],
)
def test_a_row_that_is_not_there_is_answered_with_what_there_is(source, row, message):
    with pytest.raises(UsageError, match=re.escape(message)):
        load(source).row(row)


def test_a_plan_has_every_row_that_is_trained_and_none_of_later_work():
    plan = recipe("003").plan(seeds=3)
    assert (plan.name, plan.kind, plan.seeds) == ("reproduce-003", "reproduction", 3)
    assert [row.name for row in plan.rows] == [name for name in PRINTED["003"] if f"003/{name}" in TRAINED]
    assert all(row.params == recipe("003").row(row.name).params for row in plan.rows)
    assert plan.rows[1].changes == {"model.conv[1].dropout": 0.3}


@pytest.mark.parametrize(
    ("limit", "quick", "name", "cut"),
    [
        (None, True, "reproduce-004-quick", {"data.limit": 10_000, "train.epochs": 3}),
        (500, False, "reproduce-004-limit500", {"data.limit": 500}),
        (500, True, "reproduce-004-quick-limit500", {"data.limit": 500, "train.epochs": 3}),
    ],
)
def test_a_plan_that_is_cut_short_says_so_in_its_name_and_on_every_row(limit, quick, name, cut):
    plan = recipe("004").plan(1, limit, quick)
    assert plan.name == name
    for row, whole in zip(plan.rows, recipe("004").rows, strict=True):
        assert row.changes == {**whole.changes, **cut}
        assert row.params == parse(changed(to_tree(whole.params), cut))


def test_a_quick_training_stays_possible_with_a_warm_up_and_is_never_longer_than_the_whole(write):
    tale = write(WHOLE)
    train = {"epochs": 9, "schedule": {"warmup_epochs": 5.0}}
    slow, short = (parse({"train": section}) for section in (train, {"epochs": 1}))
    rows = (replace(tale.rows[0], params=slow), replace(tale.rows[1], params=short))
    quick = replace(tale, rows=rows).plan(1, quick=True)
    assert [row.params.train.epochs for row in quick.rows] == [3, 1]
    assert quick.rows[0].params.train.schedule.warmup_epochs == 1.5
    assert all(parse(config_of(row, seed=3)).train.seed == 3 for row in quick.rows)


@pytest.mark.parametrize(
    ("seeds", "limit", "message"),
    [
        (0, None, "--seeds must be at least 1, got 0"),
        (1, 5, "--data-limit: data.limit: must be greater than or equal to 10, got 5"),
    ],
)
def test_a_plan_that_cannot_be_is_refused(seeds, limit, message):
    with pytest.raises(UsageError, match=re.escape(message)):
        recipe("001").plan(seeds, limit)


@pytest.mark.parametrize(
    ("name", "factors"),
    [
        ("002-mlp", {"train.epochs": "5 10", "train.batch_size": "32 64", "depth": "128-64 128-64-32"}),
        ("002-cnn", {"train.epochs": "5 10", "train.batch_size": "32 64", "model.batch_norm": "false true"}),
        ("003", {"dropout": "0.3 0.4 0.5 0.6 0.7", "kernel": "4 5", "train.batch_size": "40 80 100 120 150"}),
        ("004", {"train.lr": "0.001 0.01", "model.activation": "relu leaky_relu elu", "model.batch_norm": "false true"}),
    ],
)
def test_a_shipped_ablation_varies_what_the_table_of_its_source_varies_and_judges_a_claim_on_each(name, factors, tmp_path):
    ablation = load_ablation(name, tmp_path)
    found = {factor.name: " ".join(level.label for level in factor.levels) for factor in ablation.factors}
    assert found.items() >= factors.items()
    assert set(found) - set(factors) <= {"schedule", "dropout"}
    assert ablation.seeds == 5
    assert all(factor.hypothesis and factor.claim for factor in ablation.factors)


@pytest.mark.parametrize(
    ("name", "source"),
    [("002-mlp", "002"), ("002-cnn", "002"), ("003", "003"), ("004", "004")],
)
def test_a_shipped_ablation_trains_the_configurations_of_the_recipe_where_both_have_them(name, source, tmp_path):
    """The ablation of 003 validates on more images; that of 004 takes each factor alone."""
    alone = {"002-mlp": 4, "002-cnn": 4, "003": 10, "004": 5}
    ablation = load_ablation(name, tmp_path)
    recipes = {repr((row.params.model, row.params.train)) for row in recipe(source).rows if row.later is None}
    assert sum(repr((row.params.model, row.params.train)) in recipes for row in ablation.rows) == alone[name]

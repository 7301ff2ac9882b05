import json
import math

import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.config import Params, load, parse, to_tree
from study.space.checks import check, fit
from study.space.keys import SpaceError
from study.space.space import SHIPPED, Space

BASE = to_tree(Params())
MNIST = ((1, 28, 28), 10)


def space_of(tmp_path, text: str) -> Space:
    path = tmp_path / "space.yaml"
    path.write_text(text)
    return Space.load(str(path))


def written(tmp_path, *parameters: str) -> Space:
    return space_of(tmp_path, "\n".join(["parameters:", *(f"  {line}" for line in parameters)]))


def random_points(space: Space, count: int, seed: int = 0) -> list[dict]:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
    return [space.suggest(study.ask()) for _ in range(count)]


@pytest.fixture(autouse=True)
def _quiet():
    optuna.logging.set_verbosity(optuna.logging.ERROR)


@pytest.mark.parametrize("name", SHIPPED)
@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 2**32 - 1))
def test_a_random_point_of_a_shipped_space_can_be_trained_or_says_why_not_and_leads_back_to_itself(name, seed):
    space = Space.load(name)
    (params,) = random_points(space, 1, seed)
    assert space.distributions(params) == {key: space.parameters[key] for key in params}
    fitted = fit(space.configure(BASE, params), *MNIST)
    if fitted.problem is None:
        assert fitted.plan.parameters > 0
        assert space.params_of(fitted.config) == params
    else:
        assert "does not fit" in fitted.problem


@pytest.mark.parametrize("name", SHIPPED)
def test_fewer_than_two_in_a_hundred_random_points_of_a_shipped_space_are_impossible(name):
    space = Space.load(name)
    fits = [fit(space.configure(BASE, params), *MNIST) for params in random_points(space, 500)]
    assert sum(found.problem is not None for found in fits) < 0.02 * len(fits)


def test_most_networks_of_the_cnn_space_have_fewer_than_60000_parameters():
    space = Space.load("cnn")
    plans = [fit(space.configure(BASE, params), *MNIST).plan for params in random_points(space, 300)]
    assert sum(planned is not None and planned.parameters < 60_000 for planned in plans) > 0.8 * len(plans)


@pytest.mark.parametrize("name", ["cnn", "all"])
def test_the_network_and_training_of_params_yaml_are_a_point_of_the_spaces_with_convolutions(name):
    space, base = Space.load(name), to_tree(load("params.yaml"))
    params = space.params_of(base)
    assert params["model.conv"] == 3
    assert params["model.conv[1].pool"] == "max"
    assert space.configure(BASE, params)["model"]["conv"][0] == {
        "out": 16,
        "kernel": 7,
        "stride": 1,
        "pool": {"kind": "max", "kernel": 2},
    }


@pytest.mark.parametrize("name", SHIPPED)
def test_a_space_comes_back_whole_from_the_json_of_the_ledger(name):
    space = Space.load(name)
    again = Space.of(name, json.loads(json.dumps(space.tree)))
    assert again.nodes == space.nodes
    check(space, Params(), *MNIST)


BAD_SPACES = [
    ("train.lr: {low: 0.1, high: 0.01}", "train.lr: low must not be above high, got low 0.1, high 0.01"),
    ("train.lr: {low: 0, high: 0.01, log: true}", "train.lr: low of a log range must be above 0, got 0.0; raise it"),
    ("train.lr: {low: 0.1}", "train.lr: a range needs low and high; high is missing"),
    ("train.lr: {low: a, high: 1}", "train.lr: low must be a number, got 'a'"),
    ("train.lr: {low: 0.1, high: .inf}", "train.lr: high must be a number, got inf"),
    ("train.lr: {low: 0.1, high: 1, log: 1}", "train.lr: log must be true or false, got 1"),
    ("train.lr: {low: 0.1, high: 1, step: 0.1, log: true}", "train.lr: a range must have log or step, not both"),
    (
        "model.dropout: {low: 0.0, high: 0.5, step: 0.2}",
        "model.dropout: step must be above 0 and lead from low to high, got low 0.0, high",
    ),
    ("train.lr: {low: 0.1, high: 1, lg: true}", "train.lr: no such key lg; did you mean log?"),
    ("train.lr: {}", "train.lr: must be a range {low, high}, {choices: […]}, {repeat, each}, {groups} or a value"),
    (
        "train.optimizer: {choices: []}",
        "train.optimizer: choices must be a list, or a mapping of labels to values, not empty",
    ),
    ("train.optimizer: {choices: [adam, adam]}", "train.optimizer: choices must differ, got 'adam' twice"),
    (
        "model.conv[0].pool: {choices: [null, {kind: max}]}",
        "model.conv[0].pool: a choice that is not a single value needs a label",
    ),
    ("train.optimizer: {choices: [adam], when: {sgd: {train.momentum: 0.9}}}", "when must name one of adam, got sgd"),
    ("train.optimizer: {choices: [adam], when: 3}", "train.optimizer: when must be a mapping of choices to parameters, got 3"),
    ("model.dense: {repeat: many, each: {out: 3}}", "model.dense: repeat must be a number of blocks or a range {low, high}"),
    (
        "model.dense: {repeat: {low: -1, high: 2}, each: {out: 3}}",
        "model.dense: repeat must be a number of blocks or a range",
    ),
    ("family: {groups: {}}", "family: groups must be a mapping of names to parameters, got {}"),
    ("model.family: {groups: {a: {}}}", "model.family: the name of groups must be one word"),
    (
        "data.validation: {low: 0.1, high: 0.2}",
        "data.validation: cannot be searched: trials are compared on the same validation images",
    ),
    ("evaluate.gallery: 3", "evaluate.gallery: cannot be searched: it changes nothing in training"),
    ("train.seed: {low: 0, high: 9}", "train.seed: cannot be searched: every trial has a seed of its own"),
    ("train.lr!: 3", "train.lr!: a parameter must be a key like train.lr or model.conv[0].out"),
    ("model.dense: {repeat: 1, each: {out: 3}, shared: {out: 4}}", "model.dense[0].out: is set twice"),
    ("include: nosuch", "study.space: no space nosuch"),
    ("include: mnp", "did you mean mlp? there are all, cnn, mlp; or give a YAML file"),
]


@pytest.mark.parametrize(("line", "message"), BAD_SPACES)
def test_a_space_that_breaks_a_rule_is_refused_in_one_line(tmp_path, line, message):
    with pytest.raises(SpaceError) as caught:
        written(tmp_path, line)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("parameters: [", "not valid YAML"),
        ("parameters: {}\nspace: 3", "must have the keys description and parameters, and no other"),
        ("parameters: {}", "parameters: must name at least one key"),
        ("3", "must have the keys description and parameters"),
        ("parameters: 3", "parameters: must be a mapping of keys to what is searched, got 3"),
        ("parameters: {train.lr: 0.1, train.lr: 0.2}", "not valid YAML"),
        (
            "parameters:\n  model.conv: []\n  model.conv[0].out: 3",
            "model.conv[0].out: is part of model.conv, which the space sets as a whole",
        ),
        (
            "parameters:\n  train.momentum: 0.5\n  train.optimizer: {choices: [sgd], when: {sgd: {train.momentum: 0.9}}}",
            "train.momentum: is set twice",
        ),
    ],
)
def test_a_file_that_is_no_space_is_refused_in_one_line(tmp_path, text, message):
    with pytest.raises(SpaceError) as caught:
        space_of(tmp_path, text)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_unknown_space_is_answered_with_those_that_there_are():
    with pytest.raises(SpaceError, match=r"study.space: no space cnnn; did you mean cnn\? there are all, cnn, mlp; or give"):
        Space.load("cnnn")


def test_a_space_that_includes_itself_is_refused(tmp_path):
    path = tmp_path / "space.yaml"
    with pytest.raises(SpaceError, match="without end"):
        written(tmp_path, f"include: {path}")


BAD_FOR_THE_CONFIGURATION = [
    ("train.learning_rate: {low: 0.1, high: 1}", {}, "train.learning_rate: no such key; did you mean train.lr?"),
    ("lr: {low: 0.1, high: 1}", {}, "lr: no such key; did you mean train.lr?"),
    ("model.dropout: {low: 0.0, high: 1.5}", {}, "model.dropout: must be less than 1, got 1.5"),
    (
        "model.dense: {repeat: 2, each: {out: {low: 0, high: 8}}}",
        {},
        "model.dense[0].out: must be greater than or equal to 1, got 0",
    ),
    ("model.dense: {repeat: 2, each: {ot: 8}}", {}, "model.dense[0].ot: no such key; did you mean model.dense[0].out?"),
    ("train.optimizer: {choices: [adam, adem]}", {}, "train.optimizer: must be 'sgd', 'adam', 'adamw', 'rmsprop' or 'nadam'"),
    ("train.batch_size: {low: 1.5, high: 8.5}", {}, "train.batch_size: must be a valid integer, got 1.5"),
    ("train.lr: {repeat: 2, each: {}}", {}, "train.lr: must be a valid number"),
    (
        "model.conv[3].out: {low: 4, high: 8}",
        {},
        "model.conv[3].out: there is no model.conv[3] in params.yaml, which has 0 blocks",
    ),
    (
        "model.conv: {repeat: 1, each: {out: 4, kernel: 99, padding: 0}}",
        {},
        "none of 300 random points can be trained; the reason 300 times: conv1",
    ),
    ("train.augment.shift: 28", {}, "train.augment.shift: must be less than the 28 pixels of an image, got 28"),
    (
        "train.lr: {low: 0.1, high: 1}",
        {"sampler": "cmaes", "pruner": "none"},
        "study.sampler: cmaes needs two ranges that every point has, got 1",
    ),
    (
        "train.lr: {low: 0.1, high: 1}",
        {"sampler": "cmaes", "pruner": "none", "objectives": ["accuracy", "parameters"]},
        "study.sampler: cmaes takes one objective, got accuracy, parameters",
    ),
    (
        "train.label_smoothing: {low: 0, high: 0.1}",
        {"objectives": ["loss"]},
        "train.label_smoothing: cannot be searched with objective loss",
    ),
]


@pytest.mark.parametrize(("line", "study", "message"), BAD_FOR_THE_CONFIGURATION)
def test_what_cannot_be_trained_is_found_before_anything_starts(tmp_path, line, study, message):
    space = written(tmp_path, line)
    with pytest.raises(SpaceError) as caught:
        check(space, parse({"study": study}), *MNIST)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_one_possible_point_among_many_is_enough(tmp_path):
    space = written(tmp_path, "model.conv: {repeat: 1, each: {out: 4, padding: 0, kernel: {choices: [99, 98, 97, 3]}}}")
    assert {fit(space.configure(BASE, params), *MNIST).problem is None for params in random_points(space, 50)} == {True, False}
    check(space, Params(), *MNIST)  # raises nothing


@pytest.mark.parametrize(
    ("train", "params", "expected"),
    [
        ({"optimizer": "sgd", "momentum": 0.9, "nesterov": True}, "adam", {"momentum": 0.0, "nesterov": False}),
        ({"optimizer": "sgd", "momentum": 0.9, "nesterov": True}, "rmsprop", {"momentum": 0.9, "nesterov": False}),
        ({"optimizer": "sgd", "momentum": 0.9, "nesterov": True}, "sgd", {"momentum": 0.9, "nesterov": True}),
    ],
)
def test_what_a_choice_rules_out_is_reset_and_the_rest_stays(tmp_path, train, params, expected):
    space = written(tmp_path, "train.optimizer: {choices: [sgd, adam, rmsprop]}")
    tree = space.configure(to_tree(parse({"train": train})), {"train.optimizer": params})
    assert {key: tree["train"][key] for key in expected} == expected
    parse(tree)


def test_warm_up_and_label_smoothing_go_with_what_rules_them_out(tmp_path):
    space = written(tmp_path, "train.schedule.name: one_cycle", "train.loss: mse")
    base = to_tree(parse({"train": {"label_smoothing": 0.1, "schedule": {"warmup_epochs": 2.0}}}))
    train = parse(space.configure(base, {})).train
    assert (train.schedule.warmup_epochs, train.label_smoothing) == (0.0, 0.0)


def test_a_value_that_the_space_itself_sets_is_not_reset_but_found_impossible(tmp_path):
    space = written(tmp_path, "train.optimizer: adam", "train.momentum: 0.9")
    found = fit(space.configure(BASE, {}), *MNIST)
    assert found.problem == "train: momentum must be 0 with adam; it belongs to sgd and rmsprop"


def test_configuring_leaves_the_base_and_all_other_sections_alone():
    space = Space.load("cnn")
    before = json.dumps(BASE)
    (params,) = random_points(space, 1)
    tree = space.configure(BASE, params)
    assert json.dumps(BASE) == before
    assert {name: tree[name] for name in ("data", "evaluate", "tracking", "study")} == {
        name: BASE[name] for name in ("data", "evaluate", "tracking", "study")
    }


def test_blocks_may_share_a_parameter_and_have_conditions_of_their_own(tmp_path):
    space = written(
        tmp_path,
        "model.conv:",
        "  repeat: 2",
        "  shared: {kernel: {choices: [3, 5]}}",
        "  each:",
        "    out: 8",
        "    pool: {choices: {no: null, yes: {kind: max}}, when: {yes: {dropout: {low: 0.1, high: 0.2}}}}",
    )
    params = {"model.conv[*].kernel": 5, "model.conv[0].pool": "no", "model.conv[1].pool": "yes", "model.conv[1].dropout": 0.15}
    conv = space.configure(BASE, params)["model"]["conv"]
    assert conv == [{"kernel": 5, "out": 8, "pool": None}, {"kernel": 5, "out": 8, "pool": {"kind": "max"}, "dropout": 0.15}]
    assert space.params_of({"model": {"conv": conv}}) == params
    assert space.params_of({"model": {"conv": [conv[0] | {"kernel": 3}, conv[1]]}}) is None


def test_a_key_of_a_block_in_params_yaml_can_be_searched(tmp_path):
    space = written(tmp_path, "model.conv[1].kernel: {low: 3, high: 7, step: 2}", "model.conv[0].pool.kernel: {choices: [2, 3]}")
    tree = space.configure(to_tree(load("params.yaml")), {"model.conv[1].kernel": 7, "model.conv[0].pool.kernel": 3})
    assert (tree["model"]["conv"][1]["kernel"], tree["model"]["conv"][0]["pool"]["kernel"]) == (7, 3)
    assert space.paths == {"model.conv[1].kernel", "model.conv[0].pool.kernel"}


def test_own_parameters_come_before_those_of_an_included_space(tmp_path):
    space = written(tmp_path, "include: mlp", "train.batch_size: 64")
    assert "train.batch_size" not in space.parameters
    assert space.parameters["train.lr"] == Space.load("mlp").parameters["train.lr"]


def test_whole_numbers_are_fractions_where_the_key_takes_fractions(tmp_path):
    space = written(tmp_path, "train.augment.rotation: {low: 0, high: 20}", "train.augment.shift: {low: 0, high: 3}")
    assert space.parameters["train.augment.rotation"] == optuna.distributions.FloatDistribution(0.0, 20.0)
    assert space.parameters["train.augment.shift"] == optuna.distributions.IntDistribution(0, 3)


def test_a_name_has_one_distribution_and_namesakes_are_told_apart_by_their_option():
    parameters = Space.load("all").parameters
    assert {"mlp:model.dense", "cnn:model.dense", "adamw:train.weight_decay", "sgd:train.weight_decay"} <= parameters.keys()
    assert "train.optimizer" in parameters
    assert "model.dense" not in parameters


@pytest.mark.parametrize(
    "change",
    [
        {"train": {"lr": 0.5}},
        {"train": {"optimizer": "nadam"}},
        {"model": {"conv": [{"out": 8, "kernel": 4, "padding": 1}]}},
        {"model": {"conv": [{"out": 8, "padding": 2}]}},
        {"model": {"conv": [{"out": 8}] * 4}},
        {"model": {"conv": [{"out": 8}], "dense": [{"out": 32, "dropout": 0.1}]}},
        {"train": {"weight_decay": 0.1}},
        {"train": {"lr": -1.0}},
    ],
)
def test_a_configuration_outside_the_space_has_no_point(change):
    inside = {"model": {"conv": [{"out": 8}]}, "train": {"lr": 0.01}}
    space = Space.load("cnn")
    assert space.params_of(inside) is not None
    assert space.params_of({name: inside[name] | change.get(name, {}) for name in inside}) is None


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({}, "train.lr: missing from the point"),
        ({"train.lr": 5.0}, "train.lr: 5.0 lies outside"),
        ({"train.lr": 0.1, "train.momentum": 0.5}, "train.momentum: not active at this point"),
        ({"train.lr": "a"}, "train.lr: 'a' lies outside"),
    ],
)
def test_a_point_that_is_none_of_the_space_is_refused(tmp_path, params, message):
    with pytest.raises(SpaceError) as caught:
        written(tmp_path, "train.lr: {low: 0.01, high: 1.0}").distributions(params)
    assert message in str(caught.value)


def test_the_grid_has_every_choice_and_the_ends_of_every_range_once(tmp_path):
    space = written(
        tmp_path,
        "train.lr: {low: 1.0e-4, high: 1.0e-2, log: true}",
        "train.optimizer: {choices: [adam, sgd], when: {sgd: {train.momentum: {low: 0, high: 0.8}}}}",
        "model.dense: {repeat: {low: 0, high: 2}, each: {out: {choices: [4, 8]}}}",
    )
    points = list(space.points(3))
    assert len(points) == space.size(3) == 3 * (1 + 3) * (1 + 2 + 4)
    assert len({json.dumps(point, sort_keys=True) for point in points}) == len(points)
    for point in points:
        space.distributions(point)
    assert [math.log10(lr) for lr in sorted({point["train.lr"] for point in points})] == pytest.approx([-4, -3, -2])
    assert {point.get("train.momentum") for point in points} == {None, 0.0, 0.4, 0.8}


@settings(deadline=None, max_examples=40)
@given(fraction=st.floats(0, 1), name=st.sampled_from(SHIPPED))
def test_every_point_of_a_grid_lies_in_its_space(fraction, name):
    space = Space.load(name)
    params = space.point(round(fraction * (space.size() - 1)))
    assert space.distributions(params).keys() == params.keys()


def test_edges_are_ends_that_a_wider_range_would_not_have():
    space = Space.load("cnn")
    inner = {"model.conv": 2, "train.lr": 1e-3, "model.dropout": 0.1, "train.augment.shift": 1, "model.conv[0].out": 31}
    assert space.edges(inner) == {}
    outer = inner | {
        "model.conv": 3,
        "train.lr": 1.05e-4,
        "model.conv[0].out": 32,
        "train.batch_size": 16,
        "model.activation": "relu",
    }
    assert space.edges(outer) == {"model.conv": "high", "train.lr": "low", "model.conv[0].out": "high", "train.batch_size": "low"}


def test_an_end_that_the_key_itself_has_is_no_edge():
    at_zero = {"model.dropout": 0.0, "train.augment.shift": 0, "model.dense": 0, "train.label_smoothing": 0.0}
    assert Space.load("cnn").edges(at_zero) == {}
    assert Space.load("cnn").edges({"model.dropout": 0.3}) == {"model.dropout": "high"}


def test_parameters_are_grouped_by_when_they_are_active():
    groups = [set(group) for group in Space.load("mlp").together]
    assert {"sgd:train.weight_decay", "train.momentum"} in groups
    assert {"model.dense[1].out"} in groups
    assert sorted(name for group in groups for name in group) == sorted(Space.load("mlp").parameters)


def test_a_shipped_space_can_be_checked_for_every_data_set_shape():
    for name in SHIPPED:
        space = Space.load(name)
        check(space, Params(), (3, 32, 32), 100)  # raises nothing
        assert any(fit(space.configure(BASE, params), (3, 32, 32), 100).plan for params in random_points(space, 20))

"""params.yaml: what is refused, and in which words."""

import functools
import json
import os
import subprocess
import sys
from dataclasses import FrozenInstanceError, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, get_type_hints

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ruamel.yaml import YAML

from pipeline.config import ConfigError, Params, load, parse, schema, to_tree

ROOT = Path(__file__).parents[2]

REFUSED = [
    ({"train": {"lrr": 1}}, "train.lrr: no such key; did you mean train.lr?"),
    ({"train": {"learning_rate": 1}}, "train.learning_rate: no such key; did you mean train.lr?"),
    ({"evaluate": {"xyz": 1}}, "evaluate.xyz: no such key; valid here: gallery, samples, tsne_images, calibration_bins, costs"),
    ({"model": {"dense": {"out": 3}}}, "model.dense: must be a list"),
    ({"lr": 1}, "lr: no such key; did you mean train.lr?"),
    ({"trian": {}}, "trian: no such key; did you mean train?"),
    ({"train": {"schedule": {"nme": "step"}}}, "train.schedule.nme: no such key; did you mean train.schedule.name?"),
    ({"model": {"conv": [{"out": 4}, {"ot": 4}]}}, "model.conv[1].ot: no such key; did you mean model.conv[1].out?"),
    ({"model": {"conv": [{"kernel": 3}]}}, "model.conv[0].out: this key is required"),
    ({"model": {"conv": [{"out": 4, "pool": {"kind": "min"}}]}}, "model.conv[0].pool.kind: must be 'max' or 'avg', got \"min\""),
    ({"train": {"lr": -1}}, "train.lr: must be greater than 0, got -1"),
    ({"train": {"lr": "0.1"}}, 'train.lr: must be a valid number, got "0.1"'),
    ({"train": {"lr": True}}, "train.lr: must be a valid number, got true"),
    ({"train": {"lr": float("inf")}}, "train.lr: must be a finite number, got Infinity"),
    ({"train": {"epochs": 2.5}}, "train.epochs: must be a valid integer, got 2.5"),
    ({"train": {"epochs": 0}}, "train.epochs: must be greater than or equal to 1, got 0"),
    ({"train": None}, "train: must be a mapping of keys, got null"),
    ({"data": {"validation": 1.5}}, "data.validation: must be less than 1, got 1.5"),
    ({"data": {"merge": [[0, 1], [1, 2]]}}, "data: merge must name every class once, got 1 twice"),
    ({"data": {"merge": [[0, 1]]}}, "data.merge: must have at least 2 items, got [[0, 1]]"),
    ({"data": {"path": ""}}, 'data.path: must have at least 1 character, got ""'),
    ({"train": {"optimizer": "adma"}}, "train.optimizer: must be 'sgd', 'adam', 'adamw', 'rmsprop' or 'nadam', got \"adma\""),
    ({"train": {"momentum": 0.9}}, "train: momentum must be 0 with adam; it belongs to sgd and rmsprop"),
    ({"train": {"optimizer": "sgd", "nesterov": True}}, "train: nesterov needs optimizer sgd and momentum > 0"),
    (
        {"train": {"loss": "mse", "label_smoothing": 0.1}},
        "train: label_smoothing must be 0 with mse; it belongs to cross_entropy",
    ),
    (
        {"train": {"schedule": {"name": "one_cycle", "warmup_epochs": 1}}},
        "train.schedule: warmup_epochs must be 0 with one_cycle, which has a rise of its own",
    ),
    (
        {"train": {"epochs": 5, "schedule": {"warmup_epochs": 5}}},
        "train: schedule.warmup_epochs must be less than epochs (5), got 5",
    ),
    ({"train": {"loss": "nll"}}, "params: train.loss nll needs model.output log_softmax, got logits"),
    (
        {"model": {"dense": [{"out": 3, "batch_norm": True}]}, "train": {"batch_size": 1}},
        "params: train.batch_size must be at least 2 with batch norm, got 1",
    ),
    ({1: 2}, "1: no such key; valid here: data, model, train, evaluate, tracking, study"),
    ([1], "params must be a mapping of sections ['data', 'model', 'train', 'evaluate', 'tracking', 'study'], got [1]"),
]


@pytest.mark.parametrize(("tree", "message"), REFUSED, ids=[str(case[0])[:60] for case in REFUSED])
def test_a_broken_rule_is_told_in_one_line_with_key_value_and_rule(tree, message):
    with pytest.raises(ConfigError) as caught:
        parse(tree)
    assert str(caught.value) == message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "no such file; run from the repository's root"),
        ("train: [", "not valid YAML"),
        ("train: {lr: 1}\ntrain: {lr: 2}\n", "not valid YAML: found duplicate key"),
        ("data: !!python/object:os.system {}", "not valid YAML"),
        ("? [1, 2]\n: 3\n", "params must be plain keys and values"),
        ("data: &a\n  name: *a\n", "params must be plain keys and values"),
    ],
    ids=["missing", "broken", "duplicate key", "code", "a list as key", "itself"],
)
def test_a_file_that_cannot_be_read_is_told_in_one_line(tmp_path, text, message):
    path = tmp_path / "params.yaml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load(path)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_numbers_are_read_as_dvc_reads_them(tmp_path):
    (tmp_path / "params.yaml").write_text("train: {lr: 1e-3, epochs: 0o17}\n")  # YAML 1.2: 1e-3 is a number
    params = load(tmp_path / "params.yaml")
    assert params.train.lr == 0.001
    assert params.train.epochs == 15


def test_an_empty_file_gives_the_defaults(tmp_path):
    (tmp_path / "params.yaml").write_text("")
    assert load(tmp_path / "params.yaml") == Params()


def test_a_stage_ends_with_status_2_and_one_line_and_no_traceback(tmp_path):
    (tmp_path / "params.yaml").write_text("train: {lrr: 1}\n")
    for stage in ("download", "preprocess", "train", "evaluate"):
        done = subprocess.run(
            [sys.executable, "-m", f"pipeline.stages.{stage}"], cwd=tmp_path, capture_output=True, text=True, env=environment()
        )
        assert (done.returncode, done.stderr) == (2, "error: train.lrr: no such key; did you mean train.lr?\n"), stage


def test_the_check_before_a_run_refuses_keys_that_no_stage_would_read(tmp_path):
    (tmp_path / "params.yaml").write_text("study: {trails: 3}\n")
    command = [sys.executable, "-m", "pipeline.config", "check"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=environment())
    assert (done.returncode, done.stderr) == (1, "error: study.trails: no such key; did you mean study.trials?\n")
    (tmp_path / "params.yaml").write_text("study: {trials: 3}\n")
    assert subprocess.run(command, cwd=tmp_path, env=environment(), check=True).returncode == 0


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT)}


def keys_of(cls: Any, prefix: str = "") -> list[str]:
    """Every key of a section and of the sections in it, dotted; not those of lists, whose entries may leave keys out."""
    found = []
    for item in fields(cls):
        kind = get_type_hints(cls)[item.name]
        found += keys_of(kind, f"{prefix}{item.name}.") if is_dataclass(kind) else [prefix + item.name]
    return found


def test_params_yaml_names_every_key_with_a_comment_beside_it():
    path = ROOT / "params.yaml"
    tree, lines = YAML().load(path), path.read_text().splitlines()
    for key in keys_of(Params):
        *parents, last = key.split(".")
        section = functools.reduce(lambda node, name: node[name], parents, tree)
        assert last in section, key
        assert "#" in lines[section.lc.key(last)[0]], key


def test_every_key_has_a_description_in_the_schema_and_the_schema_file_is_in_step():
    definitions = schema()["$defs"]
    for section, definition in definitions.items():
        for key, rules in definition["properties"].items():
            assert rules.get("description"), f"{section}.{key}"
    assert json.loads((ROOT / "params.schema.json").read_text()) == schema(), "run `make schema`"


def test_the_schema_accepts_params_yaml_and_refuses_what_the_parser_refuses():
    validator = jsonschema.Draft202012Validator(schema())
    validator.validate(YAML(typ="safe").load(ROOT / "params.yaml"))
    for tree in ({"train": {"lrr": 1}}, {"train": {"lr": -1}}, {"train": {"lr": "0.1"}}, {"model": {"conv": [{"kernel": 3}]}}):
        assert not validator.is_valid(tree)


activations = st.sampled_from([None, "relu", "gelu", "none"])
blocks = {"out": st.integers(1, 99), "activation": activations, "dropout": st.none() | st.floats(0, 0.99)}
valid_trees = st.fixed_dictionaries(
    {},
    optional={
        "data": st.fixed_dictionaries(
            {},
            optional={
                "name": st.sampled_from(["digits", "mnist"]),
                "validation": st.floats(0.01, 0.99),
                "merge": st.sampled_from([None, [[0, 1], [2]]]),
                "limit": st.none() | st.integers(10),
            },
        ),
        "model": st.fixed_dictionaries(
            {},
            optional={
                "conv": st.lists(st.fixed_dictionaries(blocks | {"padding": st.just("same") | st.integers(0, 9)}), max_size=3),
                "dense": st.lists(st.fixed_dictionaries(blocks), max_size=3),
                "activation": st.sampled_from(["relu", "tanh"]),
            },
        ),
        "train": st.fixed_dictionaries(
            {}, optional={"lr": st.floats(1e-9, 1e3), "augment": st.fixed_dictionaries({"shift": st.integers(0, 5)})}
        ),
    },
)


@given(valid_trees)
def test_whatever_is_valid_survives_the_way_to_plain_data_and_back(tree):
    params = parse(tree)
    assert parse(to_tree(params)) == params
    assert parse(json.loads(json.dumps(to_tree(params)))) == params


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=True) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["lr", "out", "conv", "name", "x"]), inner),
    max_leaves=6,
)


@given(
    section=st.sampled_from(["data", "model", "train", "evaluate", "tracking", "study", "other"]),
    key=st.sampled_from(["lr", "conv", "dense", "merge", "schedule", "augment", "epochs", "limit", "x"]),
    value=json_values,
)
def test_no_input_leads_to_anything_but_params_or_one_line(section, key, value):
    try:
        outcome = repr(parse({section: {key: value}}))
    except ConfigError as error:
        outcome = str(error)
    assert "\n" not in outcome
    assert len(outcome) > 10


def test_sections_are_frozen_and_a_changed_copy_is_checked_again():
    train = Params().train
    with pytest.raises(FrozenInstanceError):
        train.lr = 0.1  # type: ignore[misc]
    assert replace(train, lr=0.1).lr == 0.1
    with pytest.raises(ValueError, match="greater than 0"):
        replace(train, lr=-1.0)

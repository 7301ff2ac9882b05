"""Ablations as they are written: what is read, what rows they make, and what is refused before anything starts."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.config import Params, to_tree
from study.experiments.ablation.definition import Ablation, load
from study.experiments.ablation.reading import SHIPPED, shape_of
from study.state.errors import UsageError
from study.state.spec import flat

BASE = """
    base:
      data: {name: mnist}
      model: {conv: [{out: 4, kernel: 5, padding: 0}, {out: 8, kernel: 5, padding: 0, dropout: 0.5}], dense: [{out: 16}]}
      train: {epochs: 3, batch_size: 40, lr: 0.01}
"""
WHOLE = (
    """
    description: a dropout network,
      one factor at a time
"""
    + BASE
    + """
    set: {train.momentum: 0.5, train.optimizer: sgd}
    seeds: 3
    factors:
      train.batch_size:
        values: [150, 80]
        hypothesis: larger batches make fewer steps, so accuracy falls
        claim: accuracy falls as train.batch_size rises
      dropout:
        bundles:
          0.3: {"model.conv[1].dropout": 0.3}
          0.5: {"model.conv[1].dropout": 0.5}
          everywhere: {model.dropout: 0.2, "model.conv[1].dropout": null}
        claim: "dropout: 0.3 ties 0.5 within 1 points"
      model.batch_norm:
        values: [true]
    grid: [model.batch_norm, train.batch_size]
"""
)
Write = Callable[[str], Ablation]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Reads an ablation that is written so."""

    def read(text: str) -> Ablation:
        (tmp_path / "sub").mkdir(exist_ok=True)
        (tmp_path / "sub" / "drop out.yaml").write_text(textwrap.dedent(text))
        return load("sub/drop out.yaml", tmp_path)

    return read


def factors(text: str) -> str:
    return BASE + "    factors:\n" + textwrap.indent(textwrap.dedent(text), " " * 6)


def test_an_ablation_is_read_as_it_is_written(write: Write) -> None:
    ablation = write(WHOLE)
    assert (ablation.name, ablation.seeds, ablation.origin) == ("drop out", 3, "a base of its own with changes")
    assert ablation.description == "a dropout network, one factor at a time"
    assert ablation.base.train.momentum == 0.5
    batch, dropout, norm = ablation.factors
    assert [level.label for level in batch.levels] == ["40", "80", "150"]  # with the base's own, numbers in order
    assert [level.is_base for level in batch.levels] == [True, False, False]
    assert batch.hypothesis.startswith("larger batches")
    assert batch.claim is not None
    assert batch.claim.factor == "train.batch_size"
    assert [(level.label, level.is_base) for level in dropout.levels] == [("0.3", False), ("0.5", True), ("everywhere", False)]
    assert [level.label for level in norm.levels] == ["false", "true"]
    assert (norm.hypothesis, norm.claim) == ("", None)


def test_rows_change_one_factor_each_and_the_grid_adds_what_is_not_there(write: Write) -> None:
    ablation = write(WHOLE)
    rows = {row.name: row for row in ablation.rows}
    assert list(rows) == [
        "base", "batch_size-80", "batch_size-150", "dropout-0_3", "dropout-everywhere", "batch_norm-true",
        "batch_norm-true-batch_size-80", "batch_norm-true-batch_size-150",
    ]  # fmt: skip
    base = flat(sections(ablation.base))
    for row in ablation.rows:
        changed = flat(sections(row.params))
        assert {key for key in base if base[key] != changed[key]} == row.changes.keys()
        assert all(changed[key] == value for key, value in row.changes.items())
    assert rows["batch_norm-true-batch_size-80"].title == "model.batch_norm true, train.batch_size 80"
    assert rows["base"].changes == {}


def test_a_level_leads_to_its_row_and_a_cell_of_the_grid_on_the_axes_to_that_of_one_factor(write: Write) -> None:
    ablation = write(WHOLE)
    norm, batch = ablation.grid or pytest.fail("there is a grid")
    names = [[ablation.row(one, other).name for other in batch.levels] for one in norm.levels]
    assert names == [
        ["base", "batch_size-80", "batch_size-150"],
        ["batch_norm-true", "batch_norm-true-batch_size-80", "batch_norm-true-batch_size-150"],
    ]
    assert ablation.row(batch.base).name == "base"


def test_the_plan_has_every_row_on_the_same_seeds(write: Write) -> None:
    ablation = write(WHOLE)
    plan = ablation.plan()
    assert (plan.name, plan.kind, plan.seeds, plan.rows) == ("ablate-drop-out", "ablation", 3, ablation.rows)
    assert {row.params.train.seed for row in plan.rows} == {0}
    assert replace(ablation, seeds=1).plan().seeds == 1


def test_a_limit_of_images_holds_in_every_row_under_a_name_of_its_own(write: Write) -> None:
    plan = write(WHOLE).plan(limit=500)
    assert plan.name == "ablate-drop-out-limit500"
    assert {row.params.data.limit for row in plan.rows} == {500}
    assert [row.name for row in plan.rows] == [row.name for row in write(WHOLE).rows]


def test_a_limit_is_refused_where_it_is_a_factor(write: Write) -> None:
    with pytest.raises(UsageError, match=r"data\.limit is a factor"):
        write(factors("data.limit: {values: [1000, 2000]}")).plan(limit=500)


def test_a_limit_that_is_impossible_names_its_rule(write: Write) -> None:
    with pytest.raises(UsageError, match=r"--data-limit: data\.limit: must be greater than or equal to 10, got 3"):
        write(WHOLE).plan(limit=3)


def test_the_same_configuration_in_two_factors_is_trained_once(write: Write) -> None:
    ablation = write(factors('train.lr: {values: [0.1]}\nspeed: {bundles: {fast: {train.lr: 0.1}, "slow": {train.lr: 0.001}}}'))
    assert [row.name for row in ablation.rows] == ["base", "lr-0_1", "speed-slow"]
    assert ablation.row(ablation.factors[1].levels[1]).name == "lr-0_1"


def test_labels_that_make_the_same_name_are_told_apart(write: Write) -> None:
    ablation = write(
        factors('d: {bundles: {"0.3": {model.dropout: 0.3}, "0-3": {model.dropout: 0.4}, "α": {model.dropout: 0.1}}}')
    )
    assert [row.name for row in ablation.rows] == ["base", "d-0_3", "d-0_3-2", "d-x"]
    assert [level.label for level in ablation.factors[0].levels] == ["base", "0.3", "0-3", "α"]


def test_a_base_without_the_key_of_a_factor_is_a_level_too(write: Write) -> None:
    ablation = write(factors('"model.conv[0].pool.kernel": {values: [2, 3]}\n"model.conv[0].dropout": {values: [0, 0.5]}'))
    pool, dropout = ablation.factors
    assert [level.label for level in pool.levels] == ["base", "2", "3"]
    assert [level.label for level in dropout.levels] == ["base", "0.0", "0.5"]


def test_seeds_and_description_have_defaults(write: Write) -> None:
    ablation = write(factors("train.lr: {values: [0.1]}"))
    assert (ablation.seeds, ablation.description, ablation.plan().title) == (5, "", "drop out")


def test_a_base_is_a_params_file(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text("train: {epochs: 7}\nstudy: {trials: 3}\n")
    (tmp_path / "a.yaml").write_text("base: {params: params.yaml}\nfactors: {train.lr: {values: [0.1]}}\n")
    ablation = load("a.yaml", tmp_path)
    assert (ablation.origin, ablation.base.train.epochs, ablation.base.study) == ("params.yaml", 7, Params().study)


def test_a_base_is_a_row_of_a_recipe(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(
        'base: {recipe: "003/batch-80"}\nset: {train.epochs: 1}\nfactors: {train.lr: {values: [0.1]}}\n'
    )
    ablation = load("a.yaml", tmp_path)
    assert (ablation.origin, ablation.base.train.batch_size, ablation.base.train.epochs) == (
        "recipe 003/batch-80 with changes",
        80,
        1,
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[1, 2", "line 1: not valid YAML"),
        ("3", "must be a mapping of description, base"),
        (BASE, "factors: this key is required"),
        (BASE + "    factor: {}", "factor: no such key; did you mean factors?"),
        (BASE + "    factors: {}", "factors: must be a mapping of keys to values"),
        (WHOLE.replace("seeds: 3", "seeds: 0"), "seeds: must be a whole number of at least 1, got 0"),
        (WHOLE.replace("seeds: 3", "seeds: true"), "seeds: must be a whole number of at least 1, got True"),
        (WHOLE.replace("set: {", "set: {train.lurning_rate: 1, "), "set: train.lurning_rate: no such key"),
        (WHOLE.replace("set: {", "set: {train.learning_rate: 1, "), "train.learning_rate: no such key; did you mean train.lr"),
        (WHOLE.replace("data: {name: mnist}", "recipe: 003"), "base: must be one of recipe, params, or sections"),
        (WHOLE.replace("data: {name: mnist}", "dat: {name: mnist}"), "base: dat: no such key; did you mean data?"),
        ("base: {recipe: 3}\nfactors: {train.lr: {values: [1]}}", "base: recipe: must be a text, got 3; write it in quotes"),
        ("base: {recipe: '003/nothing'}\nfactors: {train.lr: {values: [1]}}", "base: recipe 003 has no row nothing"),
        ("base: {params: nowhere.yaml}\nfactors: {train.lr: {values: [1]}}", "nowhere.yaml: no such file"),
        (factors("train.lr: {values: [0.1], value: 3}"), "train.lr: value: no such key; did you mean values?"),
        (factors("train.lr: {hypothesis: faster}"), "train.lr: must have either values or bundles"),
        (factors("train.lr: {values: [1], bundles: {a: {}}}"), "train.lr: must have either values or bundles"),
        (factors("train.lr: {values: 0.1}"), "train.lr: values: must be a list with one value at least, got 0.1"),
        (factors("train.lr: {values: []}"), "train.lr: values: must be a list with one value at least, got []"),
        (factors("train.lr: {values: [0.01]}"), "train.lr: must have a level besides the base's own, got only 0.01"),
        (factors("train.lr: {values: [1, 1.0]}"), "train.lr: levels must differ, but 1.0 and 1.0 are the same configuration"),
        (factors("train.lr: {values: [-1]}"), "factors: train.lr: must be greater than 0, got -1"),
        (factors("train.lr: {values: [fast]}"), 'train.lr: must be a valid number, got "fast"'),
        (factors("lr: {values: [1]}"), "factors: lr: no such key; did you mean train.lr?"),
        (factors("model.dense: {values: [[{out: 3}]]}"), "model.dense: values: each must be a single value"),
        (factors('"model.conv[2].out": {values: [1]}'), "there is no model.conv[2] in params.yaml, which has 2 blocks"),
        (factors('"model.conv[0].kernel": {values: [25, 29]}'), "conv2: 5×5 kernel does not fit a 4×4 input"),
        (factors("train.seed: {values: [1]}"), "train.seed: cannot be changed: every row is trained on the same seeds"),
        (factors("a: {bundles: {b: {train.device: cuda}}}"), "a: bundles: b: train.device: cannot be changed: it changes"),
        (factors("a: {bundles: {b: {study.trials: 2}}}"), "study.trials: cannot be changed: it changes nothing in training"),
        (factors("a: {bundles: {base: {train.lr: 1.0}}}"), "a: bundles: base: this name is the base's own"),
        (factors("a: {bundles: {x: {}, y: {}}}"), "a: levels must differ, but x and y are the same configuration"),
        (factors("train.momentum: {values: [0.9]}"), "momentum must be 0 with adam; it belongs to sgd and rmsprop"),
        (factors("train.loss: {values: [nll]}"), "train.loss nll needs model.output log_softmax, got logits"),
        (factors("train.lr: {values: [1], claim: 0.01 is best}"), "train.lr: claim '0.01 is best': must"),
        (factors("train.lr: {values: [1], hypothesis: [a]}"), "train.lr: hypothesis: must be a text, got ['a']"),
        (
            factors("train.lr: {values: [1], claim: accuracy falls as train.epochs rises}\ntrain.epochs: {values: [1]}"),
            "train.lr: claim: must be about this factor, got 'accuracy falls as train.epochs rises'; move it to train.epochs",
        ),
        (WHOLE.replace("grid: [", "grid: [dropout, "), "grid: must be a list of two factors"),
        (WHOLE.replace("grid: [model.batch_norm", "grid: [train.batch_size"), "grid: must be a list of two factors"),
        (WHOLE.replace("grid: [model.batch_norm", "grid: [batch_norm"), "grid: must name two of the factors train.batch_size"),
        (
            factors("train.lr: {values: [1]}\nfast: {bundles: {a: {train.lr: 2}}}") + "\n    grid: [train.lr, fast]",
            "grid: its factors must change different keys, but both change train.lr",
        ),
        (
            factors("train.batch_size: {values: [1]}\nmodel.batch_norm: {values: [true]}")
            + "\n    grid: [train.batch_size, model.batch_norm]",
            "grid: train.batch_size 1, model.batch_norm true: train.batch_size must be at least 2 with batch norm, got 1",
        ),
    ],
)  # fmt: skip
def test_what_breaks_a_rule_is_refused_in_one_line(write: Write, text: str, message: str) -> None:
    with pytest.raises(UsageError) as refused:
        write(text)
    assert message in str(refused.value)
    assert str(refused.value).startswith("sub/drop out.yaml: ")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("name", sorted(path.stem for path in SHIPPED.glob("*.yaml")))
def test_every_shipped_ablation_is_read_by_its_name(name: str, tmp_path: Path) -> None:
    ablation = load(name, tmp_path)
    assert len(ablation.plan().rows) > len(ablation.factors)
    assert all(factor.hypothesis and factor.claim for factor in ablation.factors) or name != "003"


def test_a_file_that_is_not_there_names_what_is(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"nothing\.yaml: no such file; give a YAML file of an ablation, or one of"):
        load("nothing.yaml", tmp_path)


@pytest.mark.parametrize(
    ("data", "shape"),
    [
        ({"name": "mnist"}, (1, 28, 28)),
        ({"name": "cifar10"}, (3, 32, 32)),
        ({"name": "cifar10", "channels": 1, "image_size": 16}, (1, 16, 16)),
        ({"name": "image_folder", "channels": 3}, (3, 28, 28)),
    ],
)
def test_the_shape_of_images_is_known_before_they_are(data: dict[str, object], shape: tuple[int, int, int]) -> None:
    from pipeline.config import parse

    assert shape_of(parse({"data": data}).data) == shape


def sections(params: Params) -> dict[str, object]:
    tree = to_tree(params)
    return {name: tree[name] for name in ("data", "model", "train")}

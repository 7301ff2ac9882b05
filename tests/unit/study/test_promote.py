import copy
import re
from functools import reduce
from io import StringIO
from operator import getitem
from pathlib import Path

import pytest
from histories import REST
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML

from pipeline.config import ConvBlock, DenseBlock, Model, Params, Pool, Schedule, Train, load, parse, to_tree
from pipeline.config.sections import Augment
from study.engine import finalists
from study.lineage import promote
from study.lineage.promote import PromoteError, plan
from study.lineage.yaml_edit import rewrite
from study.state.records import content_of
from study.state.spec import flat

SHIPPED = (Path(__file__).parents[3] / "params.yaml").read_text()
FINGERPRINT = "f" * 32

maybe = st.none()
activations = st.sampled_from(["relu", "tanh", "none"])
shares = st.floats(0, 0.9)
pools = st.builds(Pool, kind=st.sampled_from(["max", "avg"]), kernel=st.integers(1, 3), stride=maybe | st.integers(1, 3))
convs = st.builds(
    ConvBlock,
    out=st.integers(1, 64),
    kernel=st.sampled_from([1, 3, 5]),
    stride=st.integers(1, 2),
    padding=st.just("same") | st.integers(0, 2),
    batch_norm=maybe | st.booleans(),
    activation=maybe | activations,
    pool=maybe | pools,
    dropout=maybe | shares,
)
denses = st.builds(DenseBlock, out=st.integers(1, 256), activation=maybe | activations, dropout=maybe | shares)
models = st.builds(
    Model,
    conv=st.lists(convs, max_size=4).map(tuple),
    dense=st.lists(denses, max_size=4).map(tuple),
    flatten=st.sampled_from(["all", "average"]),
    activation=activations,
    batch_norm=st.booleans(),
    dropout=shares,
)
schedules = st.builds(Schedule, name=st.sampled_from(["none", "cosine", "step"]), gamma=st.floats(0.01, 1))
trains = st.builds(
    Train,
    epochs=st.integers(1, 100),
    batch_size=st.integers(2, 512),
    optimizer=st.sampled_from(["adam", "adamw", "nadam"]),
    lr=st.floats(1e-9, 1e3),
    weight_decay=st.floats(0, 1e-3),
    schedule=schedules,
    early_stopping=maybe | st.integers(1, 9),
    augment=st.builds(Augment, shift=st.integers(0, 3), rotation=st.floats(0, 90)),
    seed=st.integers(0, 9),
)
configurations = st.builds(Params, model=models, train=trains)


SCALARS = {  # keys of the shipped file, and other values for them
    "model.activation": ["elu", "leaky_relu", "none"],
    "model.batch_norm": [False],
    "model.dropout": [0.25, 1e-05],
    "model.flatten": ["average"],
    "train.epochs": [5, 1000],
    "train.epoch_images": [12_800],
    "train.batch_size": [128],
    "train.optimizer": ["adamw"],
    "train.lr": [0.0023, 1.5e-07, 3.141592653589793e-05],
    "train.weight_decay": [0.000123456],
    "train.schedule.name": ["cosine"],
    "train.schedule.gamma": [0.5],
    "train.early_stopping": [3],
    "train.augment.rotation": [12.5],
    "train.precision": ["bf16"],
}


def promoted(text: str, wanted: Params, tmp_path: Path, story) -> promote.Promotion:
    path = tmp_path / "params.yaml"
    path.write_bytes(text.encode())
    told = story()
    told.trial(0, 0.98, model=to_tree(wanted.model), train=to_tree(wanted.train))
    return plan(told.history, told.history.runs["0"], path, FINGERPRINT)


def edited(text: str, **changes: dict) -> str:
    """``text`` with the given keys of sections model and train set."""
    before = to_tree(parse(YAML(typ="safe").load(text) or {}))
    wanted = before | {name: before[name] | tree for name, tree in changes.items()}
    after = rewrite(text, before, to_tree(parse(wanted)))
    assert parse(YAML(typ="safe").load(after)) == parse(wanted)
    return after


@given(configurations)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
def test_any_configuration_can_be_written_with_all_comments_in_their_order(tmp_path, story, wanted):
    made = promoted(SHIPPED, wanted, tmp_path, story)
    made.write()
    before, after = parse(YAML(typ="safe").load(SHIPPED)), load(made.path)
    assert (after.model, after.train) == (wanted.model, parse({"train": to_tree(wanted.train) | {"seed": 0}}).train)
    assert (after.data, after.evaluate, after.tracking, after.study) == (
        before.data,
        before.evaluate,
        before.tracking,
        before.study,
    )
    assert comments(made.after) == comments(SHIPPED)


def comments(text: str) -> list[str]:
    """All but those beside blocks, which go with them."""
    return [found[0] for line in text.splitlines() if line[:4] != "    " and (found := re.search("#.*", line))]


@given(st.lists(st.sampled_from(sorted(SCALARS)), unique=True), st.data())
def test_a_promotion_touches_only_lines_whose_value_changes(names, data):
    tree = to_tree(parse(YAML(typ="safe").load(SHIPPED)))
    wanted = copy.deepcopy(tree)
    for name in names:
        *path, key = name.split(".")
        section = reduce(getitem, path, wanted)
        section[key] = data.draw(st.sampled_from(SCALARS[name]))
    after = rewrite(SHIPPED, tree, wanted)
    changed = {key for key in flat(wanted) if flat(wanted)[key] != flat(tree)[key]}
    pairs = list(zip(SHIPPED.splitlines(), after.splitlines(), strict=True))
    touched = [(one, other) for one, other in pairs if one != other]
    assert len(touched) == len(changed)
    for before, line in touched:
        assert line.partition(":")[0] == before.partition(":")[0]
        assert line.partition("#")[2] == before.partition("#")[2]
        assert line.index("#") == before.index("#")


@given(configurations, configurations, st.booleans(), st.sampled_from([True, False, None]))
def test_files_in_other_styles_take_any_configuration_too(first, second, explicit, flow):
    before, wanted = to_tree(first), to_tree(second)
    tree = before if explicit else {name: thin(before[name], to_tree(Params())[name]) for name in before}
    tree = {name: part for name, part in tree.items() if part or explicit}
    yaml, stream = YAML(typ="safe", pure=True), StringIO()
    yaml.default_flow_style = flow
    yaml.dump(tree, stream)
    text = stream.getvalue()
    after = rewrite(text, before, wanted)
    assert to_tree(parse(YAML(typ="safe").load(after))) == wanted


def thin(tree, defaults):
    return {name: value for name, value in tree.items() if value != defaults[name]}


def test_a_comment_stays_in_its_column_and_nothing_else_moves():
    after = edited(SHIPPED, train={"lr": 0.0023, "epochs": 5})
    expected = SHIPPED.replace("lr: 0.001                 #", "lr: 0.0023                #").replace(
        "epochs: 30                #", "epochs: 5                 #"
    )
    assert after == expected


def test_blocks_are_changed_added_and_removed_in_the_style_of_the_file():
    blocks = [
        {"out": 24, "kernel": 7, "pool": {"kind": "avg", "kernel": 2}},
        {"out": 8, "kernel": 5},
        {"out": 4, "kernel": 3, "stride": 2, "pool": {"kind": "avg", "kernel": 2}, "dropout": 0.1},
        {"out": 12, "pool": {"kind": "max", "kernel": 3}},
    ]
    after = edited(SHIPPED, model={"conv": blocks, "dense": [{"out": 64}, {"out": 32, "dropout": 0.25}]}).split("\n")
    first = after.index("model:")
    assert after[first : first + 21] == [
        "model:",
        "  conv:                     # convolution blocks: convolution, batch norm, activation, pooling, dropout; [] for none",
        "    - out: 24               # output channels; also kernel, stride, padding (same or pixels), batch_norm, activation, "
        "dropout",
        "      kernel: 7",
        "      pool: {kind: avg, kernel: 2}    # max or avg, kernel, stride (null: the kernel)",
        "    - out: 8",
        "      kernel: 5",
        "      pool: null",
        "    - out: 4",
        "      kernel: 3",
        "      stride: 2",
        "      pool: {kind: avg, kernel: 2}",
        "      dropout: 0.1",
        "    - out: 12",
        "      kernel: 3",
        "      pool: {kind: max, kernel: 3}",
        "  dense: [{out: 64}, {out: 32, dropout: 0.25}] # hidden dense blocks: out, batch_norm, activation, dropout; e.g. "
        "[{out: 128}, {out: 64}]",
        "  flatten: all              # after the last convolution block: all its values, or the average of each channel",
        "  activation: relu          # of every block that names none: relu leaky_relu elu gelu silu tanh sigmoid none",
        "  batch_norm: true          # in every block that does not say otherwise",
        "  dropout: 0.0              # in every block that names none, in [0, 1)",
    ]


def test_a_list_that_becomes_empty_or_long_changes_its_form():
    after = edited(SHIPPED, model={"conv": [], "dense": [{"out": n, "activation": "tanh"} for n in (9, 8, 7)]})
    assert "\n  conv: []                  # convolution blocks" in after
    assert re.search(r"\n  dense: +# hidden.*\n    - out: 9\n      activation: tanh\n    - out: 8\n", after)
    back = edited(after, model={"conv": [{"out": 16, "kernel": 7, "pool": {"kind": "max"}}] * 2, "dense": []})
    assert re.search(r"\n  conv: +# convolution.*\n    - out: 16\n      kernel: 7\n      pool: \{kind: max, kernel: 2\}\n", back)
    assert re.search(r"\n  dense: \[\] +# hidden", back)


@pytest.mark.parametrize(
    ("text", "changes", "after"),
    [
        ("", {"train": {"lr": 0.5}}, "train: {lr: 0.5}\n"),
        ("# none yet\n", {"train": {"lr": 0.5}}, "# none yet\ntrain: {lr: 0.5}\n"),
        ("# none", {"train": {"lr": 0.5}}, "# none\ntrain: {lr: 0.5}\n"),
        (
            "model:\n  conv:\n    - out: 4 # four\n",
            {"model": {"conv": [{"out": 4, "pool": {"kind": "avg"}}]}},
            "model:\n  conv:\n    - out: 4 # four\n      pool: {kind: avg, kernel: 2}\n",
        ),
        ("{}", {"train": {"lr": 0.5}}, "train: {lr: 0.5}\n"),
        ("train: {lr: 0.1}  # short", {"train": {"epochs": 3}}, "train: {lr: 0.1, epochs: 3} # short\n"),
        ("train:\n  lr: 0.1", {"train": {"epochs": 3}}, "train:\n  lr: 0.1\n  epochs: 3\n"),
        ("train:\r\n  lr: 0.1  # a\r\n  seed: 3\r\n", {"train": {"lr": 1e-7}}, "train:\r\n  lr: 1e-07 # a\r\n  seed: 3\r\n"),
        (
            "train:\n  optimizer: 'sgd'   # the '#1'\n  keep: \"last\"\n  lr: 1.0e-3\n  weight_decay: 7.912804473160119e-05\n",
            {"train": {"optimizer": "adamw"}},
            "train:\n  optimizer: 'adamw' # the '#1'\n  keep: \"last\"\n  lr: 1.0e-3\n  weight_decay: 7.912804473160119e-05\n",
        ),
        ("train:\n  early_stopping:  # never\n", {"train": {"early_stopping": 3}}, "train:\n  early_stopping: 3 # never\n"),
        (
            "train:\n  lr: 0.1\n\n# network\nmodel:\n  conv:\n    - out: 4\n    - out: 5\n# end\n",
            {"train": {"epochs": 2}, "model": {"conv": [{"out": 4}]}},
            "train:\n  lr: 0.1\n  epochs: 2\n\n# network\nmodel:\n  conv:\n    - out: 4\n# end\n",
        ),
        (
            "train: {lr: 0.1}\n\n# the end\n",
            {"model": {"dense": [{"out": 4}]}},
            "train: {lr: 0.1}\nmodel: {dense: [{out: 4}]}\n\n# the end\n",
        ),
        (
            "model:\n  dense:\n    # one\n    - {out: 4} # four\n    # two\n    - {out: 5}\n",
            {"model": {"dense": [{"out": 4}, {"out": 6, "dropout": 0.5}, {"out": 7}]}},
            "model:\n  dense:\n    # one\n    - {out: 4} # four\n    # two\n    - {out: 6, dropout: 0.5}\n    - {out: 7}\n",
        ),
        (
            "model:\n  dense:\n    # first\n    - {out: 4} # four\n# end\n",
            {"model": {"dense": []}},
            "model:\n  dense: []\n# end\n",
        ),
        (
            "model:\n  conv:\n    - out: 4\n      pool:\n        kind: max\n        kernel: 2\n\n  # all\n  batch_norm: true\n",
            {"model": {"conv": [{"out": 4}]}},
            "model:\n  conv:\n    - out: 4\n      pool: null\n\n  # all\n  batch_norm: true\n",
        ),
    ],
)
def test_other_layouts_keep_their_comments(text, changes, after):
    assert edited(text, **changes) == after


def test_the_diff_is_minimal_and_the_changes_are_told(story, tmp_path):
    wanted = YAML(typ="safe").load(SHIPPED)
    wanted["train"]["lr"] = 0.0023
    made = promoted(SHIPPED, parse(wanted), tmp_path, story)
    assert made.changes == ("train.lr: 0.001 → 0.0023",)
    assert [line for line in made.diff.split("\n") if line[:1] in "+-" and line[1:2] == " "] == [
        "-  lr: 0.001                 # learning rate per step, > 0",
        "+  lr: 0.0023                # learning rate per step, > 0",
    ]
    assert made.path.read_text() == SHIPPED
    made.write()
    assert made.path.read_text() == made.after
    assert made.summary == "params.yaml: 1 value of trial 0; `dvc repro` trains it"


def test_seed_device_and_threads_are_the_files_own(story, tmp_path):
    wanted = parse({"train": {"seed": 7, "device": "cuda", "threads": 4, "epochs": 3}})
    made = promoted("train: {seed: 1, device: cpu, lr: 0.001}\n", wanted, tmp_path, story)
    assert made.after == "train: {seed: 1, device: cpu, lr: 0.001, epochs: 3}\n"


def test_where_nothing_differs_nothing_is_written_and_that_is_said(story, tmp_path):
    made = promoted(SHIPPED, parse(YAML(typ="safe").load(SHIPPED)), tmp_path, story)
    stamp = made.path.stat().st_ino
    made.write()
    assert (made.diff, made.changes, made.path.stat().st_ino) == ("", (), stamp)
    assert made.summary == "params.yaml already describes trial 0; `dvc repro` trains it"


def test_a_link_stays_a_link_and_a_change_in_the_meantime_is_not_overwritten(story, tmp_path):
    (tmp_path / "real.yaml").touch()
    (tmp_path / "params.yaml").symlink_to("real.yaml")
    made = promoted("train: {lr: 0.1}\n", Params(), tmp_path, story)
    made.write()
    assert (tmp_path / "params.yaml").is_symlink()
    assert (tmp_path / "real.yaml").read_text() == "train: {lr: 0.001}\n"
    with pytest.raises(PromoteError, match=r"params.yaml was changed in the meantime"):
        made.write()


def test_anchors_that_would_change_two_values_are_refused_with_the_values(story, tmp_path):
    text = "model:\n  dense: [&same {out: 9}, *same]\n"
    wanted = parse({"model": {"dense": [{"out": 8}, {"out": 7}]}})
    with pytest.raises(PromoteError, match=r"by hand model.dense\[0\].out: 9 → 8; model.dense\[1\].out: 9 → 7") as error:
        promoted(text, wanted, tmp_path, story)
    assert "\n" not in str(error.value)
    assert (tmp_path / "params.yaml").read_text() == text


@pytest.mark.parametrize(
    ("text", "fingerprint", "message"),
    [
        ("", "e" * 32, "make repro's data are eeeeeeee, the study's ffffffff: run `dvc repro preprocess`$"),
        ("data: {name: mnist}", "e" * 32, "set data.name back to digits and run `dvc repro preprocess`$"),
        ("data: {limit: 50}", FINGERPRINT, "data are about to change, the study's ffffffff: set data.limit back to null and run"),
        ("", None, "make repro's data are not prepared, the study's ffffffff: run `dvc repro preprocess`$"),
    ],
)
def test_other_data_than_the_studys_are_refused(story, tmp_path, text, fingerprint, message):
    (tmp_path / "params.yaml").write_text(text)
    told = story()
    told.trial(0, 0.9)
    with pytest.raises(PromoteError, match=message) as error:
        plan(told.history, told.history.runs["0"], tmp_path / "params.yaml", fingerprint)
    assert "\n" not in str(error.value)


def test_data_keys_that_change_no_data_are_no_obstacle(story, tmp_path):
    (tmp_path / "params.yaml").write_text("data: {path: elsewhere, mirror: /somewhere}")
    told = story()
    told.trial(0, 0.9)
    assert plan(told.history, told.history.runs["0"], tmp_path / "params.yaml", FINGERPRINT).changes


@pytest.mark.parametrize("state", ["PRUNED", "FAIL"])
def test_only_a_complete_trial_can_be_promoted(story, tmp_path, state):
    told = story()
    told.trial(0, state=state)
    with pytest.raises(PromoteError, match=f"must be COMPLETE, or .*, got trial 0, {state}"):
        plan(told.history, told.history.runs["0"], tmp_path / "params.yaml", FINGERPRINT)
    with pytest.raises(PromoteError, match="no trial is complete yet"):
        promote.default_run(told.history)


def test_a_finalist_that_asha_left_can_be_promoted_once_it_was_trained_whole(story, tmp_path):
    (tmp_path / "params.yaml").write_text("train: {lr: 0.1}\n")
    told = story({"study": {"pruner": "asha", "finalists": {"top": 2, "seeds": 2}}})
    told.trial(0, 0.9)
    told.trial(1, state="PRUNED")
    told.events[-1]["cause"] = "asha"
    values = {**REST, "epoch": 1, "validation_loss": 0.5, "validation_accuracy": 0.8}
    told.events.insert(-1, {"kind": "epoch", "time": 0, "run": "1", "epoch": values})
    with pytest.raises(PromoteError, match="got trial 1, PRUNED"):
        plan(told.history, told.history.runs["1"], tmp_path / "params.yaml", FINGERPRINT)
    for task in finalists.tasks(told.history):
        told.record("asked", **task)
        told.end(task["run"], 0.97 + task["replicate"] / 1000 if task["trial"] == 1 else 0.9)
    told.record("winner", **content_of(finalists.judge(told.history)))
    assert promote.default_run(told.history).state == "PRUNED"
    made = plan(told.history, None, tmp_path / "params.yaml", FINGERPRINT)
    assert made.after == "train: {lr: 0.0002}\n"
    assert made.warning is None


def test_the_winner_is_promoted_and_another_trial_only_with_a_warning(story, tmp_path):
    told = story()
    for number in range(3):
        told.trial(number, 0.9 + number / 100)
    assert promote.default_run(told.history).trial == 2
    (tmp_path / "params.yaml").write_text("train: {lr: 0.1}\n")
    made = plan(told.history, None, tmp_path / "params.yaml", FINGERPRINT)
    assert made.text.split("\n") == [
        "--- params.yaml",
        "+++ params.yaml (trial 2)",
        "@@ -1 +1 @@",
        "-train: {lr: 0.1}",
        "+train: {lr: 0.0003}",
        "warning: trial 2 is not confirmed on fresh seeds: expect less than its value in the search",
        "params.yaml: 1 value of trial 2; `dvc repro` trains it",
    ]
    assert promote.warning(told.history, told.history.runs["2"]).startswith("trial 2 is not confirmed on fresh seeds")
    group = told.history.runs["1"].group
    told.record("winner", trial=1, group=group, finalists=[{"trial": 1}, {"trial": 2}], summary="")
    history = told.history
    assert promote.default_run(history).trial == 1
    assert promote.warning(history, history.runs["1"]) is None
    assert promote.warning(history, history.runs["2"]) == "trial 2 was a finalist, but trial 1 won"
    assert promote.warning(history, history.runs["0"]).startswith("trial 0 was no finalist")

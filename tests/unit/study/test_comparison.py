"""Comparisons of trainings that were really trained, on images small enough to take no time."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, replace
from io import StringIO
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from pages import Page
from rich.console import Console

from pipeline import artifacts
from pipeline.config import parse, to_tree
from pipeline.data.dataset import SearchData, Split
from pipeline.lineage import digest
from pipeline.models.classifier import load
from pipeline.training.account import write_history
from pipeline.training.loop import Training
from study.experiments.comparison.comparison import Comparison, compare
from study.experiments.comparison.page import slug, write
from study.experiments.comparison.resolve import resolve
from study.experiments.comparison.terminal import render_terminal
from study.experiments.comparison.verdicts import judge
from study.state.errors import UsageError
from study.state.ledger import STUDIES

FINGERPRINT = "f" * 32
GOOD = {"model": {"dense": [{"out": 16}]}, "train": {"epochs": 3, "batch_size": 10, "lr": 0.01}}
POOR = {"model": {"dense": []}, "train": {"epochs": 2, "batch_size": 75, "lr": 0.001}}


TRAINED: dict[str, Training] = {}


def trained(config: str, data: SearchData) -> Training:
    """Trained to its end, the weights to keep in its classifier; the same one for the same configuration, as JSON."""
    if config not in TRAINED:
        params = parse(json.loads(config))
        training = TRAINED[config] = Training(params.model, params.train, data, torch.device("cpu"))
        while not training.ended:
            training.run_epoch()
        training.finish()
    return TRAINED[config]


class Project:
    """A study ``tale`` of three trials: 0 good, 1 poor, 2 good but stopped; both 0 and 1 finalists on two seeds, 0 the winner."""

    def __init__(self, root: Path, story, data: SearchData) -> None:
        self.root, self.told, self.data = root, story({}), data
        self.place = root / "arrays"
        data.write(self.place)
        told = self.told.events[0]["lineage"]
        told["dataset"], told["data"] = asdict(data.info), str(self.place)
        for key, config, state in (("0", GOOD, "COMPLETE"), ("1", POOR, "COMPLETE"), ("2", GOOD, "PRUNED")):
            self.train(key, config, seed=int(key), state=state)
        for key, config in (("0.s0", GOOD), ("1.s0", POOR), ("0.s1", GOOD), ("1.s1", POOR)):
            self.train(key, config, seed=70 + int(key[-1]), phase="final")
        self.told.record("winner", trial=0, group=self.told.history.runs["0"].group, finalists=[], summary="")

    def train(self, key: str, config, seed: int, phase="search", state="COMPLETE", trial=None, study=None, **more) -> None:
        """A training, its events and its files."""
        told = study or self.told
        training = trained(json.dumps(config | {"train": config["train"] | {"seed": seed}}), self.data)
        trial = int(key.partition(".")[0]) if trial is None else trial
        about = {"params": {}, "distributions": {}, "replicate": int(key[-1]), "seed": seed, "origin": "tpe"}
        about |= {"config": {"model": to_tree(training.classifier.card.model), "train": to_tree(training.config)}}
        about |= {"group": digest([config, state]), "multiply_adds": 100}
        about |= {"parameters": sum(weights.numel() for weights in training.classifier.network.parameters())}
        told.record("asked", run=key, phase=phase, trial=trial, **(about | more))
        told.record("started", run=key, slot="cpu 0", epoch=0, until=9)
        for epoch in training.history:
            told.record("epoch", run=key, epoch=asdict(epoch))
        told.end(key, training.history[-1].validation_accuracy)
        told.events[-1] |= {"state": state, "kept_epoch": training.kept_epoch}
        training.classifier.save(self.root / STUDIES / told.spec.name / "runs" / key)

    def save(self) -> Path:
        self.told.save(self.root / STUDIES)
        return self.root

    def promote(self) -> None:
        """A model in models/current: another good one, on the data that data/search holds."""
        self.data.write(self.root / artifacts.SEARCH)
        training, folder = trained(json.dumps(GOOD), self.data), self.root / artifacts.MODEL
        training.classifier.save(folder)
        write_history(training.history, folder)
        run = {"name": "stripes", "seed": 0, "parameters": 1, "multiply_adds": 1, "device": "cpu", "state": "finished"}
        run |= {
            "kept_epoch": training.kept_epoch,
            "epochs_run": 3,
            "data_fingerprint": FINGERPRINT,
            "params": to_tree(parse(GOOD)),
        }
        run |= {"run_id": None, "git_commit": "d" * 40, "git_dirty": False, "started": "today", "config_hash": "x"}
        run |= {"tracking_uri": "", "experiment_id": None}
        artifacts.write_json(folder / "run.json", run)


@pytest.fixture
def made(story, tiny_data, tmp_path) -> Project:
    return Project(tmp_path, story, noisy(tiny_data))


def noisy(data: SearchData) -> SearchData:
    """The same images, so hard to tell that no network has all of them right."""
    rng = np.random.default_rng(1)

    def split(part: Split) -> Split:
        images = part.images + rng.normal(0, 450, part.images.shape)
        return Split(images.clip(0, 255).astype(np.uint8), part.labels)

    info = replace(data.info, fingerprint=FINGERPRINT)
    return SearchData(info, split(data.train), split(data.validation))


def sides_of(root: Path, *words: str, by_seed_group: bool = False):
    return resolve(words, root, None, by_seed_group)


def right(root: Path, key: str, data: SearchData) -> np.ndarray:
    """Which validation images a kept network has right, by the shortest way there is."""
    with torch.inference_mode():
        probs = load(root / STUDIES / "tale/runs" / key)(torch.from_numpy(np.asarray(data.validation.images)))
    return probs.argmax(1).numpy() == data.validation.labels


# -- what a word names


def test_every_name_of_a_result_is_a_side(made) -> None:
    root = made.save()
    made.promote()
    ids = {"tracking_uri": "http://host:5000", "experiment_id": "3", "parent": "d" * 32, "runs": {"1": "1ab" + "0" * 29}}
    (root / "studies/tale/mlflow.json").write_text(json.dumps(ids))
    (root / "reports/studies/tale").mkdir(parents=True)
    (root / "reports/studies/tale/leaderboard.csv").write_text("rank,trials,accuracy\n1,2,0.92\n2,1,0.91\n")
    for word, label, names in (
        ("tale", "tale", ["tale/0.s0", "tale/0.s1"]),
        ("tale/1", "tale/1", ["tale/1"]),
        ("studies/tale/runs/1.s1/", "tale/1.s1", ["tale/1.s1"]),
        ("tale#1", "tale/2", ["tale/2"]),
        ("1ab000", "tale/1", ["tale/1"]),
        ("current", "current", ["current"]),
    ):
        side = sides_of(root, word, "tale/0")[0]
        assert (side.label, [one.name for one in side.trainings]) == (label, names), word
    assert (
        sides_of(root, "1ab000", "tale/0")[0].first.page
        == f"http://host:5000/#/experiments/3/runs/1ab{'0' * 29}?workflowType=machine_learning"
    )


def test_a_seed_group_of_a_finalist_is_its_trainings_on_fresh_seeds_without_the_one_it_was_chosen_by(made) -> None:
    root = made.save()
    for word in ("tale/1", "tale/1.s0"):
        first, second = sides_of(root, word, "tale/2", by_seed_group=True)
        assert (first.label, first.what) == ("tale/1", "trial 1, on 2 fresh seeds")
        assert [one.name for one in first.trainings] == ["tale/1.s0", "tale/1.s1"]
        assert [one.name for one in second.trainings] == ["tale/2"]


def test_a_study_without_winner_is_its_best_trial_and_a_plan_is_one_of_its_rows(made, story) -> None:
    made.told.events = [event for event in made.told.events if event["kind"] != "winner"]
    plan = story({})
    plan.spec = replace(plan.spec, name="plan", space="ablation", tree={"title": "slow"})
    plan.events[0] = made.told.events[0] | {"spec": plan.spec.to_tree()}
    for index in range(3):
        made.train(f"slow-row.s{index}", POOR, 70 + index, phase="planned", study=plan, origin="slow-row", trial=0)
    plan.events[-1]["state"] = "FAIL"
    plan.save(made.root / STUDIES)
    root = made.save()
    best, row = sides_of(root, "tale", "plan/slow-row")
    assert (best.what, best.searched) == ("the best trial, 0", True)
    assert ([one.seed for one in row.trainings], row.lost, row.what) == ([70, 71], ("slow-row.s2",), "row slow-row, on 2 seeds")
    assert sides_of(root, "tale", "plan/slow-row.s1")[1].what == "seed 1 of row slow-row"
    assert sides_of(root, "tale", "plan/slow-row.s1", by_seed_group=True)[1].label == "plan/slow-row"
    with pytest.raises(UsageError, match="plan holds several configurations; give one of its rows: plan/slow-row"):
        sides_of(root, "tale", "plan")
    with pytest.raises(UsageError, match="plan has no run quick-row; it has plan/slow-row"):
        sides_of(root, "tale", "plan/quick-row")
    shown = judge(compare(["tale/1.s0", "plan/slow-row"], root, {}))
    assert "1 training of plan/slow-row left out" in [verdict.title for verdict in shown]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["tale/0"], "a comparison needs at least 2 runs, got 1; give another"),
        (["tale/0", "tail/1"], "there is no study tail here; studies: tale"),
        (["tale/0", "tale/9"], r"tale has no run 9; it has trials 0 to 3 and finals 0\.s0 to 1\.s1"),
        (["tale/0", "what?"], r"nothing here is named 'what\?'"),
        (["tale/0", "tale/0/"], "runs to compare must differ, but tale/0 and tale/0/ share trainings; leave one out"),
        (["tale", "tale/0.s1"], "runs to compare must differ, but tale and tale/0.s1 share trainings"),
        (["tale/0", "tale/3"], r"must have trained weights, but tale/3 \(running\) has none; give one that has, e.g. tale/1.s1"),
        (["tale/0", "current"], "there is no model in models/current"),
    ],
)
def test_what_cannot_be_compared_is_one_line_with_a_remedy(made, words, message) -> None:
    asked = next(event for event in made.told.events if event.get("run") == "2" and event["kind"] == "asked")
    made.told.events.append(asked | {"run": "3", "trial": 3})
    with pytest.raises(UsageError, match=message) as error:
        compare(words, made.save(), {})
    assert "\n" not in str(error.value)


# -- what is computed


def test_two_checkpoints_are_compared_by_the_images_that_only_one_has_right(made) -> None:
    root = made.save()
    told = compare(["tale/0", "tale/1"], root, {})
    first, second = right(root, "0", made.data), right(root, "1", made.data)
    (item,) = told.contrasts
    (pair,) = item.pairs
    counted = (pair.both_right, pair.test.only_first, pair.test.only_second, pair.both_wrong)
    assert counted == tuple(int(part.sum()) for part in (first & second, ~first & second, first & ~second, ~first & ~second))
    assert item.seeds is None
    assert item.main.value == pytest.approx(second.mean() - first.mean())
    apart = np.flatnonzero(first & ~second)
    assert len(item.only_first) == min(len(apart), 24)
    assert {one.index for one in item.only_first} <= set(apart)
    assert all(one.first == one.label != one.second for one in item.only_first)
    sure = [one.second_probability for one in item.only_first]
    assert sure == sorted(sure, reverse=True)
    for change in item.classes:
        mask = made.data.validation.labels == made.data.info.classes.index(change.name)
        assert change.value == pytest.approx(second[mask].mean() - first[mask].mean())
    assert item.confusion.sum(axis=1).tolist() == [0, 0, 0]  # both see the same images of each class
    assert np.trace(item.confusion) == second.sum() - first.sum()


def test_trainings_on_common_seeds_are_compared_pair_by_pair(made) -> None:
    root = made.save()
    (item,) = compare(["tale/0", "tale/1"], root, {}, by_seed_group=True).contrasts
    assert [(pair.first.name, pair.second.name) for pair in item.pairs] == [
        ("tale/0.s0", "tale/1.s0"),
        ("tale/0.s1", "tale/1.s1"),
    ]
    apart = [right(root, f"1.s{index}", made.data).mean() - right(root, f"0.s{index}", made.data).mean() for index in (0, 1)]
    assert item.seeds is not None
    assert (item.seeds.n, item.main.value) == (2, pytest.approx(np.mean(apart)))
    assert np.trace(item.confusion) == pytest.approx(np.mean(apart) * len(made.data.validation))
    assert all(1 <= one.pairs <= 2 for one in item.only_first)


def test_changing_the_order_turns_every_difference_round(made) -> None:
    root = made.save()
    (there,), (back,) = (compare(words, root, {}, True).contrasts for words in (["tale/0", "tale/1"], ["tale/1", "tale/0"]))
    assert there.main.value == -back.main.value
    assert there.main.low == pytest.approx(-back.main.high)
    assert there.p_holm == pytest.approx(back.p_holm)
    np.testing.assert_array_equal(there.confusion, -back.confusion)
    assert {one.index for one in there.only_first} == {one.index for one in back.only_second}
    assert [change.value for change in there.classes] == [-change.value for change in back.classes]


def test_several_are_all_compared_with_the_first_and_corrected_for_it(made) -> None:
    told = compare(["tale/0", "tale/1", "tale/2"], made.save(), {})
    assert [(item.first.label, item.second.label, item.number) for item in told.contrasts] == [
        ("tale/0", "tale/1", 1),
        ("tale/0", "tale/2", 2),
    ]
    assert all(item.p_holm >= item.main.p_value for item in told.contrasts)
    assert max(item.p_holm / item.main.p_value for item in told.contrasts) == pytest.approx(2)


def test_a_training_with_the_same_weights_differs_in_nothing(made) -> None:
    made.train("3", GOOD, seed=0)
    told = compare(["tale/0", "tale/3"], made.save(), {})
    (item,) = told.contrasts
    assert (item.main.value, item.p_holm, item.only_first, item.only_second) == (0, 1, (), ())
    assert not item.confusion.any()
    assert told.settings == ()
    assert titles(told)[:2] == [
        "No difference found between tale/3 and tale/0 at n = 60 images",
        "They have the same configuration",
    ]


def test_no_test_image_is_needed_or_opened(made) -> None:
    root = made.save()
    assert not list(root.rglob("test_*.npy"))
    assert compare(["tale/0", "tale/1"], root, {}).contrasts
    assert not (root / artifacts.TEST_OPENINGS).exists()


# -- what is said


def titles(told: Comparison) -> list[str]:
    return [verdict.title for verdict in judge(told)]


def test_the_answer_comes_first_then_warnings_then_what_differs(made) -> None:
    told = compare(["tale/1", "tale/2"], made.save(), {})
    found = judge(told)
    value = abs(told.contrasts[0].main.value)
    assert found[0].title == f"tale/2 is {100 * value:.2f} points better than tale/1: more than chance"
    assert found[0].evidence.startswith(f"tale/2 minus tale/1: +{100 * value:.2f} points (95\u202f% interval +")
    assert re.search(
        r"McNemar p (<|=) 0\.\d+, n = 60 images, of which \d+ only tale/2 has right and \d+ only tale/1", found[0].evidence
    )
    assert "another seed could reverse this" in found[0].remedy
    assert found[1].title == "tale/2 was not trained to its end"
    assert "They differ in 4 settings" in titles(told)
    assert "tale/2 has 5.5 times the parameters of tale/1" in titles(told)


def test_a_trial_picked_by_a_search_against_fresh_seeds_is_warned_of(made) -> None:
    root = made.save()
    assert "The search may flatter tale/1" in titles(compare(["tale", "tale/1"], root, {}))
    assert not any("flatter" in title for title in titles(compare(["tale/0", "tale/1"], root, {})))


def test_weights_that_do_not_give_the_recorded_accuracy_are_a_problem(made) -> None:
    root = made.save()
    assert not compare(["tale/0", "tale/1"], root, {}).unlike
    runs = root / STUDIES / "tale/runs"
    for name in ("model.json", "weights.safetensors"):
        (runs / "0" / name).write_bytes((runs / "1" / name).read_bytes())
    told = compare(["tale/0", "tale/2"], root, {})
    assert told.unlike == {"tale/0": pytest.approx(right(root, "1", made.data).mean())}
    first = judge(told)[0]
    assert (first.level, first.title) == ("bad", "The weights of tale/0 do not give the accuracy that was recorded")


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"name": "dots"}, "other was trained on dots, tale/0 on stripes"),
        ({"classes": ("a", "b", "c")}, r"other has 3 classes \(a, b, c\), tale/0 3 classes \(rows, columns, square\)"),
        ({"split_seed": 1}, r"trained and validated on other images of stripes than tale/0 \(another split\)"),
        ({"counts": {"train": (9,), "validation": (50,), "test": (1,)}}, r"other images of stripes .* \(50 against 60\)"),
    ],
)
def test_sides_on_other_data_show_settings_and_cost_but_no_difference(made, story, changes, why) -> None:
    other = story({})
    other.spec = replace(other.spec, name="other", fingerprint="e" * 32)
    lineage = made.told.events[0]["lineage"]
    dataset = lineage["dataset"] | changes | {"fingerprint": "e" * 32}
    other.events[0] = made.told.events[0] | {"spec": other.spec.to_tree(), "lineage": lineage | {"dataset": dataset}}
    made.train("0", POOR, seed=0, study=other)
    other.save(made.root / STUDIES)
    root = made.save()
    told = compare(["tale/0", "other"], root, {})
    assert told.contrasts == ()
    assert re.search(why, told.left_out["other"])
    assert judge(told)[0].title == "other is not comparable with tale/0 image by image"
    three = compare(["tale/0", "other", "tale/1"], root, {})
    assert [item.second.label for item in three.contrasts] == ["tale/1"]
    assert "other images" in printed(three)


def test_images_that_are_gone_are_prepared_again_or_said_to_be_gone(made) -> None:
    root = made.save()
    path = made.place / "dataset.json"
    path.write_text(path.read_text().replace(FINGERPRINT, "e" * 32))
    told = compare(["tale/0", "tale/1"], root, {})  # the digits, that the configuration names, are other images
    assert told.left_out == {"tale/1": "the images of tale/0 are no longer here"}


# -- what is written


def printed(told: Comparison) -> str:
    console = Console(width=160, file=StringIO(), highlight=False)
    console.print(render_terminal(told))
    return console.file.getvalue()  # type: ignore[attr-defined]


def test_the_page_is_complete_by_itself_and_its_numbers_lie_beside_it(made) -> None:
    root = made.save()
    told = compare(["tale/0", "tale/1"], root, {}, by_seed_group=True)
    path = write(told, root)
    assert path == root / "reports/comparisons/tale-0-vs-tale-1-by-seed-group/index.html"
    page = Page(path.read_text())
    ids = page.attributes("id")
    assert len(ids) == len(set(ids))
    assert {"verdicts", "accuracy", "settings", "curves", "classes", "images", "cost", "lineage"} <= set(ids)
    assert all(uri.startswith(("data:", "#")) for name in ("src", "href") for uri in page.attributes(name))
    assert all(verdict.title in page.text for verdict in judge(told))
    assert "nan" not in page.text.lower()
    item = told.contrasts[0]
    assert len([uri for uri in page.attributes("src") if uri.startswith("data:image/png")]) == len(item.only_first) + len(
        item.only_second
    )
    drawn = {"accuracies", "curves", "classes-1", "confusion-1"}
    assert {file.name for file in (path.parent / "figures").iterdir()} == {
        f"{name}.{end}" for name in drawn for end in ("png", "csv")
    }
    tree = json.loads((path.parent / "comparison.json").read_text())
    assert tree["contrasts"][0]["difference"]["value"] == pytest.approx(item.main.value)
    assert tree["contrasts"][0]["test"] == "paired t test over seeds"
    assert [side["trainings"] for side in tree["sides"]] == [["tale/0.s0", "tale/0.s1"], ["tale/1.s0", "tale/1.s1"]]
    assert list(pd.read_csv(path.parent / "settings.csv")["setting"]) == list(tree["settings"])
    checkpoints = pd.read_csv(path.parent / "checkpoints.csv")
    assert (checkpoints.iloc[:, 4:8].sum(axis=1) == 60).all()
    images = pd.read_csv(path.parent / "images.csv")
    assert ((images["label"] == images["first_prediction"]) ^ (images["label"] == images["second_prediction"])).all()


def test_a_page_of_sides_on_other_data_says_so_and_leaves_the_rest_out(made) -> None:
    told = compare(["tale/0", "tale/1"], made.save(), {})
    apart = replace(told, contrasts=(), images=None, left_out={"tale/1": "its images are <others>"})
    page = Page(write(apart, made.root).read_text())
    assert {"verdicts", "settings", "curves", "cost", "lineage"} <= set(page.attributes("id"))
    assert not {"classes", "images"} & set(page.attributes("id"))
    assert "Not compared image by image: Its images are <others>." in page.text


def test_a_page_replaces_the_one_that_was_there(made) -> None:
    root = made.save()
    told = compare(["tale/0", "tale/1"], root, {})
    path = write(told, root)
    (path.parent / "left-over.txt").touch()
    assert write(told, root) == path
    assert not (path.parent / "left-over.txt").exists()


def test_names_of_folders_are_safe_and_short(made) -> None:
    told = compare(["tale/0", "tale/1"], made.save(), {})
    odd = replace(told, sides=(replace(told.sides[0], label="a/../b c"), told.sides[1]))
    assert slug(odd) == "a-..-b-c-vs-tale-1"
    many = replace(told, sides=tuple(replace(told.sides[0], label=f"study-{index}/{index}") for index in range(20)))
    other = replace(many, sides=many.sides[:19])
    assert len(slug(many)) <= 100
    assert slug(many) != slug(other)


def test_the_current_model_stands_beside_a_study(made) -> None:
    root = made.save()
    made.promote()
    told = compare(["current", "tale"], root, {})
    assert [(pair.first.name, pair.second.name) for pair in told.contrasts[0].pairs] == [("current", "tale/0.s0")]
    assert "They were trained by different commits" in titles(told)
    assert not told.unlike
    assert ["current", "tale"] in [line.split() for line in printed(told).splitlines()]


def test_a_terminal_shows_the_verdicts_a_column_for_each_side_and_the_settings(made) -> None:
    told = compare(["tale/0", "tale/1"], made.save(), {})
    text = printed(told)
    assert all(verdict.title in text for verdict in judge(told))
    rows = [re.split(r"\s{2,}", line.strip()) for line in text.splitlines()]
    assert ["tale/0", "tale/1"] in rows
    assert ["n", "1", "1"] in rows
    assert ["Minus the first", "–", f"{100 * told.contrasts[0].main.value:+.2f}".replace("-", "\u2212")] in rows
    assert ["train.lr", "0.01", "0.001"] in rows
    assert ["model.dense[0]", "out 16", "–"] in rows

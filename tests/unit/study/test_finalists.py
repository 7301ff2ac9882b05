import copy
import json
from dataclasses import replace

import numpy as np
import pytest
from histories import REST

from pipeline.config import parse, to_tree
from pipeline.data.dataset import Split
from pipeline.models.build import build
from pipeline.models.classifier import Card, Classifier
from study.engine import finalists
from study.state.records import Winner, WinnerTest, content_of

TWO = {"study": {"finalists": {"top": 2, "seeds": 3}}}


def study_of(**section):
    return {"study": {"finalists": {"top": 3, "seeds": 4}, **section}}


def confirm(told, values):
    """Train the finalists: ``values`` by trial, a list of objectives' values or numbers; None: failed."""
    for task in finalists.tasks(told.history):
        told.record("asked", **task)
        value = values[task["trial"]][task["replicate"]]
        if value is None:
            told.end(task["run"], state="FAIL")
        else:
            told.end(task["run"], *(value if isinstance(value, tuple) else (value,)))
    return finalists.judge(told.history)


def row(winner, trial):
    return next(item for item in winner.finalists if item.trial == trial)


def test_the_best_configurations_are_chosen_and_of_equals_the_smaller_network(story):
    told = story(study_of())
    told.trial(0, 0.97)
    told.trial(1, 0.98, parameters=5000)
    told.trial(2, 0.98, parameters=400)
    told.trial(3, 0.99)
    told.trial(4, state="PRUNED")
    told.trial(5, state="FAIL")
    assert [run.trial for run in finalists.choose(told.history)] == [3, 2, 1]


def test_replicates_count_once_with_the_mean_of_those_that_completed(story):
    told = story(study_of())
    told.trial(0, 0.99)
    told.trial(1, 0.98)
    told.trial(2, 0.95, like=0)
    told.trial(3, state="FAIL", like=1)
    assert [run.trial for run in finalists.choose(told.history)] == [1, 0]


def test_a_lower_loss_is_better(story):
    told = story(study_of(objectives=["loss"]))
    for number, loss in enumerate((0.3, 0.1, 0.2, 0.4)):
        told.trial(number, loss)
    assert [run.trial for run in finalists.choose(told.history)] == [1, 2, 0]


def test_with_several_objectives_the_pareto_front_is_confirmed_best_accuracy_first(story):
    told = story(study_of(objectives=["parameters", "accuracy"], pruner="none"))
    for number, values in enumerate([(100, 0.90), (1000, 0.99), (500, 0.95), (600, 0.94), (90, 0.80)]):
        told.trial(number, *values, parameters=values[0])
    assert [run.trial for run in finalists.choose(told.history)] == [1, 2, 0]


def test_without_complete_trials_or_without_finalists_there_is_nothing_to_confirm(story):
    told = story(study_of())
    told.trial(0, state="FAIL")
    assert (finalists.choose(told.history), finalists.tasks(told.history), finalists.judge(told.history)) == ([], [], None)
    off = story({"study": {"finalists": {"top": 0}}})
    off.trial(0, 0.9)
    assert (finalists.tasks(off.history), finalists.judge(off.history)) == ([], None)


def test_every_finalist_is_trained_on_the_same_fresh_seeds(story):
    told = story(TWO)
    for number in range(3):
        told.trial(number, 0.9 + number / 100)
    tasks = finalists.tasks(told.history)
    assert [task["run"] for task in tasks] == ["2.s0", "1.s0", "2.s1", "1.s1", "2.s2", "1.s2"]
    seeds = {task["trial"]: [] for task in tasks}
    for task in tasks:
        seeds[task["trial"]].append(task["seed"])
        trial = told.history.runs[str(task["trial"])]
        expected = copy.deepcopy(trial.config.tree)
        expected["train"]["seed"] = task["seed"]
        assert task["config"] == expected
        assert (task["group"], task["phase"], task["origin"]) == (trial.group, "final", "finalist")
    assert seeds[1] == seeds[2] == finalists.seeds(told.spec.study)
    assert len(set(seeds[1])) == 3


def test_confirmation_seeds_are_those_of_no_trial_and_differ_between_studies():
    section = parse({"study": {"finalists": {"seeds": 50}}}).study
    searched = {int(np.random.SeedSequence([0, trial]).generate_state(1, np.uint64)[0] >> 1) for trial in range(2000)}
    fresh = set(finalists.seeds(section))
    assert len(fresh) == 50
    assert not fresh & searched
    assert not fresh & set(finalists.seeds(replace(section, seed=1)))
    assert all(0 <= seed < 2**63 for seed in finalists.seeds(replace(section, seed=2**63 - 1)))


def test_only_what_is_missing_is_asked_for_and_nothing_is_judged_before_the_end(story):
    told = story(TWO)
    told.trial(0, 0.95)
    told.trial(1, 0.96)
    first, *rest = finalists.tasks(told.history)
    told.record("asked", **first)
    assert finalists.tasks(told.history) == rest
    for task in rest:
        told.record("asked", **task)
        told.end(task["run"], 0.94)
    assert finalists.tasks(told.history) == []
    assert finalists.judge(told.history) is None
    told.end(first["run"], 0.94)
    assert finalists.judge(told.history).trial in (0, 1)


def test_the_smallest_network_that_ties_with_the_leader_wins(story):
    told = story(study_of())
    for number, (value, parameters) in enumerate([(0.99, 9000), (0.985, 800), (0.98, 50)]):
        told.trial(number, value, parameters=parameters)
    winner = confirm(told, {0: [0.980, 0.984, 0.978, 0.982], 1: [0.979, 0.986, 0.975, 0.981], 2: [0.900, 0.905, 0.901, 0.899]})
    assert (winner.leader, winner.ties, winner.trial) == (0, [0, 1], 1)
    assert (winner.run, winner.group) == ("1.s0", told.history.runs["1"].group)
    assert winner.summary == ("trial 1 wins: 98.02% ± 0.73 over 4 seeds; 2 of 3 finalists tie; the smallest of them is chosen")
    assert row(winner, 2).p_holm < 0.001
    assert row(winner, 2).difference.high < 0
    assert row(winner, 0).p_value is row(winner, 0).difference is None
    assert [item.trial for item in winner.finalists] == [0, 1, 2]
    assert Winner.of(json.loads(json.dumps(content_of(winner), allow_nan=False))) == winner


def test_of_ties_of_one_size_the_better_mean_wins(story):
    told = story(study_of())
    for number in range(2):
        told.trial(number, 0.98, parameters=800)
    winner = confirm(told, {0: [0.970, 0.974, 0.978, 0.972], 1: [0.979, 0.976, 0.975, 0.971]})
    assert (winner.ties, winner.trial) == ([1, 0], 1)


def test_where_halving_completed_few_those_at_the_highest_rungs_are_confirmed_too(story):
    told = story({"study": {"pruner": "asha", "finalists": {"top": 3, "seeds": 2}}})
    told.trial(0, 0.95)
    for number, accuracies in {1: [0.9], 2: [0.5, 0.6], 3: [0.5, 0.7]}.items():
        told.trial(number, state="PRUNED")
        told.events[-1]["cause"] = "asha"
        for epoch, accuracy in enumerate(accuracies, 1):
            values = {
                "epoch": epoch,
                **REST,
                "validation_loss": 1 - accuracy,
                "validation_accuracy": accuracy,
                "seconds": 1.0,
            }
            told.events.insert(-1, {"kind": "epoch", "time": 0, "run": str(number), "epoch": values})
    assert [run.trial for run in finalists.choose(told.history)] == [0, 3, 2]
    winner = confirm(told, {0: [0.9, 0.9], 3: [0.97, 0.98], 2: [0.8, 0.8]})
    assert row(winner, 3).search_value == 0.7
    assert row(winner, 3).optimism is None
    assert winner.mean_optimism == pytest.approx(0.05)


def test_optimism_is_what_the_search_promised_too_much(story):
    told = story(TWO)
    told.trial(0, 0.99)
    told.trial(1, 0.95)
    winner = confirm(told, {0: [0.97, 0.97, 0.97], 1: [0.96, 0.96, 0.96]})
    assert [item.optimism for item in winner.finalists] == pytest.approx([0.02, -0.01])
    assert winner.mean_optimism == pytest.approx(0.005)
    losses = story({"study": {**TWO["study"], "objectives": ["loss"]}})
    losses.trial(0, 0.1)
    losses.trial(1, 0.2)
    winner = confirm(losses, {0: [0.15, 0.16, 0.14], 1: [0.3, 0.3, 0.4]})
    assert winner.leader == 0
    assert row(winner, 0).optimism == pytest.approx(0.05)
    assert row(winner, 1).difference.value > 0
    assert winner.summary.startswith("trial 0 wins: loss 0.1500 ± 0.0248 over 3 seeds")


def test_a_finalist_whose_training_fails_cannot_win_and_the_summary_says_so(story):
    told = story(study_of())
    for number in range(3):
        told.trial(number, 0.97 + number / 1000, parameters=1000 - number)
    sound = [0.97, 0.972, 0.968, 0.971]
    winner = confirm(told, {0: sound, 1: [0.96, 0.971, 0.967, 0.97], 2: [0.99, None, 0.99, 0.99]})
    assert winner.leader == 0
    out = row(winner, 2)
    assert (out.failures, out.n, out.values[1], out.ties, out.p_holm) == (1, 3, None, False, None)
    assert out.difference.value > 0
    assert winner.summary.endswith("; out for trainings that failed: trial 2 (1 of 4)")


def test_one_whose_training_failed_is_not_counted_as_beaten(story):
    told = story(study_of())
    for number in range(3):
        told.trial(number, 0.97 + number / 1000)
    sound, worse = [0.97, 0.972, 0.968, 0.971], [0.93, 0.932, 0.931, 0.93]
    winner = confirm(told, {0: sound, 1: worse, 2: [0.99, None, 0.99, 0.99]})
    assert "chance does not explain its lead over the other finalist that could win; out for" in winner.summary
    alone = story(TWO)
    for number in range(2):
        alone.trial(number, 0.97)
    winner = confirm(alone, {0: sound[:3], 1: [0.99, None, 0.99]})
    assert "; no other finalist could be compared with it; out for trainings that failed: trial 1 (1 of 3)" in winner.summary


def test_where_every_finalist_has_failures_those_with_the_fewest_may_win(story):
    told = story(TWO)
    told.trial(0, 0.97)
    told.trial(1, 0.96)
    winner = confirm(told, {0: [None, None, 0.97], 1: [0.95, None, 0.96]})
    assert (winner.trial, winner.run) == (1, "1.s0")
    assert row(winner, 0).low is None
    hopeless = story(TWO)
    hopeless.trial(0, 0.97)
    assert confirm(hopeless, {0: [None, None, 0.9]}) is None


def test_a_clear_lead_is_called_one(story):
    told = story(TWO)
    told.trial(0, 0.9)
    told.trial(1, 0.95, parameters=10)
    winner = confirm(told, {0: [0.97, 0.975, 0.972], 1: [0.93, 0.932, 0.931]})
    assert (winner.trial, winner.ties) == (0, [0])
    assert winner.summary.endswith("over 3 seeds; chance does not explain its lead over the other finalist")


def test_with_one_finalist_it_wins_without_a_test(story):
    told = story(study_of())
    told.trial(0, 0.97)
    winner = confirm(told, {0: [0.97, 0.98, 0.97, 0.98]})
    assert winner.ties == [0]
    assert winner.summary.endswith("it was the only finalist")


def test_equal_finalists_are_rarely_said_to_differ(story):
    rng = np.random.default_rng(0)
    apart = 0
    for _ in range(150):
        told = story({"study": {"finalists": {"top": 4, "seeds": 3}}}, images=144)
        for number in range(4):
            told.trial(number, 0.98)
        values = rng.binomial(144, 0.97, (4, 3)) / 144
        apart += len(confirm(told, {number: list(values[number]) for number in range(4)}).ties) < 4
    assert apart / 150 < 0.05 + 3 * 0.018


def test_the_winners_networks_are_read_on_test_in_one_opening(story, tiny_data, tmp_path):
    told = story(TWO)
    told.trial(0, 0.97)
    told.trial(1, 0.96)
    told.record("winner", **content_of(confirm(told, {0: [0.9, None, 0.9], 1: [0.8, 0.9, 0.7]})))
    model = parse({}).model
    for index in range(3):
        network = build(model, tiny_data.info.shape, 3, seed=index)
        Classifier(Card.of(model, tiny_data.info), network).save(tmp_path / "runs" / f"1.s{index}")
    test = Split(tiny_data.validation.images, tiny_data.validation.labels)
    tested = finalists.test_read(told.history, tmp_path, test, openings=2)
    assert tested.runs == ["1.s0", "1.s1", "1.s2"]
    assert tested.mean == pytest.approx(np.mean(tested.accuracies))
    assert tested.first.successes / 60 == tested.accuracies[0]
    assert len(set(tested.accuracies)) > 1
    assert (tested.trial, tested.group, tested.images, tested.openings) == (1, told.history.winner.group, 60, 2)
    assert tested.summary.endswith("over 3 seeds on 60 images, opened 2 times")
    assert WinnerTest.of(json.loads(json.dumps(content_of(tested), allow_nan=False))) == tested


def test_a_finalists_configuration_is_one_that_trains(story):
    told = story(TWO)
    told.trial(0, 0.97)
    for task in finalists.tasks(told.history):
        tree = {**to_tree(told.spec.params), **task["config"]}
        assert to_tree(parse(tree)) == tree

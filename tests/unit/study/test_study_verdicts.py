"""Verdicts on a study: each speaks where its rule says so, and is silent or content elsewhere."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from histories import Made, finished

from pipeline.verdict import Verdict
from study.engine.samplers import POPULATION
from study.report import search_verdicts, verdicts
from study.report.chance import chance
from study.report.cost import cost
from study.report.facts import Facts
from study.report.findings import Findings
from study.report.importance import Importances
from study.state.history import Run

NO_FINALS = {"finalists": {"top": 0, "seeds": 2}, "pruner": "none"}


def findings(made: Made, importances: Importances | None = None) -> Findings:
    """Without importances, which take longest, unless given."""
    facts = Facts(made.history, made.searched)
    return Findings(facts, importances or Importances({}, {}, missing="not asked for"), chance(facts), cost(made.history))


def search(trials: int = 20, **changes: Any) -> Made:
    return finished(space="small", trials=trials, **{"failing": 0, "replicates": 0, "study": NO_FINALS, **changes})


def level(verdict: Verdict | None) -> str | None:
    return verdict.level if verdict else None


def set_values(run: Run, **values: float) -> None:
    """Give all epochs of a run these values."""
    run.epochs = [replace(epoch, **values) for epoch in run.epochs]


def confirmed(means: dict[int, list[float]], promised: float, ties: list[int]) -> Made:
    """A search whose finalists came to these values; trial numbers as keys, the winner first."""
    from pipeline.evaluation.statistics import mean_interval

    made = search()
    items = []
    for trial, values in means.items():
        mean = mean_interval(values, 1 / 1000)
        told = {"mean": mean.value, "low": mean.low, "high": mean.high, "n": mean.n, "std": mean.std, "prediction": None}
        item = {
            "trial": trial,
            "group": made.history.runs[str(trial)].group,
            "parameters": 10,
            "seeds": [1, 2, 3],
            "values": values,
        }
        item |= {"failures": 0, "search_value": promised, "optimism": promised - mean.value, "ties": trial in ties}
        first = trial == next(iter(means))
        item |= {"difference": None if first else {"value": -0.01, "low": -0.02, "high": 0.0}, "p_value": None if first else 0.04}
        items.append(item | {"p_holm": None if first else 0.04} | told)
    winner = next(iter(means))
    content = {"trial": winner, "group": items[0]["group"], "leader": winner, "ties": ties, "finalists": items}
    made.add("winner", **content, mean_optimism=0.0, objective="accuracy", run=f"{winner}.s0", summary=f"trial {winner} wins")
    return made


def test_a_finalist_that_is_told_apart_is_good_and_ties_are_only_noted() -> None:
    apart = verdicts.winner(findings(confirmed({3: [0.98, 0.981, 0.982], 4: [0.95, 0.951, 0.95]}, 0.98, [3])))
    assert level(apart) == "good"
    assert "better than every other finalist" in apart.title  # type: ignore[union-attr]
    tied = verdicts.winner(findings(confirmed({3: [0.98, 0.981, 0.982], 4: [0.979, 0.98, 0.98]}, 0.98, [3, 4])))
    assert level(tied) == "info"
    assert "cannot be told apart" in tied.title  # type: ignore[union-attr]
    assert "Nearest is trial 4 to the leader, trial 3: −1.00 points" in tied.evidence  # type: ignore[union-attr]


def test_of_a_small_winner_among_ties_it_is_said_how_far_behind_the_leader_it_is() -> None:
    made = confirmed({3: [0.98, 0.981, 0.982], 4: [0.979, 0.98, 0.98]}, 0.98, [3, 4])
    made.history.winner = replace(made.history.winner, trial=4)  # type: ignore[type-var]
    told = verdicts.winner(findings(made))
    assert "The winner's distance to the leader, trial 3: −1.00 points (−2.00 to +0.00" in told.evidence  # type: ignore[union-attr]


def failed(made: Made, trial: int) -> Made:
    """The same with one more training of this finalist, which failed, so that it could not win."""
    winner = made.history.winner
    assert winner is not None
    items = [replace(item, failures=1, p_holm=None) if item.trial == trial else item for item in winner.finalists]
    made.history.winner = replace(winner, finalists=items)
    return made


def test_a_finalist_left_out_for_a_failed_training_is_not_counted_as_beaten() -> None:
    means = {3: [0.98, 0.981, 0.982], 4: [0.95, 0.951, 0.95], 5: [0.97, 0.971, 0.97]}
    told = verdicts.winner(findings(failed(confirmed(means, 0.98, [3]), 5)))
    assert told.title == "Trial 3 is better than every other finalist that could win"  # type: ignore[union-attr]
    alone = {trial: means[trial] for trial in (3, 5)}
    told = verdicts.winner(findings(failed(confirmed(alone, 0.98, [3]), 5)))
    assert (level(told), told.title) == ("info", "No other finalist could be compared with trial 3")  # type: ignore[union-attr]


def test_a_finalist_left_out_with_a_better_mean_than_the_winner_is_a_warning() -> None:
    means = {3: [0.98, 0.981, 0.982], 4: [0.95, 0.951, 0.95], 5: [0.99, 0.991, 0.99]}
    assert verdicts.left_out(findings(confirmed(means, 0.98, [3]))) is None
    assert verdicts.left_out(findings(failed(confirmed(means, 0.98, [3]), 4))) is None
    told = verdicts.left_out(findings(failed(confirmed(means, 0.98, [3]), 5)))
    assert level(told) == "warn"
    assert "trial 5" in told.evidence  # type: ignore[union-attr]


def test_an_only_finalist_is_said_to_be_one() -> None:
    assert "only finalist" in verdicts.winner(findings(confirmed({3: [0.98, 0.981]}, 0.98, [3]))).title  # type: ignore[union-attr]


def test_before_a_confirmation_the_leader_is_named_with_how_many_trials_are_not_told_apart() -> None:
    made = search()
    for run in made.history.trials:
        set_values(run, validation_accuracy=0.5)
    set_values(made.history.trials[7], validation_accuracy=0.9)
    set_values(made.history.trials[8], validation_accuracy=0.89)
    told = verdicts.winner(findings(made))
    assert level(told) == "warn"
    assert "Trial 7" in told.title  # type: ignore[union-attr]
    assert "Of 19 other complete trials 1 lie inside" in told.evidence  # type: ignore[union-attr]


def test_a_promise_above_the_interval_over_fresh_seeds_is_luck() -> None:
    means = {3: [0.96, 0.961, 0.962]}
    assert level(verdicts.optimism(findings(confirmed(means, 0.98, [3])))) == "warn"
    assert level(verdicts.optimism(findings(confirmed(means, 0.962, [3])))) == "good"
    assert verdicts.optimism(findings(search(3))) is None


@pytest.mark.parametrize(("right", "openings", "expected"), [(1960, 1, "good"), (1960, 3, "info"), (1800, 1, "warn")])
def test_test_is_held_against_validation(right: int, openings: int, expected: str) -> None:
    made = search(3)
    run = made.history.trials[0]
    set_values(run, validation_accuracy=0.98)
    first = {"successes": right, "n": 2000}
    made.add("tested", trial=0, group=run.group, runs=["0"], first=first, openings=openings)
    assert level(verdicts.tested(findings(made))) == expected


def test_a_lead_within_the_noise_between_seeds_is_noted() -> None:
    made = search(30, replicates=0.5)
    complete = findings(made).facts.complete
    groups = {run.group: 0.0 for run in complete}
    assert len(groups) < len(complete)
    rng = np.random.default_rng(0)
    for run in complete:
        set_values(run, validation_accuracy=0.9 + rng.normal(0, 0.01))
    assert level(verdicts.noise(findings(made))) == "info"
    alone = next(run for run in complete if sum(other.group == run.group for other in complete) == 1)
    set_values(alone, validation_accuracy=0.99)
    assert verdicts.noise(findings(made)) is None


def test_a_gap_between_training_and_validation_is_over_fitting() -> None:
    made = search(6)
    for run in made.history.trials:
        set_values(run, train_accuracy=0.999, validation_accuracy=0.95)
    assert level(verdicts.over_fitted(findings(made))) == "warn"
    for run in made.history.trials:
        set_values(run, train_accuracy=0.96, validation_accuracy=0.95)
    assert verdicts.over_fitted(findings(made)) is None


def test_a_loss_that_falls_to_the_end_is_named_and_a_level_one_is_not() -> None:
    made = search(3)
    for run in made.history.trials:
        run.epochs = [replace(epoch, validation_loss=1.0 - 0.1 * epoch.epoch) for epoch in run.epochs]
    assert level(verdicts.rising(findings(made))) == "warn"
    for run in made.history.trials:
        run.epochs = [replace(epoch, validation_loss=0.1 + 0.01 * abs(epoch.epoch - 4)) for epoch in run.epochs]
    assert verdicts.rising(findings(made)) is None


MIDDLE = {"train.lr": 1e-2, "train.optimizer": "adam", "model.dense": 2, "model.dense[0].out": 16, "model.dense[1].out": 16}


@pytest.mark.parametrize(
    ("best", "others", "expected"), [(1e-1, 1e-1, "warn"), (1e-1, 1e-2, "info"), (1e-1, 1e-4, "info"), (1e-2, 1e-1, "good")]
)
def test_the_best_value_at_an_edge_is_a_warning_where_another_good_one_is_there_too(
    best: float, others: float, expected: str
) -> None:
    made = search(8)
    for run in made.history.trials:
        run.params = MIDDLE | {"train.lr": others}
        set_values(run, validation_accuracy=0.9)
    made.history.trials[2].params = MIDDLE | {"train.lr": best}
    set_values(made.history.trials[2], validation_accuracy=0.95)
    told = search_verdicts.at_edge(findings(made))
    assert level(told) == expected
    assert ("high end of train.lr" in told.remedy) == (expected != "good")  # type: ignore[union-attr]


@pytest.mark.parametrize(("trials", "best", "expected"), [(20, 19, "warn"), (20, 3, "info"), (60, 55, "info"), (60, 3, None)])
def test_few_trials_and_a_late_best_are_a_warning_together(trials: int, best: int, expected: str | None) -> None:
    made = search(trials)
    for run in made.history.trials:
        set_values(run, validation_accuracy=0.9)
    set_values(made.history.trials[best], validation_accuracy=0.95)
    assert level(search_verdicts.too_few(findings(made))) == expected


@pytest.mark.parametrize(("failed", "expected"), [(0, "good"), (2, "info"), (5, "warn"), (11, "bad")])
def test_failures_are_judged_by_their_share(failed: int, expected: str) -> None:
    made = search(20)
    for run in made.history.trials[:failed]:
        run.state, run.cause, run.reason = "FAIL", "diverged", "loss nan"
    told = search_verdicts.failures(findings(made))
    assert level(told) == expected
    assert ("train.lr" in told.remedy) == (expected in ("warn", "bad"))  # type: ignore[union-attr]


def test_many_impossible_combinations_are_a_warning() -> None:
    made = search(20)
    assert search_verdicts.impossible(findings(made)) is None
    for run in made.history.trials[:3]:
        run.state, run.cause, run.reason = "PRUNED", "impossible", "conv 3: kernel does not fit"
    assert "kernel does not fit" in search_verdicts.impossible(findings(made)).evidence  # type: ignore[union-attr]


def test_what_no_method_gives_weight_is_named_as_without_proof() -> None:
    told = Importances({"a": 0.9, "b": 0.06, "c": 0.03, "d": 0.01}, {"a": 0.9, "c": 0.1}, n=30)
    verdict = search_verdicts.did_not_matter(findings(search(3), told))
    assert verdict is not None
    assert verdict.evidence.startswith("d: ")  # fANOVA sees something in c
    assert "no proof" in verdict.evidence
    assert "unequal" not in verdict.evidence
    stopped = Importances(told.ped, told.fanova, n=30, stopped=20)
    verdict = search_verdicts.did_not_matter(findings(search(3), stopped))
    assert "20 of them were stopped early" in verdict.evidence  # type: ignore[union-attr]
    assert "unequal numbers of epochs" in verdict.evidence  # type: ignore[union-attr]
    assert search_verdicts.did_not_matter(findings(search(3))) is None


def test_guided_trials_are_held_against_random_ones() -> None:
    made = search(40)
    for run in made.history.trials:
        set_values(run, validation_accuracy=0.8 + run.trial / 1000 + (0.1 if run.trial >= 10 else 0))
    assert level(search_verdicts.no_better_than_random(findings(made))) == "good"
    for run in made.history.trials:
        set_values(run, validation_accuracy=0.8 + run.trial % 5 / 1000)
    assert level(search_verdicts.no_better_than_random(findings(made))) == "warn"


def test_what_was_asked_before_a_sampler_models_anything_counts_as_random() -> None:
    told = findings(search(40, slots=("a", "b", "c", "d"))).chance
    assert len(told.drawn) == 13  # ten, and what three other slots had begun by then
    assert len(told.guided) == 27
    told = findings(search(40, slots=("a",), study=NO_FINALS | {"sampler": "nsga2"})).chance
    assert len(told.drawn) == POPULATION


def test_guided_trials_are_held_against_random_ones_at_an_epoch_that_all_reached() -> None:
    made = search(60, study={**NO_FINALS, "pruner": "asha"})
    for run in made.history.trials:  # those that went on are better for it, which says nothing of the sampler
        for index, epoch in enumerate(run.epochs):
            part = epoch.epoch / 20
            run.epochs[index] = replace(epoch, validation_accuracy=0.5 + part, validation_loss=1 - part)
    told = findings(made)
    assert len({len(run.epochs) for run in told.facts.measured}) > 1
    assert told.chance.epoch == 1
    assert told.chance.better == 0.5
    assert set(told.chance.course) == {0.55}
    verdict = search_verdicts.no_better_than_random(told)
    assert level(verdict) == "info"  # where whole trainings are compared, a warning
    assert "after epoch 1," in verdict.evidence  # type: ignore[union-attr]
    assert findings(search(40)).chance.epoch is None


def test_a_random_search_is_not_held_against_itself() -> None:
    made = search(20, study=NO_FINALS | {"sampler": "random"})
    told = findings(made)
    assert search_verdicts.no_better_than_random(told) is None
    assert "itself a random search" in told.chance.missing
    assert len(told.chance.drawn) == 20


def test_seeded_points_and_replicates_count_as_neither_guided_nor_random() -> None:
    made = search(20)
    made.history.trials[0].origin = "params.yaml"
    made.history.trials[15].origin = "replicate"
    told = findings(made).chance
    assert len(told.drawn) + len(told.guided) == 18
    assert len(told.drawn) == 10  # eleven, as there are two slots, but the first


@pytest.mark.parametrize(
    ("made", "title", "expected"),
    [
        (search(3, failing=1), "No trial is complete", "bad"),
        (
            finished(space="small", trials=2, failing=0, study={"finalists": {"top": 0, "seeds": 2}}),
            "Every trial was stopped",
            "warn",
        ),
    ],
)
def test_a_study_without_a_complete_trial_says_why(made: Made, title: str, expected: str) -> None:
    told = search_verdicts.nothing(findings(made))
    assert level(told) == expected
    assert told.title.startswith(title)  # type: ignore[union-attr]


def test_verdicts_come_worst_first_and_each_says_its_evidence() -> None:
    found = verdicts.judge(findings(finished(space="small", trials=30, failing=0.3)))
    levels = [("bad", "warn", "good", "info").index(verdict.level) for verdict in found]
    assert levels == sorted(levels)
    assert len({verdict.title for verdict in found}) == len(found)
    assert all(verdict.evidence for verdict in found)

"""The state of a study is a fold over its ledger."""

import pytest
from histories import REST
from hypothesis import given
from hypothesis import strategies as st

from pipeline.config import Params, to_tree
from study.state.history import fold
from study.state.spec import Spec, differences, flat

SPEC = Spec("s", "mine", {"parameters": {"train.lr": {"low": 0.1, "high": 1.0}}}, Params(), "f" * 32)
CREATED = {"kind": "created", "time": 1, "spec": SPEC.to_tree(), "lineage": {"dataset": {}}}
ASKED = {
    "kind": "asked",
    "time": 2,
    "run": "0",
    "phase": "search",
    "trial": 0,
    "params": {"train.lr": 0.5},
    "distributions": {},
    "config": {"model": {}, "train": {"epochs": 3, "keep": "best"}},
    "group": "g",
    "replicate": 0,
    "seed": 7,
    "parameters": 10,
    "multiply_adds": 20,
    "origin": "sampler",
}


def epoch(number: int, loss: float, time: int = 3) -> dict:
    told = {
        "epoch": number,
        **REST,
        "validation_loss": loss,
        "validation_accuracy": 1 - loss,
        "seconds": 2.0,
    }
    return {"kind": "epoch", "time": time, "run": "0", "epoch": told}


def started(done: int, time: int) -> dict:
    return {"kind": "started", "time": time, "run": "0", "slot": "cpu 0", "epoch": done, "until": 3}


OPENED = {"kind": "opened", "time": 2, "study": to_tree(Params().study), "trials": 40}
ENDED = {"kind": "ended", "time": 9, "run": "0", "state": "COMPLETE", "values": [0.8], "kept_epoch": 2}


def test_without_its_first_event_there_is_no_study() -> None:
    assert fold([]) is None


def test_a_trial_from_its_asking_to_its_end() -> None:
    history = fold([CREATED, OPENED, ASKED, started(0, 3), epoch(1, 0.4), epoch(2, 0.2), epoch(3, 0.3), ENDED])
    assert history is not None
    run = history.runs["0"]
    assert (run.state, run.values, run.seconds, run.kept_epoch) == ("COMPLETE", [0.8], 6.0, 2)
    assert run.accuracy == pytest.approx(0.8)  # of the lowest validation loss, not of the last epoch
    assert (run.segments[0].first, run.segments[0].last, run.segments[0].ended) == (0, 3, 9)
    assert history.best() is run


def test_events_that_were_written_twice_around_a_kill_count_once() -> None:
    history = fold([CREATED, OPENED, ASKED, ASKED, started(0, 3), epoch(1, 0.4), epoch(1, 0.4), ENDED, ENDED | {"values": [0.1]}])
    assert history is not None
    assert len(history.trials) == 1
    assert len(history.runs["0"].epochs) == 1
    assert history.runs["0"].values == [0.8]


def test_what_ran_when_a_session_was_killed_waits_in_the_next() -> None:
    history = fold([CREATED, OPENED, ASKED, started(0, 3), epoch(1, 0.4), OPENED])
    assert history is not None
    run = history.runs["0"]
    assert (run.state, run.waits) == ("PAUSED", "interrupted")


def test_a_lost_worker_is_counted_and_its_trial_waits() -> None:
    history = fold([CREATED, OPENED, ASKED, started(0, 3), {"kind": "lost", "time": 5, "run": "0", "why": "ended by signal 9"}])
    assert history is not None
    assert (history.deaths, history.runs["0"].deaths, history.runs["0"].state) == (1, 1, "PAUSED")


def test_each_session_says_how_far_it_goes() -> None:
    study = to_tree(Params().study) | {"trials": 99}
    history = fold([CREATED, OPENED, OPENED | {"study": study}])
    assert history is not None
    assert history.spec.study.trials == 99


def test_of_equal_trials_the_smaller_network_is_the_best() -> None:
    big = ASKED | {"run": "1", "trial": 1, "parameters": 9}
    history = fold([CREATED, OPENED, ASKED, big, started(0, 3), epoch(1, 0.2), ENDED, ENDED | {"run": "1"}])
    assert history is not None
    best = history.best()
    assert best is not None
    assert best.key == "1"


def test_before_any_trial_is_complete_the_most_accurate_on_its_way_leads() -> None:
    second = [{**event, "run": "1"} for event in (ASKED, started(0, 4), epoch(1, 0.1, 5))]
    begun = [CREATED, OPENED, ASKED, started(0, 3), epoch(1, 0.4), *second]
    history = fold(begun)
    assert history is not None
    assert history.best() is None
    assert history.leading() is history.runs["1"]
    ended = fold([*begun, epoch(2, 0.3), ENDED])
    assert ended is not None
    assert ended.leading() is ended.runs["0"]


def test_a_definition_survives_its_way_through_the_ledger() -> None:
    assert Spec.of(SPEC.to_tree()) == SPEC


def test_a_changed_definition_is_told_key_by_key_and_searched_keys_do_not_matter() -> None:
    tree = SPEC.to_tree()
    tree["params"]["train"] |= {"lr": 0.7, "epochs": 11}
    tree["params"]["study"] |= {"trials": 1000, "sampler": "random"}
    tree["params"]["tracking"]["experiment"] = "other"
    told = differences(SPEC, Spec.of(tree), frozenset({"train.lr"}))
    assert told == [
        "study.sampler: tpe in the study, random asked for",
        "train.epochs: 10 in the study, 11 asked for",
    ]


@given(
    st.recursive(
        st.integers() | st.text(max_size=3),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
        max_leaves=10,
    )
)
def test_flattening_loses_no_leaf(tree) -> None:
    def leaves(node):
        children = list(node.values()) if isinstance(node, dict) else node if isinstance(node, list) else []
        return sum(map(leaves, children)) if children else 1

    assert len(flat({"x": tree})) == leaves(tree)

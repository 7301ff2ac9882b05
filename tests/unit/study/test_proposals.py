import copy
import json
import math
from itertools import islice
from typing import get_args, get_type_hints

import optuna
import pytest
from histories import REST
from hypothesis import given
from hypothesis import strategies as st

from pipeline.config import Study, parse, to_tree
from study.engine.proposals import Proposal, Proposer, trial_seed
from study.engine.samplers import grid_order
from study.space.checks import check
from study.space.keys import SpaceError
from study.space.reading import resolve
from study.space.space import Space
from study.state.history import History, Run, fold
from study.state.spec import Spec

SAMPLERS = get_args(get_type_hints(Study)["sampler"])
CONDITIONAL = {  # two numbers that all points have, a condition, a list, and a combination that is impossible
    "train.lr": {"low": 1e-4, "high": 1e-1, "log": True},
    "model.dropout": {"low": 0.0, "high": 0.5},
    "train.optimizer": {"choices": ["adam", "sgd"], "when": {"sgd": {"train.momentum": {"low": 0.0, "high": 0.9}}}},
    "model.dense": {"repeat": {"low": 1, "high": 2}, "each": {"out": {"low": 4, "high": 64, "log": True}}},
}
TROUBLE = {  # half of its points cannot be built
    "model.conv": {"repeat": 1, "each": {"out": 4, "padding": 0, "kernel": {"choices": [3, 99]}}},
    "train.lr": {"low": 1e-4, "high": 1e-1, "log": True},
}


class Story:
    """A study as its ledger tells it, and a proposer that is told of every event, as the coordinator does."""

    def __init__(self, parameters=CONDITIONAL, epochs=9, **study):
        params = parse({"study": {"pruner": "none", **study}, "train": {"epochs": epochs}})
        tree = {"description": "", "parameters": resolve(parameters, lambda name: {})}
        self.space = Space.of("told", tree)
        spec = Spec("tale", "told", tree, params, "f" * 32)
        lineage = {"dataset": {"shape": [1, 28, 28], "classes": [str(digit) for digit in range(10)]}}
        self.events = [{"kind": "created", "time": 0, "spec": spec.to_tree(), "lineage": lineage}]
        self.history = self.folded()
        self.proposer = self.restarted()

    def folded(self) -> History:
        return fold(copy.deepcopy(self.events))

    def restarted(self) -> Proposer:
        history = self.folded()
        return Proposer(history.spec, self.space, history)

    def record(self, kind, run, **content) -> Run:
        event = {"kind": kind, "time": len(self.events), "run": run, **content}
        self.events.append(event)
        self.history.apply(copy.deepcopy(event))
        return self.history.runs[run]

    def propose(self) -> Proposal | None:
        proposal = self.proposer.propose()
        if proposal is not None:
            content = json.loads(json.dumps({name: value for name, value in vars(proposal).items() if name != "problem"}))
            self.record("asked", str(proposal.trial), phase="search", **content)
            if proposal.problem:
                self.end(proposal.trial, "PRUNED", cause="impossible", reason=proposal.problem)
        return proposal

    def train(self, trial, accuracies, losses=None) -> Run:
        """Some epochs more of a trial."""
        run = self.record("started", str(trial), slot="cpu 0", epoch=0, until=9)
        for accuracy, loss in zip(accuracies, losses or [1 - accuracy for accuracy in accuracies], strict=True):
            epoch = {
                "epoch": len(run.epochs) + 1,
                **REST,
                "validation_accuracy": accuracy,
                "validation_loss": loss,
                "seconds": 1.0,
            }
            run = self.record("epoch", str(trial), epoch=epoch)
            self.proposer.tell(run)
        return run

    def pause(self, trial, why="rung 1"):
        self.proposer.tell(self.record("paused", str(trial), epoch=1, why=why))

    def end(self, trial, state, values=None, cause=None, reason=None):
        self.proposer.tell(self.record("ended", str(trial), state=state, values=values, cause=cause, reason=reason))

    def complete(self, proposal):
        """A whole training with the quality that ``goodness`` gives the point."""
        values = [goodness(proposal.params), *([float(proposal.parameters)] if len(self.objectives) > 1 else [])]
        self.train(proposal.trial, [values[0] * (0.8 + 0.02 * epoch) for epoch in range(9)] + [values[0]])
        self.end(proposal.trial, "COMPLETE", values)

    @property
    def objectives(self):
        return self.history.spec.study.objectives


def goodness(params) -> float:
    """Best at lr 0.01 and no dropout."""
    own = {name.rpartition(":")[2]: value for name, value in params.items()}
    return 1 - 0.1 * (math.log10(own["train.lr"]) + 2) ** 2 - own.get("model.dropout", 0)


def mixed(story: Story, trials: int) -> None:
    """A study in the middle of its work: trials that ended in every way there is, one paused, one that runs."""
    for _ in range(trials):
        proposal = story.propose()
        if proposal.problem:
            continue
        match proposal.trial % 6:
            case 0 | 1 | 2:
                story.complete(proposal)
            case 3:
                story.train(proposal.trial, [0.5])
                story.pause(proposal.trial)
            case 4 if len(story.objectives) == 1:
                story.train(proposal.trial, [0.3, 0.4])
                story.end(proposal.trial, "PRUNED", cause="median", reason="worse")
            case 4:
                story.end(proposal.trial, "FAIL", cause="exception", reason="a bug")
            case 5:
                story.train(proposal.trial, [0.2])
                story.end(proposal.trial, "FAIL", cause="diverged", reason="nan")
    story.train(story.propose().trial, [0.6])


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_whatever_the_sampler_a_study_that_is_interrupted_goes_on_with_the_proposals_it_would_have_made(sampler, capfd):
    story = Story(sampler=sampler, seed=7)
    mixed(story, 23 if sampler != "gp" else 11)  # a proposal of gp takes a second, once it has seen ten trials
    resumed = story.restarted()
    for _ in range(2):  # the second depends on the first, which runs
        proposal = story.propose()
        assert resumed.propose() == proposal
    assert proposal.trial == len(story.history.trials) - 1
    assert proposal.params.keys() == story.space.distributions(proposal.params).keys()
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("sampler", [name for name in SAMPLERS if name != "cmaes"])
def test_whatever_the_sampler_several_objectives_are_searched_and_resumed(sampler):
    story = Story(sampler=sampler, objectives=["accuracy", "parameters"])
    mixed(story, 19 if sampler != "gp" else 12)
    assert story.restarted().propose() == story.propose()


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_whatever_the_sampler_another_seed_gives_another_study(sampler):
    one, same, other = (Story(sampler=sampler, seed=seed) for seed in (1, 1, 2))
    first = [story.propose().params for story in (one, same, other)]
    assert first[0] == first[1] != first[2]


@pytest.mark.parametrize("sampler", ["tpe", "gp", "cmaes", "nsga2", "nsga3"])
def test_whatever_the_sampler_that_learns_it_learns(sampler):
    story = Story(sampler=sampler)
    found = []
    for _ in range(16 if sampler == "gp" else 100):
        proposal = story.propose()
        found.append(goodness(proposal.params))
        story.complete(proposal)
    part = len(found) // 4
    assert sum(found[-part:]) / part > sum(found[:part]) / part + 0.05


def test_the_shipped_spaces_are_searched_by_the_default_sampler_from_first_to_last():
    for name in ("mlp", "cnn", "all"):
        story = Story(Space.load(name).tree["parameters"], sampler="tpe")
        mixed(story, 25)
        assert story.restarted().propose() == story.propose()


def test_a_proposal_is_a_complete_configuration_with_a_seed_of_its_own():
    story = Story()
    proposal = story.propose()
    params = parse(proposal.config)
    assert proposal.config == {"model": to_tree(params.model), "train": to_tree(params.train)}
    assert params.train.lr == proposal.params["train.lr"]
    assert proposal.seed == params.train.seed == trial_seed(0, 0) != trial_seed(0, 1) != trial_seed(1, 0)
    assert (proposal.trial, proposal.origin, proposal.replicate, proposal.problem) == (0, "sampler", 0, None)
    assert proposal.parameters > proposal.multiply_adds > 0
    assert all(
        optuna.distributions.json_to_distribution(text) == story.space.parameters[name]
        for name, text in proposal.distributions.items()
    )


@given(seed=st.integers(0, 2**63 - 1), trial=st.integers(0, 10**6))
def test_every_seed_is_one_that_the_configuration_takes(seed, trial):
    assert 0 <= trial_seed(seed, trial) < 2**63


def test_a_point_that_comes_again_is_a_replicate_on_another_seed():
    story = Story({"train.optimizer": {"choices": ["adam", "sgd"]}}, sampler="random")
    proposals = [story.propose() for _ in range(6)]
    for proposal in proposals:
        earlier = [other for other in proposals[: proposal.trial] if other.params == proposal.params]
        assert proposal.replicate == len(earlier)
        assert proposal.origin == ("replicate" if earlier else "sampler")
        assert all(other.group == proposal.group and other.seed != proposal.seed for other in earlier)
    assert len({proposal.group for proposal in proposals}) == 2
    assert story.restarted().propose().replicate > 0


def test_known_points_go_first_and_keep_their_origin():
    story = Story()
    known = {"train.lr": 0.01, "model.dropout": 0.1, "train.optimizer": "adam", "model.dense": 1, "model.dense[0].out": 32}
    story.proposer.enqueue(known, "params.yaml")
    proposal = story.propose()
    assert (proposal.params, proposal.origin, proposal.trial) == (known, "params.yaml", 0)
    assert story.propose().origin == "sampler"
    with pytest.raises(SpaceError, match=r"train.lr: 5.0 lies outside"):
        story.proposer.enqueue(known | {"train.lr": 5.0}, "params.yaml")


def test_the_grid_is_tried_once_in_an_order_of_the_seed_whatever_interrupts():
    parameters = {"train.lr": {"low": 1e-4, "high": 1e-1, "log": True}, "train.batch_size": {"choices": [32, 64]}}
    orders = []
    for seed in (0, 1):
        story = Story(parameters, sampler="grid", seed=seed)
        seen = []
        while proposal := story.propose():
            seen.append(proposal.params)
            if len(seen) == 3:
                story.proposer = story.restarted()
        assert sorted(map(str, seen)) == sorted(map(str, story.space.points()))
        assert story.restarted().propose() is None
        orders.append(seen)
    assert orders[0] != orders[1]


def test_a_grid_study_whose_points_came_in_another_order_goes_on_with_those_that_are_left():
    parameters = {"train.lr": {"low": 1e-4, "high": 1e-1, "log": True}, "train.batch_size": {"choices": [32, 64]}}
    story = Story(parameters, sampler="grid")
    for params in list(story.space.points())[1:4]:
        story.proposer.enqueue(params, "an earlier version")
        story.propose()
    story.proposer = story.restarted()
    while story.propose():
        pass
    assert sorted(str(run.params) for run in story.history.trials) == sorted(map(str, story.space.points()))


@given(size=st.integers(1, 300), seed=st.integers(0, 2**63 - 1))
def test_the_order_of_a_grid_has_every_index_once(size, seed):
    order = list(grid_order(size, seed))
    assert sorted(order) == list(range(size))
    assert order == list(grid_order(size, seed))


def test_a_grid_that_no_memory_holds_has_an_order_too():
    first, again = (list(islice(grid_order(10**40, 0), 100)) for _ in range(2))
    assert first == again
    assert len(set(first)) == 100
    assert max(first) < 10**40


def test_an_impossible_combination_is_proposed_with_its_reason_and_tpe_learns_to_avoid_it():
    story = Story(TROUBLE, sampler="tpe")
    proposals = []
    for _ in range(60):
        proposals.append(story.propose())
        if proposals[-1].problem is None:
            story.complete(proposals[-1])
    bad = [proposal for proposal in proposals if proposal.problem]
    assert bad[0].problem == "conv1: 99×99 kernel does not fit a 28×28 input"
    assert (bad[0].parameters, bad[0].multiply_adds) == (0, 0)
    assert sum(proposal.trial >= 30 for proposal in bad) <= 6


@pytest.mark.parametrize("sampler", [name for name in SAMPLERS if name not in ("grid", "qmc")])
def test_networks_above_the_limit_are_drawn_again_also_after_an_interruption(sampler):
    story = Story(sampler=sampler, max_parameters=20_000, seed=3)  # half of the points are above it
    mixed(story, 9)
    assert all(run.parameters <= 20_000 for run in story.history.trials)
    assert story.restarted().propose() == story.propose()


@pytest.mark.parametrize("sampler", ["grid", "qmc"])
def test_points_of_a_fixed_list_above_the_limit_are_pruned_with_their_sizes(sampler):
    story = Story(sampler=sampler, max_parameters=20_000)
    found = [story.propose() for _ in range(20)]
    assert {proposal.problem is None for proposal in found} == {True, False}
    assert all((proposal.problem is None) == (proposal.parameters <= 20_000) for proposal in found)
    large = next(proposal for proposal in found if proposal.problem)
    assert large.problem == f"{large.parameters:,} parameters, and study.max_parameters is 20,000"


def test_a_limit_that_no_point_of_the_space_keeps_is_refused_before_anything_starts():
    space = Story().space
    with pytest.raises(SpaceError, match=r"none of 300 random points can be trained; .* and study\.max_parameters is 100$"):
        check(space, parse({"study": {"max_parameters": 100, "pruner": "none"}}), (1, 28, 28), 10)


def test_a_trial_is_shown_as_what_a_sampler_should_make_of_it():
    story = Story(pruner="asha")
    for _ in range(9):
        story.propose()
    for trial in range(6):
        story.train(trial, [0.5, 0.7])
    story.pause(0, "rung 2")
    story.pause(1, "interrupted")
    story.end(2, "COMPLETE", [0.7])
    story.end(3, "FAIL", cause="diverged", reason="nan")
    story.end(4, "FAIL", cause="memory", reason="too large")
    story.end(5, "FAIL", cause="exception", reason="a bug")
    story.end(6, "PRUNED", cause="asha", reason="not promoted")
    story.record("lost", "7", why="signal 9")
    story.end(7, "FAIL", cause="died", reason="its worker died three times")
    names = ["PRUNED", "RUNNING", "COMPLETE", "PRUNED", "PRUNED", "FAIL", "PRUNED", "FAIL", "RUNNING"]
    for proposer in (story.proposer, story.restarted()):
        assert [trial.state.name for trial in proposer.trials] == names
        assert [trial.intermediate_values for trial in proposer.trials][:4] == [{1: 0.5, 2: 0.7}] * 3 + [{}]
        assert proposer.trials[2].values == [0.7]
    story.train(0, [0.8])  # promoted
    assert story.proposer.trials[0].state.name == "RUNNING"
    story.end(0, "COMPLETE", [0.8])
    assert story.proposer.trials[0].state.name == "COMPLETE"


@pytest.mark.parametrize(
    ("objective", "keep", "expected"),
    [
        ("accuracy", "best", [0.5, 0.7, 0.7]),
        ("accuracy", "last", [0.5, 0.7, 0.9]),
        ("loss", "best", [1.0, 0.5, 0.5]),
    ],
)
def test_the_value_so_far_is_that_of_the_weights_that_would_be_kept(objective, keep, expected):
    story = Story({"train.lr": {"low": 1e-4, "high": 1e-1}, "train.keep": keep}, objectives=[objective])
    story.propose()
    story.train(0, [0.5, 0.7, 0.9], losses=[1.0, 0.5, 0.8])
    assert list(story.proposer.trials[0].intermediate_values.values()) == expected


def test_the_median_pruner_gives_up_a_bad_trial_but_not_before_its_first_rung_is_over():
    story = Story(pruner="median", first_rung=2)
    for _ in range(5):
        story.complete(story.propose())
    bad, good = story.propose().trial, story.propose().trial
    decisions = [story.proposer.should_prune(story.train(bad, [0.01])) for _ in range(3)]
    assert decisions == [False, False, True]
    assert story.restarted().should_prune(story.history.runs[str(bad)])
    assert not any(story.proposer.should_prune(story.train(good, [1.0])) for _ in range(4))


@pytest.mark.parametrize("pruner", ["none", "asha"])
def test_without_a_pruner_of_optuna_no_trial_is_given_up_here(pruner):
    story = Story(pruner=pruner)
    for _ in range(6):
        story.complete(story.propose())
    assert not any(story.proposer.should_prune(story.train(story.propose().trial, [0.0])) for _ in range(4))


def test_hyperband_decides_after_an_interruption_as_it_would_have_without():
    story = Story(pruner="hyperband", sampler="random", epochs=9)
    decisions = []
    for number in range(24):
        proposal, quality = story.propose(), (number * 7 % 24) / 24
        resumed = story.restarted()
        for epoch in range(9):
            run = story.train(proposal.trial, [quality + epoch / 100])
            resumed.tell(run)
            decisions.append(story.proposer.should_prune(run))
            assert resumed.should_prune(run) == decisions[-1]
            if decisions[-1]:
                story.end(proposal.trial, "PRUNED", cause="hyperband", reason="worse")
                break
        else:
            story.end(proposal.trial, "COMPLETE", [quality])
    assert 5 < sum(decisions) < 24


def test_wilcoxon_gives_up_a_trial_that_is_worse_epoch_by_epoch():
    story = Story(pruner="wilcoxon")
    proposal = story.propose()
    story.train(proposal.trial, [0.9, 0.91, 0.92, 0.93, 0.94, 0.95, 0.96, 0.97, 0.98])
    story.end(proposal.trial, "COMPLETE", [0.98])
    trial = story.propose().trial
    decisions = [story.proposer.should_prune(story.train(trial, [0.1 + epoch / 100])) for epoch in range(8)]
    assert not decisions[0]
    assert decisions[-1]


def test_samplers_that_know_completed_trials_alone_learn_from_stopped_ones_too():
    story = Story(sampler="cmaes", pruner="asha")
    for _ in range(60):
        proposal = story.propose()
        story.train(proposal.trial, [goodness(proposal.params)])
        story.pause(proposal.trial)
    found = [goodness(run.params) for run in story.history.trials]
    assert sum(found[-15:]) > sum(found[:15]) + 1
    assert {trial.state.name for trial in story.proposer.trials} == {"PRUNED"}


def test_telling_the_same_again_changes_nothing():
    told, again = Story(seed=3), Story(seed=3)
    for story in (told, again):
        mixed(story, 14)
    for run in again.history.trials:
        again.proposer.tell(run)
    assert told.propose() == again.propose()

"""Claims of an ablation: how they are read, and what trainings make of them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.evaluation.statistics import paired_difference, trend
from study.experiments.ablation.claims import Beats, Claim, Judgement, Ties, Trend, judge, parse, settle
from study.state.errors import UsageError

FACTORS = {
    "train.batch_size": [40, 80, 100, 120, 150],
    "model.batch_norm": [True, False],
    "model.dropout": [0.3, 0.0, 0.5],
    "train.epochs": ["5", "10"],  # labels serve as values do
    "model.activation": ["relu", "leaky_relu", None],
    "hidden layers": ["128-64", "128-64-32"],
}
BEATS = Beats("b: 1 beats 2", "b", (1, 2))
TIES = Ties("b: 1 ties 2", "b", (1, 2), 0.005)
FALLS = Trend("accuracy falls as b rises", "b", (1, 2, 3), "accuracy", rises=False)


@pytest.mark.parametrize(
    ("text", "claim"),
    [
        ("train.batch_size: 40 beats 120", Beats("", "train.batch_size", (40, 120))),
        ("train.batch_size:  4e1   beats 120.0 ", Beats("", "train.batch_size", (40, 120))),
        ("model.batch_norm: true beats false", Beats("", "model.batch_norm", (True, False))),
        ("model.activation: null beats 'relu'", Beats("", "model.activation", (None, "relu"))),
        ("hidden layers: 128-64-32 beats 128-64", Beats("", "hidden layers", ("128-64-32", "128-64"))),
        ("train.epochs: 10 ties 5", Ties("", "train.epochs", ("10", "5"), 0.005)),
        ("train.epochs: 10 ties 5 within 0.2 points", Ties("", "train.epochs", ("10", "5"), 0.002)),
        ("train.epochs: 10 ties 5 within 1 point", Ties("", "train.epochs", ("10", "5"), 0.01)),
        ("accuracy falls as model.dropout rises", Trend("", "model.dropout", (0.0, 0.3, 0.5), "accuracy", False)),
        ("loss rises as train.epochs rises", Trend("", "train.epochs", ("5", "10"), "loss", True)),
    ],
)
def test_a_claim_is_read_as_it_is_written(text: str, claim: Claim) -> None:
    read = parse(text, FACTORS)
    assert read.text == " ".join(text.split())
    assert vars(read) | {"text": ""} == vars(claim)
    assert type(read) is type(claim)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("40 is better", "claim '40 is better': must have one of the forms 'FACTOR: A beats B', 'FACTOR: A ties B within 0.5"),
        ("accuracy falls as train.batch_size falls", "must have one of the forms"),
        ("train.batchsize: 40 beats 80", "train.batchsize is no factor of this ablation; did you mean train.batch_size?"),
        ("batch_norm: true beats false", "batch_norm is no factor of this ablation; did you mean model.batch_norm?"),
        ("loss falls as x rises", "x is no factor of this ablation; valid here: train.batch_size, model.batch_norm, "),
        ("train.batch_size: 41 beats 80", "train.batch_size has no value 41; did you mean 40?"),
        ("model.batch_norm: 1 beats false", "model.batch_norm has no value 1; valid here: true, false"),
        ("model.batch_norm: True beats false", "model.batch_norm has no value True; did you mean true?"),
        ("train.batch_size: 40 beats 40.0", "must compare two values that differ, got 40 twice"),
        ("train.epochs: 10 beats 5 within 1 point", "only ties takes a margin; leave out 'within 1 point'"),
        ("train.epochs: 10 ties 5 within 0 points", r"a margin must be in \(0, 100\) points, got 0 points; write it like"),
        ("train.epochs: 10 ties 5 within a hair", "got a hair; write it like 'within 0.5 points'"),
        (
            "accuracy rises as model.activation rises",
            "needs 2 or more numbers, but model.activation has relu, leaky_relu, null; use",
        ),
        ("accuracy rises as model.batch_norm rises", "needs 2 or more numbers, but model.batch_norm has true, false; use"),
    ],
)
def test_what_is_no_claim_is_refused_in_a_line_that_says_what_would_be_one(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        parse(text, FACTORS)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(f"claim '{text}': ")


@pytest.mark.parametrize(
    ("claim", "values", "verdict"),
    [
        (BEATS, {1: [0.98, 0.97, 0.98], 2: [0.96, 0.95, 0.961]}, "supported"),
        (BEATS, {1: [0.96, 0.95, 0.961], 2: [0.98, 0.97, 0.98]}, "refuted"),
        (BEATS, {1: [0.98, 0.97, 0.96], 2: [0.96, 0.98, 0.95]}, "undecided"),
        (BEATS, {1: [0.98, 0.97], 2: [0.98, 0.97]}, "undecided"),
        (TIES, {1: [0.98, 0.97, 0.96, 0.97], 2: [0.981, 0.969, 0.961, 0.97]}, "supported"),
        (TIES, {1: [0.98, 0.97, 0.98], 2: [0.96, 0.95, 0.961]}, "refuted"),
        (TIES, {1: [0.98, 0.97, 0.96], 2: [0.96, 0.98, 0.95]}, "undecided"),
        # a difference that is certain, and smaller than the margin, is a tie; one that is certain and near it is neither
        (TIES, {1: [0.98, 0.97, 0.96, 0.95], 2: [0.979, 0.969, 0.9589, 0.949]}, "supported"),
        (TIES, {1: [0.98, 0.97, 0.96], 2: [0.975, 0.964, 0.955]}, "undecided"),
        (FALLS, {1: [0.98, 0.97, 0.98], 2: [0.97, 0.961, 0.97], 3: [0.96, 0.949, 0.96]}, "supported"),
        (FALLS, {3: [0.98, 0.97, 0.98], 2: [0.97, 0.961, 0.97], 1: [0.96, 0.949, 0.96]}, "refuted"),
        (FALLS, {1: [0.98, 0.95, 0.98], 2: [0.97, 0.98, 0.96], 3: [0.98, 0.96, 0.97]}, "undecided"),
    ],
)
def test_trainings_support_a_claim_refute_it_or_leave_it_open(claim: Claim, values: dict[int, list[float]], verdict: str) -> None:
    judgement = judge(claim, values, 0)
    assert judgement.verdict == verdict
    assert judgement.n == len(values[1])
    assert (judgement.needed is None) or verdict == "undecided"


def test_evidence_is_a_sentence_with_its_numbers() -> None:
    values = {1: [0.98, 0.97, 0.98], 2: [0.97, 0.961, 0.97], 3: [0.96, 0.949, 0.96]}
    assert judge(BEATS, values, 1e-4).evidence == (
        "1 against 2: +0.97 points of accuracy (95 % interval +0.82 to +1.11, p = 0.0012, n = 3 seeds)."
    )
    assert judge(TIES, values, 1e-4).evidence == (
        "1 against 2: +0.97 points of accuracy, margin ±0.5 (95 % interval +0.82 to +1.11, for a difference "
        "beyond the margin p = 0.0051, n = 3 seeds)."
    )
    assert judge(TIES, {1: [0.98, 0.97], 2: [0.98, 0.97]}, 1e-4).evidence == (
        "1 against 2: +0.00 points of accuracy, margin ±0.5 (90 % interval \u22120.02 to +0.02, "
        "for a difference within the margin p = 0.0018, n = 2 seeds)."
    )
    assert judge(FALLS, values, 1e-4).evidence == (
        "Mean accuracy 97.67% at 1, 95.63% at 3: \u22121.02 points from one of 3 values to the next "
        "(95 % interval \u22121.09 to \u22120.94, p < 0.001, n = 3 seeds)."
    )
    losses = Trend("loss rises as b rises", "b", (1, 2), "loss", rises=True)
    assert judge(losses, {1: [0.05, 0.06, 0.05], 2: [0.07, 0.08, 0.075]}, 0).evidence == (
        "Mean loss 0.0533 at 1, 0.0750 at 2: +0.0217 from one of 2 values to the next "
        "(95 % interval +0.0145 to +0.0288, p = 0.0059, n = 3 seeds)."
    )


def test_a_seed_that_failed_anywhere_counts_nowhere() -> None:
    values = {1: [0.98, None, 0.97, 0.98], 2: [0.97, 0.5, 0.961, 0.97], 3: [0.96, 0.5, None, 0.96]}
    assert judge(BEATS, values, 0).n == 3
    assert judge(BEATS, values, 0).effect == pytest.approx(paired_difference([0.98, 0.97, 0.98], [0.97, 0.961, 0.97]).value)
    assert judge(FALLS, values, 0).effect == pytest.approx(trend([[0.98, 0.97, 0.96], [0.98, 0.97, 0.96]]).value)


def test_one_seed_decides_nothing_and_says_so() -> None:
    judgement = judge(FALLS, {1: [0.9, 0.9], 2: [0.8, None], 3: [0.7, 0.7]}, 0.001)
    assert (judgement.verdict, judgement.n, judgement.p_value, judgement.needed) == ("undecided", 1, None, None)
    assert judgement.evidence == "1 of 2 seeds finished at all of 1, 2, 3: a test needs 2."
    assert judgement.outcome == "undecided at n = 1: it takes 2 seeds at least"


def test_an_undecided_claim_says_how_many_seeds_would_decide_it() -> None:
    open_ = judge(BEATS, {1: [0.98, 0.97, 0.96], 2: [0.96, 0.98, 0.95]}, 0)
    # mean 0.0067, standard deviation 0.0153 of a difference: 0.436 of it, 44 pairs at 80 %
    assert open_.outcome == "undecided at n = 3: if the truth is as measured, 44 seeds would decide it with 80 % power"
    none = judge(BEATS, {1: [0.98, 0.97], 2: [0.97, 0.98]}, 0)
    assert none.outcome == "undecided at n = 2: if the truth is as measured, not even 1,000 seeds would decide it with 80 % power"
    assert judge(BEATS, {1: [0.98, 0.97, 0.98], 2: [0.96, 0.95, 0.961]}, 0).outcome == "supported"


@given(
    st.sampled_from([BEATS, TIES, FALLS]),
    st.lists(st.tuples(*[st.integers(900, 999).map(lambda right: right / 1000)] * 3), min_size=2, max_size=6),
    st.integers(1, 5),
)
def test_the_seeds_that_would_decide_an_undecided_claim_are_more_than_it_had(
    claim: Claim, rows: list[tuple[float, ...]], others: int
) -> None:
    one, *_ = settle([judge(claim, dict(zip((1, 2, 3), zip(*rows, strict=True), strict=True)), 1 / 1000)] * others)
    assert one.p_holm is not None
    if one.verdict == "undecided":
        assert one.p_holm >= 0.05 or one.leaning == "undecided"
        assert one.needed is None or one.needed > one.n
    else:
        assert one.p_holm < 0.05


def test_claims_that_were_made_together_are_corrected_together() -> None:
    clear = judge(BEATS, {1: [0.98, 0.97, 0.98], 2: [0.96, 0.95, 0.961]}, 0)  # p 0.0003
    barely = judge(BEATS, {1: [0.98, 0.97, 0.985, 0.968], 2: [0.96, 0.96, 0.96, 0.96]}, 0)
    alone = judge(BEATS, {1: [0.98], 2: [0.97]}, 0)
    assert 0.025 < (barely.p_value or 0) < 0.05
    assert barely.verdict == "supported"
    settled = settle([barely, clear, alone])
    assert [item.verdict for item in settled] == ["undecided", "supported", "undecided"]
    assert [item.p_holm for item in settled] == [
        pytest.approx(2 * (barely.p_value or 0)),
        pytest.approx(3 * (clear.p_value or 0)),
        None,
    ]
    assert settled[0].needed is not None
    assert settle([barely])[0].verdict == "supported"
    assert settle([]) == []


def decided(judgements: list[Judgement]) -> float:
    return float(np.mean([judgement.verdict != "undecided" for judgement in judgements]))


def test_where_there_is_no_effect_a_claim_is_decided_no_more_often_than_it_may_be() -> None:
    rng = np.random.default_rng(0)
    samples = 0.97 + rng.normal(0, 0.01, (800, 1, 5)) + rng.normal(0, 0.003, (800, 3, 5))  # seeds have luck of their own
    tables = [dict(zip((1, 2, 3), rows.tolist(), strict=True)) for rows in samples]
    beats, falls = ([judge(claim, values, 0) for values in tables] for claim in (BEATS, FALLS))
    assert decided(beats) == pytest.approx(0.05, abs=0.023)  # three standard errors of 800
    assert decided(falls) == pytest.approx(0.05, abs=0.023)
    families = [settle(family) for family in zip(beats, falls, strict=True)]
    assert np.mean([decided(family) > 0 for family in families]) < 0.05 + 0.023


def test_settings_that_differ_by_more_than_the_margin_tie_no_more_often_than_they_may() -> None:
    rng = np.random.default_rng(1)
    samples = rng.normal([[0.97], [0.965]], 0.002, (800, 2, 5))
    verdicts = [judge(TIES, dict(zip((1, 2), rows.tolist(), strict=True)), 0).verdict for rows in samples]
    assert verdicts.count("supported") / 800 < 0.05 + 0.023
    assert verdicts.count("refuted") / 800 < 0.025 + 0.017  # of the 5 % two-sided one half lies on this side

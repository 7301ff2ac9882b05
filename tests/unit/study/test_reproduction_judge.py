"""Reported figures beside ours: what a verdict rests on, and what is said of the sources."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest
import reproductions
from hypothesis import given
from hypothesis import strategies as st

from pipeline.evaluation import health
from pipeline.evaluation.statistics import Proportion, prediction_interval
from pipeline.verdict import Verdict
from study.experiments.reproduction import recipe, sources
from study.experiments.reproduction.figure import Figure
from study.experiments.reproduction.judge import RecipeResult, judge
from study.experiments.reproduction.measure import compare, ours
from study.experiments.reproduction.recipe import Recipe, RecipeRow


@pytest.fixture(scope="module")
def recipes() -> Mapping[str, Recipe]:
    return {name: recipe.load(name) for name in recipe.names()}


def judged(recipes: Mapping[str, Recipe], name: str, seeds: int = 3, **changes: float) -> RecipeResult:
    """A source trained as it is printed; ``changes``: test accuracies of rows by name with _ for -, None for one that fails."""
    near = reproductions.near()

    def score(row: RecipeRow, seed: int) -> Mapping[str, float] | None:
        wanted = changes.get(row.name.replace("-", "_"), near(row, seed)["test_accuracy"])
        return None if wanted is None else {**near(row, seed), "test_accuracy": wanted + 0.0005 * (seed % 3 - 1)}

    return judge(recipes[name], reproductions.told(recipes[name], score, seeds))


@pytest.mark.parametrize(
    ("name", "reported", "values", "images", "verdict"),
    [
        ("test_accuracy", "98.00 %", (0.979, 0.980, 0.981), 10_000, "reproduced"),
        ("test_accuracy", "97.00 %", (0.979, 0.980, 0.981), 10_000, "better"),
        ("test_accuracy", "99.00 %", (0.979, 0.980, 0.981), 10_000, "worse"),
        ("test_accuracy", "98 %", (0.9840, 0.9841, 0.9842), 10_000, "reproduced"),  # printed in whole percents, 98.4 rounds to it
        ("test_accuracy", "98.00 %", (0.9840, 0.9841, 0.9842), 10_000, "better"),
        ("train_loss", "0.0500", (0.02, 0.021, 0.022), None, "better"),  # less is better
        ("train_loss", "0.0100", (0.02, 0.021, 0.022), None, "worse"),
        ("validation_loss", "0.0200", (0.02, 0.021, 0.022), None, "reproduced"),
        ("epochs_run", "10", (10, 10, 10), None, "reproduced"),
        ("epochs_run", "6", (10, 10, 10), None, "not comparable"),  # neither more nor less is better
        ("test_accuracy", "98.10 %", (0.980,), 10_000, "reproduced"),  # one seed: 10 images of 10,000 are chance
        ("test_accuracy", "97.00 %", (0.980,), 10_000, "better"),
        ("test_accuracy", "99.00 %", (0.980,), 10_000, "worse"),
        ("test_accuracy", "97.00 %", (0.980,), 300, "reproduced"),  # but of 300 a point is, too
        ("train_loss", "0.0500", (0.02,), None, "not comparable"),
        ("test_f1_weighted", "0.9800", (1.0, 1.0, 1.0), 10_000, "better"),
    ],
)
def test_the_verdict_is_that_of_the_interval_of_a_single_training(
    name: str, reported: str, values: tuple[float, ...], images: int | None, verdict: str
) -> None:
    assert compare(name, Figure.of(name, reported), ours(name, values, images), images)[0] == verdict


def test_one_seed_says_that_it_knows_the_chance_of_the_images_only() -> None:
    figure, found = Figure.of("test_accuracy", "98.10 %"), ours("test_accuracy", [0.98], 10_000)
    assert compare("test_accuracy", figure, found, 10_000)[1] == "1 seed: chance of the 10,000 images only"
    assert compare("train_loss", Figure.of("train_loss", "0.05"), ours("train_loss", [0.02], None), None)[1].startswith(
        "one seed"
    )


@given(st.lists(st.integers(0, 10_000), min_size=2, max_size=6), st.integers(0, 10_000))
def test_a_share_is_reproduced_exactly_where_the_interval_holds_it_and_else_on_the_side_where_ours_is(
    right: list[int], printed: int
) -> None:
    values = [count / 10_000 for count in right]
    figure = Figure(f"{printed / 100:.2f} %", printed / 10_000, 0.5e-4, "%")
    verdict, _ = compare("test_accuracy", figure, ours("test_accuracy", values, 10_000), 10_000)
    low, high = prediction_interval(values, 1e-4)
    overlaps = max(low, 0) <= figure.value + figure.half_unit and figure.value - figure.half_unit <= min(high, 1)
    assert verdict == ("reproduced" if overlaps else "better" if np.mean(values) > figure.value else "worse")


@given(st.lists(st.floats(0, 1), min_size=1, max_size=6))
def test_intervals_of_shares_lie_within_0_and_1_around_their_mean(values: list[float]) -> None:
    found = ours("validation_accuracy", values, 6000)
    assert found.low is not None
    assert found.high is not None
    assert 0 <= found.low <= found.value + 1e-4
    assert found.value - 1e-4 <= found.high <= 1
    if found.prediction:
        assert found.prediction[0] <= found.low + 1e-12
        assert found.high <= found.prediction[1] + 1e-12


def test_a_row_is_judged_by_test_then_by_validation_then_by_what_can_be_compared(recipes: Mapping[str, Recipe]) -> None:
    assert {row.decisive for row in judged(recipes, "001").rows} == {"test_accuracy"}
    of_004 = {row.row.name: row for row in judged(recipes, "004").rows}
    assert of_004["mlp-192"].decisive == "validation_accuracy"  # its test column is broken
    assert of_004["mlp-step"].decisive == "train_accuracy"
    assert of_004["mlp-deep"].verdict == "not comparable"
    assert of_004["mlp-deep"].basis == "the source prints no figure of this row"


def test_figures_are_of_the_epoch_that_their_name_says(recipes: Mapping[str, Recipe]) -> None:
    exp1 = judged(recipes, "001", seeds=2).by_name["exp1"]
    values = {figure.name: figure.ours.value for figure in exp1.figures if figure.ours}
    assert values["first_validation_accuracy"] == pytest.approx(0.9308, abs=0.002)
    assert values["validation_accuracy"] == pytest.approx(0.9770, abs=0.002)
    epoch_1 = {figure.name: figure for figure in judged(recipes, "000").by_name["exp1"].figures}["first_test_accuracy"]
    assert epoch_1.ours is not None
    assert epoch_1.ours.value == pytest.approx(0.9896 - 0.01, abs=0.002)
    assert epoch_1.verdict == "reproduced"
    assert values["train_loss"] == pytest.approx(0.0624, abs=0.002)


def test_a_quick_look_compares_nothing_and_every_row_says_why(recipes: Mapping[str, Recipe]) -> None:
    told = reproductions.told(recipes["001"], reproductions.near(), 2, quick=True)
    for row in judge(recipes["001"], told).rows:
        assert row.verdict == "not comparable"
        assert row.basis == row.cut == "10,000 images, 3 epochs instead of all, 10"
        assert all(figure.verdict == "not comparable" for figure in row.figures)
    limited = judge(recipes["001"], reproductions.told(recipes["001"], reproductions.near(), 2, limit=500))
    assert {row.cut for row in limited.rows} == {"500 images, 10 epochs instead of all, 10"}


def test_rows_for_later_are_listed_and_have_no_verdict(recipes: Mapping[str, Recipe]) -> None:
    rows = {row.row.name: row for row in judged(recipes, "003").rows}
    later = {name for name, row in rows.items() if row.row.later}
    assert later == {"photographs", "transfer", "resnet-152"}
    assert all(rows[name].verdict is None and rows[name].basis == rows[name].row.later for name in later)


def test_parameters_are_set_beside_those_printed(recipes: Mapping[str, Recipe]) -> None:
    rows = {row.row.name: row for row in judged(recipes, "000").rows}
    assert [(rows[name].parameters, rows[name].exact) for name in ("exp1", "exp2")] == [(5750, True), (4880, True)]
    assert rows["exp1-padded"].exact is None
    other = replace(recipes["000"], rows=tuple(replace(row, parameters=4711) for row in recipes["000"].rows))
    assert {row.exact for row in judge(other, reproductions.told(other, reproductions.near())).rows} == {False}


def test_trainings_that_fail_are_said_and_those_left_are_judged(recipes: Mapping[str, Recipe]) -> None:
    def score(row: RecipeRow, seed: int) -> Mapping[str, float] | None:
        return None if row.name == "exp1" or (row.name == "exp2" and seed == 0) else reproductions.near()(row, seed)

    rows = {row.row.name: row for row in judge(recipes["001"], reproductions.told(recipes["001"], score)).rows}
    assert rows["exp1"].verdict == "not comparable"
    assert rows["exp1"].basis == "3 trainings failed: the loss was no longer finite in epoch 1"
    assert rows["exp2"].verdict == "reproduced"
    assert rows["exp2"].basis.endswith("; 1 of 3 trainings did not end well")


def test_what_is_not_trained_yet_has_no_verdict(recipes: Mapping[str, Recipe]) -> None:
    result = judge(recipes["001"], None)
    assert [(row.verdict, row.basis) for row in result.rows] == [(None, "not trained to the end yet")] * 4
    assert {figure.ours for row in result.rows for figure in row.figures} == {None}


def said(result: RecipeResult, part: str) -> Verdict:
    found = [verdict for verdict in sources.findings([result]) if part in verdict.title]
    assert len(found) == 1, [verdict.title for verdict in sources.findings([result])]
    return found[0]


def test_the_text_of_000_does_not_fit_its_parameter_count(recipes: Mapping[str, Recipe]) -> None:
    verdict = said(judge(recipes["000"], None), "zero-padding")
    assert verdict.level == "warn"
    assert "144 features), 5,750" in verdict.evidence
    assert "676 features), 11,070" in verdict.evidence
    assert "The printed count is that of experiment 1, ten digits." in verdict.evidence


def test_both_networks_of_000_are_held_against_its_accuracy(recipes: Mapping[str, Recipe]) -> None:
    verdict = said(judged(recipes, "000", exp1=0.982, exp1_padded=0.987), "zero-padding")
    assert "Printed test accuracy: 98.96 %. Ours: experiment 1, ten digits 98.19" in verdict.evidence
    assert "zero-padding keeps the size 98.7" in verdict.evidence
    assert "Ours" not in said(judge(recipes["000"], None), "zero-padding").evidence


def test_a_text_that_fits_its_parameter_count_is_called_good(recipes: Mapping[str, Recipe]) -> None:
    fitting = tuple(replace(row, parameters=11_070 if row.name == "exp1" else None) for row in recipes["000"].rows)
    assert said(judge(replace(recipes["000"], rows=fitting), None), "agree").level == "good"


def test_differences_of_001_are_no_more_than_chance(recipes: Mapping[str, Recipe]) -> None:
    result = judged(recipes, "001", exp1=0.979, exp1_bn=0.983)
    ten, four = said(result, "ten digits"), said(result, "four merged classes")
    assert {ten.level, four.level} == {"warn"}
    assert "0.40 points, which chance alone may explain" in ten.title
    assert "+0.40 points (+0.02 to +0.78" in ten.evidence
    assert "p = 0.042 by Fisher's exact test, p = 0.083 corrected" in ten.evidence
    assert "Ours, paired over 3 seeds: +0.40 points" in ten.evidence


def test_a_difference_that_chance_does_not_explain_is_not_warned_of(recipes: Mapping[str, Recipe]) -> None:
    rows = list(recipes["001"].rows)
    rows[0] = replace(rows[0], reported={**rows[0].reported, "test_accuracy": Figure.of("test_accuracy", "95.00 %")})
    assert said(judge(replace(recipes["001"], rows=tuple(rows)), None), "3.33 points").level == "info"


def test_the_column_before_training_of_003_is_guessing(recipes: Mapping[str, Recipe]) -> None:
    verdict = said(judge(recipes["003"], None), "before training")
    assert verdict.title.endswith("is guessing and says nothing of a setting")
    assert "11 rows print 6 to 13 % before training" in verdict.evidence
    assert "within 9.4 to 10.6 %" in verdict.evidence
    assert "is printed with 10 % and with 7 %" in verdict.evidence
    assert "Ours" not in verdict.evidence
    told = reproductions.told(recipes["003"], lambda row, seed: {"initial_accuracy": 0.08 + 0.02 * seed})
    assert "Ours, of 33 untrained networks: 8.0 to 12.0 %." in said(judge(recipes["003"], told), "before training").evidence


def test_of_the_column_after_training_rounding_and_chance_explain_what_is_a_point_apart(recipes: Mapping[str, Recipe]) -> None:
    verdict = said(judged(recipes, "003", base=0.96, batch_150=0.92), "after training")
    assert "explain 5 of 9" in verdict.title
    told = "do not explain batch 80 −2, batch 100 −2, batch 120 −4, batch 150 −4."
    assert f"{told} Ours, paired over 3 seeds" in verdict.evidence
    assert said(judge(recipes["003"], None), "after training").evidence.endswith(told)


def test_the_test_column_of_004_is_broken_and_three_lost_classes_explain_it(recipes: Mapping[str, Recipe]) -> None:
    result = judged(recipes, "004")
    broken, lost = said(result, "the test column is broken"), said(result, "never recognised")
    assert broken.level == "bad"
    assert "in 21 of 21 rows" in broken.title
    assert "explain 20 of 21 rows" in lost.title
    assert "(10,000 − 980 − 982 − 1,028) / 10,000 = 70.10" in lost.evidence
    assert "87.1" in lost.evidence  # one row lost fewer
    ours_spoilt = said(result, "better than its test column")
    assert "printed is 67.90" in ours_spoilt.evidence


def test_the_test_column_of_004_is_as_its_findings_say_and_those_of_others_are_sound(recipes: Mapping[str, Recipe]) -> None:
    counts, total = reproductions.SHARES, reproductions.TEST
    left = 1 - sum(counts[label] for label in (0, 4, 7)) / total
    for name, source in recipes.items():
        tests, validations = [], []
        for row in source.rows:
            if row.later is None and {"test_accuracy", "validation_accuracy"} <= row.reported.keys():
                images = round(row.params.data.validation * reproductions.TRAIN)
                validations.append(Proportion.of(round(row.reported["validation_accuracy"].value * images), images))
                tests.append(Proportion.of(round(row.reported["test_accuracy"].value * total), total))
        gaps = [health.gap(*pair) for pair in zip(validations, tests, strict=True)]
        broken = [gap for gap in gaps if gap and gap.level == "bad"]
        assert len(broken) == (21 if name == "004" else 0)
        if name == "004":
            ratios = [test.value / whole.value for test, whole in zip(tests, validations, strict=True) if test.value <= left]
            apart = [test.value - whole.value for test, whole in zip(tests, validations, strict=True)]
            numbers = (left, len(ratios), min(ratios), max(ratios), np.median(ratios), min(apart), max(apart))
            assert numbers == pytest.approx((0.701, 20, 0.642, 0.736, 0.729, -0.338, -0.094), abs=0.0005)


@pytest.mark.parametrize(("accuracy", "level", "word"), [(0.1124, "good", "so it is here"), (0.97, "warn", "not so here")])
def test_whether_deep_sigmoids_learn_is_seen_by_their_train_accuracy(
    recipes: Mapping[str, Recipe], accuracy: float, level: str, word: str
) -> None:
    def score(row: RecipeRow, seed: int) -> Mapping[str, float]:
        return {"train_accuracy": accuracy, "first_train_accuracy": accuracy}

    result = judge(recipes["004"], reproductions.told(recipes["004"], score, 2))
    verdict = said(result, "sigmoid layers")
    assert (verdict.level, verdict.title.rpartition(": ")[2]) == (level, word)


def test_one_configuration_with_two_figures_is_pointed_out(recipes: Mapping[str, Recipe]) -> None:
    verdict = said(judge(recipes["004"], None), "two figures")
    assert "95 % and 90 %" in verdict.title


def test_printed_parameter_counts_that_are_missed_are_a_problem(recipes: Mapping[str, Recipe]) -> None:
    every = [judge(recipes[name], None) for name in recipes]
    good = sources.parameter_counts(every)
    assert good is not None
    assert (good.level, good.title) == ("good", "All 5 printed parameter counts are met exactly")
    row = replace(recipes["001"].rows[0], parameters=4471)
    bad = sources.parameter_counts([judge(replace(recipes["001"], rows=(row,), claims=()), None)])
    assert bad is not None
    assert (bad.level, bad.evidence) == ("bad", "001 exp1: printed 4,471, ours 4,470.")


def test_findings_come_worst_first(recipes: Mapping[str, Recipe]) -> None:
    levels = [verdict.level for verdict in sources.findings([judge(recipes[name], None) for name in recipes])]
    assert levels == sorted(levels, key=("bad", "warn", "good", "info").index)

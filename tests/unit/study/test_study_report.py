"""The report of a study: computed from ledgers in every state, and written as one page with its files."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from itertools import combinations, pairwise
from pathlib import Path
from typing import Any

import histories
import numpy as np
import pandas as pd
import pytest
from histories import COUNTS, Made, finished
from pages import Page

from study.report.chance import expected_best
from study.report.cost import cost as cost_of
from study.report.facts import Facts, pareto
from study.report.figures.effects import binned, smooth
from study.report.figures.style import accuracy_ticks, power_text
from study.report.frame import Report
from study.report.importance import importances
from study.report.page import build
from study.state.history import Run
from study.state.records import content_of

NO_FINALS = {"finalists": {"top": 0, "seeds": 2}}


def address(run: Run) -> str | None:
    return f"http://127.0.0.1:5000/#/runs/{run.key}"


def report(made: Made, pages: Any = address) -> Report:
    return build(made.history, space=made.searched, pages=pages, now=int(made.time))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Made, Report, Path]:
    """A finished study with asha, failures, replicates and finalists; its report; where it was written."""
    made = finished(space="small", trials=40, failing=0.1, deaths=0.02, replicates=0.2)
    folder = tmp_path_factory.mktemp("report") / "made"
    written = report(made)
    written.write(folder)
    return made, written, folder


def test_the_page_is_one_file_that_refers_to_nothing_but_runs_in_mlflow(whole: tuple[Made, Report, Path]) -> None:
    page = Page((whole[2] / "index.html").read_text())
    outside = [href for href in page.attributes("href") if not href.startswith(("#", "data:"))]
    assert outside
    assert all(href.startswith("http://127.0.0.1:5000/#/runs/") for href in outside)
    assert all(source.startswith("data:") for source in page.attributes("src"))


def test_ids_are_unique_and_every_link_inside_the_page_leads_somewhere(whole: tuple[Made, Report, Path]) -> None:
    page = Page((whole[2] / "index.html").read_text())
    ids = page.attributes("id")
    assert len(set(ids)) == len(ids)
    assert {href[1:] for href in page.attributes("href") if href.startswith("#")} <= set(ids)


def test_a_trial_of_the_board_is_found_by_its_number(whole: tuple[Made, Report, Path]) -> None:
    _, written, folder = whole
    ids = Page((folder / "index.html").read_text()).attributes("id")
    for row in written.files[0].records()[:20]:
        assert all(trial in ids for trial in str(row["trials"]).split())


def test_every_figure_stands_in_the_page_with_its_numbers_and_png_beside_it(whole: tuple[Made, Report, Path]) -> None:
    _, written, folder = whole
    names = {drawing.name for drawing in written.draw()}
    expected = {
        "finalists",
        "pareto",
        "importances",
        "slices",
        "isolation",
        "parallel",
        "contour",
        "history",
        "curves",
        "timeline",
    }
    assert names == expected | {"epochs", "random"}
    ids = Page((folder / "index.html").read_text()).attributes("id")
    for name in names:
        assert f"figure-{name}" in ids
        assert len(pd.read_csv(folder / "figures" / f"{name}.csv")) > 0
        assert (folder / "figures" / f"{name}.png").read_bytes().startswith(b"\x89PNG")


def test_figures_hold_no_fonts_colours_or_texts_that_a_dark_page_would_hide(whole: tuple[Made, Report, Path]) -> None:
    text = (whole[2] / "index.html").read_text()
    for svg in re.findall(r"<svg.*?</svg>", text, re.S):
        root = ElementTree.fromstring(svg)
        words = [element for element in root.iter() if element.tag.endswith("text")]
        assert words
        assert not any("#000000" in (word.get("style") or "") for word in words)
        assert not any("$" in "".join(word.itertext()) for word in words)


def test_the_leader_board_holds_every_configuration_that_was_trained_once(whole: tuple[Made, Report, Path]) -> None:
    made, written, folder = whole
    table = pd.read_csv(folder / "leaderboard.csv")
    trained = {run.group for run in made.history.trials if run.epochs and run.state != "FAIL"}
    assert len(table) == len(trained) == len(written.files[0].rows)
    assert table["rank"].tolist() == list(range(1, len(table) + 1))
    complete = table[table["state"] == "complete"]
    assert complete["accuracy"].is_monotonic_decreasing
    assert complete.index.tolist() == list(range(len(complete)))


def test_replicates_share_a_row_with_their_mean_and_a_t_interval() -> None:
    made = finished(space="mlp", trials=30, replicates=0.5, study=NO_FINALS | {"pruner": "none"})
    row = next(row for row in report(made).files[0].records() if row["seeds"] > 1)
    trials = [made.history.runs[trial] for trial in row["trials"].split()]
    assert len({run.group for run in trials}) == 1
    assert row["interval"] == "t"
    assert row["accuracy"] == pytest.approx(np.mean([run.accuracy for run in trials]))
    single = next(row for row in report(made).files[0].records() if row["seeds"] == 1)
    assert single["interval"] == "Wilson"


def test_report_json_holds_verdicts_and_numbers_as_plain_data(whole: tuple[Made, Report, Path]) -> None:
    made, written, folder = whole
    tree = json.loads((folder / "report.json").read_text())
    assert [verdict["title"] for verdict in tree["verdicts"]] == [verdict.title for verdict in written.page.verdicts]
    assert sum(tree["states"].values()) == tree["trials"] == 40
    assert tree["winner"]["trial"] == made.history.winner.trial  # type: ignore[index]
    assert sum(tree["importances"]["ped_anova"].values()) == pytest.approx(1)


def test_the_same_history_gives_the_same_page(whole: tuple[Made, Report, Path]) -> None:
    made, _, folder = whole
    again = build(histories.folded(made.ledger), space=made.searched, pages=address, now=int(made.time))
    assert again.html(again.draw()) == (folder / "index.html").read_text()


def written_page(told: Report) -> Page:
    return Page(told.html(told.draw()))


def running() -> Made:
    made = Made(space="small", trials=30)
    made.open()
    made.search(upto=12)
    return made


def empty() -> Made:
    made = Made(space="small")
    made.open()
    return made


def killed() -> Made:
    """A coordinator that died in the middle of epochs, and another that went on."""
    made = Made(space="small", trials=20, failing=0, study=NO_FINALS)
    made.open()
    made.search(upto=5)
    run = next(run for run in made.history.trials if run.state == "PAUSED")
    made.add("started", run=run.key, slot="cpu 0", epoch=len(run.epochs), until=9)
    made.time += 3_600_000
    made.open()
    made.search()
    made.close()
    return made


STATES = {
    "nothing begun": (empty, "No trial is complete yet"),
    "one trial": (
        lambda: finished(space="small", trials=1, failing=0, study=NO_FINALS | {"pruner": "none"}),
        "of the best trial, trial 0",
    ),
    "three trials": (
        lambda: finished(space="small", trials=3, failing=0, study=NO_FINALS | {"pruner": "none"}),
        "of the best trial, trial",
    ),
    "all stopped early": (lambda: finished(space="small", trials=3, failing=0, study=NO_FINALS), "No trial is complete"),
    "all failed": (lambda: finished(space="small", trials=4, failing=1, study=NO_FINALS), "No trial is complete"),
    "running": (running, "of the best trial so far"),
    "killed and gone on": (killed, "of the best trial, trial"),
    "loss": (
        lambda: finished(space="small", trials=12, study={"objectives": ["loss"], "pruner": "none"}),
        "of the winner, trial",
    ),
    "several objectives": (
        lambda: finished(
            space="small", trials=12, study={"objectives": ["accuracy", "multiply_adds", "latency"], "pruner": "none"}
        ),
        "of the winner, trial",
    ),
    "grouped space": (
        lambda: finished(space="all", trials=4, study=NO_FINALS | {"sampler": "random", "pruner": "none"}),
        "of the best trial, trial",
    ),
}


@pytest.mark.parametrize("state", STATES)
def test_a_study_in_any_state_has_a_page(state: str) -> None:
    make, title = STATES[state]
    made = make()
    page = written_page(report(made, pages=lambda run: None))
    assert title in page.text
    assert "nan" not in page.text.lower().replace("loss nan", "")
    assert {"verdicts", "lineage", "failures"} <= set(page.attributes("id"))


def test_a_running_study_says_that_it_is_not_finished_and_how_many_trials_there_are() -> None:
    lede = report(running()).page.head.lede
    assert "12 of 30 trials" in lede
    assert "not finished" in lede


def test_why_the_last_session_ended_is_said_at_the_top_until_another_begins() -> None:
    made = running()
    made.close("stopped", "time is up: 12 of 30 trials")
    assert "The last session ended: time is up: 12 of 30 trials." in report(made).page.head.lede
    made.open()
    assert "session ended" not in report(made).page.head.lede


def test_a_test_result_of_an_earlier_winner_is_not_shown_as_that_of_the_present_one() -> None:
    made = finished(space="small", trials=12, failing=0, study={"pruner": "none"})
    before = report(made)
    assert "test accuracy 97.20%" in before.page.head.lede.lower()
    told = content_of(made.history.winner)
    other = next(item for item in told["finalists"] if item["group"] != told["group"])
    made.add("winner", **told | {"trial": other["trial"], "group": other["group"]})
    now = report(made)
    assert "test accuracy" not in now.page.head.lede.lower()
    key = next(key for key in now.page.head.keys if key.name == "Test accuracy")
    assert (key.value, key.meaning) == (None, "not read for this winner yet")
    assert "not read for this winner yet" in written_page(now).text
    assert now.tree["tested"] is None
    assert all(verdict.title != "Test agrees with validation" for verdict in now.page.verdicts)
    assert set(now.page.head.intervals) == {"Validation"}


def test_test_is_shown_with_the_interval_over_seeds_and_that_over_images(whole: tuple[Made, Report, Path]) -> None:
    headline = whole[1].page.head
    assert list(headline.intervals) == ["Validation", "Test", "Test images"]
    assert "covers seeds only, not the sample of test images: the Wilson interval" in headline.lede
    assert "96.40" in headline.lede  # its lower end
    assert "chosen among 3 finalists" in headline.lede


def test_a_winner_that_asha_left_at_a_rung_has_a_page_like_any_other() -> None:
    made = finished(space="small", trials=20, failing=0, study={"finalists": {"top": 20, "seeds": 2}})
    told = content_of(made.history.winner)
    left = next(run for run in made.history.trials if run.cause == "asha")
    item = next(item for item in told["finalists"] if item["trial"] == left.trial)
    made.add("winner", **told | {"trial": left.trial, "group": item["group"]})
    page = written_page(report(made))
    assert f"of the winner, trial {left.trial}" in page.text


def test_ticks_of_the_finalists_do_not_overlap(whole: tuple[Made, Report, Path]) -> None:
    made = finished(space="small", trials=12, failing=0, study={"pruner": "none"})
    winner = made.history.winner
    assert winner is not None
    items = [
        replace(item, values=[value, value, 1.0], mean=value, low=value - 0.01, high=1.01, search_value=value)
        for item, value in zip(winner.finalists, (0.9998, 0.98, 0.0), strict=True)
    ]
    made.history.winner = replace(winner, finalists=items)
    lineage = made.history.lineage
    made.history.lineage = replace(lineage, dataset=replace(lineage.dataset, counts={**COUNTS, "validation": [1000] * 10}))
    for told in (whole[1], report(made)):
        figure = next(drawing.figure for drawing in told.draw() if drawing.name == "finalists")
        figure.canvas.draw()
        boxes = [label.get_window_extent() for label in figure.axes[0].get_xticklabels() if label.get_text()]
        assert len(boxes) >= 2
        assert all(first.x1 < second.x0 for first, second in pairwise(sorted(boxes, key=lambda box: box.x0)))


def test_a_session_that_was_killed_ends_with_its_last_event() -> None:
    cost = cost_of(killed().history)
    assert len(cost.spans) == 2
    assert cost.seconds < 600  # not the hour between the sessions
    assert all(bar.ended >= bar.began for bar in cost.bars)
    assert all(0 <= busy <= there + 1e-9 for busy, there in cost.slots.values())


def test_segments_of_one_slot_do_not_overlap_and_are_all_of_its_busy_time(whole: tuple[Made, Report, Path]) -> None:
    cost = cost_of(whole[0].history)
    for slot, (busy, _) in cost.slots.items():
        bars = sorted((bar.began, bar.ended) for bar in cost.bars if bar.slot == slot)
        assert all(first[1] <= second[0] for first, second in pairwise(bars))
        assert busy == pytest.approx(sum(ended - began for began, ended in bars) / 1000)


def test_time_saved_is_the_epochs_left_out_at_the_pace_of_each_trial(whole: tuple[Made, Report, Path]) -> None:
    made = whole[0]
    stopped = [run for run in made.history.trials if run.state == "PRUNED" and run.epochs]
    assert stopped
    assert cost_of(made.history).skipped == sum(9 - len(run.epochs) for run in stopped)
    paces = [run.epochs[0].seconds for run in stopped]  # all epochs of a made-up trial take the same time
    expected = sum((9 - len(run.epochs)) * pace for run, pace in zip(stopped, paces, strict=True))
    assert cost_of(made.history).saved == pytest.approx(expected)


def test_passwords_in_the_command_stay_off_the_page() -> None:
    made = running()
    made.history.lineage = replace(made.history.lineage, command="study run --storage postgresql://me:secret@db/studies")
    page = report(made).html([])
    assert "postgresql://db/studies" in page
    assert "secret" not in page


def test_reasons_that_look_like_markup_are_shown_as_text() -> None:
    made = running()
    made.history.trials[3].state, made.history.trials[3].cause = "FAIL", "exception"
    made.history.trials[3].reason = "ValueError: <script>alert(1)</script> & more"
    page = Page(report(made).html([]))
    assert "<script>alert(1)</script> & more" in page.text


def test_importances_need_twenty_trials_and_say_so() -> None:
    made = finished(space="mlp", trials=12, failing=0, study=NO_FINALS)
    told = importances(Facts(made.history, made.searched))
    assert not told.ped
    assert "at least 20" in told.missing
    assert "at least 20" in Page(report(made).html([])).text


def test_what_decides_the_made_up_quality_is_the_most_important_and_conditional_parameters_are_named_as_left_out() -> None:
    made = finished(space="mlp", trials=80, replicates=0, failing=0, study=NO_FINALS | {"pruner": "none", "sampler": "random"})
    told = importances(Facts(made.history, made.searched))
    assert "train.lr" in told.names[:3]
    assert max(told.fanova, key=lambda name: told.fanova[name]) == "train.lr"
    assert "train.momentum" in told.left_out
    assert not set(told.left_out) & set(told.fanova)
    assert sum(told.fanova.values()) == pytest.approx(1)


@pytest.mark.parametrize("sign", [1, -1])
def test_the_expected_best_of_k_draws_is_the_mean_over_all_subsets(sign: int) -> None:
    values = np.array([0.3, 0.9, 0.4, 0.4, 0.7, 0.1])
    best = max if sign > 0 else min
    expected = [np.mean([best(chosen) for chosen in combinations(values, k)]) for k in range(1, 7)]
    np.testing.assert_allclose(expected_best(values, sign), expected)


def test_the_front_holds_what_nothing_beats() -> None:
    made = finished(space="mlp", trials=20, study=NO_FINALS | {"pruner": "none"})
    facts = Facts(made.history, made.searched)
    front = pareto(facts.complete, ["accuracy", "parameters"])
    for run in facts.complete:
        own = (run.accuracy or 0.0, -run.parameters)
        others = [(other.accuracy or 0.0, -other.parameters) for other in facts.complete]
        beaten = any(other[0] >= own[0] and other[1] >= own[1] and other != own for other in others)
        assert (run in front) is not beaten


def test_trials_are_compared_at_an_epoch_that_half_of_them_reached() -> None:
    made = finished(space="mlp", trials=30, study=NO_FINALS)
    facts = Facts(made.history, made.searched)
    epoch, values = facts.even
    lengths = np.array([len(run.epochs) for run in facts.measured])
    assert (lengths >= epoch).mean() >= 0.5 > (lengths > epoch).mean()
    np.testing.assert_array_equal(np.isnan(values), lengths < epoch)
    seen = [run.epochs[:epoch] for run in facts.measured if len(run.epochs) >= epoch]
    kept = [min(epochs, key=lambda one: one.validation_loss).validation_accuracy for epochs in seen]
    np.testing.assert_allclose(values[~np.isnan(values)], kept)


def test_bins_hold_about_as_many_trials_each_and_their_quartiles() -> None:
    rng = np.random.default_rng(0)
    numbers, values = rng.normal(size=100), rng.normal(size=100)
    table = binned(numbers, values)
    assert len(table) == 8
    assert table["n"].sum() == 100
    assert table["n"].between(12, 13).all()
    assert (table["low"] <= table["median"]).all()
    lowest = np.argsort(numbers)[: table["n"].iloc[0]]
    assert table["median"].iloc[0] == pytest.approx(np.median(values[lowest]))


def test_few_whole_numbers_are_a_bin_each() -> None:
    table = binned(np.array([1.0, 2.0, 2.0, 3.0]), np.array([0.1, 0.2, 0.4, 0.3]))
    assert table["at"].tolist() == [1, 2, 3]
    assert table["median"].tolist() == pytest.approx([0.1, 0.3, 0.3])


def test_the_smoothed_surface_is_blank_where_no_trial_is_near() -> None:
    surface = smooth(np.full(5, 0.1), np.full(5, 0.1), np.full(5, 0.8))
    assert np.isnan(surface[-1, -1])
    assert surface[5, 5] == pytest.approx(0.8)


@pytest.mark.parametrize("images", [30, 144, 10_000])
@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (0.1, 0.95), (0.9, 1.0), (0.981, 0.987), (0.4, 0.41)])
def test_ticks_of_accuracy_can_be_told_apart_and_are_no_finer_than_an_image(images: int, low: float, high: float) -> None:
    ticks = accuracy_ticks(low, high, images)
    assert 2 <= len(ticks) <= 8
    assert all(low <= tick <= high for tick in ticks)
    assert ticks == sorted(set(ticks))
    assert all(tick == 1 or 1 - tick >= 1 / images or high - low < 0.1 for tick in ticks)


@pytest.mark.parametrize(
    ("value", "text"), [(0.01, "0.01"), (200, "200"), (5e4, "50k"), (2e6, "2M"), (1e-5, "10⁻⁵"), (2e-5, "2·10⁻⁵"), (1e10, "10¹⁰")]
)
def test_ticks_of_logarithmic_axes_are_plain_text(value: float, text: str) -> None:
    assert power_text(value) == text

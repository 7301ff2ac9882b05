"""The report of an ablation: from ledgers with made-up accuracies, so that what must be found is known."""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from pages import Page

from pipeline.config import Params, parse, to_tree
from pipeline.data.dataset import DatasetInfo
from pipeline.evaluation.statistics import holm, mean_interval, paired_difference
from pipeline.verdict import Verdict
from study.experiments.ablation.crossing import additive_residuals, interaction
from study.experiments.ablation.definition import Ablation, load
from study.experiments.ablation.page import build
from study.experiments.ablation.results import Results, compute
from study.report.frame import Report
from study.state.history import History, Run, fold
from study.state.spec import Spec

START = 1_790_000_000_000  # milliseconds since 1970
IMAGES = 6000  # of validation
NOISE = np.array([0.0010, -0.0020, 0.0005, 0.0015, -0.0010])  # what the seeds do to every row alike
INFO = DatasetInfo(
    "mnist", tuple("0123456789"), (1, 28, 28), (0.13,), (0.3,), "f" * 32, 0,
    {"train": (5400,) * 10, "validation": (600,) * 10, "test": (1000,) * 10},
)  # fmt: skip
TEXT = """
    description: what a small network needs
    base:
      data: {name: mnist}
      model: {dense: [{out: 16}, {out: 16}]}
      train: {epochs: 3, batch_size: 40}
    seeds: 5
    factors:
      train.batch_size:
        values: [80, 150]
        hypothesis: larger batches make fewer steps, so accuracy falls
        claim: accuracy falls as train.batch_size rises
      width:
        bundles:
          narrow: {"model.dense[0].out": 8, "model.dense[1].out": 8}
          wide: {"model.dense[0].out": 64, "model.dense[1].out": 64}
        hypothesis: a wide network is better
        claim: "width: wide beats narrow"
      model.dropout:
        values: [0.1]
        hypothesis: a little dropout does nothing
        claim: "model.dropout: 0.0 ties 0.1"
      train.weight_decay:
        values: [1.0e-5]
        hypothesis: nobody knows
    grid: [train.batch_size, model.dropout]
"""
Wanted = Mapping[str, Sequence[float | None]]


@dataclass
class Made:
    """An ablation as its ledger tells it.

    accuracy : of each row and seed; None: the training failed; rows or seeds that are left out were never begun
    """

    ablation: Ablation
    accuracy: Wanted
    closed: bool = True
    ledger: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        plan = self.ablation.plan()
        study = {"space": "ablation", "objectives": ["accuracy"], "pruner": "none", "trials": 1}
        spec = Spec(plan.name, "ablation", {"title": plan.title}, parse({"study": study}), INFO.fingerprint)
        told = {"git_commit": "a" * 40, "git_dirty": False, "environment": {"python": "3.11.9"}, "data": "data"}
        told |= {"dataset": asdict(INFO), "command": "study ablate a.yaml"}
        self.time = START
        self.add("created", spec=spec.to_tree(), lineage=told)
        opened = {"engine": "local", "pid": 1, "host": "box", "command": "study ablate a.yaml", "changes": {}}
        self.add("opened", trials=1, study=to_tree(spec.params.study), workers=["cpu 0"], **opened)
        for task in plan.tasks({row.data: INFO for row in plan.rows}):
            values = self.accuracy.get(task["origin"], ())
            if task["replicate"] < len(values):
                self.train(task, values[task["replicate"]])
        if self.closed:
            self.add("closed", outcome="done", reason=None)

    def add(self, kind: str, **content: Any) -> None:
        self.time += 10
        self.ledger.append(json.loads(json.dumps({"kind": kind, "time": self.time, **content})))

    def train(self, task: dict[str, Any], accuracy: float | None) -> None:
        key = task["run"]
        self.add("asked", **task)
        self.add("started", run=key, slot="cpu 0", epoch=0, until=3)
        ended = {"run": key, "values": None, "cause": None, "reason": None, "kept_epoch": 2, "latency": None}
        if accuracy is None:
            self.add("ended", **(ended | {"state": "FAIL", "cause": "diverged", "reason": "loss nan in epoch 1"}))
            return
        for number, share in ((1, 0.8), (2, 1.0), (3, 0.999)):
            self.time += 2000
            reached = share * accuracy
            epoch = {"epoch": number, "validation_accuracy": reached, "validation_loss": 1 - reached, "seconds": 2.0, "lr": 0.001}
            self.add("epoch", run=key, epoch=epoch | {"train_loss": 0.1, "train_accuracy": 0.99})
        self.add("ended", **(ended | {"state": "COMPLETE", "values": [accuracy]}))

    @property
    def history(self) -> History:
        history = fold(self.ledger)
        assert history is not None
        return history

    @property
    def results(self) -> Results:
        return compute(self.history, self.ablation)

    def report(self) -> Report:
        return build(self.history, self.ablation, pages=address, now=START)

    @property
    def verdicts(self) -> Sequence[Verdict]:
        return self.report().page.verdicts


def address(run: Run) -> str | None:
    return f"http://127.0.0.1:5000/#/runs/{run.key}" if run.replicate else None


def read(tmp_path: Path, text: str = TEXT, **changes: str) -> Ablation:
    for old, new in changes.items():
        text = text.replace(old, new)
    (tmp_path / "small.yaml").write_text(textwrap.dedent(text))
    return load("small.yaml", tmp_path)


def row(mean: float, wobble: float = 0.0003, seeds: int = 5) -> list[float]:
    """Accuracies around a mean, whole images: what the seeds do to all rows, and a little of the row's own."""
    own = np.random.default_rng(round(mean * 1e6)).normal(0, wobble, 5)
    return [round(value * IMAGES) / IMAGES for value in (mean + NOISE + own - own.mean())[:seeds]]


MEANS = {
    "base": 0.970, "batch_size-80": 0.960, "batch_size-150": 0.940, "width-narrow": 0.950, "width-wide": 0.978,
    "dropout-0_1": 0.9705, "weight_decay-1e_05": 0.9702,
    "batch_size-80-dropout-0_1": 0.9602, "batch_size-150-dropout-0_1": 0.9404,
}  # fmt: skip


def accuracies(**changes: Any) -> dict[str, list[float | None]]:
    """Of every row; changes by name, ``_`` for ``-``, or of all as ``seeds``."""
    return {name: list(row(mean)) for name, mean in MEANS.items()} | changes


@pytest.fixture
def made(tmp_path: Path) -> Made:
    return Made(read(tmp_path), accuracies())


def titles(found: Sequence[Verdict]) -> dict[str, str]:
    return {verdict.title: verdict.level for verdict in found}


# -- numbers


def test_each_row_is_compared_with_the_base_seed_by_seed(made: Made) -> None:
    results = made.results
    base, batch = results.rows["base"], results.rows["batch_size-80"]
    assert list(batch.values) == pytest.approx(row(0.960))
    mean = mean_interval(row(0.960), 1 / IMAGES)
    assert (batch.accuracy.value, batch.accuracy.low, batch.accuracy.high) == pytest.approx((mean.value, mean.low, mean.high))
    expected = paired_difference(row(0.960), row(0.970), 1 / IMAGES)
    assert batch.difference is not None
    assert asdict(batch.difference) == pytest.approx(asdict(expected))
    assert (base.gap, base.difference, base.p_holm) == (None, None, None)
    others = [result for result in results.rows.values() if result is not base]
    assert [result.p_holm for result in others] == holm([result.difference.p_value for result in others])
    assert batch.seconds == 6.0
    assert batch.first is not None
    assert batch.first.parameters == results.base.first.parameters


def test_factors_are_ranked_by_what_lies_between_their_best_and_their_worst_level(made: Made) -> None:
    results = made.results
    assert [effect.factor.name for effect in results.ranked] == [
        "train.batch_size", "width", "model.dropout", "train.weight_decay",
    ]  # fmt: skip
    batch, width = results.ranked[:2]
    assert batch.order == ["40", "80", "150"]
    assert width.order == ["wide", "base", "narrow"]
    assert width.spread.value == pytest.approx(0.028, abs=1e-4)
    assert (batch.matters, batch.flat) == (True, False)
    assert [effect.flat for effect in results.ranked[2:]] == [True, True]


def test_every_claim_is_judged_and_a_hypothesis_without_one_is_kept(made: Made) -> None:
    found = {item.factor.name: item.judgement for item in made.results.hypotheses}
    assert {name: judgement.verdict if judgement else None for name, judgement in found.items()} == {
        "train.batch_size": "supported", "width": "supported", "model.dropout": "supported", "train.weight_decay": None,
    }  # fmt: skip
    judged = [judgement for judgement in found.values() if judgement]
    assert [judgement.p_holm for judgement in judged] == pytest.approx(holm([judgement.p_value for judgement in judged]))


def test_a_claim_about_the_loss_is_judged_by_the_loss_of_the_kept_weights(tmp_path: Path) -> None:
    ablation = read(tmp_path, **{"accuracy falls as train": "loss rises as train"})
    judgement = Made(ablation, accuracies()).results.hypotheses[0].judgement
    assert judgement is not None
    assert judgement.verdict == "supported"
    assert judgement.effect == pytest.approx(0.015, abs=1e-4)  # made-up losses are 1 - accuracy; 3 points over 2 steps


def test_failed_and_missing_trainings_leave_their_seeds_out(made: Made) -> None:
    values = accuracies()
    values["width-wide"][1] = None
    values["base"] = values["base"][:3]
    del values["dropout-0_1"]
    results = Made(made.ablation, values, closed=False).results
    wide, dropout = results.rows["width-wide"], results.rows["dropout-0_1"]
    assert (len(wide.failed), wide.missing, len(wide.known)) == (1, 0, 4)
    assert wide.difference.n == 2  # seeds 0 and 2
    assert (dropout.accuracy, dropout.gap, dropout.missing, dropout.first) == (None, None, 5, None)
    assert results.base.missing == 2
    assert not results.finished
    assert results.crossing.interaction is None


def test_more_seeds_than_the_file_says_are_all_shown(made: Made, tmp_path: Path) -> None:
    few = read(tmp_path, **{"seeds: 5": "seeds: 2"})
    assert compute(made.history, few).seeds == 5


def test_of_one_seed_there_is_a_difference_without_an_interval(made: Made) -> None:
    results = Made(made.ablation, {name: values[:1] for name, values in accuracies().items()}).results
    batch = results.rows["batch_size-80"]
    assert batch.accuracy.kind == "Wilson"
    assert (batch.difference, batch.p_holm) == (None, None)
    assert batch.gap == pytest.approx(row(0.960)[0] - row(0.970)[0])


# -- interaction


def test_factors_that_add_up_leave_no_residuals() -> None:
    means = np.add.outer([0.9, 0.92, 0.95], [0.0, 0.01])
    assert np.abs(additive_residuals(means)).max() < 1e-12


def test_of_two_levels_each_the_interaction_is_the_t_test_of_the_difference_of_differences() -> None:
    cells = np.random.default_rng(0).normal(0.9, 0.01, (2, 2, 6))
    cells[1, 1] += 0.05
    found = interaction(cells, 0.0)
    contrast = cells[1, 1] - cells[1, 0] - cells[0, 1] + cells[0, 0]
    expected = mean_interval(contrast)
    assert (found.value, found.low, found.high) == pytest.approx((expected.value, expected.low, expected.high))
    assert found.degrees == (5,)
    assert (found.p_value < 0.05) == (expected.low > 0)


def test_of_more_levels_the_interaction_is_the_f_test_of_a_factorial_design_in_blocks() -> None:
    """Against least squares: models with and without the interaction, blocks in both."""
    rng = np.random.default_rng(1)
    a, b, n = 3, 2, 5
    cells = 0.9 + rng.normal(0, 0.01, (a, b, n)) + rng.normal(0, 0.02, n)
    one, other, block = (index.ravel() for index in np.indices((a, b, n)))
    dummies = [np.eye(size)[index] for size, index in ((a, one), (b, other), (n, block), (a * b, one * b + other))]

    def left(columns: list[np.ndarray]) -> float:
        design = np.hstack(columns)
        fitted = design @ np.linalg.lstsq(design, cells.ravel(), rcond=None)[0]
        return float(((cells.ravel() - fitted) ** 2).sum())

    small, full = left(dummies[:3]), left(dummies)
    degrees = ((a - 1) * (b - 1), (a * b - 1) * (n - 1))
    found = interaction(cells, 0.0)
    assert found.degrees == degrees
    assert found.statistic == pytest.approx((small - full) / degrees[0] / (full / degrees[1]))


def test_without_an_interaction_one_is_found_in_one_of_twenty_grids() -> None:
    rng = np.random.default_rng(2)
    effects = np.add.outer([0.0, 0.02, 0.05], [0.0, 0.01, -0.01])[..., None]
    for shape in ((3, 3), (2, 2)):
        p_values = []
        for _ in range(2000):
            cells = effects[: shape[0], : shape[1]] + rng.normal(0, 0.004, (*shape, 5)) + rng.normal(0, 0.01, 5)
            p_values.append(interaction(cells, 0.0).p_value)
        assert np.mean(np.array(p_values) < 0.05) == pytest.approx(0.05, abs=0.015)


def test_equal_accuracies_everywhere_are_no_interaction() -> None:
    for shape in ((2, 2, 3), (3, 2, 3)):
        assert interaction(np.full(shape, 0.97), 1 / IMAGES).p_value == 1.0


def test_the_grid_takes_its_edges_from_the_single_rows(made: Made) -> None:
    crossed = made.results.crossing
    assert crossed.means == pytest.approx(np.array([[0.970, 0.9705], [0.960, 0.9602], [0.940, 0.9404]]), abs=1e-4)
    assert (crossed.counts == 5).all()
    assert crossed.interaction.degrees == (2, 20)


# -- verdicts


def test_hypotheses_come_with_their_evidence(made: Made) -> None:
    found = {verdict.title: verdict for verdict in made.verdicts}
    supported = found["Supported: accuracy falls as train.batch_size rises"]
    assert supported.level == "good"
    assert "n = 5" in supported.evidence


def test_a_refuted_claim_is_a_warning_and_an_undecided_one_says_how_many_seeds_would_decide_it(tmp_path: Path) -> None:
    values = accuracies()
    values["dropout-0_1"] = [value + step for value, step in zip(row(0.970), (0.02, -0.02, 0.01, -0.005, 0.004), strict=True)]
    ablation = read(tmp_path, **{"wide beats narrow": "narrow beats wide", "0.0 ties 0.1": "0.1 beats 0.0"})
    found = {verdict.title: verdict for verdict in Made(ablation, values).verdicts}
    assert found["Refuted: width: narrow beats wide"].level == "warn"
    undecided = found["Undecided at n = 5: model.dropout: 0.1 beats 0.0"]
    assert undecided.level == "info"
    assert re.search(r"^If .*, \d+ seeds would decide it with 80 % power\.$", undecided.remedy)


def test_what_matters_most_and_what_does_not_is_told(made: Made) -> None:
    found = {verdict.title: verdict for verdict in made.verdicts}
    assert "train.batch_size 3.00 (40 over 150); width 2.80 (wide over narrow)" in found["train.batch_size matters most"].evidence
    flat = found["model.dropout and train.weight_decay change accuracy by less than 0.5 points"]
    assert "All 95 % intervals of their differences to the base lie between" in flat.evidence
    assert any(title.startswith("No interaction of train.batch_size and model.dropout found at n = 5") for title in found)


def test_a_row_that_is_better_than_the_base_leads_with_the_words_of_chance(made: Made) -> None:
    found = {verdict.title: verdict for verdict in made.verdicts}
    leads = found["width wide is better than the base"]
    assert "Holm-corrected p" in leads.evidence
    assert "flatters" in leads.remedy
    near = accuracies(**{"weight_decay-1e_05": [value - 0.0002 * (1 - 2 * (seed % 2)) for seed, value in enumerate(row(0.978))]})
    assert "Better than the base: width wide and train.weight_decay 1e-05" in titles(Made(made.ablation, near).verdicts)
    low = accuracies(**{"width-wide": row(0.960)})
    assert "No row is better than the base: no difference found at n = 5" in titles(Made(made.ablation, low).verdicts)


def test_without_any_effect_nothing_is_said_to_matter(made: Made) -> None:
    rng = np.random.default_rng(4)
    wild = {name: list(rng.normal(0.9, 0.01, 5)) for name in MEANS}
    found = titles(Made(made.ablation, wild).verdicts)
    assert "No factor is shown to matter: no difference to the base found at n = 5" in found
    assert not any("matters" in title and "No factor" not in title for title in found)


def test_crossed_factors_that_need_each_other_are_a_warning(made: Made) -> None:
    found = titles(Made(made.ablation, accuracies(**{"batch_size-150-dropout-0_1": row(0.965)})).verdicts)
    assert found["train.batch_size and model.dropout interact"] == "warn"


def test_failed_and_missing_trainings_and_single_seeds_are_told(made: Made) -> None:
    values = accuracies()
    values["width-wide"][1] = None
    del values["dropout-0_1"]
    found = {verdict.title: verdict for verdict in Made(made.ablation, values, closed=False).verdicts}
    assert "width wide: 1 of 5. First reason: loss nan in epoch 1" in found["1 training failed"].evidence
    assert found["5 of 45 trainings have not ended"].level == "info"
    single = titles(Made(replace(made.ablation, seeds=1), accuracies()).verdicts)
    assert single["One seed tells no difference from luck"] == "warn"


def test_rows_that_change_the_data_are_named(tmp_path: Path) -> None:
    ablation = read(tmp_path, **{"train.weight_decay": "data.seed", "1.0e-5": "3"})
    values = accuracies(**{"data_seed-3": row(0.9701)})
    found = {verdict.title: verdict for verdict in Made(ablation, values).verdicts}
    assert "data.seed 3: their data section" in found["Some rows are judged on other validation images"].evidence


# -- the page


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Report, Path]:
    """The report of a whole ablation with a failure, and where it was written."""
    values = accuracies()
    values["width-narrow"][2] = None
    report = Made(read(tmp_path_factory.mktemp("project")), values).report()
    folder = tmp_path_factory.mktemp("report") / "small"
    report.write(folder)
    return report, folder


def test_the_page_is_complete_by_itself(written: tuple[Report, Path]) -> None:
    page = Page((written[1] / "index.html").read_text())
    references, ids = [*page.attributes("href"), *page.attributes("src")], page.attributes("id")
    outside = [text for text in references if not text.startswith(("#", "data:"))]
    assert all(text.startswith("http://127.0.0.1:5000/#/runs/") for text in outside)
    assert len(set(outside)) == 4 * 9  # of every row all seeds but the first, as the addresses have it
    assert len(set(ids)) == len(ids)
    assert {text[1:] for text in references if text.startswith("#")} <= set(ids)


def test_the_page_tells_the_hypotheses_the_rows_and_where_it_comes_from(written: tuple[Report, Path]) -> None:
    text = Page((written[1] / "index.html").read_text()).text
    for expected in (
        "All 3 hypotheses are supported",
        "larger batches make fewer steps, so accuracy falls".capitalize(),
        "accuracy falls as train.batch_size rises",
        "no claim that a program can judge",
        "width narrow width-narrow.s2 diverged",
        "loss nan in epoch 1",
        "4 factors changed one at a time around a base of its own on mnist, and two of them crossed; 9 rows",
        "f" * 32,
        "a" * 40,
        "study ablate a.yaml # trains what is missing",
        "training 0 to 4, split 0",
        "Test images were not opened.",
    ):
        assert expected in text, expected


def test_the_table_holds_every_row_with_every_seed(written: tuple[Report, Path]) -> None:
    table = pd.read_csv(written[1] / "table.csv", keep_default_na=True).set_index("row")
    assert list(table.index) == list(MEANS)
    assert table.loc["batch_size-80", "changes"] == "train.batch_size=80"
    assert table.loc["batch_size-80", [f"seed_{seed}" for seed in range(5)]].tolist() == pytest.approx(row(0.960), abs=1e-6)
    assert np.isnan(table.loc["width-narrow", "seed_2"])
    assert (table.loc["width-narrow", "n"], table.loc["width-narrow", "failed"]) == (4, 1)


def test_the_numbers_are_there_as_plain_data(written: tuple[Report, Path]) -> None:
    report, folder = written
    tree = json.loads((folder / "ablation.json").read_text())
    assert tree["rows"][0]["row"] == "base"
    assert tree["rows"][0]["difference"] is None
    assert [item["verdict"] for item in tree["hypotheses"]] == ["supported", "supported", "supported", None]
    assert tree["grid"]["interaction"]["n"] == 5
    assert len(tree["grid"]["cells"]) == 6
    assert [verdict["title"] for verdict in tree["verdicts"]] == [verdict.title for verdict in report.page.verdicts]


def test_every_figure_is_a_picture_with_its_numbers(written: tuple[Report, Path]) -> None:
    folder = written[1] / "figures"
    names = {
        "differences",
        "grid",
        "factor-train-batch-size",
        "factor-width",
        "factor-model-dropout",
        "factor-train-weight-decay",
    }
    assert {path.stem for path in folder.glob("*.png")} == names
    assert {path.stem for path in folder.glob("*.csv")} == names
    seeds = pd.read_csv(folder / "factor-train-batch-size.csv")
    assert seeds[seeds["level"] == 80]["validation_accuracy"].tolist() == pytest.approx(row(0.960), abs=1e-6)


def test_the_same_ledger_gives_the_same_bytes(written: tuple[Report, Path], tmp_path: Path) -> None:
    report, folder = written
    report.write(tmp_path / "again")
    files = [path.relative_to(folder) for path in folder.rglob("*.*")]
    assert len(files) == 15
    assert all((folder / file).read_bytes() == (tmp_path / "again" / file).read_bytes() for file in files)


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"base": row(0.97, seeds=1)},
        {"batch_size-80": row(0.97)},
        {"base": [None, None], "batch_size-80": [None, 0.5]},
        {name: [1.0, 1.0] for name in MEANS},
    ],
    ids=["nothing", "one training", "no base", "a base that always fails", "all perfect"],
)
def test_an_ablation_in_any_state_has_a_page(made: Made, values: Wanted, tmp_path: Path) -> None:
    Made(made.ablation, values, closed=False).report().write(tmp_path / "page")
    Page((tmp_path / "page" / "index.html").read_text())
    assert json.loads((tmp_path / "page" / "ablation.json").read_text())["finished"] is False or len(values) == len(MEANS)


def test_what_is_not_finished_says_so_in_its_first_words(made: Made) -> None:
    values = accuracies(**{"weight_decay-1e_05": row(0.9702, seeds=4)})
    headline = Made(made.ablation, values, closed=False).report().page.head
    assert headline.title == "So far all 3 hypotheses are supported"
    assert headline.lede.endswith("The ablation is not finished: all below is as of now.")


def test_an_ablation_without_hypotheses_or_grid_is_told_too(tmp_path: Path) -> None:
    text = re.sub(r" +(hypothesis|claim|grid):.*\n", "", TEXT)
    report = Made(
        read(tmp_path, text), {name: values for name, values in accuracies().items() if "-dropout" not in name}
    ).report()
    report.write(tmp_path / "page")
    page = Page((tmp_path / "page" / "index.html").read_text()).text
    assert "train.batch_size matters most" in page
    assert "Hypotheses" not in (tmp_path / "page" / "index.html").read_text().split("<main>")[0].split("<nav")[1]
    assert "Two factors together" not in page


def test_a_base_of_defaults_is_the_schemas(tmp_path: Path) -> None:
    ablation = read(tmp_path, "base: {train: {epochs: 3}}\nfactors: {train.lr: {values: [0.1]}}\n")
    assert ablation.base.data == Params().data

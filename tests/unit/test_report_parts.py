"""The parts of the report page: pictures and figures inside the page, numbers for people, the headline's axis, provenance."""

from __future__ import annotations

import base64
import io
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from ruamel.yaml import YAML

from pipeline import artifacts, config
from pipeline.evaluation.statistics import Proportion
from pipeline.report import document, formats, headline, inline, inputs, provenance, results

SVG = """<svg xmlns="http://www.w3.org/2000/svg"
 xmlns:xlink="http://www.w3.org/1999/xlink" width="72pt" viewBox="0 0 72 36">
<metadata><date/></metadata><defs><style>*{stroke: red}</style>
<clipPath id="p1"><rect width="9" height="9"/></clipPath>
<path id="m1" d="M 0.123456 1"/></defs><g id="unused" clip-path="url(#p1)">
<use xlink:href="#m1"/><text>a &lt;b&gt; &amp; c</text></g></svg>"""


def pixels(uri: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))))


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 32, 32), (1, 5, 9)])
def test_a_small_picture_keeps_every_pixel(shape: tuple[int, int, int]) -> None:
    image = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    uri = inline.picture(image)
    assert uri.startswith("data:image/png;base64,")
    assert np.array_equal(pixels(uri), image[0] if shape[0] == 1 else image.transpose(1, 2, 0))


def test_a_photograph_becomes_a_light_thumbnail_that_keeps_its_proportions() -> None:
    ramp = np.linspace(0, 255, 400 * 200).astype(np.uint8).reshape(1, 200, 400)
    uri = inline.picture(np.concatenate([ramp] * 3))
    assert pixels(uri).shape == (48, 96, 3)
    assert len(uri) < 3000


def test_ids_of_two_figures_do_not_collide_and_their_references_follow() -> None:
    first, second = (inline.figure(SVG, name, "a figure") for name in ("one", "two"))
    ids = re.findall(r' id="([^"]*)"', first + second)
    assert ids == ["one-p1", "one-m1", "two-p1", "two-m1"]
    assert 'clip-path="url(#one-p1)"' in first
    assert re.search(r'<use href="#one-m1"\s*/>', first)


def test_a_figure_brings_no_style_sheet_and_no_fixed_size_but_a_description() -> None:
    figure = inline.figure(SVG, "one", 'says "a < b"')
    assert "<style" not in figure
    assert not re.search(r"<svg[^>]* width=", figure)
    assert 'role="img" aria-label="says &quot;a &lt; b&quot;"' in figure
    assert "a &lt;b&gt; &amp; c" in figure
    assert inline.width(SVG) == 96


def test_a_broken_figure_is_named_with_what_to_do() -> None:
    with pytest.raises(inline.ReportError, match=r"figure roc must be well-formed SVG: .*; run the evaluate stage again"):
        inline.figure("<svg><g></svg>", "roc", "")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (formats.percent(0.98963), "98.96 %"),
        (formats.percent(None), "–"),
        (formats.percent(0.5, 0), "50 %"),
        (formats.probability(0.99996), "> 99.9 %"),
        (formats.probability(1.0), "100.0 %"),
        (formats.decimal(-1.5), "−1.500"),
        (formats.decimal(None), "–"),
        (formats.count(54000), "54,000"),
        (formats.short(4470), "4,470"),
        (formats.short(1_246_624), "1.25 M"),
        (formats.short(58_200_000), "58.2 M"),
        (formats.short(11_500_000_000), "11.5 G"),
        (formats.size(390), "390 B"),
        (formats.size(2099), "2.1 kB"),
        (formats.size(999_999), "1 MB"),
        (formats.duration(2.449), "2.45 s"),
        (formats.duration(59.99), "1 min 0 s"),
        (formats.duration(81.5), "1 min 22 s"),
        (formats.duration(3 * 3600 + 59), "3 h 1 min"),
        (formats.duration(None), "–"),
        (formats.milliseconds(0.13749), "0.137 ms"),
        (formats.plural(1, "epoch"), "1 epoch"),
        (formats.plural(0, "epoch"), ""),
        (formats.scalar(None), "null"),
        (formats.scalar(False), "false"),
        (formats.sentence("all agree"), "All agree."),
        (formats.sentence("train.lr is high"), "train.lr is high."),
        (formats.sentence("Is it?"), "Is it?"),
    ],
)
def test_numbers_and_sentences_read_as_people_write_them(text: str, expected: str) -> None:
    assert re.sub("[\u00a0\u202f]", " ", text) == expected


@given(st.integers(1, 100_000), st.data())
def test_the_axis_of_the_headline_holds_both_intervals_and_its_ticks_tell_them_apart(n: int, data: st.DataObject) -> None:
    both = {name: headline.estimate(vars(Proportion.of(data.draw(st.integers(0, n)), n))) for name in ("Test", "Validation")}
    strip = document.strip(both)
    for row in strip["rows"]:
        assert 0 <= row["left"] <= row["dot"] + 0.01
        assert row["dot"] <= row["left"] + row["width"] + 0.02
        assert row["left"] + row["width"] <= 100.02
    lefts = [tick["left"] for tick in strip["ticks"]]
    assert (lefts[0], lefts[-1]) == (0, 100)
    assert 3 <= len(lefts) <= 9
    assert len({tick["text"] for tick in strip["ticks"]}) == len(lefts)


def test_the_most_frequent_mistakes_are_named_most_frequent_first() -> None:
    text = results.confusions([[5, 2, 0], [0, 6, 0], [1, 0, 7]], ("a", "b", "c"))
    assert text == "3 of 21 test images were classified wrongly, most often a taken for b (2), c taken for a (1)."
    assert results.confusions([[5, 0], [0, 6]], ("a", "b")) == "No test image was classified wrongly."


def test_the_offered_params_yaml_is_the_configuration_of_the_run() -> None:
    tree = {"data": {"merge": [[0, 6], [1]]}, "model": {"conv": [{"out": 4, "padding": 2}]}, "train": {"lr": 1e-5}}
    params = config.parse(tree)
    text = provenance.yaml_text(config.to_tree(params))
    assert config.parse(YAML(typ="safe").load(text)) == params


def test_every_setting_has_a_meaning_and_only_changed_ones_are_marked() -> None:
    params = config.parse({"train": {"lr": 0.5, "schedule": {"name": "step"}}})
    rows = [row for rows in provenance.settings(config.to_tree(params)).values() for row in rows]
    assert [row.key for row in rows if row.changed] == ["train.lr", "train.schedule.name"]
    assert all(row.meaning for row in rows)


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("sqlite:////data/mlflow.db", "http://127.0.0.1:5000/#/experiments/2/runs/ab?workflowType=machine_learning"),
        ("https://mlflow.example/", "https://mlflow.example/#/experiments/2/runs/ab?workflowType=machine_learning"),
    ],
)
def test_the_link_opens_the_run_in_the_mode_for_model_training(uri: str, expected: str) -> None:
    assert provenance.run_link({"run_id": "ab", "experiment_id": "2", "tracking_uri": uri}) == expected


def test_a_commit_that_is_not_the_whole_truth_is_said_to_be_so() -> None:
    run = {"git_commit": "f" * 40, "git_dirty": True, "params": {"train": {"seed": 3}}}
    assert provenance.commands(run).startswith(f"git checkout {'f' * 40}\n")
    assert "does not give this result" in provenance.reproduce_note(run)
    assert "does not give this result" not in provenance.reproduce_note(run | {"git_dirty": False})


def test_passwords_in_addresses_stay_off_the_page(tmp_path: Path) -> None:
    stores = ["https://me:secret@mlflow.example/x", "postgresql://me:secret@db/mlflow", "sqlite:////home/a@b/mlflow.db"]
    artifacts.write_json(tmp_path / "run.json", {"stores": stores})
    shown = ["https://mlflow.example/x", "postgresql://db/mlflow", "sqlite:////home/a@b/mlflow.db"]
    assert inputs._public(tmp_path / "run.json") == {"stores": shown}


def test_files_of_one_place_are_said_to_come_from_that_place() -> None:
    names = ("a.gz", "b.gz")
    source = {"files": {name: {"bytes": 600, "md5": "", "from": f"https://mirror.example/x/{name}"} for name in names}}
    assert provenance.source_summary(source) == "2 files, 1.2\u00a0kB, from https://mirror.example/x."

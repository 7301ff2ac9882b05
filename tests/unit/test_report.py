"""The report page, made from the files that the real stages write for a small real network."""

from __future__ import annotations

import base64
import re
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from pages import Page
from ruamel.yaml import YAML
from torch.nn import functional as F

from pipeline import artifacts, config
from pipeline.data.checks import check
from pipeline.data.dataset import DatasetInfo, SearchData, Split
from pipeline.evaluation.assess import assess, write
from pipeline.models.build import build
from pipeline.models.classifier import Card, Classifier
from pipeline.models.plan import plan
from pipeline.report import headline
from pipeline.report.inputs import Inputs
from pipeline.report.page import TITLES, render
from pipeline.stages import report
from pipeline.tracking import Recorded
from pipeline.verdict import Verdict

HOSTILE = ("<script>alert('class')</script>", '"rows" & columns', "a square")
FULL = config.parse(
    {
        "model": {"conv": [{"out": 4, "pool": {"kernel": 2}}], "dense": [{"out": 8}]},
        "train": {"epochs": 3},
        "evaluate": {"gallery": 5, "samples": 3, "tsne_images": 30},
    }
)
THIN = config.parse({"train": {"epochs": 1}, "evaluate": {"gallery": 0, "samples": 0, "tsne_images": 0}})


def images(n: int, rng: np.random.Generator) -> Split:
    labels = np.arange(n) % 3
    patterns = np.zeros((3, 12, 12))
    patterns[0, ::3] = patterns[1, :, ::3] = 200
    patterns[2, 3:-3, 3:-3] = 200
    pixels = patterns[labels] + rng.normal(20, 12, (n, 12, 12))
    return Split(pixels.clip(0, 255).astype(np.uint8)[:, None], labels.astype(np.int64))


def train(classifier: Classifier, data: SearchData, epochs: int) -> pd.DataFrame:
    optimizer = torch.optim.Adam(classifier.parameters(), lr=0.01)
    splits = {"train": data.train, "validation": data.validation}
    rows = []
    for epoch in range(1, epochs + 1):
        row = {"epoch": epoch, "lr": 0.01 / epoch, "seconds": 0.5}
        for name, split in splits.items():
            logits = classifier.logits(torch.tensor(split.images))
            labels = torch.tensor(split.labels)
            loss = F.cross_entropy(logits, labels)
            accuracy = (logits.argmax(1) == labels).float().mean()
            row |= {f"{name}_loss": loss.item(), f"{name}_accuracy": accuracy.item()}
            if name == "train":
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
        rows.append(row)
    return pd.DataFrame(rows)


def write_run(root: Path, params: config.Params, changes: dict[str, Any], n_test: int = 60) -> None:
    """Everything that the report reads, in ``root``, written by the code that writes it in earnest."""
    rng = np.random.default_rng(0)
    splits = {"train": images(90, rng), "validation": images(30, rng), "test": images(n_test, rng)}
    splits["test"].images[0] = splits["train"].images[0]
    scaled = splits["train"].images / 255
    counts = {name: tuple(np.bincount(split.labels, minlength=3).tolist()) for name, split in splits.items()}
    info = DatasetInfo("stripes", HOSTILE, (1, 12, 12), (float(scaled.mean()),), (float(scaled.std()),), "ab" * 16, 7, counts)
    data = SearchData(info, splits["train"], splits["validation"])
    info.write(root / artifacts.SEARCH)
    source = {
        "name": "stripes",
        "files": {"<i>all</i>.gz": {"md5": "cd" * 16, "bytes": 12_345, "from": "https://mirror.example"}},
    }
    artifacts.write_json(root / artifacts.RAW / "source.json", source)
    origins = {name: [f"{name}.gz #{i}" for i in range(len(split))] for name, split in splits.items()}
    checks = check(splits, origins, HOSTILE)
    artifacts.write_json(root / artifacts.CHECKS, checks)

    classifier = Classifier(Card.of(params.model, info), build(params.model, info.shape, 3, seed=0))
    history = train(classifier, data, params.train.epochs)
    classifier.eval().save(root / artifacts.MODEL)
    history.to_csv(root / artifacts.MODEL / "history.csv", index=False)
    layers = plan(params.model, info.shape, 3)
    run = {
        "run_id": "0123456789abcdef",
        "experiment_id": "4",
        "tracking_uri": "sqlite:///mlflow.db",
        "state": "finished",
        "reason": "",
        "best_epoch": params.train.epochs,
        "kept_epoch": params.train.epochs,
        "epochs_run": params.train.epochs,
        "stopped_early": False,
        "parameters": layers.parameters,
        "trainable_parameters": layers.parameters,
        "multiply_adds": layers.multiply_adds,
        "seconds": 81.5,
        "images_per_second": 1234.5,
        "device": "cpu",
        "device_name": "Some & Processor",
        "threads": 1,
        "params": config.to_tree(params),
        "config_hash": "ef" * 16,
        "data_fingerprint": info.fingerprint,
        "git_commit": "1" * 40,
        "git_dirty": False,
        "environment": {"python": "3.11.2", "torch": "2.13.0"},
        "started": "2026-03-01T09:30:00+00:00",
        "model_uri": "models:/m-1",
    } | changes
    artifacts.write_json(root / artifacts.MODEL / "run.json", run)
    verdicts = [Verdict(**verdict) for verdict in checks["verdicts"]]
    result = assess(classifier, classifier, data, splits["test"], 2, run, history, verdicts, params.evaluate)
    write(result, splits["test"], root / artifacts.EVALUATION)
    artifacts.write_json(root / artifacts.EVALUATION / "tracked.json", asdict(Recorded()))


def read(root: Path) -> Inputs:
    places = (artifacts.RAW, artifacts.SEARCH, artifacts.CHECKS, artifacts.MODEL, artifacts.EVALUATION)
    return Inputs.read(*(root / place for place in places))


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A convolutional network with everything to show."""
    root = tmp_path_factory.mktemp("full")
    write_run(root, FULL, {})
    return root


@pytest.fixture(scope="module")
def thin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A linear network that diverged, was not tracked, in no repository, with nothing to look at."""
    root = tmp_path_factory.mktemp("thin")
    missing: dict[str, Any] = dict.fromkeys(("run_id", "experiment_id", "tracking_uri", "model_uri", "git_commit", "device_name"))
    write_run(root, THIN, missing | {"state": "diverged", "reason": "train loss is NaN", "git_dirty": None})
    return root


@pytest.fixture(scope="module")
def text(full: Path) -> str:
    return render(read(full))


@pytest.fixture(scope="module")
def page(text: str) -> Page:
    return Page(text)


def test_a_full_run_shows_every_section_in_order_below_one_headline(page: Page) -> None:
    assert page.texts_in("h2") == list(TITLES.values())
    assert len(page.all("h1")) == 1
    assert [attributes["href"] for attributes in page.all("a") if attributes["href"] in {f"#{name}" for name in TITLES}][1:] == [
        f"#{name}" for name in TITLES
    ]


def test_a_thin_run_leaves_out_what_it_has_not(thin: Path) -> None:
    page = Page(render(read(thin)))
    absent = {"gallery", "outputs", "embedding"}
    assert page.texts_in("h2") == [title for name, title in TITLES.items() if name not in absent]
    drawn = {attributes.get("id") for attributes in page.all("figure")}
    assert drawn.isdisjoint({"figure-filters", "figure-responses", "figure-embeddings"})
    words = " ".join(data for _, data in page.texts)
    assert "Training diverged: Train loss is NaN." in words.replace("train loss", "Train loss")
    assert "not tracked" in words
    assert "not in a git repository" in words


def test_numbers_on_the_page_are_the_numbers_in_the_files(full: Path, page: Page) -> None:
    metrics = read(full).metrics
    shown = {float(str(attributes["value"])) for attributes in page.all("data")}
    expected = {metrics["accuracy"]["value"], metrics["log_loss"], metrics["balanced_accuracy"], metrics["calibration"]["ece"]}
    expected |= {row[name] for row in metrics["per_class"] for name in ("recall", "precision", "f1", "roc_auc", "support")}
    expected |= {metrics[mean][name] for mean in ("macro", "weighted") for name in ("recall", "precision", "f1")}
    expected |= {prob for row in metrics["gallery"]["samples"] for prob in row["probs"]}
    assert {value for value in expected if value is not None} <= shown


def test_the_headline_is_the_test_accuracy_with_its_interval(full: Path, page: Page) -> None:
    accuracy = read(full).metrics["accuracy"]
    assert [data for path, data in page.texts if path[-3:] == ("h1", "span", "data")] == [f"{100 * accuracy['value']:.1f}"]
    words = " ".join(page.texts_in("p"))
    assert f"95\u202f% interval {100 * accuracy['low']:.1f} to {100 * accuracy['high']:.1f}\u202f%" in words


def test_the_worst_verdicts_come_first(full: Path, page: Page) -> None:
    levels = [attributes["class"] for attributes in page.all("li") if attributes.get("class") in ("bad", "warn", "good", "info")]
    first = levels[: len(read(full).verdicts)]
    assert first == sorted(first, key=["bad", "warn", "good", "info"].index)
    assert {"bad", "warn"} & set(first), "the test image that is also a training image is worth a verdict"


def test_nothing_on_the_page_refers_to_anything_outside_it(text: str, page: Page) -> None:
    addresses = [
        value
        for _, attributes in page.elements
        for name, value in attributes.items()
        if name in ("href", "src", "srcset", "action", "data", "xlink:href", "poster", "background")
    ]
    outside = [value for value in addresses if not str(value).startswith(("#", "data:"))]
    assert outside == ["http://127.0.0.1:5000/#/experiments/4/runs/0123456789abcdef?workflowType=machine_learning"]
    assert "@import" not in text
    assert all(address.startswith("#") for address in re.findall(r"url\(\s*['\"]?([^)'\"]*)", text))


def test_every_reference_inside_the_page_has_one_target(text: str, page: Page) -> None:
    identities = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(identities) == len(set(identities))
    internal = {str(v)[1:] for _, a in page.elements for k, v in a.items() if k == "href" and str(v).startswith("#")}
    internal |= set(re.findall(r"url\(#([^)]+)\)", text))
    internal |= {str(a["aria-labelledby"]) for _, a in page.elements if "aria-labelledby" in a}
    assert internal <= set(identities)


def test_names_of_users_are_text_and_never_markup(text: str, page: Page) -> None:
    assert len(page.all("script")) == 1
    assert "<script>alert" not in text
    assert "<i>all" not in text
    assert [data for path, data in page.texts if data == HOSTILE[0]], "the name itself must be readable"


def test_the_page_is_complete_without_its_script(text: str) -> None:
    without = Page(re.sub(r"<script>.*?</script>", "", text, flags=re.DOTALL))
    assert without.texts_in("h2") == list(TITLES.values())
    hidden = [tag for tag, attributes in without.elements if "hidden" in attributes]
    assert hidden == ["button"]


def test_pictures_and_figures_are_described_and_tables_have_scoped_headers(page: Page) -> None:
    assert all(attributes.get("alt") for attributes in page.all("img"))
    assert all(attributes.get("role") == "img" and attributes.get("aria-label") for attributes in page.all("svg"))
    assert all(attributes.get("scope") in ("row", "col") for attributes in page.all("th"))
    assert page.all("html") == [{"lang": "en"}]


def test_every_figure_has_its_numbers_beside_it(full: Path, page: Page) -> None:
    downloads = {attributes["download"] for attributes in page.all("a") if "download" in attributes}
    assert {f"{name}.csv" for name in read(full).figures} | {"right.csv", "outputs.csv", "params.yaml"} <= downloads


def test_the_same_files_give_the_same_bytes(full: Path, text: str) -> None:
    assert render(read(full)) == text


def test_galleries_show_label_prediction_and_probability_of_each_image(full: Path, page: Page) -> None:
    rows = read(full).metrics["gallery"]
    pictures = [attributes for attributes in page.all("img") if str(attributes["alt"]).startswith("Test image")]
    assert len(pictures) == sum(map(len, rows.values()))
    row = rows["right"][0]
    described = f"Test image {row['index']}: {HOSTILE[row['label']]}, predicted {HOSTILE[row['prediction']]} with"
    assert any(str(attributes["alt"]).startswith(described) for attributes in pictures)


def test_repeated_images_are_shown_as_pairs_with_their_origin(page: Page) -> None:
    assert {"test.gz #0", "train.gz #0"} <= {attributes.get("title") for attributes in page.all("img")}


def test_settings_that_differ_from_the_default_stand_out(page: Page) -> None:
    rows = [attributes for attributes in page.all("tr") if attributes.get("class") == "changed"]
    changed = {"model.conv", "model.dense", "train.epochs", "evaluate.gallery", "evaluate.samples", "evaluate.tsne_images"}
    assert len(rows) == 2 * len(changed), "once in the list of changes, once among all settings"
    assert changed <= set(page.texts_in("code"))


def test_the_settings_of_the_evaluation_are_those_it_used_and_not_those_that_the_training_saw(full: Path) -> None:
    inputs = read(full)
    used = inputs.metrics["settings"] | {"gallery": 9}
    page = Page(render(replace(inputs, metrics=inputs.metrics | {"settings": used})))
    link = next(attributes for attributes in page.all("a") if attributes.get("download") == "params.yaml")
    written = YAML(typ="safe").load(base64.b64decode((link["href"] or "").partition(",")[2]))
    assert written == config.to_tree(replace(FULL, evaluate=replace(FULL.evaluate, gallery=9)))
    at = page.texts_in("code").index("evaluate.gallery")
    assert page.texts_in("code")[at + 1] == "9"


def test_a_training_that_diverged_in_its_first_epoch_is_not_said_to_have_trained(full: Path) -> None:
    inputs = read(full)
    told = {"state": "diverged", "reason": "train loss is NaN", "epochs_run": 0, "best_epoch": 0, "kept_epoch": 0}
    run = inputs.run | told | {"seconds": 0, "images_per_second": None}
    initial = "its training diverged in the first epoch; these are the initial weights"
    lede = headline.lede(inputs.dataset, run, headline.estimate(inputs.metrics["accuracy"]))
    assert f"parameters, for 90 images of stripes; {initial}. Training diverged: Train loss is NaN" in lede
    assert headline.training(run).endswith(f"; {initial}. Train loss is NaN.")
    without = {name: figure for name, figure in inputs.figures.items() if not name.startswith("learning")}
    text = render(replace(inputs, run=run, history=[], figures=without))
    assert "trained for" not in text
    assert "epoch 0" not in text


def test_the_epoch_whose_weights_are_kept_is_named_and_marked(full: Path) -> None:
    inputs = read(full)
    run = inputs.run | {"best_epoch": 1, "kept_epoch": 2}
    assert "; the weights of epoch 2 are kept." in headline.training(run)
    assert '<tr class="best"><th scope="row" class="num">2</th>' in render(replace(inputs, run=run))


def test_a_constant_learning_rate_is_not_drawn(full: Path) -> None:
    inputs = read(full)
    level = [row | {"lr": 0.01} for row in inputs.history]
    assert 'id="figure-learning_rate"' in render(inputs)
    assert 'id="figure-learning_rate"' not in render(replace(inputs, history=level))


def test_undefined_numbers_are_dashes_that_say_why(full: Path) -> None:
    inputs = read(full)
    row = inputs.metrics["per_class"][0] | {"precision": None, "undefined": {"precision": "the class is never predicted"}}
    row |= {"recall": None, "recall_low": None, "recall_high": None} | {"undefined": row["undefined"] | {"recall": "no image"}}
    metrics = inputs.metrics | {"per_class": [row, *inputs.metrics["per_class"][1:]], "roc_auc": None}
    page = Page(render(replace(inputs, metrics=metrics)))
    assert {"title": "undefined: the class is never predicted", "class": "num"} in page.all("td")


def test_many_classes_show_the_most_probable_outputs_only(full: Path) -> None:
    inputs = read(full)
    classes = tuple(f"class {k}" for k in range(40))
    sample = {"index": 1, "label": 0, "prediction": 39, "probability": 0.5, "logits": [0.0] * 40, "probs": [0.01] * 39 + [0.5]}
    counts = {split: tuple(range(1, 41)) for split in inputs.dataset.counts}
    changed = replace(
        inputs,
        dataset=replace(inputs.dataset, classes=classes, counts=counts),
        metrics=inputs.metrics
        | {
            "confusion": np.eye(40, dtype=int).tolist(),
            "gallery": {"right": [], "wrong": [], "samples": [sample]},
        },
        gallery={name: inputs.gallery["samples"][: name == "samples"] for name in inputs.gallery},
        checks=inputs.checks | {"examples": {key: [] for key in classes}},
    )
    page = Page(render(changed))
    bars = [attributes for attributes in page.all("span") if str(attributes.get("style")).startswith("--p")]
    assert len(bars) == 6


def test_the_stage_writes_the_page_and_says_where(
    full: Path, text: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(full)
    report.main()
    assert Page(artifacts.REPORT.read_text(encoding="utf-8")).texts_in("h2") == list(TITLES.values())
    accuracy = asdict(read(full))["metrics"]["accuracy"]
    printed = capsys.readouterr().out
    assert printed.startswith("reports/index.html: test accuracy ")
    assert printed.endswith(f"n = {accuracy['n']})\n")


def test_a_missing_file_is_one_line_that_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match="1"):
        report.main()
    assert re.fullmatch(r"error: \S+: No such file or directory\n", capsys.readouterr().err)


def test_a_page_with_every_figure_stays_small(text: str) -> None:
    assert len(text.encode()) < 1_500_000

"""The whole evaluation on a really trained network, from the files of the other stages to its own."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline import artifacts, config
from pipeline.config import Evaluate
from pipeline.data.dataset import SearchData, Split
from pipeline.evaluation.assess import Assessment, EvaluationError, assess
from pipeline.stages import evaluate
from pipeline.verdict import Verdict

FIGURES = [
    *("confusion", "embeddings", "filters", "layers", "learning", "learning_rate", "per_class"),
    *("precision_recall", "reliability", "responses", "roc"),
]
Run = Callable[..., Assessment]


@pytest.fixture
def run_assess(trained, tiny_data: SearchData, test_split: Split) -> Run:
    def call(test: Split = test_split, checks: list[Verdict] | None = None, **settings: int) -> Assessment:
        chosen = Evaluate(**{"tsne_images": 40} | settings)
        return assess(
            trained.classifier, trained.after_epoch_1, tiny_data, test, 1, trained.run, trained.history, checks or [], chosen
        )

    return call


@pytest.fixture
def workspace(trained, tiny_data: SearchData, test_split: Split, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder as the train stage leaves it, and the current one."""
    monkeypatch.chdir(tmp_path)
    tiny_data.write(artifacts.SEARCH)
    test_split.write(artifacts.TEST, "test")
    trained.history.to_csv(artifacts.MODEL / "history.csv", index=False)
    told = {"key": "0123", "name": "stripes", "started": "2026-03-01T09:30:00+00:00"}  # what tracking reads of it
    artifacts.write_json(artifacts.MODEL / "run.json", trained.run | told)
    duplicates = {"level": "warn", "title": "2 test images are also in train", "evidence": "2 of 60", "remedy": "Drop them."}
    artifacts.write_json(artifacts.CHECKS, {"verdicts": [duplicates]})
    Path("params.yaml").write_text(
        "evaluate: {tsne_images: 30, gallery: 4, samples: 3}\ntracking: {uri: 'http://127.0.0.1:9', required: false}\n"
    )
    yield tmp_path
    torch.set_num_threads(1)


def test_the_stage_writes_every_file_that_the_architecture_names(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    evaluate.main()
    metrics = artifacts.read_json(artifacts.EVALUATION / "metrics.json")
    assert sorted(metrics["figures"]) == FIGURES
    for kind in ("svg", "csv"):
        assert sorted(path.stem for path in (artifacts.EVALUATION / "figures").glob(f"*.{kind}")) == FIGURES
    with (
        np.load(artifacts.EVALUATION / "predictions.npz") as predictions,
        np.load(artifacts.EVALUATION / "gallery.npz") as gallery,
    ):
        probs, labels = predictions["probs"], predictions["labels"]
        assert (probs.dtype, probs.shape, labels.dtype) == (np.float32, (60, 3), np.int64)
        assert metrics["accuracy"]["successes"] == (probs.argmax(1) == labels).sum()
        for name in ("right", "wrong", "samples"):
            assert gallery[name].dtype == np.uint8
            assert [row["index"] for row in metrics["gallery"][name]] == gallery[f"{name}_index"].tolist()
            assert len(gallery[name]) == len(metrics["gallery"][name]) <= 4
    headline = artifacts.read_json(artifacts.METRICS)
    assert headline["test_accuracy"] == metrics["accuracy"]["value"]
    titles = [verdict["title"] for verdict in artifacts.read_json(artifacts.EVALUATION / "verdicts.json")]
    assert "2 test images are also in train" in titles
    assert f"test accuracy {headline['test_accuracy']:.2%}" in capsys.readouterr().out


def test_every_opening_of_the_test_set_is_counted_and_the_rest_stays_the_same(workspace: Path) -> None:
    written = []
    for opening in (1, 2):
        evaluate.main()
        metrics = artifacts.read_json(artifacts.EVALUATION / "metrics.json")
        assert metrics.pop("test_openings") == opening
        metrics.pop("speed")
        figures = {path.name: path.read_bytes() for path in (artifacts.EVALUATION / "figures").iterdir()}
        written.append((metrics, figures, artifacts.METRICS.read_bytes(), (artifacts.EVALUATION / "gallery.npz").read_bytes()))
    assert written[0] == written[1]


def test_a_model_of_other_data_is_refused_in_one_line(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = artifacts.read_json(artifacts.MODEL / "run.json")
    artifacts.write_json(artifacts.MODEL / "run.json", run | {"data_fingerprint": "f" * 32})
    with pytest.raises(SystemExit):
        evaluate.main()
    error = capsys.readouterr().err
    assert error == (
        "error: the model must be trained on the prepared data (stripes, 00000000000000000000000000000000), got one trained on "
        "ffffffffffffffffffffffffffffffff; run `dvc repro`\n"
    )
    assert not artifacts.EVALUATION.exists()


def test_weights_that_are_not_finite_are_refused(trained, run_assess: Run) -> None:
    with torch.no_grad():
        trained.classifier.network.head.bias[1] = torch.nan
    with pytest.raises(
        EvaluationError, match="outputs must be finite, got NaN or infinity for 60 of 60 test images; the training"
    ):
        run_assess()


def test_a_test_set_of_five_images_of_two_classes_is_judged_without_a_warning_from_a_library(
    run_assess: Run, test_split: Split
) -> None:
    few = Split(test_split.images[[0, 1, 3, 4, 6]], test_split.labels[[0, 1, 3, 4, 6]])
    result = run_assess(few)
    json.dumps(result.metrics, allow_nan=False)
    assert "Class square has no test image" in [verdict.title for verdict in result.verdicts]
    assert result.metrics["embedding"]["images"] == 5


def test_a_training_that_diverged_in_its_first_epoch_is_judged_and_named(
    trained, tiny_data: SearchData, test_split: Split
) -> None:
    run = trained.run | {
        "state": "diverged",
        "reason": "the loss was no longer finite in epoch 1",
        "best_epoch": 0,
        "kept_epoch": 0,
        "epochs_run": 0,
    }
    none = trained.history[:0]
    with torch.no_grad():
        trained.classifier.network.head.bias[1] = 1000  # as bad as can be
    result = assess(trained.classifier, trained.after_epoch_1, tiny_data, test_split, 1, run, none, [], Evaluate(tsne_images=40))
    titles = [verdict.title for verdict in result.verdicts]
    assert titles[0] == "Training diverged"
    assert not any("never" in title for title in titles)
    assert not {"learning", "learning_rate", "embeddings"} & result.metrics["figures"].keys()
    assert result.metrics["embedding"] is None


def test_the_settings_that_were_used_are_written(run_assess: Run) -> None:
    settings = run_assess(gallery=7, tsne_images=0).metrics["settings"]
    assert settings == config.to_tree(Evaluate(gallery=7, tsne_images=0))


def test_nothing_is_drawn_or_chosen_where_nothing_is_asked_for(run_assess: Run) -> None:
    result = run_assess(gallery=0, samples=0, tsne_images=0)
    assert result.metrics["gallery"] == {"right": [], "wrong": [], "samples": []}
    assert result.metrics["embedding"] is None
    assert "embeddings" not in result.metrics["figures"]


def test_bad_findings_in_the_data_are_passed_on_and_good_ones_stay_with_the_data(run_assess: Run) -> None:
    bad, good = Verdict("bad", "9 test images are also in train", "9 of 60"), Verdict("good", "Classes are balanced", "20 each")
    verdicts = run_assess(checks=[bad, good]).verdicts
    assert bad in verdicts
    assert good not in verdicts
    assert "Nothing suspicious found" not in [verdict.title for verdict in verdicts]


def test_shuffled_test_labels_are_noticed(run_assess: Run, test_split: Split) -> None:
    shuffled = replace(test_split, labels=np.random.default_rng(0).permutation(test_split.labels))
    found = {verdict.title: verdict.level for verdict in run_assess(shuffled).verdicts}
    assert found["Predictions are at chance level"] == "bad"
    assert any(title.endswith("points below validation, more than chance allows") for title in found)

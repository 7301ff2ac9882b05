"""Assess a trained network on the test images: numbers, verdicts, galleries and figures, as arrays and as files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pipeline import artifacts, config
from pipeline.config import Evaluate
from pipeline.data.dataset import SearchData, Split
from pipeline.evaluation import calibration, drawing, figures, gallery, health, inspection, metrics, network_figures
from pipeline.evaluation.drawing import Drawing
from pipeline.evaluation.statistics import difference
from pipeline.models.classifier import Classifier
from pipeline.models.plan import Layer, plan
from pipeline.verdict import Verdict

SEED = 0  # of galleries, t-SNE and the calibration's chance level; no metric depends on it
FEWEST_EMBEDDED = 5  # images; t-SNE needs neighbours


class EvaluationError(ValueError):
    """A network that cannot be judged; the message gives rule, value and remedy."""


@dataclass(frozen=True)
class Assessment:
    """The output of the stage ``evaluate``.

    metrics : plain data for ``metrics.json``; headline : the flat part of it for ``dvc metrics``
    probs : float32 (n, n_classes), labels : int64 (n,), of the test images
    chosen : positions in the test set of the images in the galleries
    """

    metrics: dict[str, Any]
    headline: dict[str, float | int | None]
    verdicts: list[Verdict]
    probs: np.ndarray
    labels: np.ndarray
    classes: tuple[str, ...]
    chosen: gallery.Gallery
    drawings: list[Drawing]


def write(assessment: Assessment, test: Split, folder: Path) -> None:
    """Write an assessment as the files that docs/architecture.md lists under *evaluate*."""
    artifacts.write_json(folder / "metrics.json", assessment.metrics)
    artifacts.write_json(folder / "verdicts.json", [asdict(verdict) for verdict in assessment.verdicts])
    probs, labels, classes = assessment.probs, assessment.labels, np.array(assessment.classes)
    np.savez(folder / "predictions.npz", probs=probs, labels=labels)
    columns = {"true": classes[labels], "predicted": classes[probs.argmax(axis=1)], "probability": probs.max(axis=1)}
    pd.DataFrame(columns).to_csv(folder / "predictions.csv", index_label="index", float_format="%.6g")
    chosen = vars(assessment.chosen)
    images = {name: test.images[positions] for name, positions in chosen.items()}
    np.savez_compressed(folder / "gallery.npz", **images, **{f"{name}_index": at for name, at in chosen.items()})
    for item in assessment.drawings:
        drawing.save(item, folder / "figures")


def assess(
    classifier: Classifier,
    after_epoch_1: Classifier,
    data: SearchData,
    test: Split,
    openings: int,
    run: Mapping[str, Any],
    history: pd.DataFrame,
    checks: Sequence[Verdict],
    settings: Evaluate,
) -> Assessment:
    """Judge a network on the test images.

    Raises EvaluationError if the network was trained on other data, or an output is not finite.

    classifier, after_epoch_1 : the kept weights and those after the first epoch, in evaluation mode, on one device
    openings : of the test set, this one included
    run, history : content of ``run.json`` and ``history.csv``
    checks : verdicts on the data
    """
    _check_same_data(run, data)
    rng = np.random.default_rng(SEED)
    labels = np.asarray(test.labels)
    logits, probs = inspection.outputs(classifier, test.images)
    _check_finite(logits)
    scores = metrics.score(probs, labels, classifier.classes)
    _, validation_probs = inspection.outputs(classifier, data.validation.images)
    validation = metrics.score(validation_probs, data.validation.labels, classifier.classes)
    reliability = calibration.reliability(probs, labels, settings.calibration_bins, rng)
    chosen = gallery.choose(probs, labels, settings.gallery, settings.samples, rng)
    layers = plan(classifier.card.model, classifier.shape, len(classifier.classes)).layers
    most = settings.tsne_images if run["epochs_run"] else 0  # initial weights have no before and after
    embedding, embedded = _embedding(classifier, after_epoch_1, test, most, rng)
    drawings = [*_curves(history, run, scores, reliability), *embedding, *_inside(classifier, layers, test.images[0])]
    tree = scores.to_tree() | {
        "settings": config.to_tree(settings),
        "dataset": data.info.name,
        "test_openings": openings,
        "validation_accuracy": asdict(validation.accuracy),
        "validation_log_loss": validation.log_loss,
        "test_minus_validation": asdict(difference(scores.accuracy, validation.accuracy)),
        "calibration": reliability.to_tree(),
        "speed": asdict(inspection.speed(classifier, test.images)),
        "layers": [{key: value for key, value in asdict(item).items() if key != "args"} for item in layers],
        "embedding": embedded,
        "gallery": {
            "right": gallery.rows(chosen.right, probs, labels),
            "wrong": gallery.rows(chosen.wrong, probs, labels),
            "samples": gallery.rows(chosen.samples, probs, labels, logits),
        },
        "figures": {drawing.name: {"title": drawing.title, "caption": drawing.caption} for drawing in drawings},
    }
    verdicts = health.judge(scores, validation, reliability, history, run, data.info.counts["train"], openings, checks)
    return Assessment(tree, _headline(tree, run), verdicts, probs, labels, classifier.classes, chosen, drawings)


def _check_same_data(run: Mapping[str, Any], data: SearchData) -> None:
    if run["data_fingerprint"] != data.info.fingerprint:
        raise EvaluationError(
            f"the model must be trained on the prepared data ({data.info.name}, {data.info.fingerprint}), got one trained on "
            f"{run['data_fingerprint']}; run `dvc repro`"
        )


def _check_finite(logits: np.ndarray) -> None:
    broken = int((~np.isfinite(logits).all(axis=1)).sum())
    if broken:
        raise EvaluationError(
            f"the network's outputs must be finite, got NaN or infinity for {broken} of {len(logits)} test images; "
            "the training diverged: lower train.lr and train again"
        )


def _curves(
    history: pd.DataFrame, run: Mapping[str, Any], scores: metrics.Metrics, reliability: calibration.Reliability
) -> list[Drawing]:
    """Return the figures of the training's course, if it completed an epoch, and of the metrics."""
    classes = scores.classes
    return [
        *([figures.learning(history, run), figures.learning_rate(history)] if len(history) else []),
        figures.confusion(scores.confusion, classes),
        figures.roc(scores.roc, classes, scores.roc_auc),
        figures.precision_recall(scores.pr, classes, scores.average_precision),
        figures.reliability(reliability),
        figures.per_class(scores.per_class, classes),
    ]


def _embedding(
    classifier: Classifier, after_epoch_1: Classifier, test: Split, most: int, rng: np.random.Generator
) -> tuple[list[Drawing], dict[str, Any] | None]:
    """Return the t-SNE figure of at most ``most`` test images and its numbers; nothing if there are too few images."""
    picked = np.sort(rng.permutation(len(test))[:most])
    if len(picked) < FEWEST_EMBEDDED:
        return [], None
    images, labels = test.images[picked], np.asarray(test.labels[picked])
    before, after = inspection.features(after_epoch_1, images), inspection.features(classifier, images)
    first, last = inspection.neighbour_agreement(before, labels), inspection.neighbour_agreement(after, labels)
    drawing = network_figures.embeddings(
        inspection.embed(before, SEED), inspection.embed(after, SEED), labels, classifier.classes, (first, last)
    )
    return [drawing], {"images": len(picked), "neighbour_agreement_epoch_1": first, "neighbour_agreement": last}


def _inside(classifier: Classifier, layers: Sequence[Layer], image: np.ndarray) -> list[Drawing]:
    """Return the figure of the layers and, for networks with convolutions, those of their filters and responses."""
    names, parameters, work = zip(*((item.name, item.parameters, item.multiply_adds) for item in layers), strict=True)
    drawings = [network_figures.layers(names, parameters, work)]
    if kernels := inspection.filters(classifier):
        drawings += [network_figures.filters(kernels), network_figures.responses(inspection.responses(classifier, image), image)]
    return drawings


def _headline(tree: Mapping[str, Any], run: Mapping[str, Any]) -> dict[str, float | int | None]:
    """Return the numbers to compare between runs; none changes between two evaluations of the same weights."""
    return {
        "test_accuracy": tree["accuracy"]["value"],
        "test_accuracy_low": tree["accuracy"]["low"],
        "test_accuracy_high": tree["accuracy"]["high"],
        "test_images": tree["accuracy"]["n"],
        "validation_accuracy": tree["validation_accuracy"]["value"],
        "balanced_accuracy": tree["balanced_accuracy"],
        "f1_macro": tree["macro"]["f1"],
        "roc_auc": tree["roc_auc"],
        "log_loss": tree["log_loss"],
        "calibration_error": tree["calibration"]["ece"],
        "parameters": run["parameters"],
        "multiply_adds": run["multiply_adds"],
    }

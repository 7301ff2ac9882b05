"""The top of the page: one number, how far it can be trusted, and what it is of."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from pipeline.data.dataset import DatasetInfo
from pipeline.report import formats
from pipeline.report.document import Head, Key
from pipeline.report.inputs import Inputs
from pipeline.report.table import Estimate

KINDS = {
    "conv": "convolution",
    "norm2d": "batch norm",
    "norm1d": "batch norm",
    "max": "max pooling",
    "avg": "average pooling",
    "average": "average over the image",
    "dropout2d": "dropout of channels",
}  # what plan.Layer calls them → what people do
UNTRAINED = "its training diverged in the first epoch; these are the initial weights"


def estimate(share: Mapping[str, Any]) -> Estimate:
    """An accuracy as the evaluation wrote it."""
    return Estimate(*(share[name] for name in ("value", "low", "high", "n")))


def describe_network(model: Mapping[str, Any]) -> str:
    """``3 convolutions and 1 hidden dense layer``, from the section ``model`` of the configuration."""
    parts = [formats.plural(len(model["conv"]), "convolution"), formats.plural(len(model["dense"]), "hidden dense layer")]
    return " and ".join(part for part in parts if part) or "one linear layer"


def lede(dataset: DatasetInfo, run: Mapping[str, Any], test: Estimate) -> str:
    """What was trained on what, in two or three sentences."""
    train = f"{sum(dataset.counts['train']):,}"
    network = f"{describe_network(run['params']['model'])}, {run['parameters']:,} parameters"
    training = (
        f"trained for {formats.plural(run['epochs_run'], 'epoch')} on {train} images of {dataset.name} in "
        f"{formats.duration(run['seconds'])} on {run['device_name'] or run['device']}."
    )
    if not run["epochs_run"]:
        training = f"for {train} images of {dataset.name}; {UNTRAINED}."
    sentences = [f"95{formats.NARROW}% interval {test.interval(test.n)} (Wilson).", f"A network of {network}, {training}"]
    if run["state"] == "diverged":
        sentences.append(f"Training diverged: {formats.sentence(run['reason'])}")
    return " ".join(sentences)


def head(inputs: Inputs) -> Head:
    """The top of the page."""
    run, dataset = inputs.run, inputs.dataset
    test = estimate(inputs.metrics["accuracy"])
    number = f"{100 * test.value:.{formats.digits_for(test.n)}f}"
    return Head(
        name=dataset.name,
        window=f"{dataset.name}: {test.percent(test.n)} – studyline",
        when=datetime.fromisoformat(run["started"]),
        title=f"of {test.n:,} test images classified correctly",
        lede=lede(dataset, run, test),
        keys=keys(inputs),
        number=(test.value, number, "%"),
        intervals={"Test": test, "Validation": estimate(inputs.metrics["validation_accuracy"])},
    )


def keys(inputs: Inputs) -> list[Key]:
    """The figures below the headline."""
    run, metrics = inputs.run, inputs.metrics
    calibration, speed = metrics["calibration"], metrics["speed"]
    digits = formats.digits_for(metrics["accuracy"]["n"])
    balanced = metrics["balanced_accuracy"]
    return [
        Key("Balanced accuracy", balanced, formats.percent(balanced, digits), "every class counts the same"),
        Key("Log-loss", metrics["log_loss"], formats.decimal(metrics["log_loss"]), "nats per image; 0 is perfect"),
        Key(
            "Calibration error",
            calibration["ece"],
            formats.percent(calibration["ece"]),
            f"ECE; {formats.percent(calibration['chance_mean'])} is chance",
        ),
        Key("Mean ROC AUC", metrics["roc_auc"], formats.decimal(metrics["roc_auc"], 4), "0.5 is guessing, 1 perfect"),
        Key("Parameters", run["parameters"], formats.short(run["parameters"]), f"{run['trainable_parameters']:,} trainable"),
        Key("Multiply-adds", run["multiply_adds"], formats.short(run["multiply_adds"]), "for one image"),
        Key(
            "Latency",
            speed["latency_ms"],
            formats.milliseconds(speed["latency_ms"]),
            f"one image, median; 95{formats.NARROW}% within {formats.milliseconds(speed['latency_ms_p95'])}",
        ),
        Key(
            "Throughput",
            speed["images_per_second"],
            formats.count(speed["images_per_second"]),
            f"images per second, {speed['batch_size']} at a time",
        ),
    ]


def training(run: Mapping[str, Any]) -> str:
    """How the training went, in a sentence or two."""
    train = run["params"]["train"]
    text = (
        f"Optimiser {train['optimizer']} at learning rate {train['lr']:g} (schedule: {train['schedule']['name']}), batches of "
        f"{train['batch_size']}; "
    )
    if not run["epochs_run"]:
        return f"{text}{UNTRAINED}. {formats.sentence(run['reason'])}"
    text += f"{formats.plural(run['epochs_run'], 'epoch')} of at most {train['epochs']} in {formats.duration(run['seconds'])}"
    if run["images_per_second"]:
        text += f" ({run['images_per_second']:,.0f} images per second)"
    text += f"; the weights of epoch {run['kept_epoch']} are kept."
    if run["stopped_early"]:
        text += f" Stopped early, after {train['early_stopping']} epochs without a lower validation loss."
    if run["state"] == "diverged":
        text += f" It diverged: {formats.sentence(run['reason'])}"
    return text


def network(run: Mapping[str, Any]) -> str:
    """What the layers are, in a sentence."""
    model = run["params"]["model"]
    if not (model["conv"] or model["dense"]):
        return "A single linear layer from pixels to classes."
    layers, activation = describe_network(model), model["activation"]
    return (
        f"{layers[:1].upper()}{layers[1:]}, with {activation} where a layer names no other, then a linear layer to the classes."
    )

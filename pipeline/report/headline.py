"""The top of the page: one number, how far it can be trusted, and what it is of."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from pipeline.data.dataset import DatasetInfo
from pipeline.report import formats
from pipeline.report.document import STEPS, Key
from pipeline.report.inputs import Inputs

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


def strip(proportions: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Intervals on one axis, in percent of its width: for each name left, width and dot; and the ticks.

    proportions : name → n, value, low, high
    """
    low = min(item["low"] for item in proportions.values())
    high = max(item["high"] for item in proportions.values())
    margin = 0.4 * (high - low)
    step = next(step for step in STEPS if high - low + 2 * margin <= 6 * step)
    first = max(0, math.floor(round((low - margin) / step, 6)))
    last = min(round(1 / step), math.ceil(round((high + margin) / step, 6)))

    def place(value: float) -> float:
        return round(100 * (value / step - first) / (last - first), 2)

    digits = max(0, -math.floor(math.log10(step)) - 2)
    rows = [
        {"name": name, "left": place(item["low"]), "width": round(place(item["high"]) - place(item["low"]), 2)}
        | {"dot": place(item["value"])}
        for name, item in proportions.items()
    ]
    ticks = [{"left": place(number * step), "text": formats.percent(number * step, digits)} for number in range(first, last + 1)]
    label = "; ".join(f"{name.lower()} accuracy {interval(item)}" for name, item in proportions.items())
    return {"rows": rows, "ticks": ticks, "label": label}


def interval(item: Mapping[str, Any]) -> str:
    """``98.96 % (95 % interval 98.74 % to 99.14 %, n = 10,000)``"""
    value, low, high = (formats.percent(item[key], formats.digits_for(item["n"])) for key in ("value", "low", "high"))
    return f"{value} (95{formats.NARROW}% interval {low} to {high}, n = {item['n']:,})"


def describe_network(model: Mapping[str, Any]) -> str:
    """``3 convolutions and 1 hidden dense layer``, from the section ``model`` of the configuration."""
    parts = [formats.plural(len(model["conv"]), "convolution"), formats.plural(len(model["dense"]), "hidden dense layer")]
    return " and ".join(part for part in parts if part) or "one linear layer"


def lede(dataset: DatasetInfo, run: Mapping[str, Any], test: Mapping[str, Any]) -> str:
    """What was trained on what, in two or three sentences."""
    train = f"{sum(dataset.counts['train']):,}"
    network = f"{describe_network(run['params']['model'])}, {run['parameters']:,} parameters"
    low, high = (formats.percent(test[key], formats.digits_for(test["n"])) for key in ("low", "high"))
    told = (
        f"trained for {formats.plural(run['epochs_run'], 'epoch')} on {train} images of {dataset.name} in "
        f"{formats.duration(run['seconds'])} on {run['device_name'] or run['device']}."
    )
    if not run["epochs_run"]:
        told = f"for {train} images of {dataset.name}; {UNTRAINED}."
    sentences = [f"95{formats.NARROW}% interval {low} to {high} (Wilson).", f"A network of {network}, {told}"]
    if run["state"] == "diverged":
        sentences.append(f"Training diverged: {formats.sentence(run['reason'])}")
    return " ".join(sentences)


def order(verdicts: Sequence[Mapping[str, str]]) -> list[Mapping[str, str]]:
    """Worst first; within a level the order stays."""
    return sorted(verdicts, key=lambda verdict: ("bad", "warn", "good", "info").index(verdict["level"]))


def verdict_summary(verdicts: Sequence[Mapping[str, str]]) -> str:
    """``1 problem and 2 warnings found.``"""
    numbers = {level: sum(verdict["level"] == level for verdict in verdicts) for level in ("bad", "warn", "good")}
    if not (numbers["bad"] or numbers["warn"]):
        return "No problem found."
    parts = [formats.plural(numbers["bad"], "problem"), formats.plural(numbers["warn"], "warning")]
    return f"{' and '.join(part for part in parts if part)} found."


def view(inputs: Inputs) -> dict[str, Any]:
    """All that the template of the headline needs."""
    run, metrics, dataset = inputs.run, inputs.metrics, inputs.dataset
    test = metrics["accuracy"]
    return {
        "page_title": f"{dataset.name}: {formats.percent(test['value'], formats.digits_for(test['n']))} – studyline",
        "date": datetime.fromisoformat(run["started"]).strftime("%-d %b %Y, %H:%M"),
        "test": test,
        "number": f"{100 * test['value']:.{formats.digits_for(test['n'])}f}",
        "strip": strip({"Test": test, "Validation": metrics["validation_accuracy"]}),
        "lede": lede(dataset, run, test),
        "figures": keys(inputs),
    }


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

"""A network that was really trained, on images that many tests share, with the files that the train stage writes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch.nn.functional import cross_entropy

from pipeline import artifacts, config
from pipeline.config import ConvBlock, DenseBlock, Model, Pool
from pipeline.data.dataset import SearchData, Split
from pipeline.evaluation import inspection
from pipeline.models.build import build
from pipeline.models.classifier import Card, Classifier, load

EPOCHS = 4
MODEL = Model(conv=(ConvBlock(out=4, pool=Pool()), ConvBlock(out=5)), dense=(DenseBlock(out=8),), batch_norm=True)


@dataclass(frozen=True)
class Trained:
    folder: Path
    classifier: Classifier
    after_epoch_1: Classifier
    run: dict[str, Any]
    history: pd.DataFrame


def stripes(n: int, rng: np.random.Generator) -> Split:
    """As the shared fixture's images, with noise that leaves a few of them hard."""
    labels = np.arange(n) % 3
    patterns = np.zeros((3, 12, 12))
    patterns[0, ::3] = patterns[1, :, ::3] = 90
    patterns[2, 3:-3, 3:-3] = 90
    images = patterns[labels] + rng.normal(60, 45, (n, 12, 12))
    return Split(images.clip(0, 255).astype(np.uint8)[:, None], labels.astype(np.int64))


@pytest.fixture
def test_split() -> Split:
    return stripes(60, np.random.default_rng(2))


@pytest.fixture
def trained(tiny_data: SearchData, tmp_path: Path) -> Trained:
    rng = np.random.default_rng(1)
    data = replace(tiny_data, train=stripes(150, rng), validation=stripes(60, rng))
    folder, history = tmp_path / artifacts.MODEL, []
    classifier = Classifier(Card.of(MODEL, data.info), build(MODEL, data.info.shape, 3, seed=0))
    optimizer = torch.optim.Adam(classifier.parameters(), lr=0.003)
    images, labels = torch.from_numpy(data.train.images), torch.from_numpy(data.train.labels)
    for epoch in range(1, EPOCHS + 1):
        classifier.train()
        for batch in torch.randperm(150, generator=torch.Generator().manual_seed(epoch)).split(15):
            optimizer.zero_grad()
            cross_entropy(classifier.logits(images[batch]), labels[batch]).backward()
            optimizer.step()
        classifier.eval()
        history.append((epoch, *judge(classifier, data.train), *judge(classifier, data.validation), 0.003, 0.1))
        classifier.save(folder, "weights_epoch1.safetensors" if epoch == 1 else "weights.safetensors")
    columns = ["epoch", "train_loss", "train_accuracy", "validation_loss", "validation_accuracy", "lr", "seconds"]
    table = pd.DataFrame(history, columns=columns)
    run = healthy_run(table) | {"data_fingerprint": data.info.fingerprint}
    return Trained(folder, load(folder), load(folder, "weights_epoch1.safetensors"), run, table)


def judge(classifier: Classifier, split: Split) -> tuple[float, float]:
    logits, _ = inspection.outputs(classifier, split.images)
    loss = cross_entropy(torch.from_numpy(logits), torch.from_numpy(split.labels)).item()
    return loss, float((logits.argmax(1) == split.labels).mean())


def healthy_run(history: pd.DataFrame) -> dict[str, Any]:
    """What of ``run.json`` evaluation reads, for a training that ended by itself."""
    best = int(history["epoch"][history["validation_loss"].argmin()])
    return {
        "run_id": None,
        "state": "finished",
        "reason": "",
        "best_epoch": best,
        "kept_epoch": best,
        "epochs_run": len(history),
        "stopped_early": False,
        "parameters": 415,
        "multiply_adds": 12345,
        "params": config.to_tree(config.Params()),
    }

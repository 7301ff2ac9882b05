"""Compute a trained network's outputs, filters, responses, embeddings and speed."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from sklearn.manifold import TSNE
from sklearn.neighbors import NearestNeighbors
from torch import Tensor, nn

from pipeline.models.classifier import Classifier
from pipeline.models.plan import images_at_once, plan

NEIGHBOURS = 10


@torch.inference_mode()
def outputs(classifier: Classifier, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return logits and probabilities, float32 (n, n_classes), for uint8 images (n, channels, height, width)."""
    logits = _batched(classifier.logits, images, classifier)
    return logits, torch.from_numpy(logits).softmax(dim=1).numpy()


@torch.inference_mode()
def features(classifier: Classifier, images: np.ndarray) -> np.ndarray:
    """Return the input of the last linear layer, float32 (n, d), for uint8 images (n, channels, height, width)."""
    return _batched(classifier.features, images, classifier)


def filters(classifier: Classifier) -> dict[str, np.ndarray]:
    """Return the kernels of each convolution, float32 (out, in, kernel, kernel), by layer name."""
    return {name: layer.weight.detach().float().cpu().numpy() for name, layer in _convolutions(classifier)}


@torch.inference_mode()
def responses(classifier: Classifier, image: np.ndarray) -> dict[str, np.ndarray]:
    """Return the output of each convolution, before norm and activation: float32 (out, height, width), by layer name.

    image : uint8 (channels, height, width)
    """
    maps: dict[str, np.ndarray] = {}
    names = {name for name, _ in _convolutions(classifier)}
    values = classifier.normalise(_tensor(image[None], classifier))
    for name, layer in classifier.network.named_children():
        values = layer(values)
        if name in names:
            maps[name] = values[0].float().cpu().numpy()
    return maps


def embed(points: np.ndarray, seed: int) -> np.ndarray:
    """Embed points (n, d) in the plane by t-SNE: float32 (n, 2); n >= 5. Equal points are all at 0.

    Perplexity 30, or less for few points. It starts from the first two principal components, which makes it repeatable and keeps
    the global shape. Source: van der Maaten & Hinton 2008; Kobak & Berens 2019 for the start.
    """
    if np.ptp(points, axis=0).max() == 0:
        return np.zeros((len(points), 2), np.float32)
    if points.shape[1] == 1:
        points = np.hstack([points, np.zeros_like(points)])
    perplexity = min(30.0, (len(points) - 1) / 4)
    return TSNE(perplexity=perplexity, init="pca", learning_rate="auto", random_state=seed).fit_transform(points)


def neighbour_agreement(points: np.ndarray, labels: np.ndarray) -> float:
    """Return the mean share of a point's ten nearest neighbours that have its label, in [0, 1].

    It measures how well classes are separated and, unlike a t-SNE picture, can be compared between networks.
    """
    near = NearestNeighbors(n_neighbors=min(NEIGHBOURS, len(points) - 1)).fit(points).kneighbors(return_distance=False)
    return float((labels[near] == labels[:, None]).mean())


@dataclass(frozen=True)
class Speed:
    """The speed of a network on its device.

    latency_ms, latency_ms_p95 : median and 95th percentile, milliseconds for one image from array to probabilities
    repeats : images timed one by one
    images_per_second : at the fastest batch size tried, ``batch_size``
    """

    latency_ms: float
    latency_ms_p95: float
    repeats: int
    images_per_second: float
    batch_size: int
    device: str
    threads: int


@torch.inference_mode()
def speed(classifier: Classifier, images: np.ndarray, repeats: int = 200, batch_sizes: tuple[int, ...] = (32, 128, 512)) -> Speed:
    """Time single images and batches after a warm-up; batches are limited by memory.

    images : uint8 (n, channels, height, width), repeated if too few
    """
    singles = [_seconds(classifier, images[i % len(images)][None]) for i in range(repeats // 10 + repeats)][repeats // 10 :]
    rates = {}
    for size in sorted({min(size, _most(classifier)) for size in batch_sizes}):
        batch = np.resize(images[:size], (size, *images.shape[1:]))
        rates[size] = size / min(_seconds(classifier, batch) for _ in range(5))
    best = max(rates, key=rates.__getitem__)
    return Speed(
        latency_ms=float(np.median(singles) * 1e3),
        latency_ms_p95=float(np.quantile(singles, 0.95) * 1e3),
        repeats=repeats,
        images_per_second=rates[best],
        batch_size=best,
        device=_device(classifier).type,
        threads=torch.get_num_threads(),
    )


def _seconds(classifier: Classifier, images: np.ndarray) -> float:
    start = time.perf_counter()
    classifier(_tensor(images, classifier)).cpu()  # the copy back waits for the device
    return time.perf_counter() - start


def _convolutions(classifier: Classifier) -> list[tuple[str, nn.Conv2d]]:
    return [(name, layer) for name, layer in classifier.network.named_children() if isinstance(layer, nn.Conv2d)]


def _device(classifier: Classifier) -> torch.device:
    return next(classifier.parameters()).device


def _tensor(images: np.ndarray, classifier: Classifier) -> Tensor:
    # copies only this batch: the images may be mapped from a file
    return torch.from_numpy(np.array(images)).to(_device(classifier))


def _batched(call: Callable[[Tensor], Tensor], images: np.ndarray, classifier: Classifier) -> np.ndarray:
    step = _most(classifier)
    parts = [call(_tensor(images[at : at + step], classifier)).float().cpu() for at in range(0, len(images), step)]
    return torch.cat(parts).numpy()


def _most(classifier: Classifier) -> int:
    """Return the number of images per forward pass; it bounds memory and changes no result."""
    return images_at_once(plan(classifier.card.model, classifier.shape, len(classifier.classes)))

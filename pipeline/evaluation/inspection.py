"""What a trained network says, sees and costs: outputs, filters, responses, embeddings, speed."""

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
    """Logits and probabilities, float32 arrays of shape (n, n_classes), of uint8 images (n, channels, height, width)."""
    logits = _batched(classifier.logits, images, classifier)
    return logits, torch.from_numpy(logits).softmax(dim=1).numpy()


@torch.inference_mode()
def features(classifier: Classifier, images: np.ndarray) -> np.ndarray:
    """The input of the last linear layer, float32 array of shape (n, d)."""
    return _batched(classifier.features, images, classifier)


def filters(classifier: Classifier) -> dict[str, np.ndarray]:
    """The learned kernels of each convolution, float32 arrays of shape (out, in, kernel, kernel), by layer name."""
    return {name: layer.weight.detach().float().cpu().numpy() for name, layer in _convolutions(classifier)}


@torch.inference_mode()
def responses(classifier: Classifier, image: np.ndarray) -> dict[str, np.ndarray]:
    """What each convolution answers to one uint8 image (channels, height, width), before norm and activation.

    Returns
    -------
    float32 arrays of shape (out, height, width), by layer name
    """
    answers: dict[str, np.ndarray] = {}
    names = {name for name, _ in _convolutions(classifier)}
    values = classifier.normalise(_tensor(image[None], classifier))
    for name, layer in classifier.network.named_children():
        values = layer(values)
        if name in names:
            answers[name] = values[0].float().cpu().numpy()
    return answers


def embed(points: np.ndarray, seed: int) -> np.ndarray:
    """t-SNE of points (n, d) in the plane, float32 array of shape (n, 2); n >= 5.

    Perplexity 30, or less for few points; starts from the first two principal components, so that it is repeatable and
    keeps the large shape. Source: van der Maaten & Hinton 2008; Kobak & Berens 2019 for the start. Points that are all
    the same stay on one point.
    """
    if np.ptp(points, axis=0).max() == 0:
        return np.zeros((len(points), 2), np.float32)
    if points.shape[1] == 1:
        points = np.hstack([points, np.zeros_like(points)])
    perplexity = min(30.0, (len(points) - 1) / 4)
    return TSNE(perplexity=perplexity, init="pca", learning_rate="auto", random_state=seed).fit_transform(points)


def neighbour_agreement(points: np.ndarray, labels: np.ndarray) -> float:
    """Share of the ten nearest neighbours of a point that have its label, mean over the points, in [0, 1].

    One number for how far classes lie apart; in contrast to a t-SNE picture it can be compared between networks.
    """
    near = NearestNeighbors(n_neighbors=min(NEIGHBOURS, len(points) - 1)).fit(points).kneighbors(return_distance=False)
    return float((labels[near] == labels[:, None]).mean())


@dataclass(frozen=True)
class Speed:
    """How fast a network answers, on the device where it is.

    latency_ms, latency_ms_p95 : median and 95th percentile, milliseconds for one image from array to probabilities
    repeats : images timed one by one
    images_per_second : of the best of the batch sizes tried, ``batch_size``
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
    """Time single images and batches, warm; batches are no larger than memory allows.

    images : uint8 (n, channels, height, width), repeated where too few
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
    # a copy of this batch alone: the images may be mapped from a file
    return torch.from_numpy(np.array(images)).to(_device(classifier))


def _batched(call: Callable[[Tensor], Tensor], images: np.ndarray, classifier: Classifier) -> np.ndarray:
    step = _most(classifier)
    parts = [call(_tensor(images[at : at + step], classifier)).float().cpu() for at in range(0, len(images), step)]
    return torch.cat(parts).numpy()


def _most(classifier: Classifier) -> int:
    """Images per forward pass; bounds memory, changes no result."""
    return images_at_once(plan(classifier.card.model, classifier.shape, len(classifier.classes)))

"""A trained network with its normalisation and classes; saving and loading."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from pydantic import TypeAdapter
from torch import Tensor, nn

from pipeline import artifacts, tensors
from pipeline.config import Model, to_tree
from pipeline.data.dataset import DatasetInfo
from pipeline.models.build import Network, build

CARD, WEIGHTS = "model.json", "weights.safetensors"


@dataclass(frozen=True)
class Card:
    """The description of a classifier without its weights: the content of ``model.json``.

    shape : of one image, (channels, height, width)
    mean, std : per channel, pixels scaled to [0, 1]
    """

    model: Model
    shape: tuple[int, int, int]
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @classmethod
    def of(cls, model: Model, info: DatasetInfo) -> Card:
        return cls(model, info.shape, info.classes, info.mean, info.std)


class Classifier(nn.Module):
    """uint8 images (n, channels, height, width) → class probabilities (n, classes), each row summing to 1."""

    def __init__(self, card: Card, network: Network) -> None:
        super().__init__()
        self.card = card
        self.network = network
        # (x / 255 - mean) / std as one multiplication and one addition per pixel
        std = torch.tensor(card.std).reshape(1, -1, 1, 1)
        self.register_buffer("scale", 1 / (255 * std), persistent=False)
        self.register_buffer("offset", -torch.tensor(card.mean).reshape(1, -1, 1, 1) / std, persistent=False)
        self.scale: Tensor
        self.offset: Tensor

    @property
    def classes(self) -> tuple[str, ...]:
        return self.card.classes

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.card.shape

    def normalise(self, images: Tensor) -> Tensor:
        """Return uint8 images (n, channels, height, width) as float32 with mean 0, std 1 over the training images."""
        return images.to(torch.float32, copy=True).mul_(self.scale).add_(self.offset)

    def logits(self, images: Tensor) -> Tensor:
        """Return the network's outputs, float32 (n, classes), for uint8 images (n, channels, height, width)."""
        return self.network(self.normalise(images))

    def features(self, images: Tensor) -> Tensor:
        """Return the input of the last linear layer, float32 (n, d), for uint8 images (n, channels, height, width)."""
        return self.network.features(self.normalise(images))

    def forward(self, images: Tensor) -> Tensor:
        return self.logits(images).softmax(dim=1)

    def save(self, folder: Path, weights: str = WEIGHTS) -> None:
        """Write ``model.json`` and the weights."""
        card = card_content(self.card)
        artifacts.write_bytes(folder / CARD, card)
        artifacts.write_bytes(folder / weights, pack_weights(self.network.state_dict(), card))


def card_content(card: Card) -> bytes:
    """Return the content of ``model.json``."""
    return artifacts.to_json(to_tree(card))


def pack_weights(weights: Mapping[str, Tensor], card: bytes) -> bytes:
    """Return the bytes of a weights file, with the digest of its ``model.json``."""
    return tensors.pack(weights, {CARD: hashlib.sha256(card).hexdigest()})


def load(folder: Path, weights: str = WEIGHTS) -> Classifier:
    """Return the classifier saved in ``folder``, on the CPU, in evaluation mode. Nothing is unpickled.

    Raises DamagedError if one of its two files has changed since it was written.
    """
    content, (state, digests) = (folder / CARD).read_bytes(), tensors.read_tensors(folder / weights)
    if digests and digests[CARD] != hashlib.sha256(content).hexdigest():  # earlier versions wrote none
        raise artifacts.DamagedError(f"{folder / CARD} is damaged: {tensors.REMEDY}")
    card = TypeAdapter(Card).validate_json(content)
    classifier = Classifier(card, build(card.model, card.shape, len(card.classes), seed=0))
    classifier.network.load_state_dict(state)
    return classifier.eval()

import pickletools

import pytest
import torch

from pipeline.config import parse
from pipeline.models.build import build
from pipeline.models.classifier import Card, Classifier, load


@pytest.fixture
def classifier():
    model = parse({"model": {"conv": [{"out": 4}], "dense": [{"out": 6}], "batch_norm": True, "dropout": 0.5}}).model
    card = Card(model, (3, 8, 8), ("cat", "dog"), (0.1, 0.5, 0.9), (0.2, 0.3, 0.4))
    return Classifier(card, build(model, card.shape, 2, seed=3)).eval()


@pytest.fixture
def images():
    return torch.randint(0, 256, (7, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def test_a_saved_classifier_comes_back_with_the_same_card_and_the_same_probabilities(classifier, images, tmp_path):
    classifier.save(tmp_path)
    again = load(tmp_path)
    assert again.card == classifier.card
    assert not again.training
    assert torch.equal(again(images), classifier(images))


def test_the_saved_weights_hold_no_pickle(classifier, tmp_path):
    classifier.save(tmp_path)
    with pytest.raises(ValueError, match="opcode"):
        list(pickletools.genops((tmp_path / "weights.safetensors").read_bytes()))


def test_probabilities_are_positive_and_sum_to_one(classifier, images):
    probs = classifier(images)
    assert (probs > 0).all()
    torch.testing.assert_close(probs.sum(1), torch.ones(7))


def test_normalising_is_scaling_to_one_then_subtracting_the_mean_and_dividing_by_the_deviation(classifier, images):
    mean, std = (torch.tensor(values).reshape(1, 3, 1, 1) for values in (classifier.card.mean, classifier.card.std))
    torch.testing.assert_close(classifier.normalise(images), (images / 255 - mean) / std)
    floats = images.float()
    classifier.normalise(floats)
    assert torch.equal(floats, images.float())  # its input stays as it was


def test_features_are_the_input_of_the_last_linear_layer(classifier, images):
    torch.testing.assert_close(classifier.network.head(classifier.features(images)), classifier.logits(images))

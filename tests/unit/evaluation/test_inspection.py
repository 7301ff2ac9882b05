from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.datasets import make_blobs
from torch.nn.functional import conv2d

from pipeline.config import ConvBlock, Model
from pipeline.data.dataset import SearchData, Split
from pipeline.evaluation import inspection
from pipeline.models.build import build
from pipeline.models.classifier import Card, Classifier


def test_outputs_do_not_depend_on_the_size_of_the_batches(trained, test_split: Split, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = inspection.outputs(trained.classifier, test_split.images)
    monkeypatch.setattr(inspection, "images_at_once", lambda _: 7)
    for one, other in zip(whole, inspection.outputs(trained.classifier, test_split.images), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


def test_no_layer_answers_more_than_64_mb_at_once(tiny_data: SearchData) -> None:
    model = Model(conv=(ConvBlock(out=100),))
    card = replace(Card.of(model, tiny_data.info), shape=(1, 96, 96))
    classifier = Classifier(card, build(model, card.shape, 3, seed=0)).eval()
    sizes: list[int] = []
    for layer in classifier.network.children():
        layer.register_forward_hook(lambda layer, inputs, output: sizes.append(output.numel() * output.element_size()))
    images = np.zeros((20, 1, 96, 96), np.uint8)
    assert len(inspection.outputs(classifier, images)[0]) == len(inspection.features(classifier, images)) == 20
    assert inspection.speed(classifier, images, repeats=1, batch_sizes=(1, 20, 30)).batch_size <= 17
    assert 60_000_000 < max(sizes) <= 64_000_000


def test_outputs_are_those_of_the_classifier_and_read_nothing_but_their_images(trained, test_split: Split) -> None:
    before = test_split.images.copy()
    logits, probs = inspection.outputs(trained.classifier, test_split.images)
    expected = trained.classifier(torch.from_numpy(test_split.images)).detach().numpy()
    np.testing.assert_allclose(probs, expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(probs.sum(1), 1, rtol=1e-5)
    assert logits.dtype == probs.dtype == np.float32
    np.testing.assert_array_equal(test_split.images, before)


def test_features_are_what_the_last_layer_turns_into_logits(trained, test_split: Split) -> None:
    head = trained.classifier.network.head
    features = inspection.features(trained.classifier, test_split.images)
    assert features.shape == (60, 8)
    logits, _ = inspection.outputs(trained.classifier, test_split.images)
    weight, bias = (part.detach().numpy() for part in (head.weight, head.bias))
    np.testing.assert_allclose(features @ weight.T + bias, logits, rtol=1e-4, atol=1e-4)


def test_the_response_of_the_first_layer_is_its_convolution_of_the_normalised_image(trained, test_split: Split) -> None:
    image = test_split.images[3]
    answers, kernels = inspection.responses(trained.classifier, image), inspection.filters(trained.classifier)
    assert {name: values.shape for name, values in kernels.items()} == {"conv1": (4, 1, 3, 3), "conv2": (5, 4, 3, 3)}
    assert {name: values.shape for name, values in answers.items()} == {"conv1": (4, 12, 12), "conv2": (5, 6, 6)}
    bias = trained.classifier.network.conv1.bias
    normal = trained.classifier.normalise(torch.from_numpy(image[None]))
    expected = conv2d(normal, torch.from_numpy(kernels["conv1"]), bias, padding=1)[0]
    np.testing.assert_allclose(answers["conv1"], expected.detach().numpy(), rtol=1e-4, atol=1e-4)


def test_clusters_stay_clusters_in_the_plane_the_same_each_time() -> None:
    points, labels = make_blobs(45, n_features=6, centers=3, cluster_std=0.3, random_state=0)
    plane = inspection.embed(points.astype(np.float32), seed=0)
    assert plane.shape == (45, 2)
    assert inspection.neighbour_agreement(plane, labels) > 0.95
    np.testing.assert_array_equal(plane, inspection.embed(points.astype(np.float32), seed=0))


@pytest.mark.parametrize("points", [np.ones((6, 4), np.float32), np.arange(6, dtype=np.float32)[:, None]])
def test_a_layer_that_says_the_same_of_all_images_or_only_one_number_can_be_drawn(points: np.ndarray) -> None:
    assert np.isfinite(inspection.embed(points, seed=0)).all()


def test_neighbour_agreement_is_that_of_a_loop() -> None:
    rng = np.random.default_rng(0)
    points, labels = rng.normal(size=(30, 3)), rng.integers(0, 3, 30)
    shares = []
    for i, point in enumerate(points):
        near = [j for j in np.argsort(((points - point) ** 2).sum(1)) if j != i][:10]
        shares.append(np.mean([labels[j] == labels[i] for j in near]))
    assert inspection.neighbour_agreement(points, labels) == pytest.approx(np.mean(shares))


def test_speed_says_how_it_was_measured(trained, test_split: Split) -> None:
    result = inspection.speed(trained.classifier, test_split.images, repeats=20, batch_sizes=(4, 100))
    assert 0 < result.latency_ms <= result.latency_ms_p95
    assert result.images_per_second > 0
    assert result.batch_size in (4, 100)
    assert (result.repeats, result.device, result.threads) == (20, "cpu", torch.get_num_threads())

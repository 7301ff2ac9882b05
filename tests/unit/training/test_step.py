"""The written-out step against autograd, and one vector of parameters against many tensors."""

from dataclasses import replace

import pytest
import torch

from pipeline.config import Train, parse
from pipeline.models.build import build
from pipeline.training.flat import flatten_parameters
from pipeline.training.optim import make_loss, make_loss_gradient, make_optimizer
from pipeline.training.step import AutogradStep, DenseStep, HalfStep, make_step, product

SHAPE = (1, 28, 28)


class UsualStep:
    """The oracle: the loss itself, and autograd all the way."""

    def __init__(self, network, vector, loss):
        self.network, self.vector, self.loss = network, vector, loss

    def __call__(self, images, labels):
        self.vector.grad.zero_()
        outputs = self.network(images)
        self.loss(outputs, labels).backward()
        return outputs.detach()


def both_steps(model_keys, train):
    """The same network twice, once for each step, with images and labels."""
    model = parse({"model": model_keys}).model
    networks = [build(model, SHAPE, 5, seed=1) for _ in range(2)]
    vectors = [flatten_parameters(network) for network in networks]
    fast = DenseStep(networks[0], make_loss_gradient(train))
    slow = UsualStep(networks[1], vectors[1], make_loss(train))
    images, labels = torch.randn(9, *SHAPE), torch.randint(0, 5, (9,))
    return (fast, vectors[0]), (slow, vectors[1]), images, labels


def assert_steps_agree(model_keys, train):
    torch.manual_seed(0)
    (fast, fast_vector), (slow, slow_vector), images, labels = both_steps(model_keys, train)
    torch.manual_seed(7)
    fast_outputs = fast(images, labels)
    torch.manual_seed(7)  # dropout must drop the same units
    slow_outputs = slow(images, labels)
    torch.testing.assert_close(fast_outputs, slow_outputs, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(fast_vector.grad, slow_vector.grad, rtol=1e-4, atol=1e-6)
    assert slow_vector.grad.abs().sum() > 0


@pytest.mark.parametrize("activation", ["relu", "leaky_relu", "elu", "gelu", "silu", "tanh", "sigmoid", "none"])
@pytest.mark.parametrize("dropout", [0.0, 0.4])
def test_the_written_out_step_gives_autograds_outputs_and_gradients(activation, dropout):
    keys = {"dense": [{"out": 64}, {"out": 16}], "activation": activation, "dropout": dropout}
    assert_steps_agree(keys, Train())


@pytest.mark.parametrize(
    ("loss", "output"),
    [
        ("cross_entropy", "logits"),
        ("cross_entropy", "sigmoid"),
        ("nll", "log_softmax"),
        ("mse", "sigmoid"),
        ("multi_margin", "logits"),
    ],
)
def test_the_written_out_step_takes_every_loss(loss, output):
    assert_steps_agree({"dense": [{"out": 16}], "output": output}, Train(loss=loss))


def test_the_written_out_step_smooths_labels_as_autograd_does():
    assert_steps_agree({"dense": [{"out": 16}]}, Train(label_smoothing=0.1))


def test_the_fast_product_equals_the_usual_one_for_large_and_small_weights():
    generator = torch.Generator().manual_seed(0)
    for inputs, outputs in ((784, 128), (8, 4)):
        x, weight, bias = (torch.randn(*shape, generator=generator) for shape in ((33, inputs), (outputs, inputs), (outputs,)))
        expected = (x.double() @ weight.double().T + bias.double()).float()
        torch.testing.assert_close(product(x, weight, bias), expected, rtol=1e-4, atol=1e-4)


def test_networks_that_the_written_out_step_does_not_know_train_by_autograd():
    train = Train()
    for keys in ({"conv": [{"out": 2}]}, {"dense": [{"out": 4}], "batch_norm": True}):
        network = build(parse({"model": keys}).model, SHAPE, 5, seed=0)
        assert isinstance(make_step(network, flatten_parameters(network), train), AutogradStep)
    network = build(parse({"model": {"dense": [{"out": 4}]}}).model, SHAPE, 5, seed=0)
    vector = flatten_parameters(network)
    assert isinstance(make_step(network, vector, train), DenseStep)
    assert isinstance(make_step(network, vector, replace(train, precision="bf16")), HalfStep)


@pytest.mark.parametrize(
    ("loss", "output"), [("cross_entropy", "logits"), ("nll", "log_softmax"), ("mse", "sigmoid"), ("multi_margin", "logits")]
)
def test_a_step_by_autograd_takes_every_loss(loss, output):
    train = Train(loss=loss)
    model = parse({"model": {"conv": [{"out": 3}], "batch_norm": True, "output": output}}).model
    networks = [build(model, (1, 8, 8), 4, seed=1).train() for _ in range(2)]
    vectors = [flatten_parameters(network) for network in networks]
    images, labels = torch.randn(9, 1, 8, 8), torch.randint(0, 4, (9,))
    ours = AutogradStep(networks[0], vectors[0], make_loss_gradient(train))(images, labels)
    torch.testing.assert_close(ours, UsualStep(networks[1], vectors[1], make_loss(train))(images, labels))
    torch.testing.assert_close(vectors[0].grad, vectors[1].grad, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("output", ["logits", "log_softmax", "sigmoid"])
def test_mixed_precision_gives_the_gradients_of_fp32_to_the_precision_of_bf16(output):
    train = Train(loss="nll" if output == "log_softmax" else "cross_entropy")
    keys = {"conv": [{"out": 8, "pool": {}}], "dense": [{"out": 16}], "batch_norm": True, "activation": "elu", "output": output}
    networks = [build(parse({"model": keys}).model, (1, 8, 8), 4, seed=1).train() for _ in range(2)]
    vectors = [flatten_parameters(network) for network in networks]
    images, labels = torch.randn(64, 1, 8, 8), torch.randint(0, 4, (64,))
    for _ in range(2):  # the second time over gradients of the first
        half = HalfStep(networks[0], make_loss_gradient(train))(images, labels)
        full = UsualStep(networks[1], vectors[1], make_loss(train))(images, labels)
    assert half.dtype == vectors[0].grad.dtype == torch.float32
    torch.testing.assert_close(half, full, rtol=0, atol=0.05)
    cosine = torch.nn.functional.cosine_similarity(vectors[0].grad, vectors[1].grad, dim=0)
    assert cosine > 0.999
    assert vectors[0].grad.norm().item() == pytest.approx(vectors[1].grad.norm().item(), rel=0.02)
    assert not torch.equal(half, full)  # it is bf16 indeed
    norms = [network.norm1.running_mean for network in networks]
    torch.testing.assert_close(norms[0], norms[1], rtol=0, atol=0.02)


OPTIMIZERS = {
    "sgd": (Train(optimizer="sgd", lr=0.1), lambda p: torch.optim.SGD(p, 0.1)),
    "sgd, nesterov": (
        Train(optimizer="sgd", lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.01),
        lambda p: torch.optim.SGD(p, 0.1, momentum=0.9, nesterov=True, weight_decay=0.01),
    ),
    "adam": (Train(weight_decay=0.01), lambda p: torch.optim.Adam(p, 0.001, weight_decay=0.01)),
    "adamw": (Train(optimizer="adamw", weight_decay=0.1), lambda p: torch.optim.AdamW(p, 0.001, weight_decay=0.1)),
    "rmsprop": (Train(optimizer="rmsprop", momentum=0.5), lambda p: torch.optim.RMSprop(p, 0.001, momentum=0.5)),
    "nadam": (Train(optimizer="nadam"), lambda p: torch.optim.NAdam(p, 0.001)),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_one_vector_takes_the_path_that_separate_tensors_take_under_the_plain_optimizer(name):
    train, plain = OPTIMIZERS[name]
    # No batch norm: a bias before it has gradients of rounding noise alone, which Adam blows up to full steps.
    model = parse({"model": {"conv": [{"out": 3}], "dense": [{"out": 4}], "activation": "tanh"}}).model
    flat, usual = (build(model, (1, 6, 6), 3, seed=0).train() for _ in range(2))
    vector = flatten_parameters(flat)
    step, optimizer, oracle = make_step(flat, vector, train), make_optimizer(vector, train), plain(usual.parameters())
    loss = make_loss(train)
    generator = torch.Generator().manual_seed(0)
    for _ in range(5):
        images, labels = torch.randn(8, 1, 6, 6, generator=generator), torch.randint(0, 3, (8,), generator=generator)
        step(images, labels)
        optimizer.step()
        oracle.zero_grad()
        loss(usual(images), labels).backward()
        oracle.step()
    for ours, theirs in zip(flat.parameters(), usual.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)


def test_flattening_keeps_values_and_memory_formats_and_moves_everything_into_the_vector():
    network = build(parse({"model": {"conv": [{"out": 4}, {"out": 5}]}}).model, (3, 6, 6), 3, seed=0)
    before = {name: (value.clone(), value.stride()) for name, value in network.state_dict().items()}
    vector = flatten_parameters(network)
    assert all(torch.equal(value, before[name][0]) for name, value in network.state_dict().items())
    assert all(value.stride() == before[name][1] for name, value in network.state_dict().items())
    with torch.no_grad():
        vector.zero_()
    assert all((value == 0).all() for value in network.state_dict().values())

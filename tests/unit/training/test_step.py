"""The fast steps and optimisers against the plain ones."""

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from pipeline.config import Train, parse
from pipeline.models.build import build
from pipeline.models.plan import ArchitectureError
from pipeline.training.layers import product
from pipeline.training.loss import make_loss, make_loss_gradient
from pipeline.training.optim import flatten_parameters, make_optimizer
from pipeline.training.step import AutogradStep, WrittenStep, make_step

SHAPE, CPU = (1, 28, 28), torch.device("cpu")


def usual(network, images, labels, loss):
    """The oracle: the loss itself, and autograd all the way."""
    outputs = network(images)
    return outputs.detach(), list(torch.autograd.grad(loss(outputs, labels), list(network.parameters())))


def network_of(keys, shape=SHAPE, n_classes=5):
    return build(parse({"model": keys}).model, shape, n_classes, seed=1).train()


def assert_close(ours, theirs, **tolerance):
    """Outputs and gradients."""
    torch.testing.assert_close(ours[0], theirs[0], **tolerance)
    for mine, other in zip(ours[1], theirs[1], strict=True):
        torch.testing.assert_close(mine, other, **tolerance)


def assert_written_step_agrees(keys, train, shape=SHAPE, dtype=torch.float32, rtol=1e-3, atol=2e-6):
    torch.manual_seed(0)
    written, oracle = (network_of(keys, shape).to(dtype) for _ in range(2))
    images, labels = torch.randn(9, *shape, dtype=dtype), torch.randint(0, 5, (9,))
    step = make_step(written, CPU, train)
    assert isinstance(step, WrittenStep)
    for _ in range(2):  # the second time after the first
        torch.manual_seed(7)
        ours = step(images, labels)
        torch.manual_seed(7)  # dropout must drop the same units
        theirs = usual(oracle, images, labels, make_loss(train))
        assert_close(ours, theirs, rtol=rtol, atol=atol)
    assert all(gradient.stride() == parameter.stride() for gradient, parameter in zip(ours[1], written.parameters(), strict=True))
    for mine, other in zip(written.buffers(), oracle.buffers(), strict=True):  # batch norm's running means
        torch.testing.assert_close(mine, other)


ACTIVATIONS = ["relu", "leaky_relu", "elu", "gelu", "silu", "tanh", "sigmoid", "none"]


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("dropout", [0.0, 0.4])
def test_the_written_out_step_gives_autograds_outputs_and_gradients_for_large_dense_layers(activation, dropout):
    assert_written_step_agrees({"dense": [{"out": 64}, {"out": 16}], "activation": activation, "dropout": dropout}, Train())


conv_blocks = st.fixed_dictionaries(
    {
        "out": st.integers(1, 4),
        "kernel": st.sampled_from([1, 3, 5]),
        "stride": st.integers(1, 2),
        "padding": st.sampled_from(["same", 1]),
        "batch_norm": st.booleans(),
        "activation": st.sampled_from(ACTIVATIONS),
        "dropout": st.sampled_from([0.0, 0.5]),
        "pool": st.none() | st.fixed_dictionaries({"kind": st.sampled_from(["max", "avg"]), "kernel": st.integers(1, 2)}),
    }
)
dense_blocks = st.fixed_dictionaries(
    {"out": st.integers(1, 6), "batch_norm": st.booleans(), "activation": st.sampled_from(ACTIVATIONS)}
)


@settings(max_examples=60)
@given(
    conv=st.lists(conv_blocks, max_size=2),
    dense=st.lists(dense_blocks, max_size=2),
    flatten=st.sampled_from(["all", "average"]),
    channels=st.sampled_from([1, 3]),
)
def test_the_written_out_step_gives_autograds_outputs_and_gradients_for_any_architecture(conv, dense, flatten, channels):
    keys = {"conv": conv, "dense": dense, "flatten": flatten}
    try:
        network_of(keys, (channels, 9, 9))
    except ArchitectureError:
        assume(False)
    # In double precision: batch norm over a few nearly equal values makes anything of rounding.
    assert_written_step_agrees(keys, Train(), (channels, 9, 9), torch.float64, rtol=1e-6, atol=1e-9)


LOSSES = [
    ("cross_entropy", "logits"),
    ("cross_entropy", "sigmoid"),
    ("nll", "log_softmax"),
    ("mse", "sigmoid"),
    ("multi_margin", "logits"),
]


@pytest.mark.parametrize(("loss", "output"), LOSSES)
def test_the_written_out_step_takes_every_loss(loss, output):
    assert_written_step_agrees({"dense": [{"out": 16}], "output": output}, Train(loss=loss))


def test_the_written_out_step_smooths_labels_as_autograd_does():
    assert_written_step_agrees({"dense": [{"out": 16}]}, Train(label_smoothing=0.1))


@pytest.mark.parametrize("shape", [(784, 128), (2048, 16), (8, 4)])
def test_the_fast_product_equals_the_usual_one(shape):
    generator = torch.Generator().manual_seed(0)
    inputs, outputs = shape
    x, weight, bias = (torch.randn(*size, generator=generator) for size in ((33, inputs), (outputs, inputs), (outputs,)))
    expected = (x.double() @ weight.double().T + bias.double()).float()
    torch.testing.assert_close(product(x, weight, bias), expected, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(product(x, weight), expected - bias, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("loss", "output"), LOSSES)
def test_a_step_by_autograd_takes_every_loss(loss, output):
    train = Train(loss=loss)
    network = network_of({"conv": [{"out": 3}], "batch_norm": True, "output": output}, (1, 8, 8))
    images, labels = torch.randn(9, 1, 8, 8), torch.randint(0, 5, (9,))
    step = AutogradStep(network, make_loss_gradient(train), half=False)
    for _ in range(2):
        ours = step(images, labels)
    assert_close(ours, usual(network, images, labels, make_loss(train)), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("kind", [WrittenStep, AutogradStep])
@pytest.mark.parametrize("output", ["logits", "log_softmax", "sigmoid"])
@pytest.mark.parametrize(
    "keys",
    [
        {"conv": [{"out": 64, "pool": {}}], "dense": [{"out": 16}], "batch_norm": True, "activation": "elu"},
        {"dense": [{"out": 64}, {"out": 16}], "activation": "elu"},
    ],
    ids=["cnn", "mlp"],
)
def test_mixed_precision_gives_the_gradients_of_fp32_to_the_precision_of_bf16(keys, output, kind):
    torch.manual_seed(0)
    train = Train(loss="nll" if output == "log_softmax" else "cross_entropy", precision="bf16")
    half, full = (network_of(keys | {"output": output}) for _ in range(2))
    images, labels = torch.randn(64, *SHAPE), torch.randint(0, 5, (64,))
    step = kind(half, make_loss_gradient(train), half=True)
    for _ in range(2):  # the second time over gradients of the first
        outputs, gradients = step(images, labels)
        expected, oracle = usual(full, images, labels, make_loss(train))
    assert {gradient.dtype for gradient in gradients} == {outputs.dtype} == {torch.float32}
    torch.testing.assert_close(outputs, expected, rtol=0, atol=0.05)
    assert not torch.equal(outputs, expected)  # it is bf16 indeed
    ours, theirs = (torch.cat([gradient.flatten() for gradient in several]) for several in (gradients, oracle))
    assert torch.nn.functional.cosine_similarity(ours, theirs, dim=0) > 0.999
    assert ours.norm().item() == pytest.approx(theirs.norm().item(), rel=0.02)
    buffers = zip(half.buffers(), full.buffers(), strict=True)
    assert all(torch.allclose(ours.float(), theirs.float(), atol=0.03) for ours, theirs in buffers)


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
def test_all_parameters_at_once_take_the_path_that_separate_ones_take_under_the_plain_optimizer(name):
    train, plain = OPTIMIZERS[name]
    # No batch norm: a bias before it has gradients of rounding noise alone, which Adam blows up to full steps.
    keys = {"conv": [{"out": 3}, {"out": 4}], "dense": [{"out": 4}], "activation": "tanh"}
    ours, theirs = (network_of(keys, (1, 6, 6)) for _ in range(2))
    optimizer, oracle = make_optimizer(ours, train), plain(theirs.parameters())
    step = make_step(ours, CPU, train)
    generator = torch.Generator().manual_seed(0)
    for number in range(5):
        images, labels = torch.randn(8, 1, 6, 6, generator=generator), torch.randint(0, 5, (8,), generator=generator)
        lr = train.lr / (number + 1)
        optimizer.step(step(images, labels)[1], lr)
        oracle.param_groups[0]["lr"] = lr
        for parameter, gradient in zip(theirs.parameters(), usual(theirs, images, labels, make_loss(train))[1], strict=True):
            parameter.grad = gradient
        oracle.step()
    for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-4, atol=1e-6)


def test_flattening_keeps_values_and_memory_formats_and_moves_everything_into_the_vector():
    network = build(parse({"model": {"conv": [{"out": 4}, {"out": 5}]}}).model, (3, 6, 6), 3, seed=0)
    before = {name: (value.clone(), value.stride()) for name, value in network.state_dict().items()}
    vector, gradients = flatten_parameters(network)
    assert all(torch.equal(value, before[name][0]) for name, value in network.state_dict().items())
    assert all(value.stride() == before[name][1] for name, value in network.state_dict().items())
    for number, (gradient, parameter) in enumerate(zip(gradients, network.parameters(), strict=True)):
        assert gradient.shape == parameter.shape
        gradient.fill_(number)
    assert vector.grad.unique().numel() == len(gradients)
    with torch.no_grad():
        vector.zero_()
    assert all((value == 0).all() for value in network.state_dict().values())

"""The training step and the optimisers against what anybody would write in plain PyTorch."""

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from pipeline.config import Train, parse
from pipeline.models.build import build
from pipeline.models.plan import ArchitectureError
from pipeline.training.optim import flatten_parameters, make_optimizer
from pipeline.training.step import Step, bf16_is_faster, make_loss

SHAPE, CPU = (1, 28, 28), torch.device("cpu")
PLAIN_LOSSES = {
    "cross_entropy": nn.CrossEntropyLoss(),
    "nll": nn.NLLLoss(),
    "mse": lambda outputs, labels: ((outputs - torch.eye(outputs.shape[1])[labels]) ** 2).mean(),
    "multi_margin": nn.MultiMarginLoss(),
}


def network_of(keys, shape=SHAPE, n_classes=5):
    return build(parse({"model": keys}).model, shape, n_classes, seed=1).train()


def plain(network):
    """The same layers and weights as people write them: pooling behind the activation, weights in the default memory format."""
    layers = list(network.children())
    for index in reversed(range(len(layers) - 1)):
        if isinstance(layers[index], nn.MaxPool2d) and type(layers[index + 1]).__name__ in MONOTONE:
            layers[index : index + 2] = layers[index + 1], layers[index]
    return nn.Sequential(*layers).to(memory_format=torch.contiguous_format)


def gradients_of(network, images, labels, loss):
    """Outputs and gradients as a plain loop has them."""
    network.zero_grad()
    outputs = network(images)
    loss(outputs, labels).backward()
    return outputs.detach(), [parameter.grad for parameter in network.parameters()]


def assert_close(ours, theirs, **tolerance):
    """Outputs and gradients."""
    torch.testing.assert_close(ours[0], theirs[0], **tolerance)
    for mine, other in zip(ours[1], theirs[1], strict=True):
        torch.testing.assert_close(mine, other, **tolerance)


def assert_step_agrees(keys, loss=F.cross_entropy, oracle_loss=F.cross_entropy, shape=SHAPE, dtype=torch.float32, **tolerance):
    torch.manual_seed(0)
    network, oracle = network_of(keys, shape).to(dtype), plain(network_of(keys, shape).to(dtype))
    images, labels = torch.randn(9, *shape, dtype=dtype), torch.randint(0, 5, (9,))
    step = Step(network, loss, half=False)
    for _ in range(2):  # the second time after the first
        torch.manual_seed(7)
        ours = step(images, labels)
        torch.manual_seed(7)  # dropout must drop the same units
        assert_close(ours, gradients_of(oracle, images, labels, oracle_loss), **{"rtol": 1e-3, "atol": 2e-6, **tolerance})
    assert all(gradient.stride() == parameter.stride() for gradient, parameter in zip(ours[1], network.parameters(), strict=True))
    for mine, other in zip(network.buffers(), oracle.buffers(), strict=True):  # batch norm's running means
        torch.testing.assert_close(mine, other)


ACTIVATIONS = ["relu", "leaky_relu", "elu", "gelu", "silu", "tanh", "sigmoid", "none"]
MONOTONE = {"ReLU", "LeakyReLU", "ELU", "Tanh", "Sigmoid"}


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("dropout", [0.0, 0.4])
def test_a_step_gives_the_outputs_and_gradients_of_a_plain_loop_for_large_dense_layers(activation, dropout):
    assert_step_agrees({"dense": [{"out": 64}, {"out": 16}], "activation": activation, "dropout": dropout})


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
def test_a_step_gives_the_outputs_and_gradients_of_a_plain_loop_for_any_architecture(conv, dense, flatten, channels):
    keys = {"conv": conv, "dense": dense, "flatten": flatten}
    try:
        network_of(keys, (channels, 9, 9))
    except ArchitectureError:
        assume(False)
    # In double precision: batch norm over a few nearly equal values makes anything of rounding.
    assert_step_agrees(keys, shape=(channels, 9, 9), dtype=torch.float64, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("channels", [1, 3, 4, 8])
def test_a_strided_1x1_convolution_spoils_no_memory(channels):
    """oneDNN's own gave wrong gradients or ended the process (uxlfoundation/oneDNN#6035)."""
    keys = {"conv": [{"out": 4, "kernel": 1, "stride": 2}]}
    network, oracle = network_of(keys, (channels, 28, 28)), network_of(keys, (channels, 28, 28)).double()
    step, labels = Step(network, F.cross_entropy, half=False), torch.randint(0, 5, (20,))
    for _ in range(60):
        images = torch.randn(20, channels, 28, 28)
        outputs, gradients = step(images, labels)
    expected = gradients_of(oracle, images.double(), labels, F.cross_entropy)
    assert_close((outputs.double(), [gradient.double() for gradient in gradients]), expected, rtol=1e-3, atol=1e-6)


LOSSES = [
    ("cross_entropy", "logits"),
    ("cross_entropy", "sigmoid"),
    ("nll", "log_softmax"),
    ("mse", "sigmoid"),
    ("multi_margin", "logits"),
]


@pytest.mark.parametrize(("loss", "output"), LOSSES)
@pytest.mark.parametrize("keys", [{"dense": [{"out": 16}]}, {"conv": [{"out": 3}], "batch_norm": True}], ids=["mlp", "cnn"])
def test_a_step_takes_every_loss(loss, output, keys):
    assert_step_agrees(keys | {"output": output}, make_loss(Train(loss=loss)), PLAIN_LOSSES[loss])


def test_a_step_smooths_labels():
    assert_step_agrees({"dense": [{"out": 16}]}, make_loss(Train(label_smoothing=0.1)), nn.CrossEntropyLoss(label_smoothing=0.1))


def test_a_step_takes_any_module():
    class Residual(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner, self.scale = nn.Linear(4, 4), nn.Parameter(torch.ones(4))

        def forward(self, x):
            return x + self.scale * self.inner(x).tanh()

    network, images, labels = Residual(), torch.randn(9, 4), torch.randint(0, 4, (9,))
    ours = Step(network, F.cross_entropy, half=False)(images, labels)
    assert_close(ours, gradients_of(network, images, labels, F.cross_entropy))


@pytest.mark.parametrize("output", ["logits", "log_softmax", "sigmoid"])
@pytest.mark.parametrize(
    "keys",
    [
        {"conv": [{"out": 64, "pool": {}}], "dense": [{"out": 16}], "batch_norm": True, "activation": "elu"},
        {"dense": [{"out": 64}, {"out": 16}], "activation": "elu"},
    ],
    ids=["cnn", "mlp"],
)
def test_mixed_precision_gives_the_gradients_of_fp32_to_the_precision_of_bf16(keys, output):
    torch.manual_seed(0)
    loss = make_loss(Train(loss="nll" if output == "log_softmax" else "cross_entropy"))
    half, full = (network_of(keys | {"output": output}) for _ in range(2))
    images, labels = torch.randn(64, *SHAPE), torch.randint(0, 5, (64,))
    step = Step(half, loss, half=True)
    for _ in range(2):  # the second time over gradients of the first
        outputs, gradients = step(images, labels)
        expected, oracle = gradients_of(full, images, labels, loss)
    assert {gradient.dtype for gradient in gradients} == {outputs.dtype} == {torch.float32}
    torch.testing.assert_close(outputs, expected, rtol=0, atol=0.05)
    assert not torch.equal(outputs, expected)  # it is bf16 indeed
    ours, theirs = (torch.cat([gradient.flatten() for gradient in several]) for several in (gradients, oracle))
    assert F.cosine_similarity(ours, theirs, dim=0) > 0.999
    assert ours.norm().item() == pytest.approx(theirs.norm().item(), rel=0.02)
    buffers = zip(half.buffers(), full.buffers(), strict=True)
    assert all(torch.allclose(ours.float(), theirs.float(), atol=0.03) for ours, theirs in buffers)


def test_a_cpu_trains_in_bf16_where_it_has_instructions_for_it_and_the_network_has_convolutions():
    assert bf16_is_faster(network_of({"conv": [{"out": 3}]}), CPU) == torch.cpu.get_capabilities().get("avx512_bf16", False)
    assert not bf16_is_faster(network_of({"dense": [{"out": 3}]}), CPU)


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
    train, plain_optimizer = OPTIMIZERS[name]
    # No batch norm: a bias before it has gradients of rounding noise alone, which Adam blows up to full steps.
    keys = {"conv": [{"out": 3, "pool": {}}, {"out": 4}], "dense": [{"out": 4}], "activation": "tanh"}
    ours, theirs = network_of(keys, (1, 9, 9)), plain(network_of(keys, (1, 9, 9)))
    optimizer, oracle = make_optimizer(ours, train), plain_optimizer(theirs.parameters())
    step = Step(ours, make_loss(train), half=False)
    generator = torch.Generator().manual_seed(0)
    for number in range(5):
        images, labels = torch.randn(8, 1, 9, 9, generator=generator), torch.randint(0, 5, (8,), generator=generator)
        lr = train.lr / (number + 1)
        optimizer.step(step(images, labels)[1], lr)
        oracle.param_groups[0]["lr"] = lr
        oracle.zero_grad()
        F.cross_entropy(theirs(images), labels).backward()
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

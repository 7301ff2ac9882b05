"""Images per second of the training loop, against the loops that people write, all in one run on one thread.

``python -m benchmarks.training_loop``. The arms take turns, so that a busy machine slows all of them; what counts are the
ratios within a round.
"""

from __future__ import annotations

import statistics
import time
from dataclasses import replace

import torch

from benchmarks import arms
from pipeline.config import Model, Train, parse
from pipeline.lineage import device_name
from pipeline.models.build import build
from pipeline.models.plan import plan
from pipeline.training.step import bf16_is_faster

ROUNDS = 5
CNN = parse(
    {
        "model": {
            "conv": [
                {"out": 16, "kernel": 7, "pool": {}},
                {"out": 8, "kernel": 5, "pool": {}},
                {"out": 4, "stride": 2, "pool": {"kind": "avg"}},
            ]
        }
    }
).model
MLP = parse({"model": {"dense": [{"out": 128}, {"out": 64}]}}).model


def main() -> None:
    print(f"# Training loop: images/s on one thread of {device_name(torch.device('cpu'))}, median of {ROUNDS} rounds\n")
    compare("CNN of reference 001, 4,470 parameters, batch 20", CNN, Train(batch_size=20), 6_000)
    compare("MLP 784-128-64-10, batch 64", MLP, Train(batch_size=64), 24_000)


def compare(title: str, model: Model, train: Train, n: int) -> None:
    split = arms.images(n)
    contestants = {
        "DataLoader, per-sample transforms": arms.data_loader(model, train, split),
        "in memory, DataLoader": arms.in_memory(model, train, split),
        "in memory, sliced by hand": arms.resident(model, train, split),
        "ours, fp32": arms.ours(model, train, split),
    }
    peaks: dict[torch.dtype, list[float]] = {torch.float32: []}
    if bf16_is_faster(build(model, (1, 28, 28), 10, seed=0), torch.device("cpu")):
        contestants["ours, bf16"], peaks[torch.bfloat16] = arms.ours(model, replace(train, precision="bf16"), split), []
    rates: dict[str, list[float]] = {name: [] for name in contestants}
    for round_ in range(ROUNDS + 1):
        for dtype, measured in peaks.items():
            measured.append(matmul_peak(dtype))
        for name, epoch in contestants.items():
            rate = epoch()
            if round_:  # the first round warms up
                rates[name].append(rate)
    report(title, rates, {dtype: max(measured) for dtype, measured in peaks.items()}, flops_per_image(model))


def report(title: str, rates: dict[str, list[float]], peaks: dict[torch.dtype, float], flops: int) -> None:
    first = next(iter(rates))
    print(f"## {title}; {flops / 1e6:.2f} MFLOP an image\n\n| loop | images/s | over the first: median | range | of peak |")
    print("|---|---:|---:|---:|---:|")
    for name, values in rates.items():
        ratios = [value / base for value, base in zip(values, rates[first], strict=True)]
        rate, peak = statistics.median(values), peaks[torch.bfloat16 if "bf16" in name else torch.float32]
        span = f"{min(ratios):.2f}–{max(ratios):.2f}"
        print(f"| {name} | {rate:,.0f} | {statistics.median(ratios):.2f}× | {span} | {rate * flops / peak:.0%} |")
    shown = ", ".join(f"{str(dtype).removeprefix('torch.')} {peak / 1e9:.0f} GFLOP/s" for dtype, peak in peaks.items())
    print(f"\nPeak: a 1024³ matrix product, {shown}.\n")


def flops_per_image(model: Model) -> int:
    """Of one training step: forward, gradient of the weights, and, but for the first layer, gradient of the input."""
    layers = [layer.multiply_adds for layer in plan(model, (1, 28, 28), 10).layers if layer.multiply_adds]
    return 2 * (3 * sum(layers) - layers[0])


def matmul_peak(dtype: torch.dtype) -> float:
    """FLOP/s of a large matrix product."""
    a = torch.randn(1024, 1024).to(dtype)
    best = 0.0
    for _ in range(5):
        start = time.perf_counter()
        a @ a
        best = max(best, 2 * 1024**3 / (time.perf_counter() - start))
    return best


if __name__ == "__main__":
    main()

"""Gradients of the harness's own for dilated depthwise convolutions on a CPU, against torch's.

    python benchmarks/kernels.py [--models timm:mobilenetv2_100/linear@8 ...] [--crop 128 256] [--batch 2] [--rounds 5]

First each kind of convolution, its input gradient and its weight gradient, then forward and backward pass of whole
networks. Torch's and ours run in turn in one process; times are processor time on one thread, medians over rounds after
one that does not count. A relative error against float64 stands beside what is wrong.
"""

from __future__ import annotations

import argparse
import copy
import os
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

from harness.builders.models import build_model
from harness.numerics.check import DTYPES, check
from harness.numerics.convolutions import ConvCase, torch_convolve
from harness.numerics.kernels import own_convolve, use_own_kernels
from harness.specs.spec import Precision, parse_model
from harness.system.devices import device_name

CLASSES = 19
COMBINATIONS: list[tuple[Precision, bool]] = [("fp32", False), ("fp32", True), ("bf16", False), ("bf16", True)]
MODELS = ["timm:mobilenetv2_100/linear@8", "timm:mobilenetv2_100/linear@16", "timm:efficientnet_b0/linear@16"]


def conv(channels: int, side: int, kernel: int, dilation: int, batch: int) -> ConvCase:
    """A depthwise one with "same" padding."""
    padding = dilation * (kernel // 2)
    pairs = ((n, n) for n in (kernel, 1, padding, dilation))
    return ConvCase(*pairs, channels, channels, channels, (side, side), batch)  # type: ignore[arg-type]


def alternating(calls: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Median milliseconds of each call."""
    spent: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds + 1):
        for name, call in calls.items():
            start = time.process_time()
            call()
            spent[name].append(1e3 * (time.process_time() - start))
    return {name: statistics.median(times[1:]) for name, times in spent.items()}


def layout(channels_last: bool) -> torch.memory_format:
    """torch's word."""
    return torch.channels_last if channels_last else torch.contiguous_format


def gradients(case: ConvCase, precision: Precision, channels_last: bool, rounds: int) -> str:
    """A line of the table of convolutions."""
    dtype = DTYPES[precision]
    x = torch.randn(case.batch, case.in_channels, *case.size).to(dtype).contiguous(memory_format=layout(channels_last))
    weight = torch.randn(case.in_channels, 1, *case.kernel).to(dtype)
    gradient = torch.randn_like(x)
    calls: dict[str, Callable[[], object]] = {}
    for part in ("x", "w"):
        leaves = [x.clone().requires_grad_(part == "x"), weight.clone().requires_grad_(part == "w")]
        for name, convolve in (("torch", torch_convolve), ("own", own_convolve)):
            y = convolve(case, *leaves)
            wanted = leaves[0] if part == "x" else leaves[1]
            calls[f"{name} {part}"] = lambda y=y, wanted=wanted: torch.autograd.grad(y, wanted, gradient, True)
    spent = alternating(calls, rounds)
    (torchs,) = check([case], torch.device("cpu"), precision, channels_last)
    wrong = "" if torchs.right else f" (error {max(torchs.errors.values()):.1e})"
    name = f"{case.kind}, {case.in_channels} on {case.size[0]}×{case.size[1]}"
    cells = [name, f"{precision} {'NHWC' if channels_last else 'NCHW'}"]
    cells += [
        f"{spent['torch x']:.1f}",
        f"{spent['own x']:.1f}",
        f"{spent['torch w']:.1f}{wrong}",
        f"{spent['own w']:.1f}",
    ]
    return "| " + " | ".join(cells) + " |"


def networks(word: str, crop: tuple[int, int], batch: int, rounds: int) -> list[str]:
    """Lines of the table of networks."""
    torch.manual_seed(0)
    plain = build_model(parse_model(word), CLASSES).train()
    own = copy.deepcopy(plain)
    use_own_kernels(own)
    images = torch.randn(batch, 3, *crop)

    def step(network: nn.Module, x: Tensor, precision: str) -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            loss = network(x).logits.float().square().mean()
        loss.backward()
        network.zero_grad()

    lines = []
    for precision, last in COMBINATIONS:
        both = [each.to(memory_format=layout(last)) for each in (plain, own)]  # type: ignore[call-overload]
        x = images.contiguous(memory_format=layout(last))
        spent = alternating(
            {name: lambda n=n: step(n, x, precision) for name, n in zip(("torch", "own"), both)},  # noqa: B023
            rounds,
        )
        cells = [word, f"{precision} {'NHWC' if last else 'NCHW'}", f"{spent['torch']:.0f}", f"{spent['own']:.0f}"]
        lines.append("| " + " | ".join([*cells, f"{spent['own'] / spent['torch']:.2f}"]) + " |")
    return lines


def main() -> None:
    """Print both tables as Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="*", default=MODELS)
    parser.add_argument("--crop", type=int, nargs=2, default=[128, 256])
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    where = f"{device_name(torch.device('cpu'))}, {torch.backends.cpu.get_cpu_capability()}, one thread"
    print(f"torch {torch.__version__}; {where}, load {os.getloadavg()[0]:.1f} at the start.\n")
    print("| convolution | | to the input: torch, ms | own, ms | to the weight: torch, ms | own, ms |")
    print("|---|---|---:|---:|---:|---:|")
    kinds = [(192, 64, 3, 2), (384, 32, 3, 2), (960, 32, 3, 4), (240, 32, 5, 2), (256, 33, 3, 12)]
    for kind in kinds:
        for precision, last in COMBINATIONS:
            print(gradients(conv(*kind, options.batch), precision, last, options.rounds), flush=True)
    size = f"{options.batch} crops of {options.crop[0]}×{options.crop[1]}"
    print(f"\nForward and backward pass of a network, {size}.\n")
    print("| network | | torch, ms | own, ms | of torch |")
    print("|---|---|---:|---:|---:|")
    for word in options.models:
        for line in networks(word, tuple(options.crop), options.batch, options.rounds):
            print(line, flush=True)


if __name__ == "__main__":
    main()

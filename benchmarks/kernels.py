"""Convolutions of the harness's own on a CPU, against torch's.

    python benchmarks/kernels.py [--tables depthwise others frozen networks] [--batch 2] [--rounds 5]
                                 [--models timm:mobilenetv2_100/linear@8 ...] [--crop 128 256]

First dilated depthwise convolutions, their input gradient and their weight gradient; then 1x1 convolutions and large
dense ones, forward and backward; convolutions of a frozen teacher; forward and backward pass of whole networks. Torch's
and ours run in turn in one process; times are processor time on one thread, medians over rounds after one that does not
count. A relative error against float64 stands beside what is wrong.
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
from harness.numerics.check import check
from harness.numerics.convolutions import ConvCase, torch_convolve
from harness.numerics.frozen import pack_convolutions
from harness.numerics.kernels import own_convolve, use_own_kernels
from harness.numerics.modes import DTYPES
from harness.specs.spec import Precision, parse_model
from harness.system.devices import device_name
from harness.system.memory import keep_freed_memory

CLASSES = 19
COMBINATIONS: list[tuple[Precision, bool]] = [("fp32", False), ("fp32", True), ("bf16", False), ("bf16", True)]
TABLES = ("depthwise", "others", "frozen", "networks")
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


def pair_of(case: ConvCase) -> tuple[nn.Conv2d, nn.Conv2d, Tensor]:
    """A convolution of torch and a copy, in channels_last, and images."""
    torch.manual_seed(0)
    module = nn.Conv2d(
        case.in_channels, case.out_channels, case.kernel, padding=case.padding, dilation=case.dilation, bias=False
    ).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    x = torch.randn(case.batch, case.in_channels, *case.size).contiguous(memory_format=torch.channels_last)
    return module, copy.deepcopy(module), x


def line(case: ConvCase, spent: dict[str, float]) -> str:
    """A line of a table."""
    name = f"{case.kind}, {case.in_channels} to {case.out_channels} on {case.batch}×{case.size[0]}×{case.size[1]}"
    cells = [name, f"{spent['torch']:.2f}", f"{spent['own']:.2f}", f"{spent['own'] / spent['torch']:.2f}"]
    return "| " + " | ".join(cells) + " |"


def trained(case: ConvCase, rounds: int) -> str:
    """A line of the table of convolutions that are trained: forward and backward pass."""
    plain, own, x = pair_of(case)
    use_own_kernels(own)

    def step(module: nn.Conv2d) -> None:
        y = module(x.requires_grad_())
        y.backward(y.detach())
        module.zero_grad()

    return line(case, alternating({"torch": lambda: step(plain), "own": lambda: step(own)}, rounds))


def frozen(case: ConvCase, rounds: int) -> str:
    """A line of the table of convolutions of a frozen teacher."""
    plain, own, x = pair_of(case)
    pack_convolutions(own)
    with torch.no_grad():
        return line(case, alternating({"torch": lambda: plain(x), "own": lambda: own(x)}, rounds))


def dense(inputs: int, outputs: int, side: int, kernel: int, dilation: int, batch: int) -> ConvCase:
    """One over all channels, with "same" padding."""
    padding = dilation * (kernel // 2)
    pairs = ((n, n) for n in (kernel, 1, padding, dilation))
    return ConvCase(*pairs, 1, inputs, outputs, (side, side), batch)  # type: ignore[arg-type]


OTHERS = [
    *(dense(*sizes, 1, 1, 4) for sizes in ((16, 96, 64), (144, 24, 32), (192, 64, 16), (160, 960, 8), (320, 256, 16))),
    *(dense(*sizes) for sizes in ((512, 512, 6, 3, 4, 12), (256, 512, 6, 3, 2, 12), (512, 512, 16, 3, 4, 4))),
    dense(2048, 2048, 16, 3, 1, 4),
]
FROZEN = [
    *(dense(*sizes) for sizes in ((64, 64, 32, 3, 1, 4), (128, 128, 16, 3, 1, 4), (256, 256, 16, 3, 2, 4))),
    *(dense(*sizes) for sizes in ((512, 512, 16, 3, 4, 4), (256, 256, 32, 3, 2, 2), (512, 512, 32, 3, 4, 2))),
    *(dense(*sizes, 1, 1, 4) for sizes in ((1280, 256, 16), (2048, 512, 16), (64, 256, 32))),
]


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


def print_gradients(options: argparse.Namespace) -> None:
    """The table of depthwise convolutions."""
    print("\n| convolution | | to the input: torch, ms | own, ms | to the weight: torch, ms | own, ms |")
    print("|---|---|---:|---:|---:|---:|")
    kinds = [(192, 64, 3, 2), (384, 32, 3, 2), (960, 32, 3, 4), (240, 32, 5, 2), (256, 33, 3, 12)]
    for kind in kinds:
        for precision, last in COMBINATIONS:
            print(gradients(conv(*kind, options.batch), precision, last, options.rounds), flush=True)


def print_cases(what: str, row: Callable[[ConvCase, int], str], cases: list[ConvCase], rounds: int) -> None:
    """A table of convolutions in fp32 and channels_last."""
    print(f"\n{what}, fp32 NHWC.\n\n| convolution | torch, ms | own, ms | of torch |\n|---|---:|---:|---:|")
    for case in cases:
        print(row(case, rounds), flush=True)


def print_networks(options: argparse.Namespace) -> None:
    """The table of networks."""
    size = f"{options.batch} crops of {options.crop[0]}×{options.crop[1]}"
    print(f"\nForward and backward pass of a network, {size}.\n")
    print("| network | | torch, ms | own, ms | of torch |\n|---|---|---:|---:|---:|")
    for word in options.models:
        for line in networks(word, tuple(options.crop), options.batch, options.rounds):
            print(line, flush=True)


def main() -> None:
    """Print the tables as Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tables", nargs="+", choices=TABLES, default=TABLES)
    parser.add_argument("--models", nargs="*", default=MODELS)
    parser.add_argument("--crop", type=int, nargs=2, default=[128, 256])
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()  # as a stage does
    where = f"{device_name(torch.device('cpu'))}, {torch.backends.cpu.get_cpu_capability()}, one thread"
    print(f"torch {torch.__version__}; {where}, load {os.getloadavg()[0]:.1f} at the start.")
    if "depthwise" in options.tables:
        print_gradients(options)
    if "others" in options.tables:
        print_cases("Forward and backward pass", trained, OTHERS, options.rounds)
    if "frozen" in options.tables:
        print_cases("Forward pass of a frozen convolution", frozen, FROZEN, options.rounds)
    if "networks" in options.tables:
        print_networks(options)


if __name__ == "__main__":
    main()

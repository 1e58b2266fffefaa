"""What a training step costs under each method, as a multiple of a step without distillation.

    python benchmarks/step_time.py [--methods all] [--strides 8 16 32] [--crop 128] [--batch 4] [--device cpu]

One process trains all methods in turn, a step of each to a round, on the same made-up batch, so that whatever else the
machine does disturbs all alike; a figure is the median over rounds. A step is what the harness's own loop does: forward
passes of student and teacher, terms, backward pass, optimiser, discriminators. On a CPU, time is processor time on one
thread; on a GPU it is elapsed time. Nothing is downloaded: weights are random.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import time

import torch
from peers import CLASSES, learner, teacher_of

from harness.builders.distiller import needs_teacher
from harness.builders.expression import resolve
from harness.data.loading import Batch
from harness.specs.recipes import load_recipe
from harness.specs.spec import MethodSpec, Recipe
from harness.stage.shared import configure_torch
from harness.training.loop import CohortLoop


def lone_loop(method: MethodSpec, student: str, teacher: str, recipe: Recipe, device: torch.device) -> CohortLoop:
    """The loop of one cell as a stage has it, from random weights.

    Raises:
        HarnessError: the method does not fit these networks.
    """
    asks = teacher_of(student, teacher, recipe, device) if needs_teacher(method) else None
    return CohortLoop([learner(method, student, teacher, recipe, device)], asks)


def measure(loops: dict[str, CohortLoop], batch: Batch, rounds: int, device: torch.device) -> dict[str, list[float]]:
    """Seconds of each step, by name; a round that does not count comes first."""
    clock = time.perf_counter if device.type == "cuda" else time.process_time
    seconds: dict[str, list[float]] = {name: [] for name in loops}
    for count in range(rounds + 1):
        for name, each in loops.items():
            start = clock()
            each.run([batch])
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            if count:
                seconds[name].append(clock() - start)
    return seconds


def main() -> None:
    """Parse the flags, measure, print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", default="all")
    parser.add_argument("--student", default="timm:mobilenetv2_100/linear")
    parser.add_argument("--teacher", default="timm:resnet18/aspp@8")
    parser.add_argument("--strides", type=int, nargs="+", default=[8, 16, 32])
    parser.add_argument("--crop", type=int, default=128)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--device", default="cpu")
    asked = parser.parse_args()
    device = torch.device(asked.device)
    configure_torch(1, True, device)  # as a stage does
    size = {"crop": (asked.crop, asked.crop), "batch_size": asked.batch, "iterations": 10_000}
    recipe = load_recipe("quick").for_kind("student").model_copy(update=size)
    methods = {m.expression: m for word in ("none", *asked.methods.split(",")) for m in resolve(word)}
    images = torch.randn(asked.batch, 3, asked.crop, asked.crop)
    labels = torch.randint(0, CLASSES, (asked.batch, asked.crop, asked.crop))
    batch = Batch(images, labels, ("",) * asked.batch, torch.arange(asked.batch))
    table: dict[str, list[str]] = {name: [] for name in methods}
    for stride in asked.strides:
        student = f"{asked.student}@{stride}"
        loops = {name: lone_loop(m, student, asked.teacher, recipe, device) for name, m in methods.items()}
        times = {name: statistics.median(found) for name, found in measure(loops, batch, asked.rounds, device).items()}
        for name, seconds in times.items():
            table[name].append(f"{seconds * 1e3:.0f} ms" if name == "none" else f"{seconds / times['none']:.2f}")
    print(f"{asked.student}, teacher {asked.teacher}; {asked.batch} crops of {asked.crop} x {asked.crop}")
    print(f"{CLASSES} classes, {device}, {platform.machine()}, torch {torch.__version__}\n")
    print("| method | " + " | ".join(f"@{stride}" for stride in asked.strides) + " |")
    print("|---|" + "---:|" * len(asked.strides))
    for name, cells in table.items():
        print(f"| `{name}` | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()

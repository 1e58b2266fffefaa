"""Our training step beside the loop that one would write by hand, and beside loops of others, around the same networks.

    python benchmarks/peers.py [--methods kd at fitnet cwd.logits] [--strides 16 32] [--crop 128] [--batch 4]
                               [--peer NAME=FILE.py]

The hand-written loop is what stands in `Plain`: PyTorch as its tutorials write it, the same networks, losses, weights
and optimiser, a frozen teacher under `no_grad`, no harness. The same students are then trained by the harness one by
one, in lock-step with one teacher, and as many of them without distillation. All take a step in turn, in one process,
on one made-up batch, so that whatever else the machine does disturbs all alike; figures are medians over rounds. On a
CPU, time is processor time on one thread. Weights are random; nothing is downloaded.

A loop of others takes part by a file that wraps a checkout of theirs, on your disk, as it was shipped:

    def make(student, teacher, method, recipe):   # networks give maps with .logits and .last
        return step                               # step(images, labels): one whole iteration of theirs

or None for a method that they do not have. A student's time in lock-step is its part of the cohort's: its own step, and
its share of what several asked for.
"""

from __future__ import annotations

import argparse
import importlib.util
import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from backbones.base import Network
from harness.builders.distiller import build_distiller, build_translator, needs_teacher, translator_specs
from harness.builders.expression import resolve
from harness.builders.models import build_model, model_sizes
from harness.data.loading import Batch
from harness.numerics.choose import choose_numerics
from harness.specs.recipes import load_recipe
from harness.specs.spec import MethodSpec, Recipe, parse_model
from harness.stage.shared import configure_torch
from harness.system.devices import device_name
from harness.training.learner import Control, Learner
from harness.training.loop import CohortLoop
from harness.training.objective import SegmentationObjective
from harness.training.teacher import Teacher, freeze
from harness.workspace.events import Events

CLASSES = 19
Step = Callable[[Tensor, Tensor], object]
Make = Callable[[nn.Module, nn.Module, str, Recipe], Step | None]


def by_hand(student: nn.Module, teacher: nn.Module, method: str, recipe: Recipe) -> Step | None:
    """The loop by hand, where it has the method."""
    return Plain(student, teacher, method, recipe) if method in Plain.methods else None


class Plain:
    """A loop by hand, with the default weights of the harness."""

    methods = ("none", "kd", "at", "fitnet", "cwd.logits")

    def __init__(self, student: nn.Module, teacher: nn.Module, method: str, recipe: Recipe) -> None:
        self.student, self.teacher, self.method = student.train(), teacher.eval(), method
        self.iterations, self.iteration = recipe.iterations, 0
        self.lr, self.clip = recipe.optimizer.lr, recipe.clip_grad
        for parameter in teacher.parameters():
            parameter.requires_grad_(False)
        device = next(student.parameters()).device
        with torch.no_grad():
            ends = [network(torch.zeros(1, 3, 64, 64, device=device)).last.shape[1] for network in (student, teacher)]
        self.adapter = nn.Conv2d(*ends, 1, bias=False).to(device) if method == "fitnet" else nn.Identity()
        parameters = [*student.parameters(), *self.adapter.parameters()]
        optimizer = recipe.optimizer
        self.optimizer = torch.optim.SGD(
            parameters, lr=optimizer.lr, momentum=optimizer.momentum, weight_decay=optimizer.weight_decay
        )

    def __call__(self, images: Tensor, labels: Tensor) -> Tensor:
        """One iteration; the loss."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.lr * (1 - self.iteration / self.iterations) ** 0.9
        student = self.student(images)
        logits = F.interpolate(student.logits, size=labels.shape[-2:], mode="bilinear", align_corners=False)
        loss = F.cross_entropy(logits, labels, ignore_index=255)
        if self.method != "none":
            with torch.no_grad():
                teacher = self.teacher(images)
            loss = loss + self.distillation(student, teacher)
        self.optimizer.zero_grad()
        loss.backward()
        if self.clip is not None:
            nn.utils.clip_grad_norm_([p for g in self.optimizer.param_groups for p in g["params"]], self.clip)
        self.optimizer.step()
        self.iteration += 1
        return loss.detach()

    def distillation(self, student: nn.Module, teacher: nn.Module) -> Tensor:
        """The weighted loss, on the teacher's grid."""

        def up(x: Tensor, like: Tensor) -> Tensor:
            return F.interpolate(x, size=like.shape[-2:], mode="bilinear", align_corners=False)

        scores, wanted = up(student.logits, teacher.logits), teacher.logits
        if self.method == "cwd.logits":
            tau = 4.0
            log_s, log_t = (F.log_softmax(x.flatten(2) / tau, dim=-1) for x in (scores, wanted))
            return 3 * tau**2 * F.kl_div(log_s, log_t, reduction="none", log_target=True).sum(-1).mean()
        log_s, log_t = F.log_softmax(scores, dim=1), F.log_softmax(wanted, dim=1)
        kd = F.kl_div(log_s, log_t, reduction="none", log_target=True).sum(1).mean()
        if self.method == "at":
            ours, theirs = (x.square().mean(1, keepdim=True) for x in (student.last, teacher.last))
            ours, theirs = (F.normalize(x.flatten(1)) for x in (up(ours, theirs), theirs))
            return kd + 1e4 * (ours - theirs).square().mean()
        if self.method == "fitnet":
            return kd + 10 * F.mse_loss(up(self.adapter(student.last), teacher.last), teacher.last)
        return kd


def networks(word: str, teacher: str, device: torch.device) -> tuple[Network, Network]:
    """A student and a teacher, always with the same random weights."""
    torch.manual_seed(0)
    pair = [build_model(parse_model(name), CLASSES).to(device) for name in (word, teacher)]
    return pair[0], pair[1]


def teacher_of(word: str, teacher: str, recipe: Recipe, device: torch.device) -> Teacher:
    """As a stage has it: in the layout of the recipe."""
    layout = torch.channels_last if recipe.channels_last else torch.contiguous_format
    return Teacher(networks(word, teacher, device)[1], size=recipe.crop, layout=lambda _: layout)


def learner(method: MethodSpec, word: str, teacher: str, recipe: Recipe, device: torch.device) -> Learner:
    """A student as a stage builds it, the decision of the numerics guard included."""
    network, _ = networks(word, teacher, device)
    decision = choose_numerics(network, recipe.crop, recipe.batch_size, device, recipe.precision, recipe.channels_last)
    sizes = model_sizes(parse_model(word), CLASSES)
    teacher_sizes = model_sizes(parse_model(teacher), CLASSES) if needs_teacher(method) else None
    specs = translator_specs(method, sizes, teacher_sizes) if teacher_sizes else {}
    translators = {name: freeze(build_translator(spec, teacher_sizes)).to(device) for name, spec in specs.items()}
    distiller = build_distiller(method, sizes, teacher_sizes, translators, seed=0)
    objective = SegmentationObjective(network, distiller, 0).to(device)
    decision.apply(objective)
    if decision.channels_last:
        objective.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return Learner(
        objective,
        recipe,
        device,
        decision.precision,
        decision.channels_last,
        Control(Events(None)),
        reads=network.backbone,
    )


def load_peer(path: str) -> Make:
    """`make` of a file that wraps somebody's checkout."""
    spec = importlib.util.spec_from_file_location("peer", path)
    if spec is None or spec.loader is None:
        raise SystemExit(f"{path} is no Python file")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    make: Make = module.make
    return make


def in_turn(steps: dict[str, Callable[[], object]], rounds: int, device: torch.device) -> dict[str, float]:
    """Median seconds of each; a round that does not count comes first."""
    clock = time.perf_counter if device.type == "cuda" else time.process_time
    spent: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(rounds + 1):
        for name, step in steps.items():
            start = clock()
            step()
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            spent[name].append(clock() - start)
    return {name: statistics.median(times[1:]) for name, times in spent.items()}


@dataclass
class Cell:
    """Seconds of an iteration of one student: of each peer that has the method, of ours alone and in lock-step."""

    stride: str
    method: str
    peers: dict[str, float]
    alone: float
    together: float | None

    def row(self, names: Sequence[str]) -> str:
        """A row of the table."""
        together = "" if self.together is None else f"{1e3 * self.together:.0f}"
        values = [f"{1e3 * self.peers[name]:.0f}" if name in self.peers else "" for name in names]
        values += [f"{1e3 * self.alone:.0f}", together]
        for name in names:
            for ours in (self.alone, self.together):
                shown = ours is not None and name in self.peers
                values.append(f"{ours / self.peers[name]:.2f}" if shown and ours is not None else "")
        return f"| @{self.stride} | `{self.method}` | " + " | ".join(values) + " |"


def compare(options: argparse.Namespace, recipe: Recipe, device: torch.device) -> None:
    """Measure, and print both tables."""
    images = torch.randn(options.batch, 3, options.crop, options.crop, device=device)
    labels = torch.randint(0, CLASSES, (options.batch, options.crop, options.crop), device=device)
    batch = Batch(images, labels, ("",) * options.batch, torch.arange(options.batch))
    peers: dict[str, Make] = {"by hand": by_hand} | {name: load_peer(path) for name, path in options.peer}
    steps: dict[str, Callable[[], object]] = {}
    cells = [(name, f"{options.student}@{stride}") for stride in options.strides for name in ("none", *options.methods)]
    members: dict[tuple[str, str], Learner] = {}
    for name, word in cells:
        (method,) = resolve(name)
        for peer, make in peers.items():
            if (step := make(*networks(word, options.teacher, device), name, recipe)) is not None:
                steps[f"{peer} {name} {word}"] = lambda step=step: step(images, labels)
        asks = teacher_of(word, options.teacher, recipe, device) if name != "none" else None
        alone = CohortLoop([learner(method, word, options.teacher, recipe, device)], asks)
        steps[f"alone {name} {word}"] = lambda loop=alone: loop.run([batch])
        if name != "none":
            members[name, word] = learner(method, word, options.teacher, recipe, device)
    cohort = CohortLoop(list(members.values()), teacher_of(cells[0][1], options.teacher, recipe, device))
    steps["cohort"] = lambda: cohort.run([batch])
    found = in_turn(steps, options.rounds, device)
    # The parts of the cohort's time are elapsed time, of which they say how the whole is divided.
    paid = {place: member.progress.paid_s for place, member in members.items()}
    parts = {place: found["cohort"] * part / sum(paid.values()) for place, part in paid.items()}
    table = [
        Cell(
            word.rsplit("@", 1)[1],
            name,
            {peer: found[key] for peer in peers if (key := f"{peer} {name} {word}") in found},
            found[f"alone {name} {word}"],
            parts.get((name, word)),
        )
        for name, word in cells
    ]
    _print(table, list(peers), found["cohort"])


def _print(table: Sequence[Cell], peers: Sequence[str], cohort_s: float) -> None:
    print(
        "| student | method | " + " | ".join(f"{peer}, ms" for peer in peers) + " | alone, ms | in lock-step, ms |",
        end="",
    )
    print("".join(f" alone, of {peer} | in lock-step, of {peer} |" for peer in peers))
    print("|---|---|" + "---:|" * (3 * len(peers) + 2))
    for cell in table:
        print(cell.row(peers))
    members = [cell for cell in table if cell.together is not None]
    none = {cell.stride: cell.alone for cell in table if cell.method == "none"}
    print(f"\nAn iteration of all {len(members)} students: in lock-step {1e3 * cohort_s:.0f} ms, which is")
    rows = {"one by one": [cell.alone for cell in members], "`none`": [none[cell.stride] for cell in members]}
    rows |= {f"one by one, {peer}": [cell.peers.get(peer, math.nan) for cell in members] for peer in peers}
    for what, seconds in rows.items():
        if not math.isnan(sum(seconds)):
            print(f"* {cohort_s / sum(seconds):.2f} of {1e3 * sum(seconds):.0f} ms: as many students, {what}")


def main() -> None:
    """Parse the flags and compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", nargs="+", default=["kd", "at", "fitnet", "cwd.logits"])
    parser.add_argument("--student", default="timm:mobilenetv2_100/linear")
    parser.add_argument("--teacher", default="timm:resnet18/aspp@8")
    parser.add_argument("--strides", type=int, nargs="+", default=[16, 32])
    parser.add_argument("--crop", type=int, default=128)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--peer", type=lambda text: tuple(text.split("=", 1)), action="append", default=[])
    options = parser.parse_args()
    device = torch.device(options.device)
    configure_torch(1, True, device)  # as a stage does
    size = {"crop": (options.crop, options.crop), "batch_size": options.batch, "iterations": 10_000}
    recipe = load_recipe("quick").for_kind("student").model_copy(update=size)
    print(f"{options.student}, teacher {options.teacher}; {options.batch} crops of {options.crop}×{options.crop},")
    print(f"{CLASSES} classes, {recipe.precision}; {device_name(device)}, torch {torch.__version__}.\n")
    compare(options, recipe, device)


if __name__ == "__main__":
    main()

"""The training loop and what it minimises."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from harness.builders.models import build_model
from harness.data.loading import Batch
from harness.errors import StageFailed
from harness.specs.recipes import load_recipe
from harness.specs.spec import Recipe, parse_model
from harness.training.checkpoint import load_checkpoint, load_weights, save_checkpoint, save_weights
from harness.training.learner import Control, Learner
from harness.training.loop import CohortLoop
from harness.training.objective import Losses
from harness.training.optimizers import make_optimizer
from harness.training.randomness import seed_all
from harness.training.teacher import Teacher, TeacherNorm, renormalise
from harness.workspace.events import Events, last_events
from harness.workspace.folders import Workspace
from tests.end_to_end.tiny import job_of, make_plan, only_student, tiny_sweep
from tests.processes import Command, free_port


def test_a_teacher_sees_images_in_its_own_normalisation() -> None:
    student = build_model(parse_model("timm:test_efficientnet/linear@16"), 3).backbone
    teacher = build_model(parse_model("timm:test_resnet/linear@16"), 3).backbone
    teacher.mean, teacher.std = (0.5, 0.4, 0.3), (0.2, 0.3, 0.4)
    pixels = torch.rand(2, 3, 8, 8)
    as_row = lambda v: torch.tensor(v)[:, None, None]  # noqa: E731
    seen = renormalise((pixels - as_row(student.mean)) / as_row(student.std), student, teacher)
    wanted = (pixels - as_row(teacher.mean)) / as_row(teacher.std)
    torch.testing.assert_close(seen, wanted)


def test_maps_of_a_frozen_network_take_part_in_a_backward_pass() -> None:
    network = build_model(parse_model("timm:test_resnet/linear@16"), 3)
    maps = Teacher(network).maps(torch.randn(1, 3, 32, 32), network.backbone, "fp32")
    weight = torch.ones(1, requires_grad=True)
    (maps.last * weight).sum().backward()
    assert weight.grad is not None and not any(p.requires_grad for p in network.parameters())


@pytest.mark.parametrize("norm", ["running", "batch"])
def test_a_teacher_may_use_the_statistics_of_the_batch_and_is_not_changed_by_it(norm: TeacherNorm) -> None:
    network = build_model(parse_model("timm:test_resnet/linear@16"), 3)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    images = torch.randn(4, 3, 32, 32) * 2
    expected = {"running": network.eval(), "batch": copy.deepcopy(network).train()}[norm](images).logits
    found = Teacher(network, norm).maps(images, network.backbone, "fp32").logits
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert not any(p.requires_grad for p in network.parameters())


def test_a_field_added_later_leaves_the_keys_of_old_recipes_alone() -> None:
    assert "teacher_norm" not in Recipe().content
    assert Recipe(teacher_norm="batch").content["teacher_norm"] == "batch"
    file = load_recipe("quick").changed({"teacher_norm": "batch"})
    assert file.for_kind("student").teacher_norm == "batch" and file.for_kind("teacher").teacher_norm == "running"


class Line(nn.Module):
    """y = w x, fitted to y = 3 x; turns to NaN at an iteration of choice."""

    def __init__(self, nan_at: int = -1) -> None:
        super().__init__()
        self.network = nn.Linear(1, 1, bias=False)
        self.nan_at = nan_at

    def forward(
        self, images: Tensor, labels: Tensor, iteration: int, iterations: int, teacher: object = None
    ) -> Losses:
        x = images.mean((1, 2, 3))[:, None]
        loss = ((self.network(x) - 3 * x) ** 2).mean()
        loss = loss * float("nan") if iteration == self.nan_at else loss
        return Losses(loss, {"fit": loss})


def batches(count: int, start: int = 0) -> list[Batch]:
    generator = torch.Generator().manual_seed(0)
    images = [torch.rand(4, 3, 2, 2, generator=generator) for _ in range(count)]
    labels = torch.zeros(4, 2, 2, dtype=torch.int64)
    return [Batch(i, labels, ("",) * 4, torch.arange(4)) for i in images[start:]]


def learner(objective: nn.Module, tmp_path: Path, **recipe: object) -> Learner:
    values = {"iterations": 40, "optimizer": {"lr": 0.3, "momentum": 0.5}, **recipe}
    control = Control(Events(tmp_path / "events.jsonl", every_s=0))
    return Learner(objective, Recipe.model_validate(values), torch.device("cpu"), "fp32", False, control)


def train(learner: Learner, batches: list[Batch]) -> None:
    """Run the loop; what goes wrong is raised."""
    loop = CohortLoop([learner])
    loop.run(batches)
    for error in loop.failed.values():
        raise error


@pytest.mark.parametrize("optimizer", [{"lr": 0.3}, {"name": "adamw", "lr": 0.3}, {"lr": 0.1, "nesterov": True}])
@pytest.mark.parametrize("schedule", ["poly", "cosine", "onecycle", "constant"])
def test_every_optimiser_and_schedule_fits_a_line(tmp_path: Path, optimizer: dict[str, object], schedule: str) -> None:
    seed_all(0, "test")
    line = Line()
    run = learner(line, tmp_path, iterations=80, optimizer=optimizer, schedule={"name": schedule})
    train(run, batches(80))
    progress = run.progress
    assert line.network.weight.item() == pytest.approx(3, abs=0.15)
    assert (progress.iteration, progress.samples_seen) == (80, 320)
    terms = progress.terms({"fit": 2.0})["fit"]
    assert terms.first > 10 * terms.last and terms.weight == 2.0


def test_a_loss_that_is_not_finite_stops_the_run_and_names_term_and_iteration(tmp_path: Path) -> None:
    with pytest.raises(StageFailed, match=r"nan at iteration 7 .*fit nan"):
        train(learner(Line(nan_at=7), tmp_path), batches(40))


def test_events_tell_how_far_it_is(tmp_path: Path) -> None:
    train(learner(Line(), tmp_path), batches(40))
    progress = last_events(tmp_path / "events.jsonl")["progress"]
    assert progress["iteration"] == progress["iterations"] == 40 and progress["eta_s"] == 0
    with (tmp_path / "events.jsonl").open("a") as file:
        file.write('{"event": "progress", "iter')
    assert last_events(tmp_path / "events.jsonl")["progress"] == progress


def test_clipping_bounds_the_step(tmp_path: Path) -> None:
    line = Line()
    before = line.network.weight.item()
    options = {"iterations": 1, "clip_grad": 1e-3, "optimizer": {"lr": 1.0, "momentum": 0.0, "weight_decay": 0}}
    train(learner(line, tmp_path, **options), batches(1))
    assert 0 < abs(line.network.weight.item() - before) <= 1e-3 * 1.001


def test_heads_and_adapters_have_their_own_learning_rate() -> None:
    class Whole(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = build_model(parse_model("timm:test_efficientnet/linear@16"), 3)
            self.distiller = nn.Conv2d(3, 3, 1)
            self.distiller.discriminators = lambda: []  # type: ignore[assignment, union-attr]

    objective = Whole()
    optimizer = make_optimizer(objective, Recipe.model_validate({"optimizer": {"lr": 0.1, "head_lr": 10}}))
    scales = {group["scale"]: len(group["params"]) for group in optimizer.param_groups}
    assert scales == {1.0: len(list(objective.network.backbone.parameters())), 10.0: 4}


def _stepped(optimizer: torch.optim.Optimizer, network: nn.Module, steps: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    for count in range(steps):
        for parameter in network.parameters():
            parameter.grad = 1e-2 * torch.randn(parameter.shape, generator=generator)
        for group in optimizer.param_groups:
            group["lr"] = 0.01 / (1 + count)
        optimizer.step()
    return [parameter.detach() for parameter in network.parameters()]


@pytest.mark.parametrize(
    ("optimizer", "tolerance"),
    [
        ({"name": "sgd", "momentum": 0.9, "weight_decay": 1e-4}, 1e-7),
        ({"name": "sgd", "momentum": 0.9, "weight_decay": 1e-4, "nesterov": True}, 1e-7),
        ({"name": "adamw", "weight_decay": 0.01}, 2e-7),
    ],
)
def test_fused_steps_are_those_of_the_plain_form(optimizer: dict[str, object], tolerance: float) -> None:
    network = build_model(parse_model("timm:test_efficientnet/linear@16"), 3)
    plain, resumed = copy.deepcopy(network), copy.deepcopy(network)
    ours = make_optimizer(network, Recipe.model_validate({"optimizer": optimizer}))
    slow = make_optimizer(plain, Recipe.model_validate({"optimizer": optimizer, "precision": "fp16"}))
    assert ours.defaults["fused"] and not slow.defaults["fused"]
    for fast, exact in zip(_stepped(ours, network, 8), _stepped(slow, plain, 8), strict=True):
        assert (fast - exact).norm() <= tolerance * exact.norm()
    # A checkpoint of the plain form, as runs before wrote it, goes on in that form.
    again = make_optimizer(resumed, Recipe.model_validate({"optimizer": optimizer}))
    resumed.load_state_dict(plain.state_dict())
    again.load_state_dict(copy.deepcopy(slow.state_dict()))
    for one, other in zip(_stepped(again, resumed, 3), _stepped(slow, plain, 3), strict=True):
        assert torch.equal(one, other)


def test_weights_survive_a_round_trip_and_refuse_another_network(tmp_path: Path) -> None:
    network = build_model(parse_model("timm:test_efficientnet/linear@16"), 3)
    save_weights(tmp_path / "w.safetensors", network)
    other = build_model(parse_model("timm:test_efficientnet/linear@16"), 3)
    load_weights(tmp_path / "w.safetensors", other)
    for name, value in network.state_dict().items():
        assert torch.equal(value, other.state_dict()[name])
    from harness.errors import HarnessError

    with pytest.raises(HarnessError, match="does not fit"):
        load_weights(tmp_path / "w.safetensors", build_model(parse_model("timm:test_resnet/linear@16"), 3))


def test_a_checkpoint_never_unpickles_code(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "c.pt", {"x": torch.ones(2), "n": 3})
    assert load_checkpoint(tmp_path / "c.pt")["n"] == 3  # type: ignore[index]
    torch.save({"x": Path("/")}, tmp_path / "evil.pt")
    assert load_checkpoint(tmp_path / "evil.pt") is None
    assert load_checkpoint(tmp_path / "nothing.pt") is None


def test_two_processes_train_one_run(tmp_path: Path) -> None:
    plan = make_plan(tiny_sweep(methods=("none",)))
    node = only_student(plan)
    job = job_of(plan, node, tmp_path)
    file = job.write()
    port, processes = free_port(), []
    for rank in range(2):
        environment = {
            "WORLD_SIZE": "2", "RANK": str(rank), "LOCAL_RANK": str(rank), "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(port),
        }  # fmt: skip
        processes.append(Command(["-m", "harness.worker", str(file)], env=environment))
    told = [process.communicate()[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], told
    folder = Workspace(tmp_path).stage(node.key)
    record = folder.record()
    assert record.training.samples_seen == 8 * 4 and len(record.attempts) == 1
    assert json.loads(folder.job_file.read_text())["name"] == record.name

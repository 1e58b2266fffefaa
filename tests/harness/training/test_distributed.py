"""Two processes that train one run: discriminators and memories are the same in both."""

from __future__ import annotations

import copy
import os
from pathlib import Path

import pytest
import torch
from timm.layers.norm_act import BatchNormAct2d
from torch import Tensor

from harness.builders.distiller import build_distiller
from harness.builders.expression import resolve
from harness.builders.losses import build_loss
from harness.builders.models import build_model, model_sizes
from harness.data.loading import Batch
from harness.specs.spec import LossSpec, Optimizer, Recipe, parse_model
from harness.stage.member import synchronised_modules
from harness.training.auxiliary import build_auxiliary
from harness.training.batch_norm import SharedBatchNorm, share_batch_norms
from harness.training.distributed import Processes, average_gradients, join
from harness.training.learner import Control, Learner
from harness.training.loop import CohortLoop
from harness.training.objective import SegmentationObjective
from harness.training.optimizers import step_discriminator
from harness.training.teacher import Teacher
from harness.workspace.events import Events
from methods.base import IGNORE
from tests.processes import free_port, in_two

METHOD = "skd.holistic+cirkd[pixel_memory=20,region_memory=8].pixel"


def _train(rank: int, port: int, folder: Path) -> None:
    """One of two processes: a few iterations on images of its own, then save what it holds."""
    torch.set_num_threads(1)
    os.environ.update(WORLD_SIZE="2", RANK=str(rank), MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    processes = join(torch.device("cpu"))
    student, teacher = parse_model("timm:test_resnet/linear@32"), parse_model("timm:test_resnet/linear@16")
    torch.manual_seed(0)
    networks = [build_model(spec, 3) for spec in (student, teacher)]
    distiller = build_distiller(resolve(METHOD)[0], model_sizes(student, 3), model_sizes(teacher, 3), {}, seed=0)
    objective = SegmentationObjective(networks[0], distiller, seed=0)
    recipe = Recipe(iterations=3, batch_size=2)
    wrapped = processes.wrap(objective, torch.device("cpu"), synchronised_modules(objective))
    reads = networks[0].backbone
    learner = Learner(objective, recipe, torch.device("cpu"), "fp32", False, Control(Events(None)), wrapped, reads)
    loop = CohortLoop([learner], Teacher(networks[1]), processes=processes)
    generator = torch.Generator().manual_seed(100 + rank)
    images = [torch.randn(2, 3, 64, 64, generator=generator) for _ in range(3)]
    labels = [torch.randint(3, (2, 64, 64), generator=generator) for _ in range(3)]
    loop.run(Batch(i, y, ("", ""), torch.arange(2)) for i, y in zip(images, labels, strict=True))
    torch.save(objective.state_dict(), folder / f"{rank}.pt")
    processes.barrier()
    processes.close()


def global_batch() -> Batch:
    """Five images of which each has more void than the one before."""
    generator = torch.Generator().manual_seed(5)
    images = torch.randn(5, 3, 64, 64, generator=generator)
    labels = torch.randint(3, (5, 64, 64), generator=generator)
    for i in range(5):
        labels[i, : 12 * i] = IGNORE
    return Batch(images, labels, ("",) * 5, torch.arange(5))


def _step(batch: Batch, processes: Processes) -> dict[str, Tensor]:
    """The state after one step of plain gradient descent: batch norms with activations in them, an auxiliary head."""
    student, teacher = parse_model("timm:test_efficientnet/aspp@16"), parse_model("timm:test_resnet/linear@16")
    torch.manual_seed(0)
    networks = [build_model(spec, 3) for spec in (student, teacher)]
    sizes = model_sizes(student, 3)
    distiller = build_distiller(resolve("kd")[0], sizes, model_sizes(teacher, 3), {}, seed=0)
    auxiliary = build_auxiliary(sizes, student.word, 1)
    loss = build_loss(LossSpec(params={"class_weights": [1, 2, 0.5], "label_smoothing": 0.1}), list)
    objective = SegmentationObjective(networks[0], distiller, 0, loss, auxiliary, 0.4)
    for module in objective.modules():
        if isinstance(module, torch.nn.modules.dropout._DropoutNd):
            module.p = 0.0  # two processes draw other masks than one
    recipe = Recipe(batch_size=5, iterations=9, optimizer=Optimizer(lr=0.1, momentum=0, weight_decay=0))
    wrapped, reads = processes.wrap(objective, torch.device("cpu")), networks[0].backbone
    learner = Learner(objective, recipe, torch.device("cpu"), "fp32", False, Control(Events(None)), wrapped, reads)
    learner.step(batch, Teacher(networks[1]))
    return objective.state_dict()


def _step_of_two(rank: int, port: int, folder: Path) -> None:
    torch.set_num_threads(1)
    os.environ.update(WORLD_SIZE="2", RANK=str(rank), MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    processes, whole = join(torch.device("cpu")), global_batch()
    rows = slice(0, 2) if rank == 0 else slice(2, 5)
    part = Batch(whole.images[rows], whole.labels[rows], whole.names[rows], whole.indices[rows])
    torch.save(_step(part, processes), folder / f"{rank}.pt")
    processes.close()


def test_two_processes_give_the_gradient_of_one_with_the_same_global_batch(tmp_path: Path) -> None:
    """Of unequal parts, with unequal void, weighted classes and batch norms; running averages as well."""
    in_two(_step_of_two, free_port(), tmp_path)
    one, two = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2))
    alone = _step(global_batch(), Processes())
    assert one.keys() == two.keys() == alone.keys()
    for name, value in alone.items():
        assert torch.equal(one[name], two[name]), name
        assert torch.allclose(one[name].double(), value.double(), rtol=2e-3, atol=2e-5), name


def test_a_shared_batch_norm_is_torchs_own_where_there_is_one_process() -> None:
    """Checked without processes: `_Sum` adds up nothing else."""
    from torch.distributed import destroy_process_group, init_process_group

    init_process_group("gloo", rank=0, world_size=1, init_method=f"tcp://127.0.0.1:{free_port()}")
    try:
        torch.manual_seed(0)
        plain = torch.nn.Sequential(torch.nn.BatchNorm2d(3), BatchNormAct2d(3), torch.nn.BatchNorm2d(3, momentum=None))
        shared = copy.deepcopy(plain)
        share_batch_norms(shared)
        assert all(isinstance(module, SharedBatchNorm) for module in shared)
        for _ in range(2):
            images = 2 * torch.randn(4, 3, 5, 6) + 1
            inputs = [images.clone().requires_grad_() for _ in range(2)]
            outputs = [net(x) for net, x in zip((plain, shared), inputs, strict=True)]
            assert torch.allclose(*outputs, atol=1e-6)
            for output in outputs:
                (output * images).sum().backward()
            assert torch.allclose(inputs[0].grad, inputs[1].grad, atol=1e-5)  # type: ignore[arg-type]
        assert plain.state_dict().keys() == shared.state_dict().keys()
        for name, value in plain.state_dict().items():
            assert torch.allclose(value.float(), shared.state_dict()[name].float(), atol=1e-6), name
        assert torch.allclose(plain.eval()(images), shared.eval()(images), atol=1e-6)
    finally:
        destroy_process_group()


def test_what_two_processes_train_is_the_same_in_both(tmp_path: Path) -> None:
    in_two(_train, free_port(), tmp_path)
    one, two = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2))
    assert sum("discriminator" in name for name in one) > 10 and sum("vectors" in name for name in one) == 1
    apart_names = [name for name in one if not torch.equal(one[name], two[name])]
    assert not apart_names


def test_one_process_is_left_alone() -> None:
    weight = torch.nn.Parameter(torch.ones(2))
    weight.grad = torch.tensor([1.0, 2.0])
    average_gradients([weight])
    assert weight.grad.tolist() == [1.0, 2.0]
    assert Processes().wrap(torch.nn.Linear(1, 1), torch.device("cpu")) is None


@pytest.mark.parametrize(("factor", "moves"), [(1.0, True), (float("inf"), False), (float("nan"), False)])
def test_a_discriminator_survives_an_overflow(factor: float, moves: bool) -> None:
    weight = torch.nn.Parameter(torch.ones(3))
    optimizer = torch.optim.Adam([weight], lr=0.1)
    loss: Tensor = (weight * factor).sum()
    step_discriminator(optimizer, loss, skip_overflow=True)
    assert bool((weight != 1).all()) is moves and bool(weight.isfinite().all())

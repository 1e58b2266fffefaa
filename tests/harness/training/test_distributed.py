"""Two processes that train one run: discriminators and memories are the same in both."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest
import torch
from torch import Tensor

from harness.builders.distiller import build_distiller
from harness.builders.expression import resolve
from harness.builders.models import build_model, model_sizes
from harness.data.loading import Batch
from harness.specs.spec import Recipe, parse_model
from harness.stage.member import synchronised_modules
from harness.training.distributed import Processes, average_gradients, join
from harness.training.learner import Control, Learner
from harness.training.loop import CohortLoop
from harness.training.objective import SegmentationObjective
from harness.training.optimizers import step_discriminator
from harness.training.teacher import Teacher
from harness.workspace.events import Events

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


def test_what_two_processes_train_is_the_same_in_both(tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    torch.multiprocessing.start_processes(_train, (port, tmp_path), nprocs=2, start_method="spawn")
    one, two = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2))
    assert sum("discriminator" in name for name in one) > 10 and sum("vectors" in name for name in one) == 1
    # Running averages of batch norms are each process's own on a CPU; the first process's are saved.
    apart_names = [name for name in one if not torch.equal(one[name], two[name]) and "running_" not in name]
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

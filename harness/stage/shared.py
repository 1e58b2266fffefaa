"""The resources shared by stages that are trained together: data, device, processes, teacher and translators."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import torch

from backbones.base import Backbone
from harness.builders.datasets import open_dataset
from harness.data.base import Dataset
from harness.errors import HarnessError
from harness.numerics.choose import choose_numerics
from harness.specs.spec import Precision
from harness.stage.context import Context
from harness.stage.parents import load_teacher, load_translators
from harness.system.devices import pick_device
from harness.system.memory import keep_freed_memory
from harness.training.distributed import Processes, join
from harness.training.teacher import Teacher
from harness.workspace.job import Job
from methods.base import Translator


@dataclass
class Shared:
    """Loaded once, on first use."""

    dataset: Dataset
    device: torch.device
    processes: Processes
    teacher: Teacher | None = None
    reads: Backbone | None = None
    """The backbone for which batches are normalised."""
    _teacher_key: str = ""
    _translators: dict[bool, dict[str, Translator]] = field(default_factory=lambda: {True: {}, False: {}})

    def ask_teacher(self, context: Context) -> Teacher:
        """The teacher of a stage, frozen, on the device, in the layout in which its convolutions are right.

        Raises:
            HarnessError: it differs from that of the other stages, or is incomplete.
        """
        key = context.spec.parents["teacher"]
        if self.teacher is not None:
            if key != self._teacher_key:
                raise HarnessError("stages of different teachers cannot be trained together", "run them one by one")
            return self.teacher
        recipe, network = context.spec.recipe, load_teacher(context).to(self.device)

        def layout(precision: Precision) -> torch.memory_format:
            cache = Path(context.job.workspace) / "numerics.json"
            decision = choose_numerics(
                network, recipe.crop, recipe.batch_size, self.device, precision, recipe.channels_last, cache
            )
            right = decision.precision == precision and decision.channels_last
            return torch.channels_last if right else torch.contiguous_format

        self.teacher, self._teacher_key = Teacher(network, recipe.teacher_norm, recipe.crop, layout), key
        return self.teacher

    def translators(self, context: Context, channels_last: bool) -> dict[str, Translator]:
        """The trained translators of a stage's methods, by method; shared by stages of the same layout."""
        return load_translators(context, self._translators[channels_last])

    def normalised_for(self, backbone: Backbone) -> None:
        """Check that a stage needs the same normalisation of images as the others.

        Raises:
            HarnessError: it does not.
        """
        if self.reads is None:
            self.reads = backbone
        if (backbone.mean, backbone.std) != (self.reads.mean, self.reads.std):
            raise HarnessError(
                "students with different normalisations of images cannot be trained together",
                "run them one by one",
            )


def open_shared(job: Job) -> Shared:
    """Open the shared resources of a cohort, from the job of one of its stages.

    Raises:
        HarnessError: the data set is damaged, or its plugin changed.
    """
    device = pick_device(job.device)
    processes = join(device)
    configure_torch(job.threads, job.stage.recipe.deterministic, device)
    dataset = open_dataset(job.stage.dataset, Path(job.data_root) if job.data_root else None)
    _refuse_broken_data(dataset)
    return Shared(dataset, device, processes)


def configure_torch(threads: int, deterministic: bool, device: torch.device) -> None:
    """Set threads (0: torch's default), determinism and memory, before any computation."""
    if threads:
        torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(deterministic, warn_only=True)
    # Otherwise every new tensor is filled first, at a tenth of a step's time, to protect code that reads uninitialised
    # memory, of which there is none.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cudnn.deterministic = deterministic
    torch.backends.cudnn.benchmark = not deterministic
    if device.type == "cuda":
        torch.cuda.set_device(device)
    if device.type == "cpu":
        keep_freed_memory()


def _refuse_broken_data(dataset: Dataset) -> None:
    problems = dataset.check(full=False)
    if problems:
        more = f" and {len(problems) - 1} more" if len(problems) > 1 else ""
        raise HarnessError(f"data set {dataset.name}: {problems[0]}{more}", "run harness data check")

"""The context shared by all steps of a stage."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from harness.data.base import Dataset
from harness.specs.spec import StageSpec
from harness.training.distributed import Processes
from harness.workspace.events import Events
from harness.workspace.folders import AttemptFolder
from harness.workspace.job import Job


@dataclass
class Context:
    """The context shared by all steps of a stage.

    Attributes:
        dataset, device, processes: the same for all stages that are trained together.
        stand_ins: of a rehearsal, in which parents need not exist: their key -> what they are; untrained ones stand in.
    """

    job: Job
    attempt: AttemptFolder
    dataset: Dataset
    device: torch.device
    processes: Processes
    events: Events
    stand_ins: Mapping[str, StageSpec] | None = None

    @property
    def spec(self) -> StageSpec:
        """The specification of the stage."""
        return self.job.stage

    @property
    def classes(self) -> int:
        """The number of classes of the data set."""
        return len(self.dataset.classes)

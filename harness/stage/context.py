"""The context shared by all steps of a stage."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch

from harness.data.base import Dataset
from harness.specs.spec import StageSpec
from harness.training.distributed import Processes
from harness.workspace.events import Events
from harness.workspace.folders import AttemptFolder
from harness.workspace.job import Job
from results.record import Cost


@dataclass
class Context:
    """The context shared by all steps of a stage.

    Attributes:
        dataset, device, processes: shared by all stages that are trained together.
        costs: costs of the architectures that were measured so far, by their conditions; shared like these.
        stand_ins: for a rehearsal, specifications of missing parents by key; untrained modules replace them.
    """

    job: Job
    attempt: AttemptFolder
    dataset: Dataset
    device: torch.device
    processes: Processes
    events: Events
    stand_ins: Mapping[str, StageSpec] | None = None
    costs: dict[str, Cost] = field(default_factory=dict)

    @property
    def spec(self) -> StageSpec:
        """The specification of the stage."""
        return self.job.stage

    @property
    def classes(self) -> int:
        """The number of classes of the data set."""
        return len(self.dataset.classes)

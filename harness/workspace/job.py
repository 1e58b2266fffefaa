"""A job: the whole input of a worker, as one JSON file. No pickles, no further command-line options."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError

from harness.errors import HarnessError
from harness.specs.spec import Frozen, StageSpec
from harness.system.waiting import PATIENCE_S
from harness.workspace.files import write_atomic
from harness.workspace.folders import StageFolder, Workspace
from results.invalid import first_invalid


class PluginFile(Frozen):
    """A plugin file, identified by path and sha256."""

    path: str
    sha256: str


class Job(Frozen):
    """A stage to train, with settings that do not change its result."""

    stage: StageSpec
    name: str
    """Display name: `ka timm:mobilenetv2_100/linear@16 seed 0`."""
    cell: dict[str, Any] | None = None
    """Its cell in the matrix (results.record.Cell), for teachers and students."""
    reproduce: str = ""
    """The command that reproduces its row."""
    workspace: str
    data_root: str | None = None
    weights: dict[str, str] = Field(default_factory=dict)
    """sha256 -> file, for the initial weights of backbones."""
    plugins: tuple[PluginFile, ...] = ()
    device: str = "auto"
    threads: int = 0
    """CPU threads of the stage; 0 for torch's default."""
    loader_workers: int | None = None
    """Data-loading processes; None for the default: 0 on a CPU, cores - 1 with a GPU. Does not change batches."""
    loader_timeout_s: float = PATIENCE_S
    """Seconds without a batch after which data loading is aborted; 0 for never."""
    checkpoint_every: int = 100
    """Iterations between checkpoints."""
    gradients_every: int = 0
    """Iterations between two looks at each term's gradient; 0 for none. Only in a run of one process."""
    samples: int = 4
    """Images whose predictions are kept, the same in every run; besides them half as many of the worst."""
    log: tuple[str, ...] = ()
    """Sinks to which its curves are mirrored (harness.curves)."""
    largest_image: tuple[int, int] | None = None
    """(height, width) of the largest image that it is evaluated on: evaluated before training too. None: it was tried
    out before."""
    workers_beside: int = 0
    code: str = ""
    """Digest of the source tree at planning; the worker refuses a different one. Empty: not checked."""
    launcher: str = "local"
    extra: dict[str, Any] = Field(default_factory=dict)
    """Data of the launcher."""

    @property
    def folder(self) -> StageFolder:
        """The folder of the stage."""
        return Workspace(Path(self.workspace)).stage(self.stage.key)

    def write(self, durable: bool = True) -> Path:
        """Write the job and its spec into the stage's folder; return the job file."""
        write_atomic(self.folder.path / "spec.json", self.stage.model_dump_json(indent=1), durable)
        write_atomic(self.folder.job_file, self.model_dump_json(indent=1), durable)
        return self.folder.job_file


def read_job(path: Path) -> Job:
    """Read a job file.

    Raises:
        HarnessError: the file is missing or is not a job.
    """
    try:
        return Job.model_validate_json(path.read_bytes())
    except OSError as error:
        raise HarnessError(f"there is no job file {path}") from error
    except ValidationError as error:
        raise HarnessError(f"{path} is not a job: {first_invalid(error)}") from error

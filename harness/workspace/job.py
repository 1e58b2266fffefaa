"""A job: all that a worker is told, as one JSON file. No pickles, and nothing else on the command line."""

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
    """A plugin, by path and content."""

    path: str
    sha256: str


class Job(Frozen):
    """A stage to train, and all around it that does not change its result."""

    stage: StageSpec
    name: str
    """For people: `ka timm:mobilenetv2_100/linear@16 seed 0`."""
    cell: dict[str, Any] | None = None
    """Where it stands in the matrix (results.record.Cell), for teachers and students."""
    reproduce: str = ""
    """The command that makes its row again."""
    workspace: str
    data_root: str | None = None
    weights: dict[str, str] = Field(default_factory=dict)
    """sha256 -> file, for the initial weights of backbones."""
    plugins: tuple[PluginFile, ...] = ()
    device: str = "auto"
    threads: int = 0
    """CPU threads of the stage; 0 leaves torch's choice."""
    loader_workers: int | None = None
    """Processes that load data; None: none on a CPU, with a GPU its cores but one. Changes no batch."""
    loader_timeout_s: float = PATIENCE_S
    """Seconds without a batch after which loading is given up where it is; 0 for never."""
    checkpoint_every: int = 100
    """Iterations between checkpoints."""
    gradients_every: int = 0
    """Iterations between two looks at each term's gradient; 0 for none. Only in a run of one process."""
    samples: int = 4
    """Images whose predictions are kept, the same in every run; besides them half as many of the worst."""
    log: tuple[str, ...] = ()
    """Sinks to which its curves are mirrored (harness.curves)."""
    workers_beside: int = 0
    code: str = ""
    """Digest of the source tree that planned it; the worker refuses another one. Empty: not checked."""
    launcher: str = "local"
    extra: dict[str, Any] = Field(default_factory=dict)
    """What a launcher wants to remember."""

    @property
    def folder(self) -> StageFolder:
        """The stage's folder."""
        return Workspace(Path(self.workspace)).stage(self.stage.key)

    def write(self, durable: bool = True) -> Path:
        """Write the job and its spec into the stage's folder; the job's file."""
        write_atomic(self.folder.path / "spec.json", self.stage.model_dump_json(indent=1), durable)
        write_atomic(self.folder.job_file, self.model_dump_json(indent=1), durable)
        return self.folder.job_file


def read_job(path: Path) -> Job:
    """The job in a file.

    Raises:
        HarnessError: there is none, or it is not one.
    """
    try:
        return Job.model_validate_json(path.read_bytes())
    except OSError as error:
        raise HarnessError(f"there is no job file {path}") from error
    except ValidationError as error:
        raise HarnessError(f"{path} is not a job: {first_invalid(error)}") from error

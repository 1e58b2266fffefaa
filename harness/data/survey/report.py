"""The result of a survey, counts and findings, as JSON, cached by the data set's content."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from harness.specs.spec import DatasetSpec, digest
from harness.workspace.files import write_atomic

VERSION = 1
"""Increase it whenever surveys would give other results, so that cached reports are not reused."""

Level = Literal["error", "warning", "note"]
LEVELS: tuple[Level, ...] = ("error", "warning", "note")


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Finding(_Part):
    """One finding.

    Attributes:
        level: "error": fix it before a run; "warning": look at it; "note": for information.
        kind: a short, stable identifier, for programs.
        where: a file, or a split.
    """

    level: Level
    kind: str
    where: str
    what: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what}"


class Occurrence(_Part):
    """Number of pixels and images in which something occurs."""

    pixels: int = 0
    images: int = 0


class SplitReport(_Part):
    """Counts of one split.

    Attributes:
        samples: number of samples, of which `read` could be read.
        sizes: "480x360" (width x height) -> number of images.
        classes: class -> occurrence; zeros for absent classes.
        void: ignored pixels; `void.images` counts images without any other pixel.
        stored: number, or colour as #rrggbb, in the label files -> occurrence, most frequent first, at most 300.
        mean, std: mean and deviation of red, green and blue in [0, 1], from every fourth row and column.
    """

    samples: int
    read: int
    sizes: dict[str, int]
    classes: dict[str, Occurrence]
    void: Occurrence
    stored: dict[str, Occurrence] = {}
    mean: tuple[float, float, float] | None = None
    std: tuple[float, float, float] | None = None


class Report(_Part):
    """The counts and findings of a survey."""

    version: int = VERSION
    dataset: str
    splits: dict[str, SplitReport]
    findings: list[Finding]

    def of(self, level: Level) -> list[Finding]:
        """The findings of one level."""
        return [finding for finding in self.findings if finding.level == level]


class Memory:
    """Cache of reports, one file each, by the content of the data set.

    Args:
        folder: folder of the cache, created when needed; write errors are ignored.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def _file(self, spec: DatasetSpec) -> Path:
        return self._folder / f"{digest({'survey': VERSION, **spec.model_dump(mode='json')})}.json"

    def recall(self, spec: DatasetSpec) -> Report | None:
        """The cached report of a data set; None if there is none of this version."""
        with suppress(OSError, ValidationError):
            return Report.model_validate_json(self._file(spec).read_bytes())
        return None

    def keep(self, spec: DatasetSpec, report: Report) -> None:
        """Cache a report."""
        with suppress(OSError):
            write_atomic(self._file(spec), report.model_dump_json(indent=1), durable=False)

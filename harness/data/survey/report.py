"""The result of a survey: what was counted and what was found, as JSON, remembered by the data set's content."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from harness.specs.spec import DatasetSpec, digest
from harness.workspace.files import write_atomic

VERSION = 1
"""Raised whenever a survey would find or count something else, so that none of before is taken for one of now."""

Level = Literal["error", "warning", "note"]
LEVELS: tuple[Level, ...] = ("error", "warning", "note")


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Finding(_Part):
    """Something that was found.

    Attributes:
        level: "error": no run should use these data; "warning": look at it; "note": good to know.
        kind: a short word that stays the same, for programs.
        where: a file, or a split.
    """

    level: Level
    kind: str
    where: str
    what: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what}"


class Occurrence(_Part):
    """How often something occurs, in pixels and in images."""

    pixels: int = 0
    images: int = 0


class SplitReport(_Part):
    """What was counted in one split.

    Attributes:
        samples: how many there are; `read` of them could be read.
        sizes: "480x360" (width x height) -> how many images.
        classes: class -> how often; a class that does not occur has zeros.
        void: pixels that count for nothing; `void.images` counts images with nothing else.
        stored: number, or colour as #rrggbb, in the label files -> how often, most frequent first, where there are
            such files; at most 300.
        mean, std: of the images' red, green and blue in [0, 1], from every fourth row and column.
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
    """What a survey counted and found."""

    version: int = VERSION
    dataset: str
    splits: dict[str, SplitReport]
    findings: list[Finding]

    def of(self, level: Level) -> list[Finding]:
        """The findings of one level."""
        return [finding for finding in self.findings if finding.level == level]


class Memory:
    """Reports of before, one file each, by the content of the data set they are about.

    Args:
        folder: where they lie; it is made when it is needed, and what cannot be written is not remembered.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def _file(self, spec: DatasetSpec) -> Path:
        return self._folder / f"{digest({'survey': VERSION, **spec.model_dump(mode='json')})}.json"

    def recall(self, spec: DatasetSpec) -> Report | None:
        """The report of a data set; None where there is none, or none of this version."""
        with suppress(OSError, ValidationError):
            return Report.model_validate_json(self._file(spec).read_bytes())
        return None

    def keep(self, spec: DatasetSpec, report: Report) -> None:
        """Remember a report."""
        with suppress(OSError):
            write_atomic(self._file(spec), report.model_dump_json(indent=1), durable=False)

"""The contract of sinks of curves: the data of a run that another board should show."""

from __future__ import annotations

import importlib.util
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from harness.errors import HarnessError
from harness.plugins.registry import FILE_KINDS, Registry


@dataclass(frozen=True)
class MirroredRun:
    """An attempt at a stage whose curves are mirrored.

    Attributes:
        facts: what tells it from others, by name: kind, method, student, stride, seed, ...
        workspace: where a sink that writes files makes a folder of its own.
        resumed_at: iteration from which the attempt goes on; what an earlier one told of later iterations is void.
    """

    key: str
    name: str
    facts: Mapping[str, Any]
    workspace: Path
    resumed_at: int = 0


class CurveSink(ABC):
    """Receives the start, the numbers by iteration, and the end of one attempt. Registered by a file in
    `harness/curves/sinks/`, by an entry point of the group `harness.sinks`, or by a file given by `--plugin`.

    It lives in a thread of its own beside the training. If it raises, it is told nothing more, and the training goes
    on.

    Attributes:
        requires: modules that must be importable.
        install: the command that brings them.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    requires: ClassVar[tuple[str, ...]] = ()
    install: ClassVar[str] = ""

    @classmethod
    def prepare(cls, workspace: Path) -> None:
        """Called once before the launch, to create what all attempts share. By default it does nothing."""
        return None

    @abstractmethod
    def begin(self, run: MirroredRun) -> None:
        """An attempt starts or resumes."""

    @abstractmethod
    def scalars(self, iteration: int, values: Mapping[str, float], time_s: float) -> None:
        """Numbers of an iteration: `loss`, `lr`, `terms/ka.adapt`, `validation/miou` (a fraction), ...

        Args:
            time_s: seconds since 1970 at which they were measured.
        """

    def end(self, outcome: str) -> None:  # noqa: B027 - not every sink has something to close
        """The attempt has ended: "done", "failed", "interrupted" or "unknown". By default it does nothing."""


def check_sink(cls: type[CurveSink]) -> None:
    """Check a sink's declarations.

    Raises:
        HarnessError: it has no summary.
    """
    if not isinstance(getattr(cls, "summary", None), str) or not cls.summary.strip():
        raise HarnessError(f"sink {cls.name} has no summary", 'declare summary = "one line that says where it writes"')


SINKS: Registry[CurveSink] = Registry(
    "sink of curves", CurveSink, "harness.curves.sinks", "harness.sinks", check=check_sink
)
# Whoever extends CurveSink has imported this file, so that a plugin's sink finds its registry here.
FILE_KINDS.append(SINKS)


def prepare_sinks(names: Iterable[str], workspace: Path) -> None:
    """Call `prepare` of all sinks before the launch.

    Raises:
        HarnessError: one of them cannot.
    """
    for name in names:
        try:
            SINKS.get(name).prepare(workspace)
        except HarnessError:
            raise
        except Exception as error:
            why = " ".join(f"{type(error).__name__}: {error}".split())[:300]
            raise HarnessError(f"curves cannot be mirrored to {name}: {why}", "fix it, or omit --log") from error


def chosen_sinks(words: str | Iterable[str] | None) -> tuple[str, ...]:
    """The requested sinks, each once, with their packages installed.

    Args:
        words: names, also several in one with commas.

    Raises:
        HarnessError: no such sink, or its library is not installed.
    """
    texts: Sequence[str] = [words] if isinstance(words, str) else list(words or ())
    names = list(dict.fromkeys(name.strip() for text in texts for name in text.split(",") if name.strip()))
    for name in names:
        cls = SINKS.get(name)
        if missing := [module for module in cls.requires if importlib.util.find_spec(module) is None]:
            raise HarnessError(
                f"curves cannot be mirrored to {name}: {' and '.join(missing)} is not installed",
                cls.install or f"install {' and '.join(missing)}",
            )
    return tuple(names)

"""What came of trying stages out on a device before any is launched: one file each, by what was tried."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from pydantic import ValidationError

from harness.errors import HarnessError
from harness.specs.spec import Frozen, StageSpec, digest
from harness.system.code import versions
from harness.workspace.files import read_json, write_atomic, write_json
from harness.workspace.folders import Workspace
from harness.workspace.job import Job
from results.invalid import first_invalid

Size = tuple[int, int]


class Trial(Frozen):
    """What one step of training and one evaluation gave.

    Attributes:
        problem, hint: why the stage cannot be run, and the remedy; empty where it can.
        own_ms, teacher_ms: of one step: the stage's own work, and its teacher's.
        held_bytes: weights, buffers and optimisers: what stays from step to step.
        step_bytes: the most that a step needs besides.
        teacher_bytes: weights of its teacher.
        device_bytes: memory of the device; 0 where that is not known.
        at_once, tiled: images that were evaluated together, and those that had to go through in tiles.
    """

    name: str
    problem: str = ""
    hint: str = ""
    device: str = ""
    own_ms: float = 0.0
    teacher_ms: float = 0.0
    held_bytes: int = 0
    step_bytes: int = 0
    teacher_bytes: int = 0
    device_bytes: int = 0
    at_once: int = 0
    tiled: int = 0


class TrialJob(Frozen):
    """A stage that is to be tried out.

    Attributes:
        image: (height, width) of the largest image that it will be evaluated on.
        images: how many of them at once; 0 for no evaluation.
    """

    key: str
    job: Job
    image: Size = (0, 0)
    images: int = 0


class Rehearsal(Frozen):
    """What a process is asked to try out. Parents need not exist: untrained ones stand in for them."""

    trials: tuple[TrialJob, ...]
    parents: dict[str, StageSpec]
    """Key -> what it is."""

    def write(self, file: Path) -> Path:
        """Write it; the file."""
        write_atomic(file, self.model_dump_json(indent=1), durable=False)
        return file


def read_rehearsal(file: Path) -> Rehearsal:
    """What `Rehearsal.write` wrote.

    Raises:
        HarnessError: there is no such file, or it is something else.
    """
    try:
        return Rehearsal.model_validate_json(file.read_bytes())
    except OSError as error:
        raise HarnessError(f"there is no file {file}") from error
    except ValidationError as error:
        raise HarnessError(f"{file} says not what to try out: {first_invalid(error)}") from error


def trial_file(workspace: Workspace, key: str) -> Path:
    """Where the outcome of a trial lies."""
    return workspace.root / "checks" / "trials" / f"{key}.json"


def read_trial(workspace: Workspace, key: str) -> Trial | None:
    """The outcome of a trial; None where there is none that can be read."""
    try:
        return Trial.model_validate_json(trial_file(workspace, key).read_bytes())
    except (OSError, ValidationError):
        return None


def write_trial(workspace: Workspace, key: str, trial: Trial) -> None:
    """Remember the outcome of a trial."""
    write_atomic(trial_file(workspace, key), trial.model_dump_json(indent=1), durable=False)


def _speakers_file(workspace: Workspace) -> Path:
    return workspace.root / "checks" / "speakers.json"


def remember_speakers(workspace: Workspace, names: Mapping[str, str]) -> None:
    """Remember which trial speaks for which stage, besides those remembered before.

    Args:
        names: key of a stage -> key of the trial.
    """
    known = read_json(_speakers_file(workspace))
    write_json(_speakers_file(workspace), {**(known if isinstance(known, dict) else {}), **names})


def spoken_trial(workspace: Workspace, key: str) -> Trial | None:
    """The trial that speaks for a stage; None where there is none."""
    names = read_json(_speakers_file(workspace))
    name = names.get(key) if isinstance(names, dict) else None
    return read_trial(workspace, name) if isinstance(name, str) else None


def cohort_ms(trials: Sequence[Trial]) -> float:
    """Milliseconds of one iteration of students together: the teacher is asked once."""
    return sum(trial.own_ms for trial in trials) + max(trial.teacher_ms for trial in trials)


def cohort_bytes(trials: Sequence[Trial]) -> int:
    """Memory of students together: each keeps its own, and they take their steps one after the other."""
    shared = max(trial.teacher_bytes for trial in trials) + max(trial.step_bytes for trial in trials)
    return shared + sum(trial.held_bytes for trial in trials)


_DECIDING = (
    "crop",
    "batch_size",
    "precision",
    "channels_last",
    "deterministic",
    "teacher_norm",
    "eval_size",
    "eval_batch",
    "evaluation",
    "loss",
    "accumulate",
    "freeze",
)


def trial_key(spec: StageSpec, parents: Mapping[str, StageSpec], image: Size, place: str) -> str:
    """Equal for stages of which one trial says enough: seed, schedule, weights and parameters of terms do not count.

    Args:
        parents: key -> spec.
        image: the largest that is evaluated.
        place: on which device or kind of machine.
    """
    recipe = spec.recipe.content
    optimizer = spec.recipe.optimizer.name
    return digest(
        {
            "kind": spec.kind,
            "model": [spec.model.word, spec.model.source, spec.model.options, spec.model.weights.source],
            "teachers": [[role, parents[key].model.word] for role, key in sorted(spec.parents.items())],
            "method": [[part.name, part.version, part.source, sorted(part.weights)] for part in spec.method.parts],
            "translator": [spec.translator.method, spec.translator.source] if spec.translator else [],
            "recipe": [optimizer, *(recipe.get(name) for name in _DECIDING)],
            "dataset": spec.dataset.model_dump(mode="json"),
            "image": list(image),
            "place": place,
            "versions": dict(versions()),
        }
    )[:20]

"""Results of trials, in which a stage takes one step on a device before a launch: one file each, reused by content."""

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
    """The result of one training step and one evaluation.

    Attributes:
        problem, hint: why the stage cannot be run, and the remedy; empty if it can.
        own_ms, teacher_ms: time of one step: the stage's own part, and its teacher's.
        held_bytes: memory kept between steps: weights, buffers, optimisers.
        step_bytes: additional peak memory of a step.
        teacher_bytes: the teacher's weights.
        device_bytes: memory of the device; 0 if unknown.
        at_once, tiled: images that were evaluated together, and images that were evaluated in tiles.
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
    """A stage to try out.

    Attributes:
        image: (height, width) of its largest evaluation image.
        images: the number of images in an evaluation batch; 0 for no evaluation.
    """

    key: str
    job: Job
    image: Size = (0, 0)
    images: int = 0


class Rehearsal(Frozen):
    """The trials of one process. Parents that do not exist are replaced by untrained ones."""

    trials: tuple[TrialJob, ...]
    parents: dict[str, StageSpec]
    """Key -> specification."""

    def write(self, file: Path) -> Path:
        """Write it to a file; return the file."""
        write_atomic(file, self.model_dump_json(indent=1), durable=False)
        return file


def read_rehearsal(file: Path) -> Rehearsal:
    """Read a file of `Rehearsal.write`.

    Raises:
        HarnessError: the file does not exist or is invalid.
    """
    try:
        return Rehearsal.model_validate_json(file.read_bytes())
    except OSError as error:
        raise HarnessError(f"there is no file {file}") from error
    except ValidationError as error:
        raise HarnessError(f"{file} is no list of trials: {first_invalid(error)}") from error


def trial_file(workspace: Workspace, key: str) -> Path:
    """The file of a trial's result."""
    return workspace.root / "checks" / "trials" / f"{key}.json"


def read_trial(workspace: Workspace, key: str) -> Trial | None:
    """The result of a trial; None if there is none or it cannot be read."""
    try:
        return Trial.model_validate_json(trial_file(workspace, key).read_bytes())
    except (OSError, ValidationError):
        return None


def write_trial(workspace: Workspace, key: str, trial: Trial) -> None:
    """Store the result of a trial."""
    write_atomic(trial_file(workspace, key), trial.model_dump_json(indent=1), durable=False)


def _stages_file(workspace: Workspace) -> Path:
    return workspace.root / "checks" / "trials_of_stages.json"


def rehearsed_stages(workspace: Workspace) -> dict[str, str]:
    """Key of each stage that was rehearsed -> key of the trial that represents it."""
    known = read_json(_stages_file(workspace))
    return known if isinstance(known, dict) else {}


def remember_stages(workspace: Workspace, names: Mapping[str, str]) -> None:
    """Store which trial represents which stage, in addition to those stored before.

    Args:
        names: key of a stage -> key of the trial.
    """
    if names:
        write_json(_stages_file(workspace), {**rehearsed_stages(workspace), **names})


def stage_trial(workspace: Workspace, key: str) -> Trial | None:
    """The trial that represents a stage; None if there is none."""
    name = rehearsed_stages(workspace).get(key)
    return read_trial(workspace, name) if isinstance(name, str) else None


def cohort_ms(trials: Sequence[Trial]) -> float:
    """Milliseconds of one iteration of a cohort, with one pass of the teacher."""
    return sum(trial.own_ms for trial in trials) + max(trial.teacher_ms for trial in trials)


def cohort_bytes(trials: Sequence[Trial]) -> int:
    """Memory of a cohort: each member keeps its own state, and steps are taken one after the other."""
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
    """A key that is equal for stages that one trial can represent; seed, schedule and weights of terms do not count.

    Args:
        parents: key -> spec.
        image: the largest evaluation image.
        place: the device, or the kind of machine.
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

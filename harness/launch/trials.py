"""Trials before a launch: a few stages take one step on the real device; if one fails, nothing is launched.

`rehearsal` checks the shapes of a plan without a device. Memory, kernels, and third-party code on real batches need the
device: one training step and one evaluation of the largest image for each distinct kind of stage. That takes seconds,
and successful trials are not repeated.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.errors import HarnessError
from harness.launch.base import Options, make_job
from harness.workspace.folders import Workspace
from harness.workspace.trials import (
    Rehearsal,
    Size,
    Trial,
    TrialJob,
    read_trial,
    rehearsed_stages,
    stage_trial,
    trial_key,
    write_trial,
)

if TYPE_CHECKING:
    from harness.planning.estimate import StepTime
    from harness.planning.plan import Plan
    from harness.specs.spec import StageSpec

WORTH_ITERATIONS = 100
"""Plans whose stages are all shorter than this are not tried out, since a trial would take as long as the training."""
_EVAL_BATCH = 8
"""Images of equal size that are evaluated together unless the recipe sets a number."""


@dataclass(frozen=True)
class Trials:
    """The trials of a plan.

    Attributes:
        keys: key of a stage -> key of the trial that represents it.
        rehearsal: trials without a stored result.
    """

    options: Options
    keys: dict[str, str]
    rehearsal: Rehearsal

    def read(self, key: str) -> Trial | None:
        """The result of the trial that represents a stage; None if there is none."""
        return read_trial(self.options.workspace, self.keys[key])

    def expect(self) -> None:
        """Mark every trial as unfinished, so that one in which the process dies is found."""
        for each in self.rehearsal.trials:
            write_trial(self.options.workspace, each.key, Trial(name=each.job.name, problem=UNFINISHED))

    def done(self) -> int:
        """The number of finished trials of the rehearsal."""
        found = [read_trial(self.options.workspace, each.key) for each in self.rehearsal.trials]
        return sum(trial is not None and trial.problem != UNFINISHED for trial in found)

    def refuse(self, how: str = "") -> None:
        """Raise an error if a trial failed.

        Args:
            how: how the process ended, if it ended before all trials were finished.

        Raises:
            HarnessError: a trial failed; the message has the reason and the number of further failures.
        """
        found = [read_trial(self.options.workspace, each.key) for each in self.rehearsal.trials]
        # The process died in the first unfinished trial; it did not reach the later ones.
        bad = [trial for trial in found if trial is not None and trial.problem not in ("", UNFINISHED)]
        bad += [trial for trial in found if trial is not None and trial.problem == UNFINISHED][:1]
        if not bad:
            return
        problem = how if bad[0].problem == UNFINISHED else bad[0].problem
        more = f"; {len(bad) - 1} more cannot either" if len(bad) > 1 else ""
        log = self.options.workspace.root / "checks" / "trials.log"
        raise HarnessError(
            f"{bad[0].name} cannot be run here: {problem}{more}. Nothing was launched", bad[0].hint or f"see {log}"
        )

    def notes(self) -> list[str]:
        """Messages on evaluation batches that memory limits."""
        found = []
        for each in self.rehearsal.trials:
            trial = read_trial(self.options.workspace, each.key)
            if trial is None or not each.images:
                continue
            size = f"{each.image[0]}x{each.image[1]}"
            if trial.tiled:
                found.append(f"{trial.name}: an image of {size} does not fit into memory; evaluated in tiles")
            elif trial.at_once < each.images:
                found.append(f"{trial.name}: {trial.at_once} images of {size} at once fit into memory in evaluation")
        return found


UNFINISHED = "its process ended while it was tried out"


def plan_trials(plan: Plan, keys: Sequence[str], options: Options, images: Sequence[Size], place: str) -> Trials:
    """The trials of a plan: each network once, and each method with its largest student.

    Args:
        images: sizes (height, width) of the images that are evaluated, smallest first.
        place: the device, or the kind of machine.
    """
    specs = {key: node.spec for key, node in plan.nodes.items()}
    if all(specs[key].recipe.iterations < WORTH_ITERATIONS for key in keys):
        return Trials(options, {}, Rehearsal(trials=(), parents={}))
    names: dict[str, str] = {}
    trials: dict[str, TrialJob] = {}
    for representative, represented in _representatives(plan, keys).items():
        spec = specs[representative]
        largest = spec.recipe.eval_size or (images[-1] if images else (0, 0))
        largest = (0, 0) if spec.kind == "translator" else largest
        name = trial_key(spec, specs, largest, place)
        names |= dict.fromkeys(represented, name)
        known = read_trial(options.workspace, name)
        if (known is None or known.problem) and name not in trials:
            job = make_job(plan, plan.nodes[representative], options)
            trials[name] = TrialJob(key=name, job=job, image=largest, images=_eval_batch(spec, images))
    parents = {key for each in trials.values() for key in each.job.stage.parents.values()}
    rehearsal = Rehearsal(trials=tuple(trials.values()), parents={key: specs[key] for key in sorted(parents)})
    return Trials(options, names, rehearsal)


def measured_times(plan: Plan, keys: Sequence[str], workspace: Workspace) -> dict[str, StepTime]:
    """Times of a training step of the students among `keys`, by their rehearsal; empty if one is not known.

    The time of a network that was not rehearsed with a student's method is taken from another method's rehearsal.
    """
    from harness.planning.estimate import StepTime

    if not rehearsed_stages(workspace):
        return {}
    representatives = _representatives(plan, keys)
    trials = {key: stage_trial(workspace, key) for key in representatives}
    own = {plan.nodes[key].spec.model.word: trial.own_ms for key, trial in trials.items() if trial}
    found: dict[str, StepTime] = {}
    for representative, represented in representatives.items():
        trial = trials[representative]
        for key in represented:
            spec = plan.nodes[key].spec
            if spec.kind != "student":
                continue
            alike = spec.model.word == plan.nodes[representative].spec.model.word
            if trial is None or trial.problem or not trial.own_ms or spec.model.word not in own:
                return {}
            found[key] = StepTime(trial.own_ms if alike else own[spec.model.word], trial.teacher_ms)
    return found


def _representatives(plan: Plan, keys: Sequence[str]) -> dict[str, list[str]]:
    """Stage to try out -> the stages that it represents, itself included."""
    from harness.planning.estimate import own_macs

    groups: dict[str, list[str]] = {}
    for key in keys:
        spec = plan.nodes[key].spec
        parts = [(part.name, sorted(part.weights)) for part in spec.method.parts]
        alone = key if spec.kind != "student" else ""
        groups.setdefault(f"{parts} {spec.recipe.crop} {spec.recipe.batch_size} {alone}", []).append(key)
    found = {max(group, key=lambda key: own_macs(plan.nodes[key])): group for group in groups.values()}
    networks = {plan.nodes[key].spec.model.word for key in found}
    for key in keys:
        if (word := plan.nodes[key].spec.model.word) not in networks:
            networks.add(word)
            found[key] = [key]
    return found


def _eval_batch(spec: StageSpec, images: Sequence[Size]) -> int:
    """The number of images that are evaluated together; 0 without evaluation."""
    if spec.kind == "translator" or not (images or spec.recipe.eval_size):
        return 0
    equal_sizes = spec.recipe.eval_size is not None or len(images) == 1
    return spec.recipe.eval_batch or (_EVAL_BATCH if equal_sizes else 1)

"""Which stages are tried out on the real device before a sweep is launched, and what is said of those that fail.

The shapes of a plan are rehearsed without a device (`rehearsal`). What only a device can tell - memory, kernels, what
code of others does with real batches - takes a step of training and an evaluation of the largest image of each
distinct kind of stage: seconds, remembered when they went well.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.errors import HarnessError
from harness.launch.base import Options, make_job
from harness.workspace.trials import Rehearsal, Size, Trial, TrialJob, read_trial, trial_key, write_trial

if TYPE_CHECKING:
    from harness.planning.plan import Plan
    from harness.specs.spec import StageSpec

WORTH_ITERATIONS = 100
"""Where no stage is trained for so many iterations, trying out would take as long as finding out."""
_AT_ONCE = 8


@dataclass(frozen=True)
class Trials:
    """What is to be tried out.

    Attributes:
        keys: key of a stage -> key of the trial that speaks for it.
        rehearsal: trials of which nothing is known yet.
    """

    options: Options
    keys: dict[str, str]
    rehearsal: Rehearsal

    def read(self, key: str) -> Trial | None:
        """What came of the trial that speaks for a stage."""
        return read_trial(self.options.workspace, self.keys[key])

    def expect(self) -> None:
        """Write down that each was begun: a process that dies in one leaves that."""
        for each in self.rehearsal.trials:
            write_trial(self.options.workspace, each.key, Trial(name=each.job.name, problem=UNFINISHED))

    def done(self) -> int:
        """How many of those to be tried out have come to an end."""
        found = [read_trial(self.options.workspace, each.key) for each in self.rehearsal.trials]
        return sum(trial is not None and trial.problem != UNFINISHED for trial in found)

    def refuse(self, how: str = "") -> None:
        """See that all went well.

        Args:
            how: the process ended, if it did so before all were tried out.

        Raises:
            HarnessError: one did not; the sentence says why, and how many more there are.
        """
        found = [read_trial(self.options.workspace, each.key) for each in self.rehearsal.trials]
        # The first that has no end is the one in which the process died; later ones have not been begun.
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
        """What memory makes of evaluation, of those that were tried out."""
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
    """What of a plan is worth being tried out: each network once, and each method with the largest of its students.

    Args:
        images: sizes (height, width) of the images that are evaluated, smallest first.
        place: the device or the kind of machine.
    """
    specs = {key: node.spec for key, node in plan.nodes.items()}
    if all(specs[key].recipe.iterations < WORTH_ITERATIONS for key in keys):
        return Trials(options, {}, Rehearsal(trials=(), parents={}))
    names: dict[str, str] = {}
    trials: dict[str, TrialJob] = {}
    for speaker, spoken_for in _speakers(plan, keys).items():
        spec = specs[speaker]
        largest = spec.recipe.eval_size or (images[-1] if images else (0, 0))
        largest = (0, 0) if spec.kind == "translator" else largest
        name = trial_key(spec, specs, largest, place)
        names |= dict.fromkeys(spoken_for, name)
        known = read_trial(options.workspace, name)
        if (known is None or known.problem) and name not in trials:
            job = make_job(plan, plan.nodes[speaker], options)
            trials[name] = TrialJob(key=name, job=job, image=largest, images=_at_once(spec, images))
    parents = {key for each in trials.values() for key in each.job.stage.parents.values()}
    rehearsal = Rehearsal(trials=tuple(trials.values()), parents={key: specs[key] for key in sorted(parents)})
    return Trials(options, names, rehearsal)


def _speakers(plan: Plan, keys: Sequence[str]) -> dict[str, list[str]]:
    """Stage that is tried out -> stages for which that says enough, itself included."""
    from harness.planning.estimate import own_macs

    alike: dict[str, list[str]] = {}
    for key in keys:
        spec = plan.nodes[key].spec
        parts = [(part.name, sorted(part.weights)) for part in spec.method.parts]
        alone = key if spec.kind != "student" else ""
        alike.setdefault(f"{parts} {spec.recipe.crop} {spec.recipe.batch_size} {alone}", []).append(key)
    found = {max(group, key=lambda key: own_macs(plan.nodes[key])): group for group in alike.values()}
    networks = {plan.nodes[key].spec.model.word for key in found}
    for key in keys:
        if (word := plan.nodes[key].spec.model.word) not in networks:
            networks.add(word)
            found[key] = [key]
    return found


def _at_once(spec: StageSpec, images: Sequence[Size]) -> int:
    """Images that are evaluated together."""
    if spec.kind == "translator" or not (images or spec.recipe.eval_size):
        return 0
    alike = spec.recipe.eval_size is not None or len(images) == 1
    return spec.recipe.eval_batch or (_AT_ONCE if alike else 1)

"""Group stages into job arrays: pure functions, without SLURM.

Stages of one kind with the same parents share an array, which depends only on the tasks of these parents. If every task
of an array has its own children, a second array depends on it task by task (`aftercorr`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from harness.launch.slurm.config import Resources, SlurmConfig
from harness.workspace.status import PlannedStage

Place = tuple[int, int]
"""(number of an array in this submission, number of its task)."""


@dataclass(frozen=True)
class Array:
    """An array to submit.

    Attributes:
        tasks: keys of the stages of each task.
        after: tasks of this submission that must succeed first.
        after_jobs: tasks of earlier submissions that must succeed first.
        aligned_with: number of an array of this submission; task i depends on its task i.
        throttle: maximum number of tasks at once; 0 for no limit.
    """

    kind: str
    resources: Resources
    tasks: tuple[tuple[str, ...], ...]
    after: tuple[Place, ...] = ()
    after_jobs: tuple[str, ...] = ()
    aligned_with: int | None = None
    throttle: int = 0

    @property
    def stages(self) -> int:
        """The number of stages in the array."""
        return sum(len(task) for task in self.tasks)


@dataclass(frozen=True)
class _Unit:
    """The content of one task: a stage, or the students of a cohort, and their parents."""

    kind: str
    keys: tuple[str, ...]
    parents: tuple[str, ...]


@dataclass(frozen=True)
class _Group:
    """Tasks of one kind with the same parents."""

    kind: str
    after: tuple[Place, ...]
    after_jobs: tuple[str, ...]
    tasks: tuple[tuple[str, ...], ...]


def make_arrays(
    todo: Sequence[PlannedStage],
    config: SlurmConfig,
    queued: Mapping[str, str] | None = None,
    parents: Mapping[str, Sequence[str]] | None = None,
    largest: int = 1000,
    cohorts: Iterable[tuple[str, ...]] = (),
) -> list[Array]:
    """The arrays of a submission, parents before children.

    Args:
        todo: the stages, parents before children.
        cohorts: keys of students that one task trains together; any other stage is a separate task.
        queued: key -> SLURM task, for stages of earlier submissions that are queued or running.
        parents: key -> parents, for stages that are not in `todo`.
        largest: maximum number of tasks in one array (indices 0 to largest - 1).
    """
    queued = queued or {}
    family = {**(parents or {}), **{stage.key: stage.parents for stage in todo}}
    place: dict[str, Place] = {}
    arrays: list[Array] = []
    for wave in _waves(_units(todo, cohorts)):
        groups: dict[tuple[str, tuple[Place, ...], tuple[str, ...]], list[tuple[str, ...]]] = {}
        for unit in wave:
            waits = _nearest([p for p in unit.parents if p in place or p in queued], family)
            after = tuple(sorted({place[p] for p in waits if p in place}))
            jobs = tuple(sorted({queued[p] for p in waits if p not in place}))
            groups.setdefault((unit.kind, after, jobs), []).append(unit.keys)
        found = [_Group(*name, tuple(tasks)) for name, tasks in groups.items()]
        for array in _shape(found, arrays, config, largest):
            for index, task in enumerate(array.tasks):
                place |= {key: (len(arrays), index) for key in task}
            arrays.append(array)
    return _throttled(arrays, config.max_parallel)


def _units(todo: Sequence[PlannedStage], cohorts: Iterable[tuple[str, ...]]) -> list[_Unit]:
    """The stages grouped into tasks, each cohort at the position of its last member."""
    members = {key: cohort for cohort in cohorts for key in cohort}
    stages = {stage.key: stage for stage in todo}
    found: dict[tuple[str, ...], _Unit] = {}
    for stage in todo:
        keys = tuple(key for key in members.get(stage.key, (stage.key,)) if key in stages)
        parents = tuple(dict.fromkeys(p for key in keys for p in stages[key].parents))
        found.pop(keys, None)
        found[keys] = _Unit(stage.kind, keys, parents)
    return list(found.values())


def _waves(units: Sequence[_Unit]) -> list[list[_Unit]]:
    """The tasks by depth in the graph of stages to submit."""
    depth: dict[str, int] = {}
    waves: list[list[_Unit]] = []
    for unit in units:
        level = 1 + max((depth[p] for p in unit.parents if p in depth), default=-1)
        depth |= dict.fromkeys(unit.keys, level)
        while len(waves) <= level:
            waves.append([])
        waves[level].append(unit)
    return waves


def _nearest(waits: list[str], family: Mapping[str, Sequence[str]]) -> list[str]:
    """The parents of a stage that are not ancestors of other parents; dependencies on the rest are implied."""
    if len(waits) < 2:
        return waits
    implied: set[str] = set()
    stack = [p for parent in waits for p in family.get(parent, ())]
    while stack:
        key = stack.pop()
        if key not in implied:
            implied.add(key)
            stack.extend(family.get(key, ()))
    return [parent for parent in waits if parent not in implied]


def _shape(groups: list[_Group], arrays: list[Array], config: SlurmConfig, largest: int) -> Iterable[Array]:
    """Arrays of one wave; aligned with their parents' array if that needs fewer arrays."""
    rest = list(groups)
    for kind in dict.fromkeys(group.kind for group in groups):
        for number, parent in enumerate(arrays):
            matching = {g.after[0][1]: g for g in rest if g.kind == kind and _single_parent(g) == number}
            if not _side_by_side(matching, parent):
                continue
            resources = config.resources(kind)
            ordered = [matching[index] for index in range(len(parent.tasks))]
            for row in zip(*(group.tasks for group in ordered), strict=True):
                yield Array(kind, resources, tuple(row), aligned_with=number)
            rest = [group for group in rest if group not in ordered]
    for group in rest:
        for start in range(0, len(group.tasks), largest):
            part = group.tasks[start : start + largest]
            yield Array(group.kind, config.resources(group.kind), part, group.after, group.after_jobs)


def _single_parent(group: _Group) -> int | None:
    """The number of the array that contains a group's only parent."""
    return group.after[0][0] if len(group.after) == 1 and not group.after_jobs else None


def _side_by_side(matching: dict[int, _Group], parent: Array) -> bool:
    """Whether every task of the parent array has children, equally many, and fewer than there are tasks."""
    if len(matching) < 2 or len(matching) != len(parent.tasks):
        return False
    sizes = {len(group.tasks) for group in matching.values()}
    return len(sizes) == 1 and sizes.pop() < len(matching)


def _throttled(arrays: list[Array], most: int) -> list[Array]:
    """Distribute the maximum number of concurrent tasks over the arrays of a kind, by size, at least one each."""
    if not most:
        return arrays
    tasks: dict[str, int] = {}
    for array in arrays:
        tasks[array.kind] = tasks.get(array.kind, 0) + len(array.tasks)
    return [
        Array(**{**array.__dict__, "throttle": max(1, most * len(array.tasks) // tasks[array.kind])})
        for array in arrays
    ]


def dependency(array: Array, jobs: Mapping[int, str]) -> str:
    """The value of sbatch's --dependency: `afterok:12_0:12_3`, `aftercorr:12`; empty for none.

    Args:
        jobs: number of an array -> its id.
    """
    if array.aligned_with is not None:
        return f"aftercorr:{jobs[array.aligned_with]}"
    tasks = [f"{jobs[number]}_{task}" for number, task in array.after] + list(array.after_jobs)
    return f"afterok:{':'.join(tasks)}" if tasks else ""


def describe(arrays: Sequence[Array], names: Mapping[str, str], collect: bool) -> str:
    """A readable list of arrays and dependencies; ids not known yet are A0, A1, ..."""
    ids = {number: f"A{number}" for number in range(len(arrays))}
    lines = []
    for number, array in enumerate(arrays):
        flags = " ".join(f"--{n}" if v is True else f"--{n}={v}" for n, v in array.resources.flags().items())
        percent = f"%{array.throttle}" if array.throttle else ""
        lines.append(
            f"A{number}: array of {len(array.tasks)} {array.kind} task{'s' if len(array.tasks) > 1 else ''}"
            f"{f' with {array.stages} runs' if array.stages != len(array.tasks) else ''}"
            f" [0-{len(array.tasks) - 1}{percent}], time {array.resources.time}{f', {flags}' if flags else ''}"
        )
        if waits := dependency(array, ids):
            lines.append(f"    waits for {waits}")
        keys = [key for task in array.tasks for key in task]
        shown = ", ".join(names[key] for key in keys[:3])
        lines.append(f"    {shown}{f' and {len(keys) - 3} more' if len(keys) > 3 else ''}")
    if collect and arrays:
        lines.append(f"collect: one job after all, afterany:{':'.join(ids.values())}")
    return "\n".join(lines)

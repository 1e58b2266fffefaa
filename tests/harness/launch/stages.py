"""A plan of a teacher, a translator and students, without planning: stages whose parents are what they would be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from harness.specs.spec import DatasetSpec, ModelSpec, Recipe, StageSpec
from harness.workspace.folders import StageFolder
from tests.results.factory import record_of


class Node:
    """What launchers ask of a node of a plan."""

    def __init__(self, kind: Any, seed: int, parents: dict[str, str]) -> None:
        model = ModelSpec(family="timm", encoder="resnet18", head="linear", stride=16)
        self.spec = StageSpec(
            kind=kind, dataset=DatasetSpec(name="shapes"), model=model, recipe=Recipe(), seed=seed, parents=parents
        )
        self.key, self.name, self.parents = self.spec.key, f"{kind} of seed {seed}", tuple(parents.values())
        self.cell, self.reproduce = None, "harness sweep"


class Plan:
    """A teacher, its translator, students of both; and a student that needs neither."""

    def __init__(self, students: int = 2) -> None:
        self.nodes: dict[str, Any] = {}
        self.weights: dict[str, str] = {}
        self.evaluated = None
        self.teacher = self._add("teacher", 0, {})
        self.translator = self._add("translator", 0, {"teacher": self.teacher})
        both = {"teacher": self.teacher, "translator:ka": self.translator}
        self.students = [self._add("student", seed, both) for seed in range(students)]
        self.alone = self._add("student", 100, {})

    @property
    def children(self) -> dict[str, list[str]]:
        """Key -> keys of the stages that wait for it."""
        return {key: [n.key for n in self.nodes.values() if key in n.parents] for key in self.nodes}

    def _add(self, kind: str, seed: int, parents: dict[str, str]) -> str:
        node = Node(kind, seed, parents)
        self.nodes[node.key] = node
        return node.key


def finish(folder: StageFolder) -> None:
    """A record that is enough for the stage to be done."""
    folder.write_record(record_of(folder.key))


def begin_and_end(folder: StageFolder, outcome: str = "", reason: str = "") -> None:
    """An attempt; without an outcome it dies without a word."""
    attempt = folder.new_attempt()
    attempt.begin()
    if outcome:
        attempt.end(outcome, reason)


def folder_of(job_file: Path) -> StageFolder:
    """The stage of a job."""
    return StageFolder(job_file.parent)

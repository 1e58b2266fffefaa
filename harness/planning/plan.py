"""The plan: the graph of stages that a sweep needs. Equal stages are one node, shared by all cells that need it."""

from __future__ import annotations

import itertools
import shlex
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from harness.builders.datasets import open_dataset, parse_dataset
from harness.builders.distiller import build_translator, needs_teacher, skip_reason, translator_specs
from harness.builders.expression import resolve
from harness.builders.losses import with_losses
from harness.builders.models import model_sizes, model_source, model_unsupported_reason
from harness.data.base import Dataset
from harness.errors import HarnessError
from harness.planning.teachers import Teacher, evaluation_only, find_teachers
from harness.plugins.method_calls import display_name
from harness.plugins.registries import DATASETS, FAMILIES, HEADS, LOSSES, METHODS
from harness.plugins.registry import Entry
from harness.specs.recipes import RecipeFile, load_recipe
from harness.specs.spec import (
    DatasetSpec,
    MethodSpec,
    ModelSpec,
    Recipe,
    StageSpec,
    SweepSpec,
    TranslatorSpec,
    WeightsSpec,
    canonical_json,
    digest,
    parse_model,
)
from harness.specs.values import value_text
from harness.system.guard import guard_process
from harness.workspace.files import file_digest
from results.record import Cell


@dataclass(frozen=True)
class Node:
    """A stage in the plan.

    Attributes:
        cells: number of cells of the matrix that need the stage.
    """

    key: str
    spec: StageSpec
    name: str
    cell: Cell | None
    reproduce: str
    cells: int = 1

    @property
    def parents(self) -> tuple[str, ...]:
        """Keys of the stages that must be done first."""
        return tuple(self.spec.parents.values())


@dataclass(frozen=True)
class Skip:
    """A cell that cannot be trained, and the reason."""

    cell: str
    reason: str


@dataclass(frozen=True)
class Evaluated:
    """What networks are evaluated on, for estimates.

    Attributes:
        images: number of images of the reported split.
        validation_images: those of `val`.
        size: (height, width) of an image.
    """

    images: int
    validation_images: int
    size: tuple[int, int]


@dataclass(frozen=True)
class Plan:
    """The graph of stages, parents before children."""

    sweep: SweepSpec
    nodes: dict[str, Node]
    skips: tuple[Skip, ...]
    cells: int
    weights: dict[str, str] = field(default_factory=dict)
    """sha256 -> file, of initial weights."""
    evaluated: Evaluated | None = None
    """None where it is not known."""

    @property
    def id(self) -> str:
        """A short digest that identifies the sweep."""
        asked = self.sweep.model_dump(mode="json")
        if not self.sweep.teacher_classes:
            del asked["teacher_classes"]
        return digest(asked)[:12]

    @cached_property
    def children(self) -> dict[str, tuple[str, ...]]:
        """Key -> keys of the stages that depend on it."""
        found: dict[str, list[str]] = {key: [] for key in self.nodes}
        for node in self.nodes.values():
            for parent in node.parents:
                found[parent].append(node.key)
        return {key: tuple(children) for key, children in found.items()}

    def count(self) -> Counter[str]:
        """Number of stages by kind."""
        return Counter(node.spec.kind for node in self.nodes.values())


@dataclass
class _Builder:
    """Collects nodes, and caches what all cells of a sweep share."""

    sweep: SweepSpec
    dataset: DatasetSpec
    default_weights: str
    recipe: RecipeFile
    weights_dir: Path | None
    teachers: dict[ModelSpec, Teacher]
    nodes: dict[str, Node] = field(default_factory=dict)
    needed: Counter[str] = field(default_factory=Counter)
    weights: dict[str, str] = field(default_factory=dict)
    shared: dict[tuple[str, str, str], dict[str, str] | str] = field(default_factory=dict)
    _first: dict[tuple[str, str, str], WeightsSpec] = field(default_factory=dict)
    _translators: dict[tuple[str, str], Recipe] = field(default_factory=dict)
    teacher_keys: dict[ModelSpec, str] = field(default_factory=dict)

    # Cached because plans of thousands of cells would spend most of their time on these.

    @cached_property
    def student_recipe(self) -> Recipe:
        return self.recipe.for_kind("student")

    @cached_property
    def teacher_recipe(self) -> Recipe:
        return self.recipe.for_kind("teacher")

    @cached_property
    def recipe_label(self) -> str:
        return self.recipe.label()

    def translator_recipe(self, name: str, translator: TranslatorSpec, teacher: ModelSpec, sizes: Any) -> Recipe:
        """The recipe of a translator, cached because the points of a grid over other parameters share it."""
        place = (canonical_json(translator), teacher.word)
        if place not in self._translators:
            prescribed = dict(build_translator(translator, sizes).recipe)
            self._translators[place] = _translator_recipe(self, name, prescribed)
        return self._translators[place]

    def add(self, spec: StageSpec, name: str, cell: Cell | None, reproduce: str) -> str:
        """Add a stage to the graph unless it is there; return its key."""
        key = spec.key
        if key not in self.nodes:
            self.nodes[key] = Node(key, spec, name, cell, reproduce)
        self.needed[key] += 1
        return key

    def completed(self, model: ModelSpec, asked: str) -> ModelSpec:
        """The model with its initial weights and plugins identified by sha256."""
        wanted = self.default_weights if asked == "auto" else asked
        place = (wanted, model.family, model.encoder)
        if place not in self._first:
            self._first[place] = self._find_weights(wanted, model)
        return model.model_copy(update={"weights": self._first[place], "source": model_source(model)})

    def imported(self, teacher: Teacher) -> ModelSpec:
        """The model of an imported teacher, with its weights identified by sha256."""
        assert teacher.file is not None
        weights = WeightsSpec(source="network", sha256=self._remember(teacher.file), classes=teacher.classes)
        return teacher.model.model_copy(update={"weights": weights, "source": model_source(teacher.model)})

    def _find_weights(self, wanted: str, model: ModelSpec) -> WeightsSpec:
        if wanted == "random":
            return WeightsSpec()
        if wanted == "imagenet":
            from backbones.weights import find_weights

            file = find_weights(self.weights_dir, model.encoder) if self.weights_dir else None
            return WeightsSpec(source="imagenet", sha256=self._remember(file) if file else "")
        if not Path(wanted).expanduser().is_file():
            raise HarnessError(
                f"--weights {wanted} is not a file", "give auto, random, imagenet, or a safetensors file"
            )
        return WeightsSpec(source="file", sha256=self._remember(Path(wanted)))

    def _remember(self, file: Path) -> str:
        found = file_digest(file)
        self.weights[found] = str(file.resolve())
        return found


def make_plan(sweep: SweepSpec, data_root: Path | None = None, weights_dir: Path | None = None) -> Plan:
    """The plan of a sweep.

    Raises:
        HarnessError: an unknown name, an invalid expression, or a recipe or data set that does not fit.
    """
    spec = parse_dataset(sweep.dataset, data_root)
    dataset = open_dataset(spec, data_root)
    recipe_name = dataset.recipe if sweep.recipe == "auto" else sweep.recipe
    recipe = with_losses(load_recipe(recipe_name).changed(sweep.set), len(dataset.classes))
    teachers = {teacher.model: teacher for teacher in find_teachers(sweep, dataset.classes)}
    _refuse_absent_val(recipe, dataset)
    builder = _Builder(sweep, spec, dataset.weights, recipe, weights_dir, teachers)
    skips: list[Skip] = []
    cells = 0
    for student, stride, method, teacher, seed in _cells(sweep, list(builder.teachers)):
        model = parse_model(student, sweep.head, stride)
        cells += 1
        reason = _add_cell(builder, model, method, teacher, seed, len(dataset.classes))
        if reason:
            skips.append(Skip(f"{method.expression} {model.word}", reason))
    nodes = {key: _counted(node, builder.needed[key]) for key, node in builder.nodes.items()}
    return Plan(sweep, nodes, tuple(dict.fromkeys(skips)), cells, builder.weights, _evaluated(dataset))


def _evaluated(dataset: Dataset) -> Evaluated:
    """The numbers of evaluated images, for estimates; none where a plugin's split raises, which the run reports."""
    splits = dataset.splits
    try:
        with guard_process():
            validation = len(dataset.split("val")) if "val" in splits else 0
            reported = validation if splits[-1] == "val" else len(dataset.split(splits[-1]))
    except HarnessError:
        raise
    except (Exception, SystemExit):
        return Evaluated(0, 0, dataset.eval_size)
    return Evaluated(reported, validation, dataset.eval_size)


def _refuse_absent_val(recipe: RecipeFile, dataset: Dataset) -> None:
    """Check that a recipe with validation during training has a split to validate on."""
    for kind in ("teacher", "student"):
        every = recipe.for_kind(kind).validate_every
        if every and "val" not in dataset.splits:
            has = ", ".join(dataset.splits)
            raise HarnessError(
                f"recipe '{recipe.name}' validates every {every} iterations of a {kind}, "
                f"but data set '{dataset.name}' has no split val: it has {has}",
                "give --set validate_every=0, or a data set with that split",
            )


def _counted(node: Node, cells: int) -> Node:
    return Node(node.key, node.spec, node.name, node.cell, node.reproduce, cells)


def _cells(
    sweep: SweepSpec, teachers: Sequence[ModelSpec]
) -> Iterator[tuple[str, int | None, MethodSpec, ModelSpec, int]]:
    """The cells of the matrix. A student whose word includes a stride appears once, at that stride only."""
    methods = [spec for expression in sweep.methods for spec in resolve(expression)]
    students = dict.fromkeys(
        (word, parse_model(word, sweep.head, stride).stride)
        for word, stride in itertools.product(sweep.students, sweep.strides)
    )
    unique = {method_digest(method): method for method in methods}.values()
    for (word, stride), method, teacher, seed in itertools.product(
        students, unique, teachers, dict.fromkeys(sweep.seeds)
    ):
        if not needs_teacher(method) and teacher != teachers[0]:
            continue
        yield word, stride, method, teacher, seed


def method_digest(method: MethodSpec) -> str:
    """A digest that identifies a method with its parameters and weights."""
    return digest({"parts": [part.model_dump(mode="json") for part in method.parts]})


def _add_cell(
    builder: _Builder, student: ModelSpec, method: MethodSpec, teacher: ModelSpec, seed: int, classes: int
) -> str | None:
    """Add the stages of a cell; return the reason if it cannot be trained, otherwise None."""
    has_teacher = needs_teacher(method)
    place = (method.expression, student.word, teacher.word)
    if place in builder.shared:
        # Another seed of a cell that was already added: only the student's stage differs.
        parents = builder.shared[place]
        if isinstance(parents, str):
            return parents
        builder.needed.update(parents.values())
    else:
        parents = builder.shared[place] = _shared_stages(
            builder, student, method, teacher if has_teacher else None, classes
        )
        if isinstance(parents, str):
            return parents
    student = builder.completed(student, builder.sweep.weights)
    spec = StageSpec(
        kind="student",
        dataset=builder.dataset,
        model=student,
        method=method,
        recipe=builder.student_recipe,
        seed=seed,
        parents=parents,
    )
    cell = _cell(builder, student, method.expression, teacher.word if has_teacher else "", seed)
    name = f"{method.expression} {student.word} seed {seed}"
    builder.add(spec, name, cell, _reproduce(builder, cell, student, teacher if has_teacher else None, method))
    return None


def _shared_stages(
    builder: _Builder, student: ModelSpec, method: MethodSpec, teacher: ModelSpec | None, classes: int
) -> dict[str, str] | str:
    """Keys, by role, of the stages that a cell shares with its other seeds; or the reason why it cannot be trained."""
    for model in (student, teacher) if teacher else (student,):
        if reason := model_unsupported_reason(model):
            return reason
    sizes = model_sizes(student, classes)
    teacher_sizes = model_sizes(teacher, classes) if teacher else None
    if reason := skip_reason(method, sizes, teacher_sizes):
        return reason
    if teacher is None:
        return {}
    parents = {"teacher": _add_teacher(builder, teacher)}
    return parents | _add_translators(builder, method, teacher, sizes, teacher_sizes, parents["teacher"])


def _add_teacher(builder: _Builder, teacher: ModelSpec) -> str:
    if teacher in builder.teacher_keys:
        builder.needed[builder.teacher_keys[teacher]] += 1
        return builder.teacher_keys[teacher]
    sweep, asked, recipe = builder.sweep, builder.teachers[teacher], builder.teacher_recipe
    comes_as_it_is = asked.file is not None
    model = builder.imported(asked) if comes_as_it_is else builder.completed(teacher, sweep.teacher_weights)
    spec = StageSpec(
        kind="teacher",
        dataset=builder.dataset,
        model=model,
        recipe=evaluation_only(recipe) if comes_as_it_is else recipe,
        seed=0 if comes_as_it_is else sweep.teacher_seed,
    )
    cell = _cell(builder, model, "teacher", "", spec.seed)
    key = builder.add(spec, f"teacher {model.word}", cell, _reproduce(builder, None, None, teacher))
    builder.teacher_keys[teacher] = key
    return key


def _add_translators(
    builder: _Builder, method: MethodSpec, teacher: ModelSpec, sizes: Any, teacher_sizes: Any, teacher_key: str
) -> dict[str, str]:
    """Add the translator stages of a method; role -> key."""
    parents: dict[str, str] = {}
    for name, translator in translator_specs(method, sizes, teacher_sizes).items():
        spec = StageSpec(
            kind="translator",
            dataset=builder.dataset,
            model=teacher.model_copy(update={"weights": WeightsSpec()}),
            translator=translator,
            recipe=builder.translator_recipe(name, translator, teacher, teacher_sizes),
            seed=builder.sweep.teacher_seed,
            parents={"teacher": teacher_key},
        )
        label = f"translator {name} of {teacher.word}"
        parents[f"translator:{name}"] = builder.add(spec, label, None, _reproduce(builder, None, None, teacher))
    return parents


def _translator_recipe(builder: _Builder, method: str, prescribed: dict[str, Any]) -> Recipe:
    """The recipe of a translator, with the fields that the method prescribes."""
    try:
        return builder.recipe.for_kind("translator", prescribed)
    except HarnessError as error:
        builder.recipe.for_kind("translator")  # raises if the recipe itself is invalid
        what = f"the translator of method {display_name(METHODS.get(method))} prescribes {prescribed}: {error.message}"
        raise HarnessError(what, f"fields of a recipe: {', '.join(Recipe.model_fields)}") from error


def _cell(builder: _Builder, model: ModelSpec, method: str, teacher: str, seed: int) -> Cell:
    weights = model.weights
    return Cell(
        dataset=builder.dataset.label,
        student=model.label,
        stride=model.stride,
        method=method,
        teacher=teacher,
        recipe=builder.recipe_label,
        weights=weights.source if weights.source == "random" else f"{weights.source}:{weights.sha256[:8] or 'hub'}",
        seed=seed,
    )


def _reproduce(
    builder: _Builder,
    cell: Cell | None,
    student: ModelSpec | None,
    teacher: ModelSpec | None,
    method: MethodSpec | None = None,
) -> str:
    """The command that reproduces one row."""
    sweep = builder.sweep
    words = ["harness", "sweep", "--methods", cell.method if cell else "kd"]
    if student and cell:
        words += ["--students", student.label, "--strides", str(student.stride), "--seeds", str(cell.seed)]
    if teacher:
        asked = builder.teachers[teacher]
        words += ["--teachers", asked.word if asked.file else teacher.label]
        words += ["--teacher-strides", str(teacher.stride)]
        words += ["--teacher-seed", str(sweep.teacher_seed)]
    words += ["--dataset", sweep.dataset, "--recipe", sweep.recipe]
    for path, value in sorted(sweep.set.items()):
        words += ["--set", f"{path}={value_text(value)}"]
    for flag, value in (
        ("--weights", sweep.weights),
        ("--teacher-weights", sweep.teacher_weights),
        ("--teacher-classes", sweep.teacher_classes),
    ):
        words += [flag, value] if value not in ("auto", "") else []
    for path in _plugins(builder, method, [model for model in (student, teacher) if model]):
        words += ["--plugin", path]
    return " ".join(shlex.quote(word) for word in words)


def _plugins(builder: _Builder, method: MethodSpec | None, models: Sequence[ModelSpec]) -> list[str]:
    """Files of the plugins that a row needs."""
    entries: list[Entry[Any]] = [
        DATASETS.entry(builder.dataset.name),
        *(METHODS.entry(part.name) for part in (method.parts if method else ())),
        *(FAMILIES.entry(model.family) for model in models),
        *(HEADS.entry(model.head) for model in models),
        *(LOSSES.entry(recipe.loss.name) for recipe in (builder.student_recipe, builder.teacher_recipe)),
    ]
    return list(dict.fromkeys(entry.file for entry in entries if entry.file))

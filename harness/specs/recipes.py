"""Recipes: named YAML files with training settings. A file has common fields, and changes by kind of stage."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

from pydantic import ValidationError

from harness.errors import HarnessError, did_you_mean
from harness.specs.spec import Kind, Recipe, digest
from harness.specs.yaml_files import read_mapping
from results.invalid import first_invalid

FOLDER = Path(__file__).parent / "recipe_files"
KINDS = get_args(Kind)


@dataclass(frozen=True)
class RecipeFile:
    """A recipe as written: common fields, and changes by kind of stage."""

    name: str
    summary: str
    common: dict[str, Any]
    kinds: dict[str, dict[str, Any]] = field(default_factory=dict)

    def for_kind(self, kind: Kind, extra: Mapping[str, Any] | None = None) -> Recipe:
        """The resolved recipe of a kind of stage. The file's fields override `extra`, a translator's prescribed ones.

        Raises:
            HarnessError: a field is unknown or its value invalid; the message names it.
        """
        merged = merge(merge(self.common, extra or {}), self.kinds.get(kind, {}))
        if kind == "teacher":
            merged.pop("teacher_norm", None)  # A teacher has no teacher, so the field does not apply.
        if kind == "translator":
            for name in (
                "eval_batch",
                "evaluation",
                "loss",
                "freeze",
            ):  # A translator has no predictions and no backbone.
                merged.pop(name, None)
        try:
            recipe = Recipe.model_validate(merged)
            if not recipe.iterations:
                raise HarnessError(
                    f"recipe '{self.name}', {kind}: iterations: it must be greater than 0",
                    "train at least one iteration",
                )
            return recipe
        except ValidationError as error:
            invalid = first_invalid(error)
            where = invalid.where or (repr(invalid.value) if invalid.unknown else "")
            if invalid.unknown and invalid.where and "." not in invalid.where:
                hint = did_you_mean(invalid.where, Recipe.model_fields)
                raise HarnessError(
                    f"recipe '{self.name}', {kind}: there is no field '{invalid.where}'", hint
                ) from error
            raise HarnessError(
                ": ".join(filter(None, (f"recipe '{self.name}', {kind}", where, invalid.what))),
                "see harness recipes NAME for the fields",
            ) from error

    def changed(self, changes: Mapping[str, Any]) -> RecipeFile:
        """The recipe with changes by dotted path: "iterations", "optimizer.lr", "student.iterations"."""
        common, kinds = dict(self.common), {k: dict(v) for k, v in self.kinds.items()}
        for path, value in sorted(changes.items()):
            head, _, rest = path.partition(".")
            if head in KINDS:
                kinds[head] = merge(kinds.get(head, {}), _nest(rest, value))
            else:
                common = merge(common, _nest(path, value))
                kinds = {kind: _without(fields, path) for kind, fields in kinds.items()}
        return RecipeFile(self.name, self.summary, common, kinds)

    def label(self) -> str:
        """The name with a short digest of the student's fields: `quick-1a2b3c`."""
        return f"{self.name}-{digest(self.for_kind('student').content)[:6]}"


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """`base` updated with `over`; nested mappings are merged recursively."""
    result = dict(base)
    for key, value in over.items():
        both = isinstance(value, Mapping) and isinstance(result.get(key), Mapping)
        result[key] = merge(result[key], value) if both else value
    return result


def _nest(path: str, value: Any) -> dict[str, Any]:
    head, _, rest = path.partition(".")
    return {head: _nest(rest, value) if rest else value}


def _without(fields: Mapping[str, Any], path: str) -> dict[str, Any]:
    """The fields without one dotted path: a change of a common field applies to every kind."""
    head, _, rest = path.partition(".")
    result = dict(fields)
    if rest and isinstance(result.get(head), Mapping):
        result[head] = _without(result[head], rest)
    elif not rest:
        result.pop(head, None)
    return result


def recipe_names() -> list[str]:
    """Names of the built-in recipes."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def load_recipe(name: str) -> RecipeFile:
    """A built-in recipe by name, or a recipe by the path of its YAML file.

    Raises:
        HarnessError: unknown name, or the file is not a recipe.
    """
    path = Path(name) if name.endswith((".yaml", ".yml")) else FOLDER / f"{name}.yaml"
    if not path.is_file():
        raise HarnessError(f"there is no recipe '{name}'", f"{did_you_mean(name, recipe_names())}; or give a YAML file")
    data = read_mapping(path, "a recipe", "write fields as in harness recipes quick")
    kinds = {kind: data.pop(kind) or {} for kind in KINDS if kind in data}
    recipe = RecipeFile(path.stem, str(data.pop("summary", "")), data, kinds)
    for kind in KINDS:
        recipe.for_kind(kind)
    return recipe


def differences(one: RecipeFile, other: RecipeFile) -> list[tuple[str, Any, Any]]:
    """Fields in which two recipes differ, as (dotted path, value, other value).

    A field that differs equally for every kind of stage appears once, without the prefix of the kind.
    """
    found: dict[Kind, dict[str, tuple[Any, Any]]] = {}
    for kind in KINDS:
        first, second = (_flat(recipe.for_kind(kind).model_dump(mode="json")) for recipe in (one, other))
        found[kind] = {
            path: (first.get(path), second.get(path))
            for path in (*first, *(path for path in second if path not in first))
            if first.get(path) != second.get(path)
        }
    rows: list[tuple[str, Any, Any]] = []
    for kind, fields in found.items():
        for path, values in fields.items():
            alike = all(found[k].get(path) == values for k in KINDS)
            if not alike or kind == KINDS[0]:
                rows.append((path if alike else f"{kind}.{path}", *values))
    return rows


def fields(recipe: RecipeFile) -> dict[str, dict[Kind, Any]]:
    """Every field by its dotted path: its value for each kind of stage."""
    found = {kind: _flat(recipe.for_kind(kind).model_dump(mode="json")) for kind in KINDS}
    return {path: {kind: found[kind][path] for kind in KINDS} for path in found[KINDS[0]]}


def _flat(data: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    """The values by dotted path."""
    result: dict[str, Any] = {}
    for key, value in data.items():
        result |= _flat(value, f"{before}{key}.") if isinstance(value, Mapping) else {f"{before}{key}": value}
    return result

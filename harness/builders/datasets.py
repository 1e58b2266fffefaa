"""Data sets by name (`shapes`, `shapes[size=96,train=200]`, `camvid`) or by the path of a `dataset.yaml`."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from harness.data.base import DataParams, Dataset
from harness.errors import HarnessError, did_you_mean
from harness.specs.spec import DatasetSpec, digest
from harness.specs.values import parse_value
from harness.system.guard import guard_process
from results.invalid import first_invalid

ROOT_VARIABLE = "HARNESS_DATA"
_COMMA = re.compile(r",(?![^(]*\))(?=(?:[^\"]*\"[^\"]*\")*[^\"]*$)")
"""A comma outside parentheses and quotes."""
_WORD = re.compile(r"^\s*(?P<name>[A-Za-z_]\w*)\s*(?:\[(?P<params>[^\[\]]*)\])?\s*$")


def data_root_or_default(data_root: Path | None) -> Path | None:
    """The given folder, else that of HARNESS_DATA, else None."""
    if data_root is not None:
        return Path(data_root)
    return Path(os.environ[ROOT_VARIABLE]) if os.environ.get(ROOT_VARIABLE) else None


def located(word: str, data_root: Path | None = None) -> tuple[str, Path | None]:
    """A data set's word and data root; the path of a `dataset.yaml`, or of the folder that holds it, means
    the data set `folder` with that folder.

    Raises:
        HarnessError: the word looks like such a path, but the file does not exist.
    """
    path = Path(word).expanduser()
    is_path = "/" in word or os.sep in word or word in (".", "..")
    if path.is_dir() and (is_path or _is_described(path)):
        path = path / "dataset.yaml"
    if path.suffix.lower() not in (".yaml", ".yml") or "[" in path.name:
        return word, data_root
    if not path.is_file():
        raise HarnessError(f"{path} does not exist", f"write it with harness data init {path.parent}")
    folder = path.resolve().parent
    return ("folder" if path.name == "dataset.yaml" else f"folder[file={path.name}]"), folder


def _is_described(folder: Path) -> bool:
    """Whether a folder named without a slash holds a `dataset.yaml`, and its name is not a data set's."""
    from harness.plugins.registries import DATASETS

    return (folder / "dataset.yaml").is_file() and folder.name not in DATASETS


def dataset_params(cls: type[Dataset], params: Mapping[str, Any]) -> DataParams:
    """The validated parameters of a data set.

    Raises:
        HarnessError: a parameter is unknown or its value invalid; the message names it.
    """
    try:
        return cls.Params.model_validate(dict(params))
    except ValidationError as error:
        invalid = first_invalid(error)
        known, name = sorted(cls.Params.model_fields), invalid.field
        if invalid.unknown:
            raise HarnessError(f"data set '{cls.name}' has no parameter '{name}'", did_you_mean(name, known)) from error
        where = f", parameter '{name}' = {invalid.value!r}" if name else ""
        message = invalid.what[0].lower() + invalid.what[1:]
        raise HarnessError(f"data set '{cls.name}'{where}: {message}", "see harness datasets") from error


def open_dataset(
    spec: DatasetSpec | str, data_root: Path | None = None, params: Mapping[str, Any] | None = None
) -> Dataset:
    """Open the data set of a spec, or of a name with parameters.

    Args:
        spec: a `DatasetSpec`, a name, a word such as `shapes[size=96]`, or the path of a `dataset.yaml`.
        data_root: folder that contains it; HARNESS_DATA by default. Generated data sets need none.
        params: further parameters, which override those of the spec.

    Raises:
        HarnessError: unknown data set or parameter, or a missing data root.
    """
    from harness.plugins.registries import DATASETS

    if isinstance(spec, str):
        spec, data_root = located(spec, data_root)
    name, given = (spec.name, spec.params) if isinstance(spec, DatasetSpec) else split_word(spec)
    cls = DATASETS.get(name)
    values = dataset_params(cls, {**given, **(params or {})})
    if not cls.needs_root:
        with guard_process():
            return cls(values)
    root = data_root_or_default(data_root)
    if root is None:
        raise HarnessError(f"data set '{name}' needs a folder", f"give --data-root FOLDER, or set {ROOT_VARIABLE}")
    if not root.is_dir():
        raise HarnessError(f"data root {root} is not a folder", f"give --data-root FOLDER, or set {ROOT_VARIABLE}")
    with guard_process():
        return cls(values, root)


def split_word(word: str) -> tuple[str, dict[str, Any]]:
    """Split a word such as `shapes[size=96,train=200]` into name and parameters, the latter as text.

    Raises:
        HarnessError: the word is not of that form.
    """
    match = _WORD.match(word)
    if not match:
        raise HarnessError(f"'{word}' is not a data set", "write NAME or NAME[parameter=value,...]: shapes[size=96]")
    params: dict[str, Any] = {}
    for part in filter(None, (p.strip() for p in _COMMA.split(match["params"] or ""))):
        name, equals, value = (p.strip() for p in part.partition("="))
        if not (equals and name and value):
            raise HarnessError(f"'{part}' in '{word}' is not parameter=value", "as in shapes[size=96,train=200]")
        if name in params:
            raise HarnessError(f"parameter '{name}' is given twice in '{word}'")
        # Plain words stay text, and pydantic converts them to the parameter's type: `name=010` keeps its zero.
        params[name] = parse_value(value) if value[0] in '("' else value
    return match["name"], params


def parse_dataset(word: str, data_root: Path | None = None) -> DatasetSpec:
    """The spec of a word: parameters that differ from the defaults, and the digest of the data set's manifest.

    Raises:
        HarnessError: as in `open_dataset`, or the data root does not contain the data set.
    """
    from harness.plugins.registries import DATASETS

    dataset = open_dataset(word, data_root)
    params = dataset.params.model_dump(mode="json", exclude_defaults=True)
    source = DATASETS.entry(dataset.name).source
    return DatasetSpec(name=dataset.name, params=params, manifest=manifest_digest(dataset), source=source)


def manifest_digest(dataset: Dataset) -> str:
    """The digest of everything that determines a data set's content.

    Raises:
        HarnessError: the manifest is not plain JSON.
    """
    with guard_process():
        manifest = dataset.manifest()
    try:
        if isinstance(manifest, dict):
            return digest(manifest)
    except (TypeError, ValueError):
        pass
    raise HarnessError(
        f"data set '{dataset.name}': its manifest ({type(manifest).__name__}) is not plain JSON",
        "give a dict of texts, finite numbers and lists: generator version and parameters, or sha256 of every file",
    )

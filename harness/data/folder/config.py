"""The fields of a `dataset.yaml`, and reading it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError, field_validator

from harness.errors import HarnessError, did_you_mean
from harness.specs.yaml_files import read_mapping
from results.invalid import first_invalid

FILE = "dataset.yaml"
SPLITS = ("train", "val", "test")
Layout = Literal["masks", "yolo", "coco", "label-studio", "labelme"]


class Config(BaseModel):
    """A `dataset.yaml`; docs/data.md explains each field."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = ""
    root: str = ""
    """The folder that all paths are relative to, and stay in; that of the file itself by default."""
    layout: Layout = "masks"
    images: str = ""
    """Template of image paths, `{split}/images/{name}`; for polygons the folder they lie in."""
    masks: str = ""
    """Template of mask paths."""
    annotations: str | dict[str, str] = ""
    """The file, folder, or file for each split that annotations stand in."""
    classes: list[Any] | dict[Any, Any] | str = ""
    """Names by value, names with values or colours, or a file with such a table."""
    ignore: list[Any] = []
    merge: dict[str, list[str]] = {}
    background: Literal["class", "ignore"] = "class"
    splits: dict[str, float | str | list[str]] = {}
    seed: int = 0
    group: str = ""
    """Regular expression with one group, matched with names: those that agree in it stay in one split."""
    unmatched: Literal["error", "skip"] = "error"
    mask_size: Literal["error", "resize"] = "error"
    lossy_masks: Literal["error", "nearest"] = "error"
    """How values and colours of a JPEG mask are read that belong to no class."""
    size: tuple[int, int] | None = None
    """(height, width) at which models are evaluated and their cost is counted; the most common size by default."""
    weights: Literal["imagenet", "random"] = "imagenet"
    recipe: str = "small"

    @field_validator("splits")
    @classmethod
    def _known_splits(cls, value: dict[str, Any]) -> dict[str, Any]:
        for name in value:
            if name not in SPLITS:
                raise ValueError(f"there is no split '{name}': they are {', '.join(SPLITS)}")
        if value and ("train" not in value or len(value) < 2):
            raise ValueError("must have train, and val or test")
        return value

    @field_validator("classes", mode="before")
    @classmethod
    def _null_is_none(cls, value: Any) -> Any:
        return "" if value is None else value


def load_config(file: Path) -> Config:
    """Read a `dataset.yaml`.

    Raises:
        HarnessError: it is missing, no YAML, or says what is not known; the sentence names the field.
    """
    if not file.is_file():
        raise HarnessError(f"there is no {file}", f"write it with harness data init {file.parent}")
    data = read_mapping(file, "a description of a data set", "write it with harness data init")
    try:
        return Config.model_validate(data)
    except ValidationError as error:
        invalid = first_invalid(error)
        if invalid.unknown:
            hint = did_you_mean(invalid.field, Config.model_fields)
            raise HarnessError(f"{file}: there is no field '{invalid.field}'", hint) from error
        where = ".".join(invalid.where.split(".")[:2])
        raise HarnessError(f"{file}: {where}: {invalid.what}", "see docs/data.md") from error

"""Settings of launchers: a pydantic model, given as `name=value` words, in a site's file, or both.

The file of launcher NAME is looked for in this order: the setting `config`, the variable HARNESS_NAME_CONFIG,
./harness-NAME.yaml, ~/.config/harness/NAME.yaml. Words override it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from harness.errors import HarnessError, did_you_mean
from harness.specs.spec import Frozen
from harness.specs.yaml_files import read_mapping
from results.invalid import first_invalid

CONFIG = "config"
"""The setting that names the site's file; launchers must not use this name otherwise."""
CONFIG_HELP = "File of the site's settings; by default ./harness-NAME.yaml or ~/.config/harness/NAME.yaml."


class LauncherSettings(Frozen):
    """The settings of a launcher. Each has a default, and a docstring that is its help."""

    model_config = ConfigDict(use_attribute_docstrings=True, coerce_numbers_to_str=True)


M = TypeVar("M", bound=BaseModel)


def validated(cls: type[M], values: Mapping[str, Any], where: str) -> M:
    """The validated settings.

    Raises:
        HarnessError: an unknown setting, or an invalid value; the message begins with `where`.
    """
    try:
        return cls.model_validate(values)
    except ValidationError as error:
        invalid = first_invalid(error)
        if invalid.unknown:
            known = (*cls.model_fields, CONFIG)
            hint = did_you_mean(invalid.where, known)
            raise HarnessError(f"{where}: unknown setting '{invalid.where}'", hint) from error
        raise HarnessError(f"{where}: {invalid}") from error


def site_file_name(launcher: str) -> str:
    """The name of a launcher's file in the current folder."""
    return f"harness-{launcher}.yaml"


def read_site(launcher: str, chosen: Path | None = None) -> tuple[dict[str, Any], str]:
    """The site's settings as written, and their file ("" for none).

    Args:
        chosen: the file to read instead of the default locations.

    Raises:
        HarnessError: the named file is missing, or it is not a YAML mapping.
    """
    files, named = _places(launcher, chosen)
    for file in files:
        if not file.is_file():
            if named:
                raise HarnessError(f"there is no file of {launcher} settings {file}", _how_to_write(launcher))
            continue
        hint = "write lines such as  name: value"
        return read_mapping(file, "a file of settings", hint, empty=True), str(file)
    return {}, ""


def _places(launcher: str, chosen: Path | None) -> tuple[list[Path], bool]:
    """Candidate files in order of priority, and whether the file was named and must exist."""
    if chosen:
        return [chosen], True
    if named := os.environ.get(f"HARNESS_{launcher.upper()}_CONFIG"):
        return [Path(named)], True
    home = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    return [Path(site_file_name(launcher)), home / "harness" / f"{launcher}.yaml"], False


def _how_to_write(launcher: str) -> str:
    return "write one with harness slurm init" if launcher == "slurm" else f"see harness launchers {launcher}"

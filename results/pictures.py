"""Sample predictions of runs: which there are, and where two of them differ.

A stage's folder `samples/` holds an index and, for each image, the image as JPEG, and labels and prediction as PNGs
whose values are classes and whose palette is the data set's. Older runs have one PNG an image, side by side.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field, ValidationError

FOLDER, INDEX = "samples", "index.json"
IGNORE = 255
"""Value of pixels that do not count."""
Why = Literal["fixed", "worst"]
_KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")


class Picture(BaseModel):
    """One image of which a prediction is kept."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    name: str
    """Of the image in its split."""
    file: Annotated[str, Field(pattern=r"^\d{6,12}$")]
    """How its files' names begin."""
    why: Why
    """In every run, or among those on which the run did worst."""
    miou: float | None = None
    """Of this image alone."""

    @property
    def image(self) -> str:
        """The file of the image."""
        return f"{self.file}.image.jpg"

    @property
    def label(self) -> str:
        """The file of the labels."""
        return f"{self.file}.label.png"

    @property
    def prediction(self) -> str:
        """The file of the prediction."""
        return f"{self.file}.prediction.png"


class _Index(BaseModel):
    model_config = ConfigDict(extra="ignore")

    classes: list[str]
    pictures: list[Picture]


def index_text(classes: Sequence[str], pictures: Iterable[Picture]) -> str:
    """The index as it is written."""
    return _Index(classes=list(classes), pictures=list(pictures)).model_dump_json(indent=1)


def samples_folder(workspace: Path, key: str) -> Path | None:
    """The folder of a run's sample predictions; None where there is none inside the workspace."""
    home = workspace.resolve() / "stages"
    folder = (home / key / FOLDER).resolve()
    there = _KEY.fullmatch(key) and folder.is_relative_to(home) and folder.is_dir()
    return folder if there else None


Kept = dict[str, tuple[Path, Picture]]
"""Name of an image -> the folder of its files, and which they are."""


def pictures(workspace: Path, key: str) -> Kept:
    """Name of each image of which a run keeps a prediction -> (folder, picture), the fixed ones first.

    Those of which a file is missing, or lies elsewhere, are left out; so are those of older runs: `side_by_side`.
    """
    folder = samples_folder(workspace, key)
    if folder is None:
        return {}
    try:
        found = _Index.model_validate(json.loads((folder / INDEX).read_bytes())).pictures
    except (OSError, ValueError, ValidationError, RecursionError):
        return {}
    return {
        one.name: (folder, one)
        for one in sorted(found, key=lambda picture: (picture.why != "fixed", picture.file))
        if all(_inside(folder, folder / name) for name in (one.image, one.label, one.prediction))
    }


def side_by_side(workspace: Path, key: str, limit: int = 6) -> list[Path]:
    """Pictures of an older run: image, labels and prediction beside one another in one file."""
    folder = samples_folder(workspace, key)
    if folder is None or (folder / INDEX).exists():
        return []
    return [path for path in sorted(folder.glob("*.png")) if _inside(folder, path)][:limit]


def _inside(folder: Path, path: Path) -> bool:
    return path.resolve().is_relative_to(folder) and path.is_file()


def classes_at(path: Path) -> NDArray[np.uint8]:
    """(H, W): the classes in a file of labels or of a prediction.

    Raises:
        ValueError: it is no picture of classes.
    """
    try:
        with Image.open(path) as picture:
            if picture.mode not in ("P", "L"):
                raise ValueError(f"{path} holds colours, not classes")
            return np.asarray(picture, dtype=np.uint8)
    except (OSError, SyntaxError) as error:
        raise ValueError(f"{path} cannot be read: {error}") from error


GAINED, LOST, BOTH_WRONG, BOTH_RIGHT, VOID = range(5)
"""What a pixel of a difference map says: ours alone is right, theirs alone, neither, both, or it does not count."""
COLOURS = {
    GAINED: (37, 99, 235),
    LOST: (234, 88, 12),
    BOTH_WRONG: (120, 120, 128),
    BOTH_RIGHT: (241, 243, 245),
    VOID: (255, 255, 255),
}
"""Blue and orange: told apart by all kinds of colour vision."""


def difference_map(label: NDArray[np.uint8], ours: NDArray[np.uint8], theirs: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(H, W): for each pixel who is right, one of the constants above.

    Raises:
        ValueError: the three are not of one size.
    """
    if not label.shape == ours.shape == theirs.shape:
        raise ValueError(f"pictures of sizes {label.shape}, {ours.shape} and {theirs.shape} cannot be compared")
    a, b = ours == label, theirs == label
    found = np.select([a & ~b, b & ~a, ~a & ~b], [GAINED, LOST, BOTH_WRONG], BOTH_RIGHT).astype(np.uint8)
    found[label == IGNORE] = VOID
    return found


def coloured(differences: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(H, W, 3): a difference map in `COLOURS`."""
    return np.array([COLOURS[n] for n in range(len(COLOURS))], dtype=np.uint8)[differences]

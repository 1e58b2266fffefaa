"""Label Studio's brush labels as they stand in its JSON: run-length codes of RGBA pixels, packed by bits.

The format is that of thi.ng's rle-pack: 32 bits of length in words, 5 of a word's size - 1, four times 4 of the sizes
- 1 of counts; then runs, each a flag (1: one word for all, 0: a word each), 2 bits that choose a size, the count - 1,
and the words.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from harness.data.files import read_text
from harness.data.folder.annotation_file import reading
from harness.data.folder.classes import Classes
from harness.data.folder.drawing import Region, image_size, of_kind, paint
from harness.data.folder.items import LabelSource
from harness.errors import HarnessError


class _Bits:
    """Numbers out of a row of bits."""

    def __init__(self, code: Sequence[int]) -> None:
        self._bits = np.unpackbits(np.asarray(code, dtype=np.uint8))
        self._at = 0

    def take(self, count: int) -> np.ndarray:
        """The next bits.

        Raises:
            HarnessError: there are not so many.
        """
        found = self._bits[self._at : self._at + count]
        if len(found) < count:
            raise HarnessError("a run-length code is cut off")
        self._at += count
        return found

    def number(self, size: int) -> int:
        """The next `size` bits, the highest first."""
        value = 0
        for bit in self.take(size):
            value = value << 1 | int(bit)
        return value


def unpacked(code: Sequence[int], size: tuple[int, int]) -> np.ndarray:
    """(H, W), bool: pixels whose alpha is above 0.

    Args:
        code: bytes.
        size: (height, width) of the image.

    Raises:
        HarnessError: it is no such code, or of another number of pixels.
    """
    bits = _Bits(code)
    length, word = bits.number(32), bits.number(5) + 1
    if word != 8 or length != size[0] * size[1] * 4:
        raise HarnessError(
            f"a run-length code is of {length} numbers of {word} bits, not of {size[0]}x{size[1]} RGBA pixels"
        )
    counts = [bits.number(4) + 1 for _ in range(4)]
    values, done = np.zeros(length, np.uint8), 0
    while done < length:
        alike, choice = bits.number(1), bits.number(2)
        end = min(done + bits.number(counts[choice]) + 1, length)
        words = 1 if alike else end - done
        values[done:end] = np.packbits(bits.take(8 * words).reshape(words, 8), axis=1)[:, 0]
        done = end
    return values.reshape(*size, 4)[..., 3] > 0


@dataclass(frozen=True)
class Brushed:
    """One painted region: its labels, and its pixels (H, W) as a run-length code."""

    labels: tuple[str, ...]
    size: tuple[int, int]
    code: tuple[int, ...]


def brushed(result: Mapping[str, Any]) -> Brushed | None:
    """A region of a task's result; None where it has no code of its own.

    Raises:
        HarnessError: the code or the size cannot be read.
    """
    value = result.get("value", result)
    if not isinstance(value, Mapping) or value.get("format") != "rle" or "rle" not in value:
        return None
    at = value if "original_height" in value else result
    size = image_size(at["original_height"], at["original_width"])
    code = tuple(of_kind(byte, int, "a byte of a run-length code") for byte in value["rle"])
    if code and not 0 <= min(code) <= max(code) <= 255:
        raise HarnessError("a run-length code contains a value that is not a byte")
    return Brushed(tuple(str(label) for label in value.get("brushlabels", [])), size, code)


def read_entries(file: Path) -> list[Mapping[str, Any]]:
    """The tasks as they are written."""
    return list(json.loads(read_text(file)))


def results_of(entry: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """What was painted: of `annotations` in the full form, of the tags' own fields in the short one."""
    if "annotations" in entry:
        for annotation in entry["annotations"]:
            if not annotation.get("was_cancelled"):
                yield from annotation.get("result", [])
        return
    for name, value in entry.items():
        for item in value if isinstance(value, list) else []:
            if isinstance(item, dict) and "brushlabels" in item:
                yield {"from_name": name, "value": item}


def newest_results(entry: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """What was painted in the newest annotation of a task."""
    kept = [each for each in entry.get("annotations", []) if not each.get("was_cancelled")]
    if kept:
        return list(max(kept, key=lambda each: int(each.get("id", 0))).get("result", []))
    return [result["value"] for result in results_of(entry)] if "annotations" not in entry else []


@lru_cache(maxsize=4)
def _regions(path: Path, time: int) -> dict[str, tuple[Brushed, ...]]:
    with reading(path, "Label Studio's", "export it as JSON"):
        return {
            str(entry["id"]): tuple(filter(None, map(brushed, newest_results(entry)))) for entry in read_entries(path)
        }


@dataclass(frozen=True)
class CodedLabel(LabelSource):
    """The regions of one task, as the project's JSON holds them; the smaller is on top."""

    path: Path
    task: str

    @property
    def files(self) -> tuple[Path, ...]:
        return (self.path,)

    @property
    def detail(self) -> str:
        return f"task {self.task}"

    def read(self, size: tuple[int, int], classes: Classes) -> np.ndarray:
        found = _regions(self.path, self.path.stat().st_mtime_ns).get(self.task, ())
        sizes = {region.size for region in found} or {size}
        if len(sizes) > 1:
            raise HarnessError(f"{self.path}: regions of task {self.task} have the sizes {sorted(sizes)}")
        regions = []
        for region in found:
            try:
                mask = unpacked(region.code, region.size)
            except HarnessError as error:
                raise HarnessError(f"{self.path}: task {self.task}: {error.message}", error.hint) from error
            for label in region.labels:
                if label not in classes.by_name:
                    what = f"{self.path}: has the label '{label}', which is not under classes: in dataset.yaml"
                    raise HarnessError(what, "name it there, or under ignore:")
                regions.append(Region(classes.by_name[label], mask=mask))
        return paint(next(iter(sizes)), regions, classes.unlabelled)

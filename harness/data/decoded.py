"""Decoded samples kept on disk: images and labels of a split as bytes in one file, mapped into memory when it is read.

Optional, and made by `harness data cache` alone. Keyed by the data set's content (its specification with the digest of
all files) and the split, so that a changed file is never met. What is read is bit for bit what decoding gives. The
folder is that of digests (`HARNESS_CACHE`, empty for none; else the user's cache), or the one that `HARNESS_DECODED`
names: a fast local disk.
"""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from zlib import crc32

import numpy as np

from harness.data.base import Look, Sample, Split
from harness.data.digests import cache_folder
from harness.data.loading import checked
from harness.errors import HarnessError
from harness.specs.spec import DatasetSpec, digest

VERSION = 1
"""Raised when decoding gives other pixels than before."""
_CHANNELS = 4
"""Bytes of a pixel: three of the image, one of the label."""
_AT_ONCE = 64


@dataclass(frozen=True)
class Place:
    """Where a split's samples are kept.

    Attributes:
        data: image and label of one sample after the other.
        index: (N, 3), int64: height, width and CRC-32 of each; written last.
    """

    data: Path
    index: Path


def place_of(spec: DatasetSpec, split: str) -> Place | None:
    """Where the decoded samples of a split are or would be; None where nothing is to be kept."""
    named = os.environ.get("HARNESS_DECODED")
    folder = Path(named) if named else cache_folder()
    if folder is None:
        return None
    name = digest({"decoded": VERSION, "split": split, **spec.model_dump(mode="json")})[:20]
    return Place(folder / "decoded" / f"{name}.u8", folder / "decoded" / f"{name}.npy")


class DecodedSplit(Split):
    """A split whose samples come out of a file. One that is damaged there is decoded anew.

    Args:
        index: as in `Place`.
    """

    def __init__(self, split: Split, place: Place, index: np.ndarray) -> None:
        self._split, self._place, self._index = split, place, index
        self._starts = np.concatenate([[0], np.cumsum(index[:, :2].prod(1) * _CHANNELS)])

    @property
    def names(self) -> Sequence[str]:
        return self._split.names

    def look(self, index: int) -> Look:
        return self._split.look(index)

    def __getitem__(self, index: int) -> Sample:  # type: ignore[override]
        height, width, checksum = map(int, self._index[index])
        start, pixels = int(self._starts[index]), height * width
        content = np.memmap(self._place.data, np.uint8, "r", start, (pixels * _CHANNELS,))
        if crc32(content.data) != checksum:
            return checked(self._split, index)
        image = content[: 3 * pixels].reshape(height, width, 3)
        return Sample(self.names[index], image, content[3 * pixels :].reshape(height, width))


def decoded(split: Split, spec: DatasetSpec, name: str) -> Split:
    """The split as it is kept decoded, if it is whole; else the split itself."""
    place = place_of(spec, name)
    try:
        if place is None or not place.index.is_file():
            return split
        index = np.load(place.index, allow_pickle=False)
        if index.shape != (len(split), 3):
            return split
        whole = place.data.stat().st_size == index[:, :2].prod(1).sum() * _CHANNELS
        return DecodedSplit(split, place, index) if whole else split
    except (OSError, ValueError):
        return split


def bytes_of(split: Split) -> int:
    """Bytes that a split's samples take decoded; of files only the headers are read.

    Raises:
        HarnessError: a sample cannot be read.
    """
    with ThreadPoolExecutor() as pool:
        return sum(height * width * _CHANNELS for height, width in pool.map(split.size, range(len(split))))


def keep(split: Split, place: Place, needed: int, progress: Callable[[int, int], None] | None = None) -> None:
    """Decode a split into its place.

    Args:
        needed: bytes, as `bytes_of` gives them.

    Raises:
        HarnessError: a sample cannot be read, or the disk has no room.
    """
    place.data.parent.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(place.data.parent).free
    if needed > free:
        raise HarnessError(
            f"{place.data.parent}: {needed / 1e9:.3g} GB are needed, and {free / 1e9:.3g} GB are free",
            "name a folder on another disk: HARNESS_DECODED=FOLDER",
        )
    whose = f"{socket.gethostname()}.{os.getpid()}.tmp"
    data, index = (path.with_name(f".{path.name}.{whose}") for path in (place.data, place.index))
    entries = []
    try:
        with data.open("wb") as file:
            for done, sample in enumerate(_in_order(split), 1):
                content = np.ascontiguousarray(sample.image).tobytes() + np.ascontiguousarray(sample.label).tobytes()
                file.write(content)
                entries.append((*sample.label.shape, crc32(content)))
                if progress:
                    progress(done, len(split))
        with index.open("wb") as file:
            np.save(file, np.array(entries, np.int64).reshape(-1, 3), allow_pickle=False)
        data.replace(place.data)
        index.replace(place.index)
    finally:
        data.unlink(missing_ok=True)
        index.unlink(missing_ok=True)


def _in_order(split: Split) -> Iterator[Sample]:
    """Samples decoded by threads, so many at once that they fit into memory."""
    with ThreadPoolExecutor() as pool:
        for start in range(0, len(split), _AT_ONCE):
            some = range(start, min(start + _AT_ONCE, len(split)))
            yield from pool.map(lambda index: checked(split, index), some)

"""Guessing classes from the pixels of some masks and from class tables in the folder."""

from __future__ import annotations

import posixpath
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from harness.data.base import IGNORE
from harness.data.decode import decode_label, size_of
from harness.data.folder.classes import LARGEST, RGB, VOC_BORDER, ClassEntry, read_class_file, voc_colour
from harness.data.folder.guess import Guess
from harness.data.folder.tree import Tree
from harness.errors import HarnessError

SOME = 60
"""Maximum number of masks to read."""
MANY = 64
"""More distinct values than this are unlikely to be classes."""
VOC = (
    "background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow",
    "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip
VOID = frozenset({"void", "unlabeled", "unlabelled", "ignore", "ignored", "unknown", "__ignore__"})
"""Names of classes that are ignored, in lower case."""
_TABLE = re.compile(r"(class|label|palette|colou?r|categor|legend|codes|names|ontology)", re.I)


@dataclass
class Pixels:
    """The contents of some masks: the number of masks with each value or colour, and their format."""

    looked_at: int = 0
    of: int = 0
    numbers: Counter[int] = field(default_factory=Counter)
    colours: Counter[RGB] = field(default_factory=Counter)
    palette: dict[int, RGB] = field(default_factory=dict)
    lossy: str = ""
    other_size: int = 0
    unreadable: list[str] = field(default_factory=list)


def look(pairs: Sequence[tuple[Path, Path]]) -> Pixels:
    """Decode some masks, evenly spread, and compare their sizes with their images'."""
    found = Pixels(of=len(pairs))
    step = max(len(pairs) / SOME, 1)
    for i in range(min(len(pairs), SOME)):
        image, mask = pairs[int(i * step)]
        try:
            _look_at(found, image, mask)
        except HarnessError as error:
            found.unreadable.append(error.message)
    return found


def _look_at(found: Pixels, image: Path, mask: Path) -> None:
    picture = decode_label(mask)
    found.looked_at += 1
    found.lossy = found.lossy or picture.lossy
    found.other_size += picture.size != size_of(image)
    coloured = picture.rgb is not None and not (picture.rgb == picture.rgb[..., :1]).all()
    if coloured or picture.doubt:
        pixels = picture.colours().astype(np.uint32)
        codes = np.unique(pixels[..., 0] << 16 | pixels[..., 1] << 8 | pixels[..., 2])
        found.colours.update((int(v) >> 16, int(v) >> 8 & 255, int(v) & 255) for v in codes[:1000])
        return
    values = np.unique(picture.numbers() if picture.rgb is None else picture.rgb[..., 0])
    found.numbers.update(int(v) for v in values[:1000])
    if picture.palette is not None:
        for value in map(int, values):
            if value < len(picture.palette):
                red, green, blue = map(int, picture.palette[value])
                found.palette.setdefault(value, (red, green, blue))


def guess_classes(guess: Guess, tree: Tree, pixels: Pixels, near: str = "") -> None:
    """Write `classes`, `ignore` and `background` from what masks hold and from a class table, if one fits.

    Args:
        near: folder in which a table is looked for first.
    """
    for message in pixels.unreadable[:3]:
        guess.doubt("classes", message)
    guess.note("classes", _described(pixels))
    if pixels.other_size:
        guess.doubt(
            "masks",
            f"{pixels.other_size} of {pixels.looked_at} masks have another size than their image: an error, "
            "unless you add  mask_size: resize",
        )
    if pixels.lossy and not _lossy(guess, pixels):
        return
    table = _table(tree, pixels, near)
    if table:
        _by_table(guess, pixels, *table)
    elif pixels.colours:
        _by_colours(guess, pixels)
    else:
        _by_numbers(guess, pixels)


def _described(pixels: Pixels) -> str:
    if pixels.colours and not pixels.numbers:
        what = f"{len(pixels.colours)} colours"
    else:
        values = sorted(pixels.numbers)
        shown = ", ".join(map(str, values[:12])) + (f", ... {values[-1]}" if len(values) > 12 else "")
        what = f"values {shown}" + (f" and {len(pixels.colours)} colours" if pixels.colours else "")
    return f"{pixels.looked_at} of {pixels.of} masks were read: {what}"


def _lossy(guess: Guess, pixels: Pixels) -> bool:
    """JPEG masks: what is near black or white is a binary mask. False where there is no more to say."""
    guess.fields["lossy_masks"] = "nearest"
    guess.doubt("lossy_masks", f"masks are {pixels.lossy}, which blurs borders: save them as PNG if you can")
    if pixels.colours:
        return True
    guess.fields["classes"] = {"background": 0, "foreground": 255}
    guess.doubt("classes", "read as black and white; name all values if there are more")
    return False


# -------------------------------------------------------------------------------------------------- class tables


def _table(tree: Tree, pixels: Pixels, near: str) -> tuple[str, list[ClassEntry]] | None:
    """The class table that contains most of the masks' values or colours."""
    best: tuple[float, str, list[ClassEntry]] | None = None
    for file in tree.files:
        name = posixpath.basename(file)
        suffix = posixpath.splitext(name)[1].lower()
        if suffix not in (".csv", ".tsv", ".json", ".txt") or not _TABLE.search(name):
            continue
        if file.count("/") > 3 or not tree.holds(file, 200_000):
            continue
        try:
            entries = read_class_file(tree.path(file))
        except HarnessError:
            continue
        known = _known(entries, pixels)
        if known >= 0.5 and len(entries) <= 1000 and (best is None or known > best[0] or file.startswith(near or "\0")):
            best = known, file, entries
    return best[1:] if best else None


def _known(entries: Sequence[ClassEntry], pixels: Pixels) -> float:
    """The fraction of colours or numbers that a table contains."""
    if pixels.colours:
        table = {entry.colour for entry in entries}
        return sum(colour in table for colour in pixels.colours) / len(pixels.colours)
    values = {entry.value for entry in entries if entry.value is not None}
    if not values:
        table = {entry.colour for entry in entries}
        shown = [pixels.palette.get(v, (v, v, v)) for v in pixels.numbers]
        known = sum(colour in table for colour in shown) / max(len(shown), 1)
        return max(known, 0.9 * _by_order(entries, pixels))
    numbers = [v for v in pixels.numbers if v != IGNORE]
    return sum(v in values for v in numbers) / max(len(numbers), 1)


def _by_order(entries: Sequence[ClassEntry], pixels: Pixels) -> bool:
    """Whether grey masks contain positions in the table: no colours of it, and no larger values."""
    grey = {entry.colour for entry in entries}
    if pixels.palette or pixels.colours or all((v, v, v) in grey for v in pixels.numbers):
        return False
    return all(v < len(entries) or v == IGNORE for v in pixels.numbers)


def _by_table(guess: Guess, pixels: Pixels, file: str, entries: list[ClassEntry]) -> None:
    guess.note("classes", f"{file} names {len(entries)} classes")
    guess.fields["classes"] = file
    _by_table_values(guess, pixels, file, entries)
    void = [entry.name for entry in entries if entry.name.lower() in VOID]
    if void and len(entries) - len(void) >= 2 and "background" not in guess.fields:
        guess.fields["ignore"] = [*void, *guess.fields.get("ignore", [])]
        guess.doubt("ignore", f"{', '.join(void)}: ignored because of its name; remove it here if it is a class")


def _by_table_values(guess: Guess, pixels: Pixels, file: str, entries: list[ClassEntry]) -> None:
    """`ignore` and `background` where masks and table differ."""
    if not any(entry.value is not None for entry in entries) and _by_order(entries, pixels):
        what = "the table has colours but the masks have numbers: read as positions in the table, from 0"
        guess.doubt("classes", what)
        return
    if pixels.colours or not any(entry.value is not None for entry in entries):
        table = {entry.colour for entry in entries} | {VOC_BORDER}
        shown = pixels.colours or Counter(pixels.palette.get(v, (v, v, v)) for v in pixels.numbers)
        strange = [colour for colour in shown if colour not in table]
        if strange:
            guess.fields["ignore"] = [list(colour) for colour in strange[:20]]
            guess.doubt("ignore", f"{len(strange)} colours that {file} does not name")
        return
    values = {entry.value for entry in entries}
    numbers = sorted(v for v in pixels.numbers if v != IGNORE)
    named = values == set(range(len(entries))) and all(not e.colour for e in entries)
    if named and numbers and numbers[-1] == len(entries):
        guess.fields["background"] = "ignore"
        guess.doubt("background", f"{len(entries)} names for values up to {numbers[-1]}: value 0 is ignored")
        return
    strange_numbers = [v for v in numbers if v not in values]
    if strange_numbers:
        guess.fields["ignore"] = strange_numbers[:20]
        guess.doubt("ignore", f"values that {file} does not name")


# ------------------------------------------------------------------------------------------------ without a table


def _by_colours(guess: Guess, pixels: Pixels) -> None:
    colours = sorted(pixels.colours)
    if len(colours) > IGNORE:
        guess.fields["classes"] = []
        guess.doubt("classes", f"{len(colours)} colours and more: are these masks? At most {IGNORE} classes fit")
        return
    voc = {voc_colour(i): name for i, name in enumerate(VOC)}
    if all(colour in voc or colour == VOC_BORDER for colour in colours) and len(colours) > 2:
        guess.fields["classes"] = {name: list(colour) for colour, name in voc.items()}
        guess.doubt("classes", "the colours are those of Pascal VOC, so its names are used")
        return
    white = "foreground" if len(colours) == 2 else "white"
    names = {(0, 0, 0): "background", (255, 255, 255): white}
    guess.fields["classes"] = {names.get(c, f"colour_{i}"): list(c) for i, c in enumerate(colours)}
    guess.doubt("classes", "no class table was found: name the classes")


def _by_numbers(guess: Guess, pixels: Pixels) -> None:
    numbers = sorted(pixels.numbers)
    if set(numbers) <= {0, IGNORE} and IGNORE in numbers:
        guess.fields["classes"] = {"background": 0, "foreground": IGNORE}
        guess.note("classes", f"only 0 and {IGNORE}: {IGNORE} is read as foreground, not as ignored")
        return
    classes = [v for v in numbers if v != IGNORE]
    if classes and classes[-1] == LARGEST and len(classes) > 2:
        classes.remove(LARGEST)
        guess.fields["ignore"] = [LARGEST]
        guess.doubt("ignore", f"{LARGEST}, the largest 16-bit value, is ignored; remove it here if it is a class")
    if len(classes) > IGNORE:
        guess.fields["classes"] = []
        guess.doubt("classes", f"{len(classes)} values: are these instance masks? At most {IGNORE} classes fit")
        return
    if len(classes) > MANY:
        guess.doubt("classes", f"{len(classes)} values are many: are these instance masks?")
    colours = {v: pixels.palette[v] for v in classes if v in pixels.palette}
    if len(set(colours.values())) < len(classes):
        colours = {}
    voc = {v: voc_colour(v) for v in classes}
    if colours == voc and set(classes) <= set(range(len(VOC))) and len(classes) > 1:
        guess.fields["classes"] = list(VOC)
        guess.doubt("classes", "the palette is that of Pascal VOC, so its names are used")
    elif colours:
        guess.fields["classes"] = {f"class_{v}": {"value": v, "colour": list(colours[v])} for v in classes}
        guess.doubt("classes", "no class table was found: name the classes")
    else:
        top = classes[-1] if classes else 0
        full = len(classes) == top + 1
        guess.fields["classes"] = [f"class_{v}" for v in classes] if full else {f"class_{v}": v for v in classes}
        guess.doubt("classes", "no class table was found: name the classes")
    if IGNORE in numbers:
        guess.note("classes", f"{IGNORE} is ignored")

"""Class tables, and the class of each value, colour and name."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from harness.data.base import IGNORE
from harness.data.decode import LabelPicture
from harness.data.files import read_text
from harness.data.folder.tree import is_text
from harness.errors import HarnessError, did_you_mean

RGB = tuple[int, int, int]
BACKGROUND = frozenset(
    {"background", "_background_", "bg", "void", "unlabeled", "unlabelled", "other", "others", "none"}
)
VOC_BORDER: RGB = (224, 224, 192)
"""The colour of value 255 in the palette of Pascal VOC: borders, which tables often leave out."""
LARGEST = 65535


@dataclass(frozen=True)
class ClassEntry:
    """One line of a class table: a name, and its value or colour in a mask."""

    name: str
    value: int | None = None
    colour: RGB | None = None


@dataclass(frozen=True)
class Classes:
    """The classes of a data set, and the class of each raw value, colour and name.

    Attributes:
        names: of the classes, by index.
        palette: an RGB colour for each.
        values: raw number -> index, or `IGNORE`.
        colours: raw colour -> index, or `IGNORE`.
        numbered: the table gives values; where it does not, masks are read by their colours.
        by_name: name in an annotation -> index, or `IGNORE`.
        unlabelled: what a pixel is that no polygon covers: the background's index, or `IGNORE`.
        order: indices in the order of a table without values: what grey masks without palette are numbered by, as
            CVAT reads them, where their grey is not a colour of the table.
    """

    names: tuple[str, ...]
    palette: tuple[RGB, ...]
    values: Mapping[int, int]
    colours: Mapping[RGB, int]
    by_name: Mapping[str, int]
    numbered: bool = True
    unlabelled: int = IGNORE
    order: tuple[int, ...] = ()

    def reading(self) -> dict[str, Any]:
        """Everything that determines how labels are read, as JSON."""
        return {
            "classes": list(self.names),
            "values": sorted([k, v] for k, v in self.values.items()),
            "colours": sorted([*k, v] for k, v in self.colours.items()),
            "names": sorted([k, v] for k, v in self.by_name.items()),
            "unlabelled": self.unlabelled,
            "order": list(self.order),
        }

    def read(self, picture: LabelPicture, nearest: bool = False) -> np.ndarray:
        """(H, W), uint8, of a mask: by numbers where the table has values, else by colours.

        Args:
            nearest: read unknown values and colours as the nearest class.

        Raises:
            HarnessError: a value or colour belongs to no class; the message names it and counts its pixels.
        """
        if picture.lossy and not nearest:
            what = f"{picture.path}: mask is a {picture.lossy}, which changes class numbers along every border"
            raise HarnessError(what, "save masks as PNG, or write lossy_masks: nearest in dataset.yaml")
        if picture.rgb is None and self.numbered:
            return self.read_numbers(picture.numbers(), picture.path, nearest)
        if picture.rgb is None and picture.palette is None and self._by_order(picture.numbers()):
            table = np.array([*self.order, *[IGNORE] * (IGNORE + 1 - len(self.order))], np.uint8)
            return np.asarray(table[picture.numbers()])
        if self.colours:
            return self._read_colours(picture.colours(), picture.path, nearest)
        if picture.rgb is not None and (picture.rgb == picture.rgb[..., :1]).all():
            return self.read_numbers(picture.rgb[..., 0], picture.path, nearest)
        what = f"{picture.path}: is a mask of colours, and the class table has none"
        raise HarnessError(what, "write NAME: [r, g, b] under classes: in dataset.yaml")

    def _by_order(self, numbers: np.ndarray) -> bool:
        """Whether numbers are positions in the table, not grey colours in it."""
        used = [int(v) for v in np.unique(numbers)]
        if not self.order or all((v, v, v) in self.colours for v in used):
            return False
        return all(v < len(self.order) or v == IGNORE for v in used)

    def read_numbers(self, numbers: np.ndarray, path: Path, nearest: bool = False) -> np.ndarray:
        """(H, W) of any integers to (H, W), uint8. `nearest` and errors as in `read`."""
        table = _number_table(tuple(sorted(self.values.items())), nearest)
        small = numbers.dtype in (np.uint8, np.uint16)
        read = table[numbers if small else np.where((numbers < 0) | (numbers > LARGEST), LARGEST + 1, numbers)]
        if (read < 0).any():
            bad, counts = np.unique(numbers[read < 0], return_counts=True)
            raise _unknown(path, [str(v) for v in bad], counts, "values", _spans(self.values))
        return read.astype(np.uint8)

    def _read_colours(self, colours: np.ndarray, path: Path, nearest: bool) -> np.ndarray:
        codes, indices = _colour_table(tuple(sorted(self.colours.items())))
        pixels = colours.astype(np.uint32)
        packed = pixels[..., 0] << 16 | pixels[..., 1] << 8 | pixels[..., 2]
        places = np.minimum(np.searchsorted(codes, packed), len(codes) - 1)
        unknown = codes[places] != packed
        if unknown.any() and nearest:
            known = np.stack([codes >> 16, codes >> 8 & 255, codes & 255], -1).astype(np.int32)
            away = np.square(colours[unknown].astype(np.int32)[:, None] - known).sum(-1)
            places[unknown] = away.argmin(-1)
        elif unknown.any():
            bad, counts = np.unique(packed[unknown], return_counts=True)
            words = [f"({v >> 16}, {v >> 8 & 255}, {v & 255})" for v in map(int, bad)]
            raise _unknown(path, words, counts, "colours", f"the {len(codes)} of the class table")
        return np.asarray(indices[places])


@lru_cache(maxsize=8)
def _number_table(values: tuple[tuple[int, int], ...], nearest: bool) -> np.ndarray:
    """(LARGEST + 2,), int16: class index of each number, -1 for unknown and for larger ones."""
    table = np.full(LARGEST + 2, -1, np.int16)
    for value, index in values:
        table[value] = index
    if nearest:
        known = np.array([value for value, _ in values])
        byte = np.arange(256)
        table[:256] = table[known[np.abs(byte[:, None] - known).argmin(1)]]
    return table


@lru_cache(maxsize=8)
def _colour_table(colours: tuple[tuple[RGB, int], ...]) -> tuple[np.ndarray, np.ndarray]:
    codes = np.array([r << 16 | g << 8 | b for (r, g, b), _ in colours], np.uint32)
    order = np.argsort(codes)
    return codes[order], np.array([index for _, index in colours], np.uint8)[order]


def _unknown(path: Path, words: Sequence[str], counts: np.ndarray, what: str, expected: str) -> HarnessError:
    order = np.argsort(-counts)[:5]
    shown = ", ".join(f"{words[i]} ({counts[i]} pixels)" for i in order) + (", ..." if len(words) > 5 else "")
    hint = "name them under classes: or ignore: in dataset.yaml"
    return HarnessError(f"{path}: {what} of no class: {shown} (expected {expected})", hint)


def _spans(values: Iterable[int]) -> str:
    """Numbers as spans: 0 to 10, 255."""
    spans: list[list[int]] = []
    for value in sorted(values):
        if spans and value == spans[-1][1] + 1:
            spans[-1][1] = value
        else:
            spans.append([value, value])
    return ", ".join(str(a) if a == b else f"{a} to {b}" for a, b in spans[:8]) + (", ..." if len(spans) > 8 else "")


# ------------------------------------------------------------------------------------------------------ building


def build_classes(
    entries: Sequence[ClassEntry],
    ignore: Sequence[Any] = (),
    merge: Mapping[str, Sequence[str]] | None = None,
    background: str = "class",
    polygons: bool = False,
) -> Classes:
    """The classes of a table, after `background`, `ignore` and `merge`.

    Args:
        ignore: class names, raw values or colours that count for nothing. 255 never counts unless it is a class.
        merge: new name -> names that become one class.
        background: "ignore" where value 0, or what no polygon covers, counts for nothing.
        polygons: annotations name their classes, and what they do not cover is background.

    Raises:
        HarnessError: names, values or colours that are doubled or unknown, fewer than two classes, or more than 255.
    """
    entries, dropped = _without_background(list(entries), background, polygons)
    _refuse_doubles(entries)
    names, numbers, colours = _ignored(entries, ignore)
    names |= dropped.get("names", set())
    target = _merged(entries, merge or {})
    kept = list(dict.fromkeys(target[e.name] for e in entries if e.name not in names))
    if len(kept) > IGNORE:
        what = f"{len(kept)} classes: a label is one byte a pixel and {IGNORE} means ignored, so at most {IGNORE} fit"
        raise HarnessError(what, "merge: or ignore: some of them")
    if len(kept) < 2:
        found = f"1 class ({kept[0]})" if kept else "no class"
        remedy = (
            "look at the masks: every pixel has one value, or the others are ignored; name all classes under classes:"
        )
        raise HarnessError(f"{found}: at least two are needed", remedy)
    index = {name: IGNORE if name in names else kept.index(target[name]) for name in target}
    by_value = {e.value: index[e.name] for e in entries if e.value is not None} | dict.fromkeys(numbers, IGNORE)
    by_value |= dict.fromkeys(dropped.get("values", set()), IGNORE)
    by_colour = {e.colour: index[e.name] for e in entries if e.colour} if _distinct(entries) else {}
    by_colour |= dict.fromkeys(colours, IGNORE)
    by_value.setdefault(IGNORE, IGNORE)
    if by_colour:
        by_colour.setdefault(VOC_BORDER, IGNORE)
    shown = {target[e.name]: e.colour for e in reversed(entries) if e.colour}
    first = 0 if kept[0].lower() in BACKGROUND else 1  # black is for the background alone
    palette = tuple(shown.get(name) or voc_colour(i + first) for i, name in enumerate(kept))
    unlabelled = index.get("background", IGNORE) if polygons else IGNORE
    numbered = any(e.value is not None for e in entries)
    order = () if numbered or polygons or len(entries) > IGNORE else tuple(index[e.name] for e in entries)
    return Classes(tuple(kept), palette, by_value, by_colour, index, numbered, unlabelled, order)


def _without_background(
    entries: list[ClassEntry], background: str, polygons: bool
) -> tuple[list[ClassEntry], dict[str, set[Any]]]:
    """The entries, with a background where polygons need one, and what is dropped where it is to be ignored."""
    first = entries[0] if entries else None
    if polygons:
        rest = [e for e in entries if e.name.lower() not in ("background", "_background_")]
        own = [e for e in entries if e not in rest]
        if background == "ignore":
            return rest, {"values": {e.value for e in own if e.value is not None}}
        value = next((e.value for e in own if e.value is not None), None)
        return [ClassEntry("background", value, (0, 0, 0)), *rest], {}
    if background == "class":
        return entries, {}
    named = [e for e in entries if e.name.lower() in BACKGROUND and e.value in (0, None)]
    if named:
        return entries, {"names": {named[0].name}}
    if first is not None and all(e.value == i for i, e in enumerate(entries)):
        # A plain list of names that does not begin with the background: it names the values from 1 on.
        return [replace(e, value=i + 1) for i, e in enumerate(entries)], {"values": {0}}
    zero = {e.name for e in entries if e.value == 0}
    return entries, {"names": zero, "values": {0}}


def _refuse_doubles(entries: Sequence[ClassEntry]) -> None:
    values = [e.value for e in entries if e.value is not None]
    colours = [e.colour for e in entries if e.value is None and e.colour]
    columns: dict[str, list[Any]] = {"name": [e.name for e in entries], "value": values, "colour": colours}
    for what, found in columns.items():
        doubled = sorted({str(v) for v in found if found.count(v) > 1})
        if doubled:
            raise HarnessError(f"the class table has the {what} {doubled[0]} twice", "fix classes: in dataset.yaml")
    if unnamed := [e.name for e in entries if not e.name.strip() or not is_text(e.name)]:
        raise HarnessError(f"the class table has the name {unnamed[0]!r}", "give every class a name of visible text")
    wrong = [v for v in values if not 0 <= v <= LARGEST]
    if wrong:
        raise HarnessError(f"the class table has the value {wrong[0]}", f"values are 0 to {LARGEST}")


def _distinct(entries: Sequence[ClassEntry]) -> bool:
    """Whether colours tell classes apart; a table with values may have some twice, for showing."""
    colours = [e.colour for e in entries if e.colour]
    return len(set(colours)) == len(colours)


def _ignored(entries: Sequence[ClassEntry], ignore: Sequence[Any]) -> tuple[set[str], set[int], set[RGB]]:
    names: set[str] = set()
    numbers: set[int] = set()
    colours: set[RGB] = set()
    for item in ignore:
        by_name = next((e for e in entries if e.name == str(item)), None)
        colour = parse_colour(item) if not isinstance(item, int) else None
        if by_name is not None:
            names.add(by_name.name)
        elif isinstance(item, int) and not isinstance(item, bool):
            numbers.add(item)
            names |= {e.name for e in entries if e.value == item}
        elif colour is not None:
            colours.add(colour)
            names |= {e.name for e in entries if e.value is None and e.colour == colour}
        else:
            hint = did_you_mean(str(item), [e.name for e in entries])
            raise HarnessError(f"ignore: there is no class '{item}'", hint)
    if any(not 0 <= n <= LARGEST for n in numbers):
        raise HarnessError(f"ignore: {min(numbers)} is not a mask value", f"values are 0 to {LARGEST}")
    return names, numbers, colours


def _merged(entries: Sequence[ClassEntry], merge: Mapping[str, Sequence[str]]) -> dict[str, str]:
    target = {e.name: e.name for e in entries}
    for new, parts in merge.items():
        for part in parts:
            if part not in target:
                raise HarnessError(f"merge: there is no class '{part}'", did_you_mean(part, target))
            if target[part] not in (part, new):
                raise HarnessError(f"merge: '{part}' is in both '{target[part]}' and '{new}'", "name it once")
            target[part] = new
    return target


def voc_colour(index: int) -> RGB:
    """A colour for an index, by the scheme of Pascal VOC: the bits of the index spread over red, green and blue."""
    channels = [0, 0, 0]
    for bit in range(8):
        for channel in range(3):
            channels[channel] |= (index >> channel & 1) << (7 - bit)
        index >>= 3
    return channels[0], channels[1], channels[2]


# ------------------------------------------------------------------------------------------------------- parsing


def parse_colour(item: Any) -> RGB | None:
    """A colour written as [r, g, b], "r,g,b", "r g b" or "#rrggbb"; an alpha channel is left out. Else None."""
    if isinstance(item, str):
        text = item.strip().lstrip("(").rstrip(")")
        if re.fullmatch(r"#[0-9a-fA-F]{6}(?:[0-9a-fA-F]{2})?", text):
            return int(text[1:3], 16), int(text[3:5], 16), int(text[5:7], 16)
        parts: Sequence[Any] = re.split(r"[\s,;]+", text)
        if not all(re.fullmatch(r"\d{1,3}", part) for part in parts):
            return None
    else:
        parts = list(item) if isinstance(item, list | tuple) else []
    try:
        numbers = [int(part) for part in parts]
    except (TypeError, ValueError):
        return None
    if len(numbers) not in (3, 4) or not all(0 <= number <= 255 for number in numbers):
        return None
    return numbers[0], numbers[1], numbers[2]


def parse_classes(classes: Any, root: Path) -> list[ClassEntry]:
    """The class table that `classes:` means: names in order, names with values or colours, or a file below `root`.

    Raises:
        HarnessError: it is not such a table.
    """
    from harness.data.folder.tree import inside

    if isinstance(classes, str):
        file = root / inside(root, classes)
        if not file.is_file():
            raise HarnessError(f"classes: there is no file {file}", "name a CSV, JSON or text file below the data root")
        return read_class_file(file)
    if isinstance(classes, dict):
        return [_entry(key, value) for key, value in classes.items()]
    return [_list_entry(i, item) for i, item in enumerate(classes)]


def _list_entry(index: int, item: Any) -> ClassEntry:
    if isinstance(item, dict):
        if len(item) == 1:
            return _entry(*next(iter(item.items())))
        return _record(item)
    return ClassEntry(str(item), index)


def _entry(key: Any, value: Any) -> ClassEntry:
    """`name: value`, `value: name`, `name: [r, g, b]` or `name: {value: 3, colour: [r, g, b]}`."""
    number = isinstance(value, int) and not isinstance(value, bool)
    if number:
        return ClassEntry(str(key), value)
    if isinstance(value, dict):
        return _record({"name": key, **value})
    colour = parse_colour(value)
    if colour is not None:
        return ClassEntry(str(key), colour=colour)
    if isinstance(value, str) and re.fullmatch(r"\d+", str(key)):
        return ClassEntry(value, int(key))
    if isinstance(value, str) and (colour := parse_colour(str(key))):
        return ClassEntry(value, colour=colour)
    raise HarnessError(
        f"classes: '{key}: {value}' is not a class", "write NAME: VALUE, NAME: [r, g, b], or a plain list of names"
    )


_COLUMNS = {
    "name": ("name", "class", "label", "classname", "class_name", "category", "title"),
    "value": ("value", "id", "index", "class_id", "classid", "label_id", "pixel", "pixel value", "pixel_value", "idx"),
    "colour": ("colour", "color", "rgb", "hex"),
    "r": ("r", "red"),
    "g": ("g", "green"),
    "b": ("b", "blue"),
}


def _record(fields: Mapping[Any, Any]) -> ClassEntry:
    """An entry from named fields, whatever of the usual names they have."""
    given = {str(key).strip().lower(): value for key, value in fields.items()}
    found = {role: next((given[n] for n in names if n in given), None) for role, names in _COLUMNS.items()}
    if found["name"] in (None, ""):
        raise HarnessError(f"the class table has an entry without a name: {dict(fields)}")
    parts = [found["r"], found["g"], found["b"]]
    written = found["colour"] if found["colour"] is not None else parts if None not in parts else None
    colour = parse_colour(written) if written is not None else None
    if written is not None and colour is None:
        raise HarnessError(f"class '{found['name']}' has the colour {written}", "write [r, g, b], each 0 to 255")
    value = found["value"]
    if value is not None and not re.fullmatch(r"\d+", str(value).strip()):
        raise HarnessError(f"class '{found['name']}' has the value {value!r}", "values are whole numbers")
    return ClassEntry(str(found["name"]).strip(), None if value is None else int(str(value)), colour)


def read_class_file(file: Path) -> list[ClassEntry]:
    """A class table from JSON, CSV (with or without a header), CVAT's `labelmap.txt`, CamVid's `label_colors.txt`, or
    one name a line.

    Raises:
        HarnessError: it is none of these.
    """
    try:
        text = read_text(file, "utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise HarnessError(f"{file}: cannot be read as text: {error}") from error
    try:
        entries = _parse_table(file, text)
    except HarnessError as error:
        raise HarnessError(f"{file}: {error.message}", error.hint) from error
    if not entries:
        raise HarnessError(f"{file}: holds no classes")
    return entries


def _parse_table(file: Path, text: str) -> list[ClassEntry]:
    if file.suffix.lower() == ".json":
        return _parse_json(text)
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    if lines and all(re.fullmatch(r"[^:]+:\s*(\d+\s*,\s*\d+\s*,\s*\d+)?\s*:.*", line) for line in lines):
        return [_labelmap_entry(line) for line in lines]
    if file.suffix.lower() in (".csv", ".tsv"):
        return _parse_csv(lines, "\t" if file.suffix.lower() == ".tsv" else ",")
    coloured = [_coloured_line(line) for line in lines]
    if lines and all(coloured):
        return [entry for entry in coloured if entry]
    numbered = [re.fullmatch(r"(\d+)\s*[:,;\t ]\s*(.+)", line) for line in lines]
    if lines and all(numbered):
        return [ClassEntry(m[2].strip(), int(m[1])) for m in numbered if m]
    return [ClassEntry(line, i) for i, line in enumerate(lines)]


def _coloured_line(line: str) -> ClassEntry | None:
    """`64 128 64 Animal`, as in CamVid's `label_colors.txt`, or `Animal 64 128 64`; else None."""
    rgb = r"(?P<rgb>\d{1,3}[\s,;]+\d{1,3}[\s,;]+\d{1,3})"
    match = re.fullmatch(rf"{rgb}[\s,;:]+(?P<name>\D.*)", line) or re.fullmatch(rf"(?P<name>.*\D)[\s,;:]+{rgb}", line)
    colour = parse_colour(match["rgb"]) if match else None
    return ClassEntry(match["name"].strip(" \t,;:"), colour=colour) if match and colour else None


def _labelmap_entry(line: str) -> ClassEntry:
    """`label:r,g,b:parts:actions`."""
    name, colour, *_ = (part.strip() for part in line.split(":"))
    found = parse_colour(colour)
    if found is None:
        raise HarnessError(f"label '{name}' has no colour", "write label:r,g,b:parts:actions")
    return ClassEntry(name, colour=found)


def _parse_json(text: str) -> list[ClassEntry]:
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise HarnessError(f"is not JSON: {error}") from error
    for key in ("classes", "categories", "labels", "names"):
        if isinstance(data, dict) and isinstance(data.get(key), list | dict):
            data = data[key]
    if isinstance(data, dict):
        return [_entry(key, value) for key, value in data.items()]
    if isinstance(data, list):
        return [_record(item) if isinstance(item, dict) else ClassEntry(str(item), i) for i, item in enumerate(data)]
    raise HarnessError("holds no table", "write a list of names, or {name: value}, or {name: [r, g, b]}")


def _parse_csv(lines: list[str], separator: str) -> list[ClassEntry]:
    rows = [row for row in csv.reader(lines, delimiter=separator, skipinitialspace=True) if any(row)]
    head = [cell.strip().lower() for cell in rows[0]] if rows else []
    known = {name for names in _COLUMNS.values() for name in names}
    if set(head) & set(_COLUMNS["name"]) and len(set(head) & known) >= min(2, len(head)):
        return [_record(dict(zip(head, (cell.strip() for cell in row)))) for row in rows[1:]]
    return [_csv_row(i, [cell.strip() for cell in row]) for i, row in enumerate(rows)]


def _csv_row(index: int, row: Sequence[str]) -> ClassEntry:
    """A row without header: one name beside one number or three, in any order."""
    numbers = [int(cell) for cell in row if re.fullmatch(r"\d+", cell)]
    names = [cell for cell in row if not re.fullmatch(r"\d+", cell)]
    if len(names) != 1 or len(numbers) not in (0, 1, 3, 4):
        raise HarnessError(f"row {index + 1} is {','.join(row)}", "write name,value or name,r,g,b, with a header")
    if len(numbers) >= 3:
        red, green, blue = numbers[-3:]
        if len(numbers) == 4:
            return ClassEntry(names[0], numbers[0], (red, green, blue))
        return ClassEntry(names[0], colour=(red, green, blue))
    return ClassEntry(names[0], numbers[0] if numbers else index)

"""Draw a sheet of images with label overlays and a legend, on which a wrong colour table is obvious."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from harness.data.base import IGNORE, Dataset, Sample
from harness.errors import HarnessError
from harness.workspace.files import write_atomic

WIDTH, COLUMNS, GAP, LINE = 300, 2, 10, 18
"""Width of a picture, pairs per row, space between, height of a line of text, in pixels."""
SHOWN, CANDIDATES = 12, 60
"""Samples on a sheet, and number of candidates from which they are chosen to show many classes."""
OPACITY = 0.6
NAMED_SHARE = 0.02
"""Classes with at least this share of an image are labelled by name."""
MANY = 40
"""Of more classes than this, the legend has only those that occur."""


def draw_sheet(dataset: Dataset, path: Path) -> bool:
    """Write the sheet as PNG: pairs of an image and its overlay, void hatched, and a legend.

    Returns:
        Whether it was written: not if no sample can be read.

    Raises:
        HarnessError: the file cannot be written.
    """
    chosen = choose(dataset)
    if not chosen:
        return False
    pairs = [_pair(split, sample, dataset) for split, sample in chosen]
    sheet = _arranged(pairs, _legend(dataset, [sample for _, sample in chosen]))
    buffer = io.BytesIO()
    sheet.save(buffer, "PNG")
    try:
        write_atomic(path, buffer.getvalue())
    except OSError as error:
        raise HarnessError(f"cannot write {path}: {error.strerror}", "name another file with --sheet") from error
    return True


def choose(dataset: Dataset) -> list[tuple[str, Sample]]:
    """Samples of all splits that show as many classes as possible; otherwise evenly spaced."""
    found: list[tuple[str, Sample, set[int]]] = []
    splits = [(name, dataset.split(name)) for name in dataset.splits]
    each = max(CANDIDATES // len(splits), 1)
    for name, split in splits:
        for index in dict.fromkeys(i * len(split) // each for i in range(each) if len(split)):
            look = split.look(index)
            if look.sample is not None:
                found.append((name, look.sample, set(np.unique(look.sample.label).tolist()) - {IGNORE}))
    chosen: list[int] = []
    seen: set[int] = set()
    shown = {name: 0 for name, _ in splits}
    while len(chosen) < min(SHOWN, len(found)):
        rest = [i for i in range(len(found)) if i not in chosen]
        best = max(rest, key=lambda i: (len(found[i][2] - seen), -shown[found[i][0]]))
        chosen.append(best)
        seen |= found[best][2]
        shown[found[best][0]] += 1
    return [found[i][:2] for i in sorted(chosen)]


def overlay(image: np.ndarray, label: np.ndarray, palette: Sequence[tuple[int, int, int]]) -> np.ndarray:
    """(H, W, 3), uint8: the image with its label's colours; void is hatched black and white, borders are dark."""
    height, width = label.shape
    table = np.full((256, 3), 128, np.float64)
    table[: len(palette)] = palette
    mixed = (1 - OPACITY) * image + OPACITY * table[label]
    rows, columns = np.indices((height, width))
    hatch = np.where((rows + columns) // 5 % 2, 255.0, 0.0)
    mixed = np.where((label == IGNORE)[..., None], 0.5 * mixed + 0.5 * hatch[..., None], mixed)
    border = np.zeros((height, width), bool)
    border[:, 1:] |= label[:, 1:] != label[:, :-1]
    border[1:] |= label[1:] != label[:-1]
    return np.where(border[..., None], mixed * 0.35, mixed).astype(np.uint8)


def _name_regions(picture: Image.Image, label: np.ndarray, classes: Sequence[str]) -> None:
    """Write the name of each large class where it is widest."""
    from scipy.ndimage import distance_transform_edt

    draw, font = ImageDraw.Draw(picture), _font(11)
    for value in np.unique(label):
        region = np.pad(label == value, 1)
        if value >= len(classes) or region.mean() < NAMED_SHARE:
            continue
        y, x = np.unravel_index(distance_transform_edt(region).argmax(), region.shape)
        name = classes[value]
        length = draw.textlength(name, font=font)
        left = max(min(int(x) - length / 2, picture.width - length - 2), 2)
        place = (left, max(int(y) - 8, 0))
        draw.text(place, name, fill="white", font=font, stroke_width=1, stroke_fill="black")


def _font(size: int = 13) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    try:
        return ImageFont.load_default(size)
    except TypeError:  # old versions of Pillow have a font of one size only
        return ImageFont.load_default()


def _text(draw: ImageDraw.ImageDraw, place: tuple[int, int], text: str, width: int) -> None:
    """Draw one line of text, shortened to a width."""
    font = _font()
    shown = text
    while len(shown) > 1 and draw.textlength(shown, font=font) > width:
        text = text[:-1]
        shown = text + "…"
    draw.text(place, shown, fill=(20, 20, 20), font=font)


def _pair(split: str, sample: Sample, dataset: Dataset) -> Image.Image:
    height, width = sample.label.shape
    size = (WIDTH, min(max(round(height * WIDTH / width), 1), 2 * WIDTH))
    # Small pictures are enlarged by nearest neighbour, so that label borders are visible; large ones are averaged.
    way = Image.Resampling.NEAREST if width < WIDTH else Image.Resampling.BOX
    image = Image.fromarray(sample.image).resize(size, way)
    label = np.asarray(Image.fromarray(sample.label).resize(size, Image.Resampling.NEAREST))
    drawn = Image.fromarray(overlay(np.asarray(image), label, dataset.palette))
    _name_regions(drawn, label, dataset.classes)
    pair = Image.new("RGB", (2 * WIDTH + 2, size[1] + LINE), "white")
    pair.paste(image, (0, LINE))
    pair.paste(drawn, (WIDTH + 2, LINE))
    _text(ImageDraw.Draw(pair), (0, 0), f"{split}: {sample.name} ({width}x{height})", 2 * WIDTH)
    return pair


def _legend(dataset: Dataset, samples: Sequence[Sample]) -> Image.Image:
    """Every class with its colour, number and share of the pixels shown; void last.

    Of more than `MANY` classes only those that occur on the sheet.
    """
    counts = np.bincount(np.concatenate([sample.label.ravel() for sample in samples]), minlength=256)
    shares = counts / counts.sum()
    entries = [
        (tuple(colour), f"{index}  {name}  {shares[index]:.1%}")
        for index, (name, colour) in enumerate(zip(dataset.classes, dataset.palette))
        if counts[index] or len(dataset.classes) <= MANY
    ]
    absent = len(dataset.classes) - len(entries)
    rest = f"; {absent} classes that do not occur on it are left out" if absent else ""
    entries.append(((0, 0, 0), f"void (hatched)  {shares[IGNORE]:.1%}"))
    width = COLUMNS * (2 * WIDTH + 2) + (COLUMNS - 1) * GAP
    across = 5
    legend = Image.new("RGB", (width, -(-len(entries) // across) * (LINE + 6) + LINE + 6), "white")
    draw = ImageDraw.Draw(legend)
    _text(draw, (0, 0), f"{dataset.label}: share of the pixels on this sheet{rest}", width)
    for place, (colour, text) in enumerate(entries):
        x, y = place % across * (width // across), (place // across + 1) * (LINE + 6)
        draw.rectangle((x, y, x + LINE, y + LINE - 2), fill=colour, outline=(0, 0, 0))
        _text(draw, (x + LINE + 6, y), text, width // across - LINE - 12)
    return legend


def _arranged(pairs: Sequence[Image.Image], legend: Image.Image) -> Image.Image:
    rows = [pairs[i : i + COLUMNS] for i in range(0, len(pairs), COLUMNS)]
    height = legend.height + sum(max(pair.height for pair in row) + GAP for row in rows)
    sheet = Image.new("RGB", (legend.width + 2 * GAP, height + 2 * GAP), "white")
    sheet.paste(legend, (GAP, GAP))
    y = legend.height + 2 * GAP
    for row in rows:
        for place, pair in enumerate(row):
            sheet.paste(pair, (GAP + place * (pair.width + GAP), y))
        y += max(pair.height for pair in row) + GAP
    return sheet

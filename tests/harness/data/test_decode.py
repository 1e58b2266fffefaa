"""One decoder for images and one for labels: every mode and format is read rightly, or refused by name."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from harness.data.decode import (
    IMAGE_FORMATS,
    IMAGE_MODES,
    LABEL_FORMATS,
    LABEL_MODES,
    SUFFIXES,
    decode_image,
    decode_label,
    is_picture,
    size_difference,
    size_of,
)
from harness.data.folders import FolderSplit, Labelling
from harness.errors import HarnessError

Image.init()
GREY = np.array([[0, 10, 200, 255], [255, 128, 10, 0], [3, 4, 5, 6]], np.uint8)
COLOUR = np.stack([GREY, GREY[::-1], GREY[:, ::-1]], -1)
NUMBERS = np.array([[0, 1, 2, 3], [3, 5, 7, 11], [0, 0, 11, 255]], np.uint8)


def grey_rgb(grey: np.ndarray) -> np.ndarray:
    return np.repeat(grey[..., None], 3, -1)


def with_palette(indices: np.ndarray, colours: np.ndarray, mode: str = "P") -> Image.Image:
    picture = Image.frombytes("P", indices.shape[::-1], indices.astype(np.uint8).tobytes())
    picture.putpalette(colours.astype(np.uint8).flatten().tolist())
    return picture if mode == "P" else picture.convert(mode)


PALETTE = (np.arange(256 * 3).reshape(256, 3) * 7 % 251).astype(np.uint8)

PICTURES: dict[str, tuple[Callable[[], Image.Image], np.ndarray | None]] = {
    "1": (lambda: Image.fromarray(GREY).point(lambda v: v > 100 and 255, "1"), grey_rgb((GREY > 100) * np.uint8(255))),
    "L": (lambda: Image.fromarray(GREY), grey_rgb(GREY)),
    "LA": (lambda: Image.merge("LA", (Image.fromarray(GREY), Image.fromarray(GREY[::-1]))), grey_rgb(GREY)),
    "La": (
        lambda: Image.merge("LA", (Image.fromarray(GREY), Image.new("L", (4, 3), 255))).convert("La"),
        grey_rgb(GREY),
    ),
    "P": (lambda: with_palette(NUMBERS, PALETTE), PALETTE[NUMBERS]),
    "PA": (lambda: with_palette(NUMBERS, PALETTE, "PA"), PALETTE[NUMBERS]),
    "RGB": (lambda: Image.fromarray(COLOUR), COLOUR),
    "RGBA": (lambda: Image.fromarray(np.dstack([COLOUR, GREY])), COLOUR),
    "RGBX": (lambda: Image.fromarray(COLOUR).convert("RGBX"), COLOUR),
    "RGBa": (lambda: Image.fromarray(COLOUR).convert("RGBA").convert("RGBa"), COLOUR),
    "CMYK": (lambda: Image.fromarray(COLOUR).convert("CMYK"), COLOUR),
    "YCbCr": (lambda: Image.fromarray(COLOUR).convert("YCbCr"), COLOUR),
    "HSV": (lambda: Image.fromarray(COLOUR).convert("HSV"), COLOUR),
    "LAB": (lambda: Image.new("LAB", (4, 3)), None),
    "I": (lambda: Image.fromarray(GREY.astype(np.int32)), None),
    "F": (lambda: Image.fromarray(GREY.astype(np.float32)), None),
    **{
        mode: (
            lambda mode=mode: Image.frombytes(  # type: ignore[misc]
                mode, (4, 3), (GREY.astype(np.uint16) * 257).astype(">u2" if mode == "I;16B" else "<u2").tobytes()
            ),
            grey_rgb(GREY),
        )
        for mode in ("I;16", "I;16L", "I;16B", "I;16N")
    },
}
"""A picture of every mode, and what it shows as RGB; None where it must be refused."""
CHANGED_BY_WRITER = {"JPEG", "MPO", "WEBP", "AVIF", "GIF"}
"""Formats that do not keep these few pixels: what is in the file is told by Pillow's plain reading of 8 bits."""


def test_every_mode_of_pillow_is_decided() -> None:
    """A mode that a newer Pillow brings makes this fail: decide it."""
    assert set(Image.MODES) <= set(PICTURES) == set(IMAGE_MODES)
    assert set(LABEL_MODES) <= set(IMAGE_MODES)


FORMATS = sorted(set(Image.SAVE) & set(Image.OPEN) - {"MPEG", "HDF5", "BUFR", "GRIB", "WMF", "ICNS"})
"""What Pillow can write and read by itself."""


def saved(tmp_path: Path, picture: Image.Image, format: str, **options: Any) -> Path | None:
    """The picture in a format, if it can be stored so."""
    path = tmp_path / "picture.bin"
    try:
        picture.save(path, format, **options)
    except (OSError, ValueError, KeyError, AttributeError, TypeError, SystemError, RuntimeError):
        return None
    return path


@pytest.mark.parametrize("mode", list(PICTURES))
def test_an_image_of_any_mode_and_format_is_right_or_refused(tmp_path: Path, mode: str) -> None:
    for format in FORMATS:
        image_is_right_or_refused(tmp_path, mode, format)


def image_is_right_or_refused(tmp_path: Path, mode: str, format: str) -> None:
    make, shown = PICTURES[mode]
    path = saved(tmp_path, make(), format)
    if path is None:
        return
    try:
        read = decode_image(path)
    except HarnessError as error:
        assert str(path) in error.message
        # What can be stored and is not refused by its own mode or format must be read.
        assert shown is None or format not in IMAGE_FORMATS, error
        return
    assert format in IMAGE_FORMATS and read.shape == (3, 4, 3) and read.dtype == np.uint8
    if shown is None or format in CHANGED_BY_WRITER:
        shown = np.asarray(Image.open(path).convert("RGB"))
    tolerance = 3 if mode in ("HSV", "YCbCr", "RGBa", "La") else 0
    assert np.abs(read.astype(int) - shown).max() <= tolerance


@pytest.mark.parametrize("mode", list(PICTURES))
def test_a_label_of_any_mode_and_format_is_right_or_refused(tmp_path: Path, mode: str) -> None:
    for format in FORMATS:
        label_is_right_or_refused(tmp_path, mode, format)


def label_is_right_or_refused(tmp_path: Path, mode: str, format: str) -> None:
    numbers = {
        "1": lambda: Image.fromarray(NUMBERS > 3),
        "L": lambda: Image.fromarray(NUMBERS),
        "LA": lambda: Image.fromarray(NUMBERS).convert("LA"),
        "I": lambda: Image.fromarray(NUMBERS.astype(np.int32)),
        "F": lambda: Image.fromarray(NUMBERS.astype(np.float32)),
        "I;16": lambda: Image.fromarray(NUMBERS.astype(np.uint16) * 3),
        "I;16L": lambda: Image.frombytes("I;16L", (4, 3), (NUMBERS.astype("<u2") * 3).tobytes()),
        "I;16B": lambda: Image.frombytes("I;16B", (4, 3), (NUMBERS.astype(np.uint16) * 3).astype(">u2").tobytes()),
        "I;16N": lambda: Image.frombytes("I;16N", (4, 3), (NUMBERS.astype("=u2") * 3).tobytes()),
        "RGBA": lambda: Image.fromarray(COLOUR).convert("RGBA"),
    }
    path = saved(tmp_path, numbers.get(mode, PICTURES[mode][0])(), format)
    if path is None:
        return
    expected = NUMBERS > 3 if mode == "1" else NUMBERS.astype(int) * 3 if mode.startswith("I;16") else NUMBERS
    try:
        label = decode_label(path)
    except HarnessError as error:
        assert str(path) in error.message
        plain = mode in ("L", "P", "RGB", "I;16", "1") and format in ("PNG", "TIFF", "BMP", "PPM")
        assert not plain, error
        return
    assert format in LABEL_FORMATS and label.size == (3, 4)
    if label.lossy:
        with pytest.raises(HarnessError, match="changes class numbers"):
            Labelling(255).of(label)
    elif label.values is not None:
        # Written as numbers, read as the same numbers; a palette picture may only have been renumbered by its writer.
        if format != "GIF":
            assert np.array_equal(label.values, expected)
        elif label.palette is not None:
            assert np.array_equal(label.colours(), np.asarray(Image.open(path).convert("RGB")))
    else:
        assert np.array_equal(label.colours(), np.asarray(Image.open(path).convert("RGB")))
        with pytest.raises(HarnessError, match=f"has mode {label.mode}: colours"):
            label.numbers()


@pytest.mark.parametrize("format", ["JPEG", "MPO", "WEBP", "JPEG2000", "AVIF", "GIF"])
@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK", "YCbCr"])
def test_large_areas_keep_their_colour_in_every_format(tmp_path: Path, mode: str, format: str) -> None:
    colours = np.array([[[250, 20, 30], [30, 240, 20]], [[20, 30, 230], [240, 240, 240]]], np.uint8)
    scene = colours.repeat(32, 0).repeat(32, 1)
    path = saved(tmp_path, Image.fromarray(scene).convert(mode), format)
    if path is not None:
        seen = np.asarray(Image.fromarray(scene).convert(mode).convert("RGB")).astype(int)
        assert np.abs(decode_image(path)[8::32, 8::32].astype(int) - seen[8::32, 8::32]).max() <= 6


# ---------------------------------------------------------------------------------------- numbers as they are stored


def png(path: Path, depth: int, kind: int, rows: list[bytes], *chunks: tuple[bytes, bytes], width: int) -> Path:
    """A PNG of any bit depth, written from its specification."""
    import zlib

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    head = struct.pack(">IIBBBBB", width, len(rows), depth, kind, 0, 0, 0)
    body = b"".join(chunk(*c) for c in chunks) + chunk(b"IDAT", zlib.compress(b"".join(b"\0" + row for row in rows)))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + body + chunk(b"IEND", b""))
    return path


def packed(numbers: list[int], depth: int) -> bytes:
    bits = "".join(f"{n:0{depth}b}" for n in numbers)
    return int(bits.ljust(-(-len(bits) // 8) * 8, "0"), 2).to_bytes(-(-len(bits) // 8), "big")


@pytest.mark.parametrize("depth", [1, 2, 4, 8, 16])
def test_grey_numbers_of_any_depth_are_not_stretched(tmp_path: Path, depth: int) -> None:
    """Pillow gives a 4-bit 11 as 187: as a label it is class 11."""
    numbers = [n % 2**depth for n in (0, 1, 2, 3, 11, 12)]
    path = png(tmp_path / "a.png", depth, 0, [packed(numbers, depth)] * 2, width=6)
    assert decode_label(path).numbers().tolist() == [numbers] * 2
    white = 2**depth - 1
    if depth <= 8:
        assert decode_label(path).colours()[0, :, 0].tolist() == [n * 255 // white for n in numbers]
        assert decode_image(path)[0, :, 1].tolist() == [n * 255 // white for n in numbers]


@pytest.mark.parametrize("depth", [1, 2, 4, 8])
def test_indices_of_any_depth_are_indices_whatever_the_palette(tmp_path: Path, depth: int) -> None:
    indices = [n % 2**depth for n in (0, 1, 2, 3, 11, 12)]
    table, clear = PALETTE[: 2**depth], (b"tRNS", bytes([0, 255]))
    path = png(tmp_path / "a.png", depth, 3, [packed(indices, depth)], (b"PLTE", table.tobytes()), clear, width=6)
    label = decode_label(path)
    assert label.numbers().tolist() == [indices] and np.array_equal(label.palette, table)
    assert np.array_equal(label.colours()[0], table[indices]) and np.array_equal(decode_image(path)[0], table[indices])


def test_an_index_beyond_the_palette_has_no_colour(tmp_path: Path) -> None:
    path = png(tmp_path / "a.png", 8, 3, [bytes([0, 7])], (b"PLTE", bytes(range(9))), width=2)
    assert decode_label(path).numbers().tolist() == [[0, 7]]
    with pytest.raises(HarnessError, match=r"index 7, but a palette of 3 colours"):
        decode_label(path).colours()


@pytest.mark.parametrize("text", [b"P5\n4 1\n11\n\0\1\2\x0b", b"P2\n4 1\n11\n0 1 2 11\n", b"P5 2 1 300\n\0\1\1\x2c"])
def test_a_pgm_whose_numbers_would_be_stretched_is_no_label(tmp_path: Path, text: bytes) -> None:
    (tmp_path / "a.pgm").write_bytes(text)
    with pytest.raises(HarnessError, match=r"a.pgm: declares (11|300) as its largest value"):
        decode_label(tmp_path / "a.pgm")


def test_a_plain_pgm_is_a_label(tmp_path: Path) -> None:
    (tmp_path / "a.pgm").write_bytes(b"P2\n# made by hand\n4 1\n255\n0 1 2 11\n")
    assert decode_label(tmp_path / "a.pgm").numbers().tolist() == [[0, 1, 2, 11]]


def tiff(path: Path, data: bytes, width: int, **tags: Any) -> Path:
    """A grey TIFF with tags as given, written from its specification."""
    given = {"bits": 8, "photometric": 1, "format": 1, **tags}
    entries = [(256, 4, width), (257, 4, 1), (258, 3, given["bits"]), (259, 3, 1), (262, 3, given["photometric"])]
    entries += [(273, 4, 8), (277, 3, 1), (278, 4, 1), (279, 4, len(data)), (339, 3, given["format"])]
    if "orientation" in given:
        entries.insert(6, (274, 3, given["orientation"]))
    place = 8 + len(data) + len(data) % 2
    body = b"II*\0" + struct.pack("<I", place) + data.ljust(place - 8, b"\0") + struct.pack("<H", len(entries))
    for tag, kind, value in entries:
        body += struct.pack("<HHI", tag, kind, 1) + (struct.pack("<I", value))
    path.write_bytes(body + b"\0" * 4)
    return path


def test_tiff_in_which_white_is_zero(tmp_path: Path) -> None:
    """Some readers turn its numbers round and others do not: no label. An image is what it shows."""
    path = tiff(tmp_path / "a.tif", bytes([0, 1, 255]), 3, photometric=0)
    assert decode_image(path)[0, :, 0].tolist() == [255, 254, 0]
    with pytest.raises(HarnessError, match="white is 0"):
        decode_label(path)
    wide = tiff(tmp_path / "b.tif", struct.pack("<3H", 0, 257, 65535), 3, photometric=0, bits=16)
    assert decode_image(wide)[0, :, 0].tolist() == [255, 254, 0]
    with pytest.raises(HarnessError, match="white is 0"):
        decode_label(wide)


@pytest.mark.parametrize(
    ("bits", "format", "data", "numbers"),
    [
        (4, 1, packed([0, 3, 11, 15], 4), [0, 3, 11, 15]),
        (2, 1, packed([0, 1, 2, 3], 2), [0, 1, 2, 3]),
        (16, 1, struct.pack("<4H", 0, 3, 300, 65535), [0, 3, 300, 65535]),
        (16, 2, struct.pack("<4h", 0, 3, -1, 300), [0, 3, -1, 300]),
        (32, 2, struct.pack("<4i", 0, 3, -1, 70000), [0, 3, -1, 70000]),
        (32, 3, struct.pack("<4f", 0, 3, 11, 255), [0, 3, 11, 255]),
        (12, 1, bytes([0x00, 0x00, 0x03, 0x12, 0xCF, 0xFF]), [0, 3, 300, 4095]),
    ],
)
def test_tiff_numbers_of_any_width_are_as_stored(
    tmp_path: Path, bits: int, format: int, data: bytes, numbers: list[int]
) -> None:
    path = tiff(tmp_path / "a.tiff", data, 4, bits=bits, format=format)
    assert decode_label(path).numbers().tolist() == [numbers]


@pytest.mark.parametrize("bad", [0.5, float("nan"), float("inf"), 1e30])
def test_floating_point_labels_must_be_whole(tmp_path: Path, bad: float) -> None:
    path = tiff(tmp_path / "a.tif", struct.pack("<2f", 1, bad), 2, bits=32, format=3)
    with pytest.raises(HarnessError, match=r"a.tif: label picture contains floating-point numbers that are not whole"):
        decode_label(path)
    with pytest.raises(HarnessError, match=r"a.tif: image contains floating-point numbers.*save it as 8-bit"):
        decode_image(path)


def test_images_of_16_bits_are_scaled_and_never_cut_off(tmp_path: Path) -> None:
    """Pillow's own conversion makes white of every value above 255."""
    stored = np.array([[0, 256, 300, 32768, 65535]], np.uint16)
    Image.fromarray(stored).save(tmp_path / "a.png")
    assert decode_image(tmp_path / "a.png")[0, :, 0].tolist() == [0, 1, 1, 128, 255]


@pytest.mark.parametrize("brightest", [1, 255, 1023, 4095])
def test_narrow_data_in_a_wide_image_is_refused(tmp_path: Path, brightest: int) -> None:
    Image.fromarray(np.array([[0, brightest]], np.uint16)).save(tmp_path / "a.png")
    with pytest.raises(HarnessError, match=rf"a.png: image has 16 bits, but its brightest pixel is {brightest} of"):
        decode_image(tmp_path / "a.png")


def test_a_black_image_of_16_bits_and_one_of_12_are_read(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((2, 2), np.uint16)).save(tmp_path / "a.png")
    assert not decode_image(tmp_path / "a.png").any()
    path = tiff(tmp_path / "a.tif", bytes([0x00, 0x08, 0x00, 0xFF, 0xFF, 0xFF]), 4, bits=12)
    assert decode_image(path)[0, :, 0].tolist() == [0, 128, 255, 255]


def test_a_grey_ramp_bmp_of_4_bits_is_refused(tmp_path: Path) -> None:
    """Pillow drops its palette and reads 8 bits a pixel: other numbers, and half of the columns missing."""
    head = struct.pack("<IiiHHIIiiII", 40, 16, 1, 1, 4, 0, 8, 0, 0, 16, 0)
    palette = b"".join(bytes([i, i, i, 0]) for i in range(16))
    data = packed(list(range(16)), 4)
    size = 14 + len(head) + len(palette)
    file = b"BM" + struct.pack("<IHHI", size + len(data), 0, 0, size) + head + palette + data
    (tmp_path / "a.bmp").write_bytes(file)
    for decode in (decode_image, decode_label):
        with pytest.raises(HarnessError, match=r"a.bmp: is a BMP of 4 bits per pixel with a grey palette"):
            decode(tmp_path / "a.bmp")


def test_numbers_of_a_gif_that_renumbers_grey_are_refused_and_its_colours_are_read(tmp_path: Path) -> None:
    Image.fromarray(np.array([[0, 5, 7]], np.uint8)).save(tmp_path / "a.gif")
    with pytest.raises(HarnessError, match=r"a.gif: is a GIF whose palette is grey but not in order"):
        decode_label(tmp_path / "a.gif").numbers()
    assert decode_label(tmp_path / "a.gif").colours()[..., 0].tolist() == [[0, 5, 7]]
    Image.fromarray(np.arange(256, dtype=np.uint8)[None]).save(tmp_path / "b.gif")
    assert decode_label(tmp_path / "b.gif").numbers().tolist() == [list(range(256))]


def test_channels_of_16_bits_are_no_label(tmp_path: Path) -> None:
    path = png(tmp_path / "a.png", 16, 2, [struct.pack(">6H", 1, 2, 3, 256, 512, 65535)], width=2)
    assert decode_image(path).tolist() == [[[0, 0, 0], [1, 2, 255]]]
    with pytest.raises(HarnessError, match=r"a.png: label picture does not have 8 bits per channel"):
        decode_label(path)
    path = png(tmp_path / "b.png", 16, 4, [struct.pack(">2H", 3, 65535)], width=1)
    with pytest.raises(HarnessError, match=r"b.png: label picture does not have 8 bits"):
        decode_label(path)


# --------------------------------------------------------------------------------------------------- transparency


def test_transparency_that_follows_from_the_colour_is_dropped(tmp_path: Path) -> None:
    colours = np.array([[[0, 0, 0, 0], [255, 0, 0, 128], [0, 0, 0, 0], [0, 255, 0, 255]]], np.uint8)
    Image.fromarray(colours).save(tmp_path / "a.png")
    assert np.array_equal(decode_label(tmp_path / "a.png").colours(), colours[..., :3])
    grey = np.array([[[0, 0], [3, 255], [7, 255]]], np.uint8)
    Image.fromarray(grey, "LA").save(tmp_path / "b.png")
    assert decode_label(tmp_path / "b.png").numbers().tolist() == [[0, 3, 7]]


@pytest.mark.parametrize("mode", ["LA", "RGBA"])
def test_a_label_that_is_in_the_transparency_is_refused(tmp_path: Path, mode: str) -> None:
    picture = Image.new(mode, (4, 3))
    picture.putalpha(Image.fromarray(GREY))
    picture.save(tmp_path / "a.png")
    with pytest.raises(HarnessError, match=r"a.png: label picture has pixels of one colour that differ"):
        decode_label(tmp_path / "a.png")


# ------------------------------------------------------------------------------------------------- EXIF orientation

UPRIGHT = np.arange(6, dtype=np.uint8).reshape(2, 3) * 40
STORED = {  # how a camera stores a scene that is upright as above
    1: UPRIGHT,
    2: UPRIGHT[:, ::-1],
    3: UPRIGHT[::-1, ::-1],
    4: UPRIGHT[::-1],
    5: UPRIGHT.T,
    6: np.rot90(UPRIGHT),
    7: UPRIGHT[::-1, ::-1].T,
    8: np.rot90(UPRIGHT, -1),
}


def oriented(path: Path, array: np.ndarray, orientation: int, format: str) -> Path:
    exif = Image.Exif()
    exif[274] = orientation
    options: dict[str, Any] = {"JPEG": {"quality": 100}, "WEBP": {"lossless": True, "exact": True}}.get(format, {})
    Image.fromarray(np.ascontiguousarray(array)).save(path, format, exif=exif, **options)
    return path


@pytest.mark.parametrize("format", ["JPEG", "PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", STORED)
def test_images_and_labels_are_turned_as_their_exif_says(tmp_path: Path, orientation: int, format: str) -> None:
    """Before, a photograph of orientation 3 was trained against an upright label."""
    scene = np.kron(STORED[orientation], np.ones((16, 16), np.uint8))
    path = oriented(tmp_path / "a", scene, orientation, format)
    image = decode_image(path)
    assert image.shape == (32, 48, 3) and size_of(path) == (32, 48)
    assert np.abs(image[8::16, 8::16, 1].astype(int) - UPRIGHT).max() <= (3 if format == "JPEG" else 0)
    label = decode_label(path)
    assert label.size == (32, 48) and label.orientation == orientation
    if format in ("PNG", "TIFF"):
        assert np.array_equal(label.numbers()[8::16, 8::16], UPRIGHT)


@pytest.mark.parametrize("nonsense", [0, 9, 77])
def test_orientations_that_are_none_turn_nothing(tmp_path: Path, nonsense: int) -> None:
    path = oriented(tmp_path / "a.png", UPRIGHT, nonsense, "PNG")
    assert decode_image(path).shape == (2, 3, 3) and decode_label(path).orientation == 1


def pair(tmp_path: Path) -> FolderSplit:
    (tmp_path / "images").mkdir(exist_ok=True)
    (tmp_path / "labels").mkdir(exist_ok=True)
    return FolderSplit(tmp_path / "images", tmp_path / "labels", Labelling(240))


def test_a_turned_image_meets_its_upright_label(tmp_path: Path) -> None:
    pair(tmp_path)
    oriented(tmp_path / "images" / "a.png", STORED[3], 3, "PNG")
    Image.fromarray(UPRIGHT).save(tmp_path / "labels" / "a.png")
    sample = pair(tmp_path)[0]
    assert np.array_equal(sample.image[..., 0], UPRIGHT) and np.array_equal(sample.label, UPRIGHT)


def test_a_label_made_without_turning_is_named_with_the_reason(tmp_path: Path) -> None:
    pair(tmp_path)
    oriented(tmp_path / "images" / "a.jpg", STORED[6], 6, "JPEG")
    Image.fromarray(np.ascontiguousarray(STORED[6])).save(tmp_path / "labels" / "a.png")
    split = pair(tmp_path)
    with pytest.raises(HarnessError, match=r"a.png: 2x3 pixels, but a.jpg has 3x2 after its EXIF orientation 6"):
        split[0]
    assert "EXIF orientation 6" in split.look(0).problems[0].what
    assert size_difference(Path("x"), np.zeros((2, 3, 3)), np.zeros((2, 3))) == ""


# ---------------------------------------------------------------------------------------------------- files


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"", "is an empty file"),
        (b"hello", "is not a picture"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 4 4\n", "is not a picture"),
        (b"\x89PNG\r\n\x1a\n\0\0\0", "is not a picture|cannot be decoded"),
        (b"GIF89a\1\0\1\0", "cannot be decoded|is not a picture"),
    ],
)
def test_files_that_are_no_pictures(tmp_path: Path, content: bytes, what: str) -> None:
    """Nothing but the formats of pictures is opened: PostScript would be a program that runs."""
    (tmp_path / "a.png").write_bytes(content)
    for decode in (decode_image, decode_label, size_of):
        with pytest.raises(HarnessError, match=f"a.png: ({what})"):
            decode(tmp_path / "a.png")
    for decode in (decode_image, decode_label, size_of):
        with pytest.raises(HarnessError, match=r"b.png: is missing"):
            decode(tmp_path / "b.png")


@pytest.mark.parametrize("format", ["PNG", "JPEG", "TIFF", "BMP", "GIF", "WEBP", "PPM", "TGA"])
@pytest.mark.filterwarnings("ignore::UserWarning")
@given(data=st.data())
@settings(deadline=None, max_examples=15)
def test_damaged_files_end_in_a_sentence(format: str, data: st.DataObject, tmp_path_factory: Any) -> None:
    buffer = io.BytesIO()
    Image.fromarray(COLOUR).save(buffer, format)
    content = bytearray(buffer.getvalue())
    if data.draw(st.booleans()):
        content = content[: data.draw(st.integers(0, len(content)))]
    for _ in range(data.draw(st.integers(0, 4)) if content else 0):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.mktemp("damaged") / "a.bin"
    path.write_bytes(content)
    for decode in (decode_image, decode_label, size_of):
        try:
            decode(path)
        except HarnessError as error:
            assert str(path) in error.message


def test_a_flipped_bit_of_a_png_is_noticed(tmp_path: Path) -> None:
    """Pillow decodes about one in ten of these to other pixels without a word."""
    scene = np.kron(np.random.default_rng(0).integers(0, 12, (8, 8)), np.ones((8, 8))).astype(np.uint8)
    Image.fromarray(scene).save(tmp_path / "a.png")
    content = (tmp_path / "a.png").read_bytes()
    for place in range(41, len(content) - 12):
        changed = bytearray(content)
        changed[place] ^= 4
        (tmp_path / "a.png").write_bytes(changed)
        with pytest.raises(HarnessError, match=r"a.png: cannot be decoded"):
            decode_label(tmp_path / "a.png")


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(
    "options",
    [
        {"format": "JPEG"},
        {"format": "JPEG", "progressive": True},
        {"format": "PNG"},
        {"format": "TIFF"},
        {"format": "TIFF", "compression": "tiff_lzw"},
        {"format": "WEBP", "lossless": True},
        {"format": "BMP"},
        {"format": "GIF"},
        {"format": "PPM"},
        {"format": "TGA", "compression": "tga_rle"},
    ],
    ids=lambda options: "-".join(map(str, options.values())),
)
def test_a_file_that_is_cut_off_is_noticed_wherever_it_ends(tmp_path: Path, options: dict[str, Any]) -> None:
    path = tmp_path / "a.bin"
    Image.fromarray(np.kron(COLOUR, np.ones((10, 10, 1), np.uint8))).save(path, **options)
    content, whole = path.read_bytes(), decode_image(path)
    for length in {*range(1, len(content), max(len(content) // 20, 1)), *range(len(content) - 12, len(content))}:
        path.write_bytes(content[:length])
        try:
            assert np.array_equal(decode_image(path), whole)  # what is missing was no pixel
        except HarnessError as error:
            assert "cannot be decoded" in error.message or "is not a picture" in error.message


@pytest.mark.parametrize("format", ["GIF", "TIFF", "PNG", "WEBP"])
def test_files_of_several_pictures_are_refused(tmp_path: Path, format: str) -> None:
    first, second = Image.fromarray(COLOUR), Image.fromarray(255 - COLOUR)
    first.save(tmp_path / "a", format, save_all=True, append_images=[second])
    for decode in (decode_image, decode_label):
        with pytest.raises(HarnessError, match="contains 2 pictures"):
            decode(tmp_path / "a")


def test_reduced_copies_in_a_tiff_and_a_cameras_second_picture_are_no_pictures_of_their_own(tmp_path: Path) -> None:
    """As geographic files and telephones have them."""
    from PIL.TiffImagePlugin import ImageFileDirectory_v2

    first, small = Image.fromarray(GREY), Image.fromarray(GREY[:1, :2])
    tags = ImageFileDirectory_v2()
    tags[254] = 1
    small.encoderinfo = {"tiffinfo": tags}  # type: ignore[attr-defined]
    first.save(tmp_path / "a.tif", save_all=True, append_images=[small])
    assert np.array_equal(decode_label(tmp_path / "a.tif").numbers(), GREY)
    assert np.array_equal(decode_image(tmp_path / "a.tif")[..., 0], GREY)
    if "MPO" in Image.SAVE:
        Image.fromarray(COLOUR).save(tmp_path / "a.jpg", "MPO", save_all=True, append_images=[Image.new("RGB", (9, 9))])
        assert decode_image(tmp_path / "a.jpg").shape == (3, 4, 3)


@pytest.mark.parametrize("name", ["a.TIF", "b.Tiff", "c.JPG", "d.bmp", "e.webp", "f.PGM", "g.jpeg", "ü ö.PNG"])
def test_pictures_are_known_by_their_suffix_in_any_case(tmp_path: Path, name: str) -> None:
    assert is_picture(tmp_path / name) and Path(name).suffix.lower() in SUFFIXES
    assert not is_picture(tmp_path / f".{name}") and not is_picture(tmp_path / f"{name}.txt")


def test_a_folder_of_tiff_in_upper_case_is_a_data_set(tmp_path: Path) -> None:
    pair(tmp_path)
    Image.fromarray(COLOUR).save(tmp_path / "images" / "Field 1.TIF", "TIFF")
    Image.fromarray(NUMBERS // 2).save(tmp_path / "labels" / "Field 1.tiff", "TIFF")
    split = pair(tmp_path)
    assert split.names == ("Field 1",) and np.array_equal(split[0].label, NUMBERS // 2)


@pytest.mark.parametrize("format", ["JPEG", "WEBP"])
def test_lossy_labels_are_refused(tmp_path: Path, format: str) -> None:
    Image.fromarray(grey_rgb(NUMBERS)).convert("L").save(tmp_path / "a.png", format, quality=95)
    assert decode_label(tmp_path / "a.png").lossy
    with pytest.raises(HarnessError, match=r"a.png: label picture is a .*which changes class numbers"):
        Labelling(256 - 1).read(tmp_path / "a.png")


def test_a_lossless_webp_keeps_colours(tmp_path: Path) -> None:
    Image.fromarray(COLOUR).save(tmp_path / "a.webp", lossless=True)
    label = decode_label(tmp_path / "a.webp")
    assert label.lossy == "" and np.array_equal(label.colours(), COLOUR)


def test_wide_numbers_are_read_by_the_table_or_named(tmp_path: Path) -> None:
    Image.fromarray(np.array([[0, 1, 65535, 2]], np.uint16)).save(tmp_path / "a.png")
    assert Labelling(3, frozenset({65535})).read(tmp_path / "a.png").tolist() == [[0, 1, 255, 2]]
    with pytest.raises(HarnessError, match=r"out of range: 65535 in 1 pixel \(expected 0 to 2, or 255 for void\)"):
        Labelling(3).read(tmp_path / "a.png")

"""Decode picture files: one decoder for images and one for labels.

Every mode of Pillow is either read correctly or refused with a message that names the file:

| stored | as an image | as a label |
|---|---|---|
| bilevel | black and white | 0 for black, 1 for white |
| grey, 1 to 8 bits | grey | the number as stored, never stretched to 0 to 255 |
| grey, 12 or 16 bits | scaled to 8; refused where nothing reaches 4096 of 65535 | the number as stored |
| 32-bit integers | refused: no white is defined | the number as stored |
| floating point | refused likewise | whole numbers; others are refused |
| palette | its colours | the index; the palette is kept beside it |
| RGB | as it is; of 16 bits the upper 8 | colours; refused unless the file has 8 bits a channel |
| with transparency | the colours below it | refused where it says more than the colours do |
| CMYK, YCbCr, HSV | converted plainly, without a colour profile | refused |
| L*a*b* | refused | refused |
| several pictures | refused, except for reduced copies and a camera's second picture | likewise |

Both are rotated by their own EXIF orientation. Labels stored as JPEG, lossy WebP or JPEG inside TIFF are marked as
lossy; JPEG 2000 and AVIF are refused as labels. Only the formats named here are opened, recognised by content, not by
suffix.
"""

from __future__ import annotations

import base64
import io
import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from harness.data.files import read_file
from harness.errors import HarnessError

_SUFFIXES = "png jpg jpeg jpe jfif mpo tif tiff bmp webp gif ppm pgm pbm pnm tga jp2 avif"
SUFFIXES = frozenset(f".{suffix}" for suffix in _SUFFIXES.split())
"""Suffixes of pictures, in lower case."""
LABEL_FORMATS = ("PNG", "TIFF", "BMP", "GIF", "PPM", "TGA", "WEBP", "JPEG", "MPO")
IMAGE_FORMATS = (*LABEL_FORMATS, "JPEG2000", "AVIF")

HINT = "run harness data check"
_ORIENTATION, _PHOTOMETRIC, _SUBFILE, _OLD_SUBFILE = 274, 262, 254, 255
"""Tags of EXIF and TIFF."""
_REDUCED_OR_MASK = 0b101
_TURNED = {5, 6, 7, 8}
"""EXIF orientations that exchange height and width."""


def is_picture(path: Path) -> bool:
    """Whether a file name has a picture's suffix, in any case; hidden files do not count."""
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".")


@dataclass(frozen=True)
class LabelPicture:
    """A label picture as stored, rotated by its EXIF orientation.

    Attributes:
        path: the file.
        mode: Pillow's mode of the pixels.
        values: (H, W), uint8, uint16 or int32: the number of every pixel; None if pixels are colours only.
        palette: (N, 3), uint8: the colour of each number, if the file has a palette; else None.
        rgb: (H, W, 3), uint8: colours, if pixels are colours only; else None.
        white: the number that is displayed as white, in files without palette: 1, 3, 15, 255 or more.
        lossy: name of the format if it is lossy ("JPEG"), else "".
        orientation: EXIF orientation by which it was rotated; 1 for none.
        doubt: why its numbers may not be the label although its colours are certain, else "".
    """

    path: Path
    mode: str
    values: np.ndarray | None = None
    palette: np.ndarray | None = None
    rgb: np.ndarray | None = None
    white: int = 255
    lossy: str = ""
    orientation: int = 1
    doubt: str = ""

    @property
    def size(self) -> tuple[int, int]:
        """(height, width)."""
        array = self.rgb if self.values is None else self.values
        assert array is not None
        return array.shape[0], array.shape[1]

    def numbers(self) -> np.ndarray:
        """(H, W), unsigned or int32: the number of every pixel.

        Raises:
            HarnessError: the picture contains colours, or its numbers are in doubt.
        """
        if self.doubt:
            raise HarnessError(f"{self.path}: {self.doubt}", "save it as PNG, or define its classes by colour")
        if self.values is None:
            what = f"{self.path}: label picture has mode {self.mode}: colours, not class numbers"
            raise HarnessError(what, "save it with one number per pixel: mode L or P")
        return self.values

    def colours(self) -> np.ndarray:
        """(H, W, 3), uint8: the colour of every pixel, stored directly, by a palette or as grey.

        Raises:
            HarnessError: the numbers have no exact colours.
        """
        if self.rgb is not None:
            return self.rgb
        assert self.values is not None
        if self.palette is not None:
            if self.values.size and int(self.values.max()) >= len(self.palette):
                what = f"{self.path}: has the index {int(self.values.max())}, but a palette of {len(self.palette)}"
                raise HarnessError(f"{what} colours", "save it again with its whole palette")
            return np.asarray(self.palette[self.values])
        if self.white > 255:
            raise HarnessError(f"{self.path}: label picture has mode {self.mode}: numbers, not colours")
        grey = (self.values.astype(np.uint16) * 255 // self.white).astype(np.uint8)
        return np.repeat(grey[..., None], 3, axis=2)


# ------------------------------------------------------------------------------------------------------- opening


@dataclass
class _Opened:
    """A decoded picture, with properties that are known only before decoding."""

    path: Path
    picture: Image.Image
    format: str
    codec: str
    raw: str
    numbers: tuple[Any, ...]
    orientation: int
    white_is_zero: bool
    lossy_webp: bool

    def refuse(self, why: str, hint: str = "") -> HarnessError:
        return HarnessError(f"{self.path}: {why}", hint or HINT)


@contextmanager
def _sentences(path: Path, formats: tuple[str, ...]) -> Iterator[None]:
    """Convert errors of Pillow to messages."""
    try:
        yield
    except FileNotFoundError as error:
        raise HarnessError(f"{path}: is missing", HINT) from error
    except UnidentifiedImageError as error:
        what = "is not a picture of a supported format" if path.stat().st_size else "is an empty file"
        raise HarnessError(f"{path}: {what}", _known(formats)) from error
    except Image.DecompressionBombError as error:
        limit = (Image.MAX_IMAGE_PIXELS or 0) * 2 / 1e6
        raise HarnessError(f"{path}: has more than {limit:.0f} million pixels", "cut it into tiles") from error
    except HarnessError:
        raise
    except Exception as error:  # decoders raise anything for damaged files
        raise HarnessError(f"{path}: cannot be decoded, {error}", HINT) from error


def _known(formats: tuple[str, ...]) -> str:
    return f"supported formats: {', '.join(formats)}"


def _bytes_of(path: Path) -> bytes:
    """The bytes of the file, or of the image embedded in a Labelme JSON."""
    content = read_file(path)
    if path.suffix.lower() != ".json":
        return content
    embedded = json.loads(content).get("imageData")
    if not embedded:
        raise HarnessError(f"{path}: has no embedded image", HINT)
    return base64.b64decode(embedded)


@contextmanager
def _reading(path: Path, formats: tuple[str, ...]) -> Iterator[tuple[bytes, Image.Image]]:
    """A file's bytes and its picture, not decoded yet.

    The bytes are read first, because Pillow maps an uncompressed TIFF file into memory and then does not rotate it.
    """
    Image.init()
    content = _bytes_of(path)
    with Image.open(io.BytesIO(content), formats=[name for name in formats if name in Image.OPEN]) as picture:
        yield content, picture


def _open(path: Path, formats: tuple[str, ...]) -> _Opened:
    """The whole picture, decoded and rotated.

    Raises:
        HarnessError: the file is missing, truncated, not a picture, or contains several.
    """
    with _sentences(path, formats), _reading(path, formats) as (content, picture):
        kind = picture.format or ""
        _refuse_several(path, picture, kind)
        tile = picture.tile[0] if picture.tile else ("", (), 0, ())  # type: ignore[attr-defined]
        args = tile[3] if isinstance(tile[3], tuple) else (tile[3],)
        opened = _Opened(
            path=path,
            picture=picture,
            format=kind,
            codec=str(tile[0]),
            raw=args[0] if args and isinstance(args[0], str) else "",
            numbers=args[1:],
            orientation=_orientation(picture),
            white_is_zero=_tag(picture, _PHOTOMETRIC) == 0,
            lossy_webp=kind == "WEBP" and b"VP8L" not in content,
        )
        if kind == "BMP":
            _refuse_misread_bmp(opened, content)
        if kind == "PNG":
            _verify(content)
        picture.load()
        if opened.orientation != 1:
            opened.picture = ImageOps.exif_transpose(picture)  # a TIFF is already rotated by decoding
    return opened


def _orientation(picture: Image.Image) -> int:
    value = picture.getexif().get(_ORIENTATION, 1)
    return value if value in range(2, 9) else 1


def _tag(picture: Image.Image, tag: int) -> Any:
    tags = getattr(picture, "tag_v2", None)
    return tags.get(tag) if tags is not None else None


def _verify(content: bytes) -> None:
    """Verify the checksums of a PNG, which Pillow ignores when decoding: a flipped bit may change pixels."""
    with Image.open(io.BytesIO(content), formats=["PNG"]) as picture:
        picture.verify()


def _refuse_misread_bmp(opened: _Opened, content: bytes) -> None:
    """Refuse a BMP whose grey palette Pillow drops, because it then misreads pixels of other than 8 bits or 1 bit."""
    taken = {"1": 1, "L": 8}.get(opened.picture.mode)
    place = 24 if int.from_bytes(content[14:18], "little") == 12 else 28
    bits = int.from_bytes(content[place : place + 2], "little")
    if taken and bits != taken:
        raise opened.refuse(f"is a BMP of {bits} bits per pixel with a grey palette", "save it as PNG")


def _refuse_several(path: Path, picture: Image.Image, kind: str) -> None:
    """Check that a file contains one picture; reduced copies and masks in TIFF and previews in MPO are allowed."""
    count = getattr(picture, "n_frames", 1)
    if count == 1 or kind == "MPO":
        return
    if kind == "TIFF":
        for page in range(1, count):
            picture.seek(page)
            if not ((_tag(picture, _SUBFILE) or 0) & _REDUCED_OR_MASK or _tag(picture, _OLD_SUBFILE) == 2):
                break
        else:
            count = 1
        picture.seek(0)
    if count > 1:
        raise HarnessError(f"{path}: contains {count} pictures", "save each as a separate file")


def size_of(path: Path) -> tuple[int, int]:
    """(height, width) of a picture as `decode_image` returns it, from the header alone.

    Raises:
        HarnessError: the file is missing or not a picture.
    """
    with _sentences(path, IMAGE_FORMATS), _reading(path, IMAGE_FORMATS) as (_, picture):
        # Pillow already swaps the sides of a rotated TIFF on opening.
        turned = _orientation(picture) in _TURNED and picture.format != "TIFF"
        width, height = picture.size
        return (width, height) if turned else (height, width)


def size_difference(image_file: Path, image: np.ndarray, label: np.ndarray) -> str:
    """A message on how the sizes of label and image differ; "" if they are equal.

    Args:
        image_file: the image's file; its rotation is mentioned, since labels made without rotation do not fit.
        image: (H, W, 3).
        label: (H, W).
    """
    if image.shape[:2] == label.shape[:2]:
        return ""
    (height, width), (label_height, label_width) = image.shape[:2], label.shape[:2]
    said = f"{label_width}x{label_height} pixels, but {image_file.name} has {width}x{height}"
    if (height, width) == (label_width, label_height):
        with _sentences(image_file, IMAGE_FORMATS), _reading(image_file, IMAGE_FORMATS) as (_, picture):
            orientation = _orientation(picture)
        if orientation in _TURNED:
            said += f" after its EXIF orientation {orientation}: the label was made without rotating it"
    return said


# -------------------------------------------------------------------------------------------------------- images


@dataclass(frozen=True)
class ImagePicture:
    """An image, rotated by its EXIF orientation.

    Attributes:
        rgb: (H, W, 3), uint8.
        mode: Pillow's mode of the pixels.
        orientation: EXIF orientation by which it was rotated; 1 for none.
        transparent: whether some pixels are not opaque; their colours are used anyway.
    """

    rgb: np.ndarray
    mode: str
    orientation: int
    transparent: bool


def decode_image(path: Path) -> np.ndarray:
    """(H, W, 3), uint8, RGB, rotated by its EXIF orientation. The module's docstring lists how each mode is read.

    Raises:
        HarnessError: the file cannot be read, or only by guessing.
    """
    return read_image_picture(path).rgb


def read_image_picture(path: Path) -> ImagePicture:
    """The result of `decode_image` with further properties. Raises the same errors."""
    opened = _open(path, IMAGE_FORMATS)
    with _sentences(path, IMAGE_FORMATS):
        rgb = np.ascontiguousarray(_to_rgb(opened))
        picture = opened.picture
        transparent = picture.mode in ("LA", "PA", "RGBA") and picture.getextrema()[-1][0] < 255  # type: ignore[index]
    return ImagePicture(rgb, picture.mode, opened.orientation, transparent)


def _to_rgb(opened: _Opened) -> np.ndarray:
    picture = opened.picture
    read = IMAGE_MODES.get(picture.mode)
    if read is None:
        raise opened.refuse(f"image has the unsupported mode {picture.mode}", "save it as 8-bit RGB")
    return read(opened)


def _convert(opened: _Opened) -> np.ndarray:
    return np.array(opened.picture.convert("RGB"))


def _convert_by(mode: str) -> Callable[[_Opened], np.ndarray]:
    """Convert by way of another mode, if Pillow has no direct conversion."""
    return lambda opened: np.array(opened.picture.convert(mode).convert("RGB"))


def _refuse_image(what: str) -> Callable[[_Opened], np.ndarray]:
    def refuse(opened: _Opened) -> np.ndarray:
        raise opened.refuse(f"image contains {what} (mode {opened.picture.mode})", "save it as 8-bit RGB or grey")

    return refuse


def _wide_grey(opened: _Opened) -> np.ndarray:
    """Convert grey of 12 or 16 bits to 8, keeping white."""
    if opened.picture.mode == "I" and opened.format not in ("PNG", "PPM"):
        return _refuse_image("32-bit integers, whose white is unknown")(opened)
    stored = np.asarray(opened.picture).astype(np.int64)
    white = 4095 if opened.raw == "I;12" else 65535
    if opened.white_is_zero:
        stored = white - stored
    brightest = int(stored.max(initial=0))
    if white == 65535 and 0 < brightest < 4096 and not opened.white_is_zero:
        what = f"image has 16 bits, but its brightest pixel is {brightest} of 65535: narrower data in a wide file"
        raise opened.refuse(what, "the value of white is unknown; scale it and save it as 8 bits")
    grey = ((stored * 255 + white // 2) // white).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=2)


IMAGE_MODES: dict[str, Callable[[_Opened], np.ndarray]] = {
    "1": _convert,
    "L": _convert,
    "P": _convert,
    "PA": _convert,
    "LA": _convert,
    "La": _convert_by("LA"),
    "RGB": _convert,
    "RGBA": _convert,
    "RGBX": _convert,
    "RGBa": _convert_by("RGBA"),
    "CMYK": _convert,
    "YCbCr": _convert,
    "HSV": _convert,
    "LAB": _refuse_image("L*a*b* colours"),
    "I;16": _wide_grey,
    "I;16L": _wide_grey,
    "I;16B": _wide_grey,
    "I;16N": _wide_grey,
    "I": _wide_grey,
    "F": _refuse_image("floating-point numbers, whose white is unknown"),
}
"""Conversion of each of Pillow's modes to RGB."""


# -------------------------------------------------------------------------------------------------------- labels


def decode_label(path: Path) -> LabelPicture:
    """A label picture as stored, rotated by its EXIF orientation. The module's docstring lists how each mode is read.

    Raises:
        HarnessError: the file cannot be read, or only by guessing.
    """
    opened = _open(path, LABEL_FORMATS)
    read = LABEL_MODES.get(opened.picture.mode)
    if read is None:
        mode = opened.picture.mode
        raise opened.refuse(f"label picture has mode {mode}, which has no class numbers", "save it as L, P or RGB")
    _refuse_stretched(opened)
    with _sentences(path, LABEL_FORMATS):
        return read(opened)


def _refuse_stretched(opened: _Opened) -> None:
    """Refuse files whose numbers Pillow changes."""
    if opened.white_is_zero and opened.picture.mode != "1":
        raise opened.refuse("is a TIFF in which white is 0; readers differ on its numbers", "save it as PNG")
    if opened.codec.startswith("ppm") and opened.numbers and opened.numbers[-1] not in (255, 65535):
        what = f"declares {opened.numbers[-1]} as its largest value, and readers stretch such numbers to 255 or 65535"
        raise opened.refuse(what, "save it as PNG")
    if re.search(r";1[2-6]", opened.raw) and not opened.picture.mode.startswith("I"):
        raise opened.refuse("label picture does not have 8 bits per channel", "save it with 8")


def _label(opened: _Opened, **parts: Any) -> LabelPicture:
    path, lossy = opened.path, _lossy(opened)
    return LabelPicture(path, opened.picture.mode, lossy=lossy, orientation=opened.orientation, **parts)


def _lossy(opened: _Opened) -> str:
    if opened.format in ("JPEG", "MPO"):
        return "JPEG"
    if opened.format == "TIFF" and opened.picture.info.get("compression") in ("jpeg", "tiff_jpeg", "webp"):
        return "TIFF with JPEG inside"
    return "lossy WebP" if opened.lossy_webp else ""


def _bilevel(opened: _Opened) -> LabelPicture:
    return _label(opened, values=np.array(opened.picture, np.uint8), white=1)


def _grey(opened: _Opened) -> LabelPicture:
    """Grey of up to 8 bits, without Pillow's stretching of 2 and 4 bits to 0..255."""
    depth = re.match(r"L;([24])", opened.raw)
    white = 2 ** int(depth[1]) - 1 if depth else 255
    return _label(opened, values=np.array(opened.picture) // (255 // white), white=white)


def _grey_with_alpha(opened: _Opened) -> LabelPicture:
    grey, alpha = np.moveaxis(np.array(opened.picture), -1, 0)
    _refuse_telling_alpha(opened, grey, alpha)
    return _label(opened, values=np.ascontiguousarray(grey))


def _palette(opened: _Opened) -> LabelPicture:
    values = np.array(opened.picture)
    values = np.ascontiguousarray(values[..., 0]) if values.ndim == 3 else values
    colours = opened.picture.getpalette("RGB") or []
    palette = np.array(colours, np.uint8).reshape(-1, 3)
    doubt = _grey_out_of_order(values, palette) if opened.format == "GIF" else ""
    return _label(opened, values=values, palette=palette, doubt=doubt)


def _grey_out_of_order(values: np.ndarray, palette: np.ndarray) -> str:
    """Detect a renumbered grey GIF: GIF has only palettes, and writers may turn 0, 5, 7 into indices 0, 1, 2."""
    used = np.unique(values)
    used = used[used < len(palette)]
    colours = palette[used]
    if (colours == colours[:, :1]).all() and (colours[:, 0] != used).any():
        return "is a GIF whose palette is grey but not in order: the label may be the grey or the index"
    return ""


def _colours(opened: _Opened) -> LabelPicture:
    pixels = np.array(opened.picture)
    if opened.picture.mode == "RGBA":
        red, green, blue, alpha = np.moveaxis(pixels.astype(np.uint32), -1, 0)
        _refuse_telling_alpha(opened, red << 16 | green << 8 | blue, alpha)
    return _label(opened, rgb=np.ascontiguousarray(pixels[..., :3]))


def _refuse_telling_alpha(opened: _Opened, colour: np.ndarray, alpha: np.ndarray) -> None:
    """Refuse transparency that does not follow from the colour: it may be the label, or a soft edge."""
    if not alpha.size or (alpha == alpha.flat[0]).all():
        return
    pairs = np.unique(colour.astype(np.uint32) << 8 | alpha)
    if len(np.unique(pairs >> 8)) != len(pairs):
        what = "label picture has pixels of one colour that differ in transparency: which of the two is the label?"
        raise opened.refuse(what, "save it without transparency")


def _wide_numbers(opened: _Opened) -> LabelPicture:
    stored = np.array(opened.picture)
    return _label(opened, values=stored.astype(stored.dtype.newbyteorder("=")), white=65535)


def _whole_numbers(opened: _Opened) -> LabelPicture:
    """Floating-point labels, as from geographic software: accepted if every number is whole and small."""
    stored = np.array(opened.picture)
    whole = stored.astype(np.int32) if np.isfinite(stored).all() and (np.abs(stored) < 2**24).all() else None
    if whole is None or (whole != stored).any():
        raise opened.refuse("label picture contains floating-point numbers that are not whole", "save it as 8-bit PNG")
    return _label(opened, values=whole, white=65535)


LABEL_MODES: dict[str, Callable[[_Opened], LabelPicture]] = {
    "1": _bilevel,
    "L": _grey,
    "LA": _grey_with_alpha,
    "P": _palette,
    "PA": _palette,
    "RGB": _colours,
    "RGBX": _colours,
    "RGBA": _colours,
    "I;16": _wide_numbers,
    "I;16L": _wide_numbers,
    "I;16B": _wide_numbers,
    "I;16N": _wide_numbers,
    "I": _wide_numbers,
    "F": _whole_numbers,
}
"""Reader of each of Pillow's modes as a label; other modes are refused."""

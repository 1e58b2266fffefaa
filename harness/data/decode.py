"""Pictures from files: one decoder for images and one for labels.

Every mode that Pillow can give is decided here: it is read rightly, or refused with a sentence that names the file.
What is decided:

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

Both are turned as their own EXIF orientation says. Labels of JPEG, lossy WebP and JPEG inside TIFF say that they are
lossy; JPEG 2000 and AVIF are not taken for labels. Only the formats named here are opened, by content and not by
suffix, whatever else Pillow has plugins for.
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
    """Whether a file name is that of a picture: by suffix, in any case; hidden files are none."""
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".")


@dataclass(frozen=True)
class LabelPicture:
    """A label picture as stored, turned as its EXIF says.

    Attributes:
        path: the file.
        mode: Pillow's word for how its pixels are stored.
        values: (H, W), uint8, uint16 or int32: the number of every pixel; None where pixels are colours only.
        palette: (N, 3), uint8: what colour each number stands for, where the file has a palette; else None.
        rgb: (H, W, 3), uint8: colours, where pixels are colours only; else None.
        white: the number that is shown as white, in files without palette: 1, 3, 15, 255 or more.
        lossy: name of the format where it does not keep numbers ("JPEG"), else "".
        orientation: EXIF orientation it was turned by; 1 for none.
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
            HarnessError: the picture holds colours, or its numbers are in doubt.
        """
        if self.doubt:
            raise HarnessError(f"{self.path}: {self.doubt}", "save it as PNG, or tell its classes by colour")
        if self.values is None:
            what = f"{self.path}: label picture has mode {self.mode}: colours, not class numbers"
            raise HarnessError(what, "save it with one number a pixel: mode L or P")
        return self.values

    def colours(self) -> np.ndarray:
        """(H, W, 3), uint8: the colour of every pixel, whether stored as such, by a palette or as grey.

        Raises:
            HarnessError: the numbers stand for no exact colours.
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
    """A decoded picture, and what is only known before it is decoded."""

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
    """What goes wrong in Pillow, as a sentence."""
    try:
        yield
    except FileNotFoundError as error:
        raise HarnessError(f"{path}: is missing", HINT) from error
    except UnidentifiedImageError as error:
        raise HarnessError(f"{path}: is not a picture, or of a kind that is not read", _known(formats)) from error
    except Image.DecompressionBombError as error:
        limit = (Image.MAX_IMAGE_PIXELS or 0) * 2 / 1e6
        raise HarnessError(f"{path}: has more than {limit:.0f} million pixels", "cut it into tiles") from error
    except HarnessError:
        raise
    except Exception as error:  # decoders of broken files raise whatever they stumble over
        raise HarnessError(f"{path}: cannot be decoded, {error}", HINT) from error


def _known(formats: tuple[str, ...]) -> str:
    return f"formats that are read here: {', '.join(formats)}"


def _bytes_of(path: Path) -> bytes:
    """The file's; of a JSON of Labelme those of the image that is embedded in it."""
    content = path.read_bytes()
    if path.suffix.lower() != ".json":
        return content
    embedded = json.loads(content).get("imageData")
    if not embedded:
        raise HarnessError(f"{path}: has no image embedded", HINT)
    return base64.b64decode(embedded)


@contextmanager
def _reading(path: Path, formats: tuple[str, ...]) -> Iterator[tuple[bytes, Image.Image]]:
    """A file's bytes and its picture, not decoded yet.

    The bytes are read first: from a file Pillow maps an uncompressed TIFF into memory, and then does not turn it.
    """
    Image.init()
    content = _bytes_of(path)
    with Image.open(io.BytesIO(content), formats=[name for name in formats if name in Image.OPEN]) as picture:
        yield content, picture


def _open(path: Path, formats: tuple[str, ...]) -> _Opened:
    """The whole picture, decoded and turned.

    Raises:
        HarnessError: it is missing, truncated, no picture, or more than one.
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
            opened.picture = ImageOps.exif_transpose(picture)  # a turned TIFF has been turned as it was decoded
    return opened


def _orientation(picture: Image.Image) -> int:
    value = picture.getexif().get(_ORIENTATION, 1)
    return value if value in range(2, 9) else 1


def _tag(picture: Image.Image, tag: int) -> Any:
    tags = getattr(picture, "tag_v2", None)
    return tags.get(tag) if tags is not None else None


def _verify(content: bytes) -> None:
    """The checksums of a PNG, at which Pillow does not look when it decodes one: a flipped bit may change pixels."""
    with Image.open(io.BytesIO(content), formats=["PNG"]) as picture:
        picture.verify()


def _refuse_misread_bmp(opened: _Opened, content: bytes) -> None:
    """Pillow drops a palette that is a grey ramp, and then takes every pixel for 8 bits (or 1), whatever it has."""
    taken = {"1": 1, "L": 8}.get(opened.picture.mode)
    place = 24 if int.from_bytes(content[14:18], "little") == 12 else 28
    bits = int.from_bytes(content[place : place + 2], "little")
    if taken and bits != taken:
        raise opened.refuse(f"is a BMP of {bits} bits a pixel with a grey palette", "save it as PNG")


def _refuse_several(path: Path, picture: Image.Image, kind: str) -> None:
    """A file must hold one picture: TIFF may have reduced copies and masks of it, cameras' MPO previews."""
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
        raise HarnessError(f"{path}: holds {count} pictures", "save each as a file of its own")


def size_of(path: Path) -> tuple[int, int]:
    """(height, width) of a picture as `decode_image` gives it, from its header alone.

    Raises:
        HarnessError: it is missing or no picture.
    """
    with _sentences(path, IMAGE_FORMATS), _reading(path, IMAGE_FORMATS) as (_, picture):
        # Of a turned TIFF Pillow exchanges the sides as it opens the file.
        turned = _orientation(picture) in _TURNED and picture.format != "TIFF"
        width, height = picture.size
        return (width, height) if turned else (height, width)


def size_difference(image_file: Path, image: np.ndarray, label: np.ndarray) -> str:
    """How the size of a label differs from that of its image, in words; "" where they are equal.

    Args:
        image_file: the image's file: if it was turned, that is said, since labels made without turning do not fit.
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
            said += f" after its EXIF orientation {orientation}: the label was made without turning it"
    return said


# -------------------------------------------------------------------------------------------------------- images


@dataclass(frozen=True)
class ImagePicture:
    """An image, turned as its EXIF says.

    Attributes:
        rgb: (H, W, 3), uint8.
        mode: Pillow's word for how its pixels are stored.
        orientation: EXIF orientation it was turned by; 1 for none.
        transparent: some of its pixels are not opaque; their colours are taken all the same.
    """

    rgb: np.ndarray
    mode: str
    orientation: int
    transparent: bool


def decode_image(path: Path) -> np.ndarray:
    """(H, W, 3), uint8, RGB, turned as its EXIF says. The module says how each kind of picture is read.

    Raises:
        HarnessError: the file cannot be read, or not without guessing.
    """
    return read_image_picture(path).rgb


def read_image_picture(path: Path) -> ImagePicture:
    """What `decode_image` gives, and what else is known of the picture. Raises as it does."""
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
        raise opened.refuse(f"image has mode {picture.mode}, which is not known here", "save it as 8-bit RGB")
    return read(opened)


def _convert(opened: _Opened) -> np.ndarray:
    return np.array(opened.picture.convert("RGB"))


def _convert_by(mode: str) -> Callable[[_Opened], np.ndarray]:
    """By way of another mode, where Pillow has no direct one."""
    return lambda opened: np.array(opened.picture.convert(mode).convert("RGB"))


def _refuse_image(what: str) -> Callable[[_Opened], np.ndarray]:
    def refuse(opened: _Opened) -> np.ndarray:
        raise opened.refuse(f"image holds {what} (mode {opened.picture.mode})", "save it as 8-bit RGB or grey")

    return refuse


def _wide_grey(opened: _Opened) -> np.ndarray:
    """Grey of 12 or 16 bits to 8: white is white."""
    if opened.picture.mode == "I" and opened.format not in ("PNG", "PPM"):
        return _refuse_image("32-bit integers, of which no white is known")(opened)
    stored = np.asarray(opened.picture).astype(np.int64)
    white = 4095 if opened.raw == "I;12" else 65535
    if opened.white_is_zero:
        stored = white - stored
    brightest = int(stored.max(initial=0))
    if white == 65535 and 0 < brightest < 4096 and not opened.white_is_zero:
        what = f"image has 16 bits, but its brightest pixel is {brightest} of 65535: narrower data in a wide file"
        raise opened.refuse(what, "white is not known; save it as 8 bits, scaled as you mean it")
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
    "F": _refuse_image("floating-point numbers, of which no white is known"),
}
"""How each of Pillow's modes becomes RGB."""


# -------------------------------------------------------------------------------------------------------- labels


def decode_label(path: Path) -> LabelPicture:
    """A label picture as stored, turned as its EXIF says. The module says how each kind of picture is read.

    Raises:
        HarnessError: the file cannot be read, or not without guessing.
    """
    opened = _open(path, LABEL_FORMATS)
    read = LABEL_MODES.get(opened.picture.mode)
    if read is None:
        mode = opened.picture.mode
        raise opened.refuse(f"label picture has mode {mode}, which holds no class numbers", "save it as L, P or RGB")
    _refuse_stretched(opened)
    with _sentences(path, LABEL_FORMATS):
        return read(opened)


def _refuse_stretched(opened: _Opened) -> None:
    """Numbers that Pillow gives otherwise than they are stored."""
    if opened.white_is_zero and opened.picture.mode != "1":
        raise opened.refuse("is a TIFF in which white is 0; readers differ on its numbers", "save it as PNG")
    if opened.codec.startswith("ppm") and opened.numbers and opened.numbers[-1] not in (255, 65535):
        what = f"declares {opened.numbers[-1]} as its largest value, and readers stretch such numbers to 255 or 65535"
        raise opened.refuse(what, "save it as PNG")
    if re.search(r";1[2-6]", opened.raw) and not opened.picture.mode.startswith("I"):
        raise opened.refuse("label picture has more or fewer than 8 bits a channel", "save it with 8")


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
    """Grey of up to 8 bits. Pillow stretches 2 and 4 bits to 0 to 255: undone here."""
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
    """GIF has nothing but palettes, and writers renumber grey pictures: 0, 5, 7 become indices 0, 1, 2."""
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
    """Transparency that follows from the colour adds nothing. Else the label may be in it, or be a soft edge."""
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
    """Floating point, as geographic software exports labels: taken if every number is whole and small."""
    stored = np.array(opened.picture)
    whole = stored.astype(np.int32) if np.isfinite(stored).all() and (np.abs(stored) < 2**24).all() else None
    if whole is None or (whole != stored).any():
        raise opened.refuse("label picture holds floating-point numbers that are not whole", "save it as 8-bit PNG")
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
"""How each of Pillow's modes is read as a label; the others are refused."""

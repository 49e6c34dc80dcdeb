"""Reads picture files as viewers show them, or refuses them.

Pictures are turned as EXIF says; transparent parts become white; 16 bits are scaled to 8; only the first frame is used.
Pixels of 32 bits, integer or float, are refused, because programs do not agree on their white.
"""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import IO

import numpy as np
from PIL import Image, UnidentifiedImageError

FORMATS = (
    "AVIF",
    "BMP",
    "DIB",
    "GIF",
    "ICO",
    "JPEG",
    "JPEG2000",
    "PCX",
    "PNG",
    "PPM",
    "QOI",
    "SGI",
    "TGA",
    "TIFF",
    "WEBP",
)
"""The formats that are read, by Pillow's names, whatever a file's name. Pillow's JPEG reader also reads MPO."""

_SIXTEEN_BITS = ("I;16", "I;16B", "I;16L", "I;16N")
_TRANSPARENT = ("RGBA", "LA", "PA", "RGBa", "La")
_PLAIN = ("1", "L", "P", "RGB", "RGBX", "CMYK", "YCbCr", "HSV")
_ORIENTATION = 0x0112
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""EXIF's orientation -> the operation that turns the picture upright."""

_TAIL = 4096
_WHOLE_ENDS = {"JPEG": b"\xff\xd9", "MPO": b"\xff\xd9", "PNG": b"\0\0\0\0IEND\xaeB`\x82", "GIF": b";"}
"""Format -> the last bytes of a complete file."""


@dataclass(frozen=True, slots=True)
class Look:
    """Properties of a picture that need no decoding."""

    width: int
    """In pixels, after turning upright."""
    height: int
    mode: str
    """Pillow's name of the pixels' kind."""
    transparent: bool
    ending: str
    """A digest of the file's last bytes. Files of one size with different endings have different contents."""


def extensions() -> frozenset[str]:
    """The endings of the files that are read, in lower case, with the dot."""
    return frozenset(end for end, name in Image.registered_extensions().items() if name in (*FORMATS, "MPO"))


class Unreadable(ValueError):
    """Why a picture cannot be read, in a few words without the file's name."""


@contextmanager
def opened(path: Path) -> Iterator[tuple[IO[bytes], Image.Image]]:
    """A picture's file and the picture, whose pixels are not decoded yet.

    Raises:
        Unreadable: the file cannot be read, also inside the block. A damaged file can make Pillow raise anything.
    """
    try:
        with path.open("rb") as file, Image.open(file, formats=FORMATS) as image:
            yield file, image
    except Unreadable:
        raise
    except Exception as error:
        raise Unreadable(_why(path, error)) from error


def _why(path: Path, error: Exception) -> str:
    match error:
        case OSError(errno=int()):
            return (error.strerror or str(error)).lower()
        case Image.DecompressionBombError():
            return f"more than {2 * (Image.MAX_IMAGE_PIXELS or 0):,} pixels"
        case MemoryError():
            return "too large for the memory that is free"
    with suppress(OSError):
        if not path.stat().st_size:
            return "an empty file"
    if isinstance(error, UnidentifiedImageError):
        return "no picture in a format that is read"
    return "damaged or cut off"


def look(path: Path) -> Look:
    """Reads the header of a picture. Decodes the picture only if the file's end does not fit its format.

    Raises:
        Unreadable: the file cannot be read, or was cut, or its pixels are refused.
    """
    with opened(path) as (file, image):
        width, height, mode = *image.size, image.mode
        _check(image)
        turned = _turn(image) in (5, 6, 7, 8)
        transparent = _is_transparent(image)
        ending = _ending(file)
        if not ending.endswith(_WHOLE_ENDS.get(image.format or "", b"nothing")):
            image.load()
    width, height = (height, width) if turned else (width, height)
    return Look(width, height, mode, transparent, blake2b(ending, digest_size=8).hexdigest())


def upright(image: Image.Image) -> Image.Image:
    """An opened file's picture in mode RGB.

    Raises:
        Exception: Pillow's, of any kind: it cannot be decoded. Unreadable: its pixels are refused.
    """
    _check(image)
    image.load()
    turn = _TURNS.get(_turn(image))
    if image.mode in (*_SIXTEEN_BITS, "I"):
        wide = np.asarray(image).astype(np.uint32)
        shown = Image.fromarray(((wide * 255 + 32767) // 65535).clip(0, 255).astype(np.uint8)).convert("RGB")
    elif _is_transparent(image):
        shown = Image.new("RGBA", image.size, "white")
        shown.alpha_composite(image.convert("RGBA"))
        shown = shown.convert("RGB")
    else:
        shown = image.convert("RGB")
    return shown if turn is None else shown.transpose(turn)


def _check(image: Image.Image) -> None:
    """Raises Unreadable for pixels that programs show differently."""
    mode = image.mode
    if mode == "F" or (mode == "I" and image.format not in ("PNG", "PPM")):  # those have 16 bits at most
        kind = "float" if mode == "F" else "integer"
        raise Unreadable(f"32-bit {kind} pixels have no fixed white; save it with 8 or 16 bits")
    if mode not in (*_SIXTEEN_BITS, *_TRANSPARENT, *_PLAIN, "I"):
        raise Unreadable(f"pixels of the kind {mode} are not known; save it as RGB")


def _is_transparent(image: Image.Image) -> bool:
    return image.mode in _TRANSPARENT or "transparency" in image.info


def _turn(image: Image.Image) -> int:
    try:
        # Not PNG's own method, which decodes the picture to find EXIF data after it.
        return int(Image.Image.getexif(image).get(_ORIENTATION, 1))
    except Exception:  # a picture with unreadable EXIF is not turned
        return 1


def _ending(file: IO[bytes]) -> bytes:
    at = file.tell()
    size = file.seek(0, 2)
    file.seek(max(0, size - _TAIL))
    ending = file.read()
    file.seek(at)
    return ending

"""Photographs: a file as people have them becomes an upright RGB picture."""

from __future__ import annotations

import logging
import os
import struct
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

from ..errors import PhotoError, how_to_install
from ..io import check_regular
from ..limits import (
    MAX_FILE_BYTES,
    MAX_FOLDER_ENTRIES,
    MAX_JPEG_PIXELS,
    MAX_KEPT_PIXELS,
    MAX_PHOTO_PIXELS,
    MAX_PHOTO_SIDE,
    MAX_PHOTOS,
    MAX_PNG_CHUNKS,
    MAX_PNG_TEXT_BYTES,
)
from ..notation import excerpt

GREY = (128, 128, 128)  # stands where a picture has nothing: under alpha, outside its edges
# What cameras, phones and editors write. Others (EPS, PDF, ...) run foreign programs or are no photographs.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP", "AVIF", "JPEG2000", "PPM")
SUFFIXES = {  # of what is taken for a photo in a folder
    ".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".webp", ".gif", ".tif", ".tiff", ".bmp", ".avif", ".heic",
    ".heif", ".hif", ".jp2", ".j2k", ".jpf", ".jpx", ".ppm", ".pgm", ".pnm",
}  # fmt: skip
STRIP = 256  # rows
HEIC = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"}  # brands; films have others
WHITES = (1, 2**8 - 1, 2**16 - 1, 2**31 - 1, 2**32 - 1)  # of numbers that are no bytes
# How a picture was stored, by its EXIF orientation, and what undoes it.
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

logger = logging.getLogger(__name__)


def open_photo(path: str | Path) -> Image.Image:
    """Open a photograph as people have them: upright RGB, at most 8 megapixels, metadata left behind.

    The first picture of an animation is taken; transparency is laid over grey. The file's name stays in
    `.info["path"]` for messages. Raises PhotoError with one line that says what is wrong with the file.
    """
    with opened(path) as image:
        # A JPEG is decoded at a half, a quarter or an eighth of its size where that is enough.
        image.draft(None, _size_kept(image))
        photo = _rgb(image)
        turn = UPRIGHT.get(_orientation(image))
    photo.thumbnail(_size_kept(photo), Image.Resampling.LANCZOS, reducing_gap=3.0)
    if turn is not None:
        photo = photo.transpose(turn)
    photo.info = {"path": str(path)}
    return photo


def _size_kept(image: Image.Image) -> tuple[int, int]:
    """Return the size of a picture without the pixels that are too many to keep."""
    scale = min(1.0, (MAX_KEPT_PIXELS / (image.width * image.height)) ** 0.5)
    return max(round(scale * image.width), 1), max(round(scale * image.height), 1)


def _orientation(image: Image.Image) -> int:
    """Return how a decoded picture was stored, by its EXIF; 1, upright, where that says nothing or is broken."""
    try:
        found = image.getexif().get(ExifTags.Base.Orientation)
    except Exception:  # Pillow raises nearly every kind there is on broken metadata
        return 1
    return found if isinstance(found, int) else 1


def open_photos(photos: Sequence[str | Path | Image.Image]) -> list[Image.Image]:
    """Open the photographs of one person: files, folders of files, and images, which stay as they are.

    Raises PhotoError for one that cannot be read, for a folder without any, and for too many to keep.
    """
    found: list[str | Path | Image.Image] = []
    for photo in photos:
        found += photos_in(photo) if not isinstance(photo, Image.Image) and Path(photo).is_dir() else [photo]
    if len(found) > MAX_PHOTOS:
        first = "" if isinstance(found[0], Image.Image) else f", {found[0]} among them"
        raise PhotoError(f"{len(found)} photos of one person{first}: choose {MAX_PHOTOS} at most")
    return [photo if isinstance(photo, Image.Image) else open_photo(photo) for photo in found]


def photos_in(folder: str | Path, most: int = MAX_FOLDER_ENTRIES) -> list[Path]:
    """Return the photo files of a folder and of those in it, by name; hidden files are left out.

    The log names files that are no photos. Raises PhotoError where there is no photo, or where there are more than
    `most` files and folders.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise PhotoError(f"{folder}: there is no such folder")
    files: list[Path] = []
    seen = 0
    for place, folders, names in os.walk(folder):
        seen += len(folders) + len(names)
        if seen > most:
            raise PhotoError(f"{folder} holds more than {most:,} files and folders: name a smaller one")
        folders[:] = [name for name in folders if not name.startswith(".")]
        files += [Path(place, name) for name in names if not name.startswith(".")]
    files = sorted(path for path in files if path.is_file())
    photos = [path for path in files if path.suffix.lower() in SUFFIXES]
    if not photos:
        raise PhotoError(f"{folder} holds no photos: put JPEG or PNG files in it")
    if others := [path.name for path in files if path.suffix.lower() not in SUFFIXES]:
        logger.info(f"{folder}: no photos by their endings, and left out: {excerpt(', '.join(others))}")
    return photos


@contextmanager
def opened(path: str | Path) -> Iterator[Image.Image]:
    """Yield a picture file, not decoded yet, and small enough for it by what its header says.

    Raises PhotoError, in one line, for a file that is none or is damaged, also where the block finds that out.
    """
    check_regular(path, PhotoError, MAX_FILE_BYTES)
    try:
        with open(path, "rb") as file:
            header = file.read(256)
            if not header:
                raise PhotoError(f"{path} is empty")
            # Pillow makes room for a WebP picture when it opens one.
            if (size := webp_size(header)) and size[0] * size[1] > MAX_PHOTO_PIXELS:
                raise too_large(path, size)
            with warnings.catch_warnings(), _silent(header):
                # Pillow warns of large pictures and of broken metadata; only what it refuses matters to us.
                warnings.simplefilter("ignore")
                with _opened(file, header) as image:
                    check_size(image, path)
                    yield image
    except PhotoError:
        raise
    except _Unknown as error:
        raise PhotoError(f"{path} {error}") from None
    except Image.DecompressionBombError:
        raise PhotoError(f"{path} has more than 178 megapixels; scale it down first") from None
    except MemoryError:
        raise PhotoError(f"{path} needs more memory than there is; scale it down first") from None
    except PermissionError as error:
        raise PhotoError(f"{path} cannot be read: {error.strerror}") from None
    except Exception as error:  # Pillow and the libraries in it raise nearly every kind there is on damaged files
        raise PhotoError(f"{path} is damaged or cut short ({excerpt(str(error))})") from None


class _Unknown(Exception):
    """A file that is no picture which can be read, and what it may be."""


def _opened(file: BinaryIO, header: bytes) -> Image.Image:
    """Open a picture. Raises _Unknown for a format that is not read."""
    if _is_heic(header):
        try:
            from pi_heif import HeifImageFile
        except ImportError:
            raise _Unknown(
                f"is a HEIC photo: save it as JPEG, or install what reads it: {how_to_install('photo')}"
            ) from None
        file.seek(0)
        heic: Image.Image = HeifImageFile(file)
        return heic
    try:
        return Image.open(_without_texts(file), formats=FORMATS)
    except UnidentifiedImageError:
        raise _Unknown(_what(header)) from None


def _is_heic(header: bytes) -> bool:
    """Return whether a file is a photo in HEIF that is not AVIF, by the brands that it begins with."""
    brands = [header[i : i + 4] for i in range(16, min(int.from_bytes(header[:4]), len(header)), 4)]
    return header[4:8] == b"ftyp" and header[8:12] in HEIC and not {b"avif", b"avis"} & {*brands}


def _what(header: bytes) -> str:
    """Say what a file that Pillow does not know may be."""
    if header[4:8] != b"ftyp":
        return "is not a picture that can be read; save the photo as JPEG or PNG"
    if header[8:12] in {b"avif", b"avis", b"mif1", b"msf1"}:
        return "is damaged or cut short"
    return "is a film rather than a photo; save one picture of it as JPEG"


def _without_texts(file: BinaryIO) -> BinaryIO:
    """Return a PNG without the texts and colour profiles that Pillow might refuse; any other file as it is.

    Compressed ones may be of any size, and go; others stay as long as they are short together.
    """
    file.seek(0)
    if file.read(8) != b"\x89PNG\r\n\x1a\n":
        file.seek(0)
        return file
    kept, total, texts = [(0, 8)], 8, 0
    for _ in range(MAX_PNG_CHUNKS):
        head = file.read(8)
        if len(head) < 8:
            break
        length, kind = struct.unpack(">I4s", head)
        compressed = kind in {b"iCCP", b"zTXt"} or (
            kind == b"iTXt" and file.read(min(length, 82)).partition(b"\0")[2][:1] != b"\0"
        )
        texts += length * (kind in {b"tEXt", b"iTXt"} and not compressed)
        if not compressed and (kind not in {b"tEXt", b"iTXt"} or texts <= MAX_PNG_TEXT_BYTES):
            kept.append((total, 12 + length))
        total = file.seek(total + 12 + length)
    else:
        raise ValueError(f"more than {MAX_PNG_CHUNKS} parts")
    if sum(length for _, length in kept) == total:
        file.seek(0)
        return file
    content = BytesIO()
    for start, length in kept:
        file.seek(start)
        content.write(file.read(length))
    content.seek(0)
    return content


@contextmanager
def _silent(header: bytes) -> Iterator[None]:
    """Hide what libtiff writes to standard error by itself."""
    if header[:4] not in {b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"}:
        yield
        return
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def _rgb(image: Image.Image) -> Image.Image:
    """Return a picture of any mode as RGB, made strip by strip, as conversions take many times a picture's memory."""
    image.load()
    if image.mode == "RGB" and not image.has_transparency_data:
        return image.copy()
    white = _white(image)
    result = Image.new("RGB", image.size)
    for top in range(0, image.height, STRIP):
        strip = image.crop((0, top, image.width, min(top + STRIP, image.height)))
        result.paste(_strip_as_rgb(strip, white), (0, top))
    return result


def _strip_as_rgb(image: Image.Image, white: float) -> Image.Image:
    """Return a strip in RGB: numbers that are no bytes are scaled, transparency lies over grey."""
    if _has_numbers(image):
        levels = np.nan_to_num(_numbers(image) * (255 / white), posinf=255)
        image = Image.fromarray(levels.clip(0, 255).round().astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, (*GREY, 255)), image)
    return image.convert("RGB")


def _has_numbers(image: Image.Image) -> bool:
    """Return whether the pixels of a picture are integers of 16 or 32 bits, or floating-point numbers."""
    return image.mode.startswith("I") or image.mode == "F"


def _numbers(image: Image.Image) -> np.ndarray:
    """Return such pixels; Pillow takes unsigned integers of 32 bits for signed ones."""
    values = np.asarray(image)
    return np.asarray(values.view(np.uint32) if values.dtype == np.int32 else values, dtype=np.float64)


def _white(image: Image.Image) -> float:
    """Return which number is white in a picture: the least of WHITES that nearly no pixel is above."""
    if not _has_numbers(image):
        return WHITES[1]
    if image.mode.startswith("I;16"):
        return WHITES[2]
    few = image.resize((min(image.width, 512), min(image.height, 512)), Image.Resampling.NEAREST)
    values = _numbers(few)
    values = values[np.isfinite(values)]
    most = float(np.quantile(values, 0.99)) if values.size else 1.0
    return float(next((white for white in WHITES if most <= white), most))


def check_size(image: Image.Image, path: str | Path) -> None:
    """Raise PhotoError for an opened picture, not decoded yet, that would take too much memory."""
    # A progressive JPEG is kept whole while it is decoded.
    scaled = image.format in {"JPEG", "MPO"} and not image.info.get("progressive")
    if (
        image.width * image.height > (MAX_JPEG_PIXELS if scaled else MAX_PHOTO_PIXELS)
        or max(image.size) > MAX_PHOTO_SIDE
    ):
        raise too_large(path, image.size)


def too_large(path: str | Path, size: tuple[int, int]) -> PhotoError:
    """Return the error for a picture of so many pixels."""
    millions = size[0] * size[1] / 1e6
    return PhotoError(
        f"{path} has {size[0]} x {size[1]} pixels, {millions:.0f} megapixels: "
        f"scale it down to {MAX_PHOTO_PIXELS / 1e6:.0f}"
    )


def webp_size(header: bytes) -> tuple[int, int] | None:
    """Read width and height in the first 30 bytes of a WebP file; None for any other.

    Source: RFC 9649, sections 2.5 to 2.7.
    """
    if header[:4] != b"RIFF" or header[8:12] != b"WEBP":
        return None
    kind, rest = header[12:16], header[20:]
    if kind == b"VP8X":
        return int.from_bytes(rest[4:7], "little") + 1, int.from_bytes(rest[7:10], "little") + 1
    if kind == b"VP8L":
        bits = int.from_bytes(rest[1:5], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    return int.from_bytes(rest[6:8], "little") & 0x3FFF, int.from_bytes(rest[8:10], "little") & 0x3FFF

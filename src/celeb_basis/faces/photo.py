"""Photographs: a file as people have them becomes an upright RGB picture."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from ..errors import PhotoError
from ..io import check_regular
from ..limits import MAX_FILE_BYTES, MAX_JPEG_PIXELS, MAX_PHOTO_PIXELS, MAX_PHOTO_SIDE, MAX_PHOTOS

GREY = (128, 128, 128)  # stands where a picture has nothing: under alpha, outside its edges
LONG_SIDE = 2048  # pixels; more than any face model or training crop looks at
# What cameras, phones and editors write. Others (EPS, PDF, ...) run foreign programs or are no photographs.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP", "AVIF", "JPEG2000", "PPM")
SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".gif", ".tif", ".tiff", ".bmp", ".avif", ".heic"}  # in a folder
STRIP = 256  # rows
HEIC = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"}  # brands; films have others


def open_photo(path: str | Path) -> Image.Image:
    """Open a photograph as people have them: upright RGB, at most 2,048 pixels long, metadata left behind.

    The first picture of an animation is taken; transparency is laid over grey. The file's name stays in
    `.info["path"]` for messages. Raises PhotoError with one line that says what is wrong with the file.
    """
    with opened(path) as image:
        # A JPEG is decoded at a half, a quarter or an eighth of its size where that is enough.
        image.draft(None, (LONG_SIDE, LONG_SIDE))
        ImageOps.exif_transpose(image, in_place=True)
        photo = _rgb(image)
    photo.thumbnail((LONG_SIDE, LONG_SIDE), Image.Resampling.LANCZOS, reducing_gap=3.0)
    photo.info = {"path": str(path)}
    return photo


def open_photos(paths: Sequence[str | Path]) -> list[Image.Image]:
    """Open the photographs of one person. Raises PhotoError for one that cannot be read, and for too many to keep."""
    if len(paths) > MAX_PHOTOS:
        raise PhotoError(f"{len(paths)} photos of one person, {paths[0]} among them: choose {MAX_PHOTOS} at most")
    return [open_photo(path) for path in paths]


def photos_in(folder: str | Path) -> list[Path]:
    """The photo files of a folder and of those in it, by name; hidden files are left out.

    Raises PhotoError where there is none.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise PhotoError(f"{folder}: there is no such folder")
    photos = [
        path
        for path in sorted(folder.rglob("*"))
        if path.suffix.lower() in SUFFIXES
        and path.is_file()
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    ]
    if not photos:
        raise PhotoError(f"{folder} holds no photos: put JPEG or PNG files in it")
    return photos


@contextmanager
def opened(path: str | Path) -> Iterator[Image.Image]:
    """A picture file inside the block, not decoded yet, and small enough for it by what its header says.

    Raises PhotoError, in one line, for a file that is none or is damaged, also where the block finds that out.
    """
    check_regular(path, PhotoError, MAX_FILE_BYTES)
    try:
        with open(path, "rb") as file:
            header = file.read(32)
    except OSError as error:
        raise PhotoError(f"{path} cannot be read: {error.strerror}") from None
    if not header:
        raise PhotoError(f"{path} is empty")
    # Pillow makes room for a WebP picture when it opens one.
    if (size := webp_size(header)) and size[0] * size[1] > MAX_PHOTO_PIXELS:
        raise too_large(path, size)
    try:
        with warnings.catch_warnings(), _silent(header):
            # Pillow warns of large pictures and of broken metadata; only what it refuses matters to us.
            warnings.simplefilter("ignore")
            with Image.open(path, formats=FORMATS) as image:
                check_size(image, path)
                yield image
    except PhotoError:
        raise
    except UnidentifiedImageError:
        raise PhotoError(f"{path} {_what(header)}") from None
    except Image.DecompressionBombError:
        raise PhotoError(f"{path} has more than 178 megapixels; scale it down first") from None
    except MemoryError:
        raise PhotoError(f"{path} needs more memory than there is; scale it down first") from None
    except Exception as error:  # Pillow and the libraries in it raise nearly every kind there is on damaged files
        raise PhotoError(f"{path} is damaged or cut short ({error})") from None


def _what(header: bytes) -> str:
    """What a file that Pillow does not know may be."""
    if header[4:8] != b"ftyp":
        return "is not a picture that can be read; save the photo as JPEG or PNG"
    if header[8:12] in HEIC:
        return "is a HEIC photo, which cannot be read here; save it as JPEG"
    if header[8:12] in {b"avif", b"avis"}:
        return "is damaged or cut short"
    return "is a film rather than a photo; save one picture of it as JPEG"


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
    """Any mode of Pillow's as RGB, strip by strip, as the conversions need many times the memory of a picture."""
    image.load()
    if image.mode == "RGB" and not image.has_transparency_data:
        return image.copy()
    result = Image.new("RGB", image.size)
    for top in range(0, image.height, STRIP):
        strip = image.crop((0, top, image.width, min(top + STRIP, image.height)))
        result.paste(_strip_as_rgb(strip), (0, top))
    return result


def _strip_as_rgb(image: Image.Image) -> Image.Image:
    """16-bit greys are scaled rather than clipped, transparency lies over grey."""
    if image.mode.startswith("I"):
        levels = np.asarray(image, dtype=np.float64) / 257  # 65535 -> 255
        image = Image.fromarray(levels.clip(0, 255).round().astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, (*GREY, 255)), image)
    return image.convert("RGB")


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
    """The error for a picture of so many pixels."""
    millions = size[0] * size[1] / 1e6
    return PhotoError(
        f"{path} has {size[0]} x {size[1]} pixels, {millions:.0f} megapixels: "
        f"scale it down to {MAX_PHOTO_PIXELS / 1e6:.0f}"
    )


def webp_size(header: bytes) -> tuple[int, int] | None:
    """Width and height by the first 30 bytes of a WebP file; None for any other.

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

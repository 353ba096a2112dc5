"""Photographs: a file as people have them becomes an upright RGB picture."""

from __future__ import annotations

import struct
import warnings
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from ..errors import PhotoError

GREY = (128, 128, 128)  # stands where a picture has nothing: under alpha, outside its edges
LONG_SIDE = 2048  # pixels; more than any face model or training crop looks at
# What cameras, phones and editors write. Others (EPS, PDF, ...) run foreign programs or are no photographs.
FORMATS = {"JPEG", "MPO", "PNG", "WEBP", "GIF", "TIFF", "BMP", "AVIF", "JPEG2000", "PPM"}
SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".gif", ".tif", ".tiff", ".bmp", ".avif", ".heic"}  # in a folder
HEIC = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"}  # brands; films have others


def open_photo(path: str | Path) -> Image.Image:
    """Open a photograph as people have them: upright RGB, at most 2,048 pixels long, metadata left behind.

    The first picture of an animation is taken; transparency is laid over grey. The file's name stays in
    `.info["path"]` for messages. Raises PhotoError with one line that says what is wrong with the file.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            header = file.read(12)
    except IsADirectoryError:
        raise PhotoError(f"{path} is a folder; give one photo file") from None
    except FileNotFoundError:
        raise PhotoError(f"{path}: there is no such file") from None
    except OSError as error:
        raise PhotoError(f"{path} cannot be read: {error.strerror}") from None
    if not header:
        raise PhotoError(f"{path} is empty")
    try:
        with warnings.catch_warnings():
            # Pillow warns of large pictures and of broken metadata; only what it refuses matters to us.
            warnings.simplefilter("ignore")
            with Image.open(path) as image:
                if image.format not in FORMATS:
                    raise PhotoError(f"{path} is a {image.format} file; save the photo as JPEG or PNG")
                # A JPEG is decoded at a half, a quarter or an eighth of its size where that is enough.
                image.draft(None, (LONG_SIDE, LONG_SIDE))
                photo = _rgb(ImageOps.exif_transpose(image))
    except UnidentifiedImageError:
        if header[4:8] != b"ftyp":
            what = "is not a picture that can be read; save the photo as JPEG or PNG"
        elif header[8:12] in HEIC:
            what = "is a HEIC photo, which cannot be read here; save it as JPEG"
        elif header[8:12] in {b"avif", b"avis"}:
            what = "is damaged or cut short"
        else:
            what = "is a film rather than a photo; save one picture of it as JPEG"
        raise PhotoError(f"{path} {what}") from None
    except Image.DecompressionBombError:
        raise PhotoError(f"{path} has more than 178 megapixels; scale it down first") from None
    except (OSError, SyntaxError, ValueError, EOFError, RuntimeError, struct.error) as error:
        raise PhotoError(f"{path} is damaged or cut short ({error})") from None
    photo.thumbnail((LONG_SIDE, LONG_SIDE), Image.Resampling.LANCZOS, reducing_gap=3.0)
    photo.info = {"path": str(path)}
    return photo


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


def _rgb(image: Image.Image) -> Image.Image:
    """Any mode of Pillow's as RGB, 16-bit greys scaled rather than clipped, transparency over grey."""
    if image.mode.startswith("I"):
        levels = np.asarray(image, dtype=np.float64) / 257  # 65535 -> 255
        image = Image.fromarray(levels.clip(0, 255).round().astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, (*GREY, 255)), image)
    return image.convert("RGB")

"""How large a picture is, by its header: a file of some bytes may unfold to gigabytes."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from ..errors import PhotoError

MOST_PIXELS = 2**26  # decoded at once; at four bytes each 256 MB
MOST_SCALED = 178_956_970  # of a JPEG, which is decoded at a fraction of its size: Pillow's own limit
LONGEST = 65_535  # pixels on a side


def check_size(image: Image.Image, path: str | Path) -> None:
    """Raise PhotoError for an opened picture, not decoded yet, that would take too much memory."""
    # A progressive JPEG is kept whole while it is decoded.
    scaled = image.format in {"JPEG", "MPO"} and not image.info.get("progressive")
    if image.width * image.height > (MOST_SCALED if scaled else MOST_PIXELS) or max(image.size) > LONGEST:
        raise too_large(path, image.size)


def too_large(path: str | Path, size: tuple[int, int]) -> PhotoError:
    """The error for a picture of so many pixels."""
    millions = size[0] * size[1] / 1e6
    return PhotoError(
        f"{path} has {size[0]} x {size[1]} pixels, {millions:.0f} megapixels: scale it down to {MOST_PIXELS / 1e6:.0f}"
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

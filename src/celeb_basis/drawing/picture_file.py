"""Pictures become files that say how they were made."""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from ..errors import OutputError
from ..files import write_buffered


def file_stem(prompt: str, seed: int) -> str:
    """What a picture's file is called: the words of its prompt, as far as they fit, and its seed."""
    words = re.sub(r"[^a-z0-9]+", "-", prompt.lower()).strip("-")[:60].rstrip("-")
    return f"{words or 'picture'}-{seed}"


def save_picture(
    image: Image.Image,
    path: str | Path,
    *,
    prompt: str,
    seed: int,
    model: str,
    strength: Mapping[str, float] | None = None,
) -> None:
    """Write a PNG with metadata that says that a model made it, and how.

    strength: of the people who were not drawn as they are, by their tokens.

    Beside prompt, seed, model, strength and software in text chunks it carries the IPTC's digital source type
    "trainedAlgorithmicMedia" as XMP, which viewers and platforms use to label generated pictures.

    Raises OutputError for another suffix than .png or a place that cannot be written.
    """
    if Path(path).suffix.lower() != ".png":
        raise OutputError(f"{path}: pictures are written as PNG, end the name in .png")
    try:
        software = f"celeb-basis {version('celeb-basis')}"
    except PackageNotFoundError:  # run from its sources
        software = "celeb-basis"
    info = PngInfo()
    for key, value in {"prompt": prompt, "seed": str(seed), "model": model, "Software": software}.items():
        info.add_text(key, value)
    if strength:
        info.add_text("strength", " ".join(f"{token}={value:g}" for token, value in strength.items()))
    info.add_itxt("XML:com.adobe.xmp", XMP)
    with write_buffered(path) as buffer:
        image.save(buffer, format="PNG", pnginfo=info)


XMP = """\
<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/">
 <rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
  <rdf:Description rdf:about="" xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/"
   Iptc4xmpExt:DigitalSourceType="http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"/>
 </rdf:RDF>
</x:xmpmeta>
<?xpacket end="w"?>"""

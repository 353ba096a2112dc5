"""Image files that say how they were made."""

from __future__ import annotations

import re
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from .backend.known_models import shared_name
from .errors import OutputError
from .io import write_buffered

DETAILS = ("prompt", "seed", "strength", "model")  # how an image was made


def file_stem(prompt: str, seed: int) -> str:
    """Return what an image's file is called: the words of its prompt, as far as they fit, and its seed."""
    words = re.sub(r"[^a-z0-9]+", "-", prompt.lower()).strip("-")[:60].rstrip("-")
    return f"{words or 'picture'}-{seed}"


def save_image(image: Image.Image, path: str | Path, **details: object) -> None:
    """Write a PNG with metadata that says that a model made it, and how.

    details: prompt, seed, model and strength, in place of those that `generate` left in the image's `info`.

    Beside these and the software, in text chunks, the file carries the IPTC's digital source type
    "trainedAlgorithmicMedia" as XMP, which viewers and platforms use to label generated images.

    Raises OutputError for another suffix than .png or a place that cannot be written.
    """
    if Path(path).suffix.lower() != ".png":
        raise OutputError(f"{path}: images are written as PNG, end the name in .png")
    try:
        software = f"celeb-basis {version('celeb-basis')}"
    except PackageNotFoundError:  # run from its sources
        software = "celeb-basis"
    known = {key: image.info[key] for key in DETAILS if key in image.info} | details | {"Software": software}
    if "model" in known:
        known["model"] = shared_name(str(known["model"]))
    info = PngInfo()
    for key, value in known.items():
        info.add_text(key, str(value))
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

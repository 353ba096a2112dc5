"""Image files that say how they were made."""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from itertools import count
from pathlib import Path
from xml.sax.saxutils import escape

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from .backend.known_models import shared_name
from .errors import OutputError
from .io import write_buffered

# How an image was made: text chunks of its file, as `generate` leaves them in the image's `info`.
DETAILS = (
    "prompt",
    "negative_prompt",
    "seed",
    "steps",
    "guidance",
    "sampler",
    "size",
    "regions",
    "strength",
    "loras",
    "image",
    "mask_image",
    "control_image",
    "denoising_strength",
    "identities",
    "model",
    "model_hash",
)


def file_stem(prompt: str, seed: int) -> str:
    """Return what an image's file is called: the words of its prompt, as far as they fit, and its seed."""
    words = re.sub(r"[^a-z0-9]+", "-", prompt.lower()).strip("-")[:60].rstrip("-")
    return f"{words or 'picture'}-{seed}"


def save_image(image: Image.Image, path: str | Path, **details: object) -> None:
    """Write a PNG with metadata that says that a model made it, and how.

    details: any of DETAILS, in place of those that `generate` left in the image's `info`.

    Beside these and the software, the text chunks hold `parameters`, which AUTOMATIC1111 and other programs read. XMP
    holds the IPTC's digital source type "trainedAlgorithmicMedia", by which viewers and platforms label generated
    images, and the prompt and the model as IPTC Photo Metadata 2025.1 names them.

    Raises OutputError for another suffix than .png or a place that cannot be written.
    """
    if Path(path).suffix.lower() != ".png":
        raise OutputError(f"{path}: images are written as PNG, end the name in .png")
    known = details_of(image) | {key: str(value) for key, value in details.items()}
    if "model" in known:
        known["model"] = shared_name(known["model"])
    info = PngInfo()
    for key, value in (known | {"Software": _software(), "parameters": _parameters(known)}).items():
        info.add_text(key, value)
    values = {"system": known.get("model", ""), "version": _software(), "prompt": known.get("prompt", "")}
    info.add_itxt("XML:com.adobe.xmp", re.sub(r"\{(\w+)\}", lambda field: _in_xml(values[field[1]]), XMP))
    with write_buffered(path) as buffer:
        image.save(buffer, format="PNG", pnginfo=info)


def details_of(image: Image.Image) -> dict[str, str]:
    """Return how an image was made, as far as it says so."""
    return {key: str(image.info[key]) for key in DETAILS if key in image.info}


def free_path(path: Path, image: Image.Image) -> Path:
    """Return where an image can be written without losing another: `path`, or with -2, -3, ... before its ending.

    An image of the same details may take the place of the one that is there.
    """
    for number in count(1):
        candidate = path if number == 1 else path.with_stem(f"{path.stem}-{number}")
        if not candidate.exists() or _shows(candidate, details_of(image)):
            return candidate
    raise AssertionError("there are more numbers than files")


def _shows(path: Path, details: Mapping[str, str]) -> bool:
    """Return whether a file is an image of these details."""
    try:
        with Image.open(path) as there:
            return details_of(there) == details
    except OSError:
        return False


def _software() -> str:
    try:
        return f"celeb-basis {version('celeb-basis')}"
    except PackageNotFoundError:  # run from its sources
        return "celeb-basis"


def _in_xml(text: str) -> str:
    """Return a text as the value of an XML attribute, without the characters that XML does not know."""
    return escape("".join(c if c.isprintable() else " " for c in text), {'"': "&quot;"})


def _parameters(details: Mapping[str, str]) -> str:
    """Return the details as AUTOMATIC1111 writes them."""
    lines = [details.get("prompt", "")]
    if "negative_prompt" in details:
        lines.append(f"Negative prompt: {details['negative_prompt']}")
    settings = {name: details[key] for key, name in PARAMETERS.items() if key in details}
    return "\n".join([*lines, ", ".join(f"{name}: {value}" for name, value in settings.items())])


PARAMETERS = {
    "steps": "Steps",
    "sampler": "Sampler",
    "guidance": "CFG scale",
    "seed": "Seed",
    "size": "Size",
    "denoising_strength": "Denoising strength",
    "model_hash": "Model hash",
    "model": "Model",
}
XMP = """\
<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/">
 <rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
  <rdf:Description rdf:about="" xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/"
   Iptc4xmpExt:DigitalSourceType="http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
   Iptc4xmpExt:AISystemUsed="{system}" Iptc4xmpExt:AISystemVersionUsed="{version}"
   Iptc4xmpExt:AIPromptInformation="{prompt}"/>
 </rdf:RDF>
</x:xmpmeta>
<?xpacket end="w"?>"""

"""Image files that say how they were made."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from itertools import count
from pathlib import Path
from xml.sax.saxutils import escape

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from .backend.known_models import shared_name
from .errors import OutputError, PromptError
from .faces.photo import opened
from .io import write_buffered
from .limits import MAX_DETAIL_LENGTH
from .notation import PLACEHOLDER, Box, check_box
from .signing import Signer

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
    "reference_image",
    "denoising_strength",
    "identities",
    "likeness",
    "model",
    "model_hash",
)


OTHERS = (
    "loras",
    "image",
    "mask_image",
    "control_image",
    "reference_image",
)  # of which the file says no more than a name or a hash


def file_stem(prompt: str, seed: int) -> str:
    """Return what an image's file is called: the words of its prompt, as far as they fit, and its seed."""
    words = re.sub(r"[^a-z0-9]+", "-", prompt.lower()).strip("-")[:60].rstrip("-")
    return f"{words or 'picture'}-{seed}"


def save_image(image: Image.Image, path: str | Path, *, signer: Signer | None = None, **details: object) -> None:
    """Write a PNG with metadata that says that a model made it, and how.

    signer: signs that by C2PA.
    details: any of DETAILS, in place of those that `generate` left in the image's `info`.

    Beside these and the software, the text chunks hold `parameters`, which AUTOMATIC1111 and other programs read. XMP
    holds the IPTC's digital source type "trainedAlgorithmicMedia", by which viewers and platforms label generated
    images, and the prompt and the model as IPTC Photo Metadata 2025.1 names them.

    Raises OutputError for another suffix than .png, a place that cannot be written, and a signer that cannot sign.
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
        if signer is not None:
            signed = signer.sign(buffer.getvalue(), _software(), known.get("model", ""))
            buffer.seek(0)
            buffer.write(signed)


def likeness_text(alike: Mapping[str, float | None]) -> str:
    """Return how alike people are as a picture's metadata say it: <annika>=0.712 <tovik>=none."""
    return " ".join(f"{token}={'none' if cosine is None else f'{cosine:.3f}'}" for token, cosine in alike.items())


def details_of(image: Image.Image) -> dict[str, str]:
    """Return how an image was made, as far as it says so."""
    return {key: str(image.info[key]) for key in DETAILS if key in image.info}


@dataclass(frozen=True)
class Drawn:
    """How an image was made, as its file says, in the arguments of `generate`; None for what it does not say.

    sampler: one of SAMPLERS, or the name of the scheduler that is the model's own. image_strength: of drawing anew.
    others: what else went into it, such as a LoRA or a picture, by the names of DETAILS.
    strengths, digests: of the people, by their tokens. A digest is the beginning of `Identity.digest`.
    """

    prompt: str
    seed: int
    negative_prompt: str | None
    num_inference_steps: int | None
    guidance_scale: float | None
    sampler: str | None
    width: int | None
    height: int | None
    regions: Mapping[str, Box]
    strengths: Mapping[str, float]
    digests: Mapping[str, str]
    image_strength: float | None
    others: Mapping[str, str]
    model: str
    model_hash: str


def how_drawn(path: str | Path) -> Drawn:
    """Read how an image was made from its file, which anybody may have changed.

    Raises PhotoError for a file that is no image, PromptError for one that does not say how `generate` can draw it.
    """
    with opened(path) as image:
        said = details_of(image)
    try:
        size = re.fullmatch(r"([0-9]{1,5})x([0-9]{1,5})", said.get("size", ""))
        if any(len(value) > MAX_DETAIL_LENGTH for value in said.values()) or ("size" in said and not size):
            raise ValueError
        return Drawn(
            prompt=said["prompt"],
            seed=_number(said["seed"]),
            negative_prompt=said.get("negative_prompt"),
            num_inference_steps=_number(said["steps"]) if "steps" in said else None,
            guidance_scale=float(said["guidance"]) if "guidance" in said else None,
            sampler=said.get("sampler"),
            width=int(size[1]) if size else None,
            height=int(size[2]) if size else None,
            regions=_boxes(json.loads(said.get("regions", "{}"))),
            strengths={token: float(value) for token, value in _by_token(said.get("strength", ""))},
            digests=dict(_by_token(said.get("identities", ""))),
            image_strength=float(said["denoising_strength"]) if "denoising_strength" in said else None,
            others={key: said[key] for key in OTHERS if key in said},
            model=said.get("model", ""),
            model_hash=said.get("model_hash", ""),
        )
    except (KeyError, ValueError, TypeError, AttributeError, RecursionError, PromptError):
        raise PromptError(
            f"{path} does not say how it was drawn: name a picture of generate, as it was written"
        ) from None


def _number(text: str) -> int:
    """Read a whole number of at most 19 digits. Raises ValueError."""
    if not re.fullmatch(r"[0-9]{1,19}", text):
        raise ValueError(text)
    return int(text)


def _by_token(text: str) -> list[tuple[str, str]]:
    """Read <annika>=x <tovik>=y. Raises ValueError."""
    pairs = [re.fullmatch(rf"({PLACEHOLDER.pattern})=([0-9a-z.]{{1,20}})", pair) for pair in text.split()]
    if None in pairs:
        raise ValueError(text)
    return [(pair[1], pair[2]) for pair in pairs if pair]


def _boxes(content: object) -> dict[str, Box]:
    """Read {"<annika>": [0, 0, 0.5, 1]}. Raises TypeError, ValueError or PromptError."""
    if not isinstance(content, dict):
        raise TypeError(content)
    boxes: dict[str, Box] = {}
    for name, sides in content.items():
        left, top, right, bottom = map(float, sides)
        boxes[name] = (left, top, right, bottom)
        check_box(name, boxes[name])
    return boxes


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

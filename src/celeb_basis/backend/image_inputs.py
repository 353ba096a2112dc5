"""Pictures that drawing starts from: which pipeline of a family takes them, and in what size."""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping
from typing import Any

from PIL import Image

from ..errors import PromptError
from ..notation import excerpt
from .families import named_family
from .pipeline import Pipeline, model_card, model_name, silence_libraries

# What generate gives a pipeline, or may.
PICTURES = ("image", "mask_image", "control_image")
INPAINTED = (4, 9)  # channels that a UNet takes for diffusers' pipelines with a mask


def pipeline_for(pipe: Pipeline, pictures: Mapping[str, Image.Image]) -> Pipeline:
    """Return the pipeline that draws from these pictures: the one given, or one of its family made of the same parts.

    pictures: by their names among PICTURES.

    Raises PromptError where the family has none that takes them.
    """
    from diffusers import AutoPipelineForImage2Image, AutoPipelineForInpainting

    if "mask_image" in pictures and "image" not in pictures:
        raise PromptError("a mask says what of an image is drawn anew: give the image too", argument="image")
    if "control_image" in pictures and getattr(pipe, "controlnet", None) is None:
        raise PromptError(
            f"a {type(pipe).__name__} has no ControlNet for a control_image: make one that has with diffusers, as "
            "StableDiffusionControlNetPipeline.from_pipe(pipe, controlnet=...), and wrap it with Model.from_pipeline"
        )
    channels = pipe.unet.config.in_channels if hasattr(pipe, "unet") else None
    if "mask_image" in pictures and channels not in (None, *INPAINTED):
        raise PromptError(
            f"{excerpt(model_name(pipe))} cannot draw a part of a picture anew, as its latents have {channels} "
            "channels: leave the mask out",
            argument="mask_image",
        )
    family = named_family(type(pipe).__name__)
    if family and family.takes_references:
        raise PromptError(
            f"a {type(pipe).__name__} draws no picture anew: leave {' and '.join(pictures)} out, or give a picture to "
            "refer to",
            argument="reference_image",
        )
    if set(pictures) <= _taken(pipe).keys():
        return pipe
    made_by = AutoPipelineForInpainting if "mask_image" in pictures else AutoPipelineForImage2Image
    try:
        with silence_libraries():
            made = made_by.from_pipe(pipe)
    except Exception as error:  # for a class in none of its lists, or one whose parts are others
        raise PromptError(
            f"a {type(pipe).__name__} cannot start from {' and '.join(pictures)}: leave that out, or name another model"
        ) from error
    made.card = model_card(pipe)
    made.set_progress_bar_config(**getattr(pipe, "_progress_bar_config", {}))
    converted: Pipeline = made
    return converted


def _taken(pipe: Pipeline) -> dict[str, str]:
    """Return what a pipeline calls those of PICTURES that it takes."""
    own = inspect.signature(type(pipe).__call__).parameters
    taken = {name: name for name in PICTURES if name in own}
    if getattr(pipe, "controlnet", None) is not None and "control_image" not in taken:
        taken = {"control_image": "image"}  # for some pipelines the only image is that of the ControlNet
    return taken


def call_pictures(pipe: Pipeline, pictures: Mapping[str, Image.Image], count: int) -> dict[str, Any]:
    """Return the pictures as a call of the pipeline that draws `count` images takes them."""
    names = _taken(pipe)
    # One without a strength may take a list as several pictures for one image.
    many = "strength" in inspect.signature(type(pipe).__call__).parameters or "control_image" in pictures
    return {names[name]: [picture] * count if many else picture for name, picture in pictures.items()}


def check_call(pipe: Pipeline, given: Mapping[str, Any]) -> None:
    """Raise PromptError unless a pipeline can be called with these arguments and draws images from them."""
    kind, own = type(pipe).__name__, inspect.signature(type(pipe).__call__).parameters
    if "num_frames" in own:
        raise PromptError(f"a {kind} draws videos: load the person with load_into, and call it yourself")
    for name in given:
        if name not in own:  # some take anything, and do nothing with it
            raise PromptError(f"a {kind} takes no {name}: leave it out", argument=name)
    named = {name: each for name, each in own.items() if each.kind is each.POSITIONAL_OR_KEYWORD}
    missing = [name for name, each in named.items() if each.default is each.empty and name not in ("self", *given)]
    if missing:
        raise PromptError(
            f"a {kind} needs {' and '.join(missing)}, which only its own call takes: load the person with load_into, "
            "and call it yourself"
        )


def check_has_pictures(pipe: Pipeline, pictures: Mapping[str, Image.Image]) -> None:
    """Raise PromptError where a pipeline needs pictures that are not given: one that changes them has a strength."""
    own, taken = inspect.signature(type(pipe).__call__).parameters, _taken(pipe)
    needed = [name for name in taken if name == "control_image" or "strength" in own]
    for name in needed:
        if name not in pictures:
            raise PromptError(f"a {type(pipe).__name__} needs a picture to start from: give {name}", argument=name)


def fit_pictures(
    pictures: Mapping[str, Image.Image], resolution: int, multiple: int, width: int | None, height: int | None
) -> dict[str, Image.Image]:
    """Return pictures in the size in which they are drawn, all in one: that asked for, or their own shape.

    By default the first one's sides keep their proportion, with the area of the model's own pictures, where they are
    not smaller already; sides are multiples of `multiple`.
    """
    if not pictures:
        return {}
    first = next(iter(pictures.values()))
    scale = min(1.0, resolution / math.sqrt(first.width * first.height))
    wide, high = (max(multiple, round(side * scale / multiple) * multiple) for side in first.size)
    size = (width or wide, height or high)
    return {
        name: picture.convert("L" if name == "mask_image" else "RGB").resize(size, Image.Resampling.LANCZOS)
        for name, picture in pictures.items()
    }

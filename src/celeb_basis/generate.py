"""Prompts with identities in them become pictures."""

from __future__ import annotations

import copy
import hashlib
import inspect
import json
import logging
import math
import re
from collections.abc import Callable, Collection, Container, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from PIL import Image

from .backend.denoiser import FLOW, Denoiser
from .backend.families import check_references, get_denoiser
from .backend.image_inputs import call_pictures, check_call, check_has_pictures, fit_pictures, pipeline_for
from .backend.known_models import shared_name
from .backend.lora import active_loras
from .backend.pipeline import Pipeline, model_card, model_name, pipeline_lock, silence_libraries
from .backend.schedulers import drawn_with, sampling
from .backend.text_encoders import check_text, fingerprint, knows, placeholders
from .errors import PromptError
from .identity import Identity
from .limits import MAX_COUNT, MAX_GUIDANCE, MAX_SIDE
from .notation import PLACEHOLDER, Box, check_notation, excerpt
from .regions import Regions, boxes_of, layout, regional_prompts

logger = logging.getLogger(__name__)
PART = re.compile(rf"({PLACEHOLDER.pattern})_\d+", re.IGNORECASE)  # what diffusers writes a token of two vectors as
ANY_CASE = re.compile(PLACEHOLDER.pattern, re.IGNORECASE)


def generate(
    pipe: Pipeline,
    prompt: str | Sequence[str],
    identities: Sequence[Identity] = (),
    *,
    negative_prompt: str | None = None,
    num_images_per_prompt: int = 1,
    num_inference_steps: int | None = None,
    guidance_scale: float | None = None,
    sampler: str | None = None,
    seed: int = 0,
    height: int | None = None,
    width: int | None = None,
    image: Image.Image | None = None,
    mask_image: Image.Image | None = None,
    control_image: Image.Image | None = None,
    reference_image: Image.Image | Sequence[Image.Image] | None = None,
    strength: float | None = None,
    batch_size: int = 4,
    regions: Regions = None,
    between_steps: Callable[[], None] | None = None,
) -> list[Image.Image]:
    """Draw pictures of a prompt (or of several, one after the other) that names identities by their token.

    Picture i of a prompt starts from the noise of `seed + i`; `batch_size`, how many are drawn at once, does not
    change it. Options that are None take the model's own default; samplers are ddim, dpm++2m, euler, rbf and unipc. A
    picture that the model's safety checker rejects, or whose autoencoder overflows, comes out black, and a warning is
    logged.

    image: is drawn anew, as far as `strength` says, 0 to 1; where it comes with mask_image, where that is white.
    control_image: for the ControlNet of a pipeline that has one. Pictures are scaled to height and width, or to the
    area of the model's own. The pipelines that diffusers has for these are made of the model's parts.
    reference_image: one or several pictures that FLUX.2 klein looks at beside the prompt, such as a photograph of the
    person. They are given to its pipeline as they are, which by default draws in the size of the first.

    regions: keeps people apart. A dict gives each name in the prompt (the token of an identity, or words such as a
    celebrity's name) a box (left, top, right, bottom), in shares of the picture. Inside a box, the model reads the
    prompt with all names replaced by that one, and with everybody's side written out. "auto" gives each identity in
    the prompt a column of its own, if there are two or more, in the order that "on the left", "in the middle" and "on
    the right" ask for.

    between_steps: called after each step of the sampler; an exception from it ends the drawing.

    Of several threads that draw with one pipeline, the others wait.

    Raises IdentityError for an identity of another model. Raises PromptError for a prompt that is too long or names a
    token without an identity, for numbers or pictures that this model cannot draw with, for a sampler that does not
    exist, for a region whose name is not in the prompt, and for a box without an inside.
    """
    prompts = [prompt] if isinstance(prompt, str) else list(prompt)
    _check_numbers(guidance_scale, seed, num_images_per_prompt=num_images_per_prompt, batch_size=batch_size)
    given = {"image": image, "mask_image": mask_image, "control_image": control_image}
    pictures = {name: picture for name, picture in given.items() if picture is not None}
    if strength is not None and ("image" not in pictures or not 0 < strength <= 1):
        raise PromptError(
            f"strength={strength} says how much of an image is drawn anew: give the image, and a number above 0, up "
            "to 1"
        )
    references = [reference_image] if isinstance(reference_image, Image.Image) else list(reference_image or ())
    with pipeline_lock(pipe):
        if references:
            check_references(type(pipe).__name__)
        get_denoiser(pipe)  # refuses what cannot be drawn with
        default, guidance, _ = drawn_with(pipe, None, guidance_scale, sampler)
        if pictures:
            pipe = pipeline_for(pipe, pictures)
        steps = steps_to_take(pipe, num_inference_steps, default, strength)
        with sampling(pipe, sampler, steps):
            return _generate(
                pipe, prompts, identities, negative_prompt, num_images_per_prompt, seed, batch_size, regions,
                between_steps, pictures, references, sampler, num_inference_steps=steps, guidance_scale=guidance,
                height=height, width=width, strength=strength,
            )  # fmt: skip


def _generate(
    pipe: Pipeline,
    prompts: list[str],
    identities: Sequence[Identity],
    negative_prompt: str | None,
    num_images_per_prompt: int,
    seed: int,
    batch_size: int,
    regions: Regions,
    between_steps: Callable[[], None] | None,
    pictures: Mapping[str, Image.Image],
    references: Sequence[Image.Image],
    sampler: str | None,
    **asked: Any,
) -> list[Image.Image]:
    denoiser = get_denoiser(pipe)
    for identity in identities:
        identity.check(pipe)
    if negative_prompt is not None and not denoiser.takes_negative_prompt:
        raise PromptError(f"{model_name(pipe)} takes no negative prompt, as its guidance is learnt: leave it out")
    if negative_prompt is not None and asked["guidance_scale"] <= denoiser.unguided_scale:
        logger.warning(
            f"at guidance {asked['guidance_scale']:g} the negative prompt has no effect: leave it out, or give more "
            "guidance"
        )
    tokens = [identity.placeholder_token for identity in identities]
    known = partial(knows, pipe)
    prompts = [_lowercase_tokens(text, tokens, known) for text in prompts]
    unwanted = None if negative_prompt is None else _lowercase_tokens(negative_prompt, tokens, known)
    _check_mentioned([*prompts, unwanted or ""], tokens)
    if regions is not None and not isinstance(regions, str):
        regions = _lowercase_regions(regions, tokens, known)
    placed = boxes_of(prompts, regions, tokens)
    _check_options(pipe, asked["num_inference_steps"], height=asked["height"], width=asked["width"])
    check_has_pictures(pipe, pictures)
    pictures = fit_pictures(pictures, denoiser.resolution, _grid(denoiser), asked["width"], asked["height"])
    own = inspect.signature(type(pipe).__call__).parameters
    for picture in pictures.values():
        asked |= {"width": picture.width, "height": picture.height}
    side = model_card(pipe).resolution
    if side and not references:
        asked |= {name: side for name in ("height", "width") if asked[name] is None}
    options = {key: value for key, value in asked.items() if value is not None}
    if pictures:  # some take their size from the picture alone
        options = {key: value for key, value in options.items() if key in own or key not in ("height", "width")}
    if references:
        if any(placed):
            raise PromptError("a reference picture is for all of the image, and regions are not: leave one out")
        options["image"] = [picture.convert("RGB") for picture in references]
    if between_steps is not None:

        def stepped(*_: Any) -> dict[str, Any]:
            between_steps()
            return {}

        options["callback_on_step_end"] = stepped
    options |= denoiser.call_options
    given = {name: [picture] for name, picture in pictures.items()} | (
        {"reference_image": references} if references else {}
    )
    details = _details(pipe, identities, unwanted, asked | {"sampler": sampler}, given)
    logger.debug(f"drawing with {', '.join(f'{key} {value}' for key, value in details.items())}")
    read = [layout(text, boxes, tokens) for text, boxes in zip(prompts, placed, strict=True)]
    jobs = [(p, seed + i) for p in range(len(prompts)) for i in range(num_images_per_prompt)]
    images: list[Image.Image] = []
    rejected: list[int] = []
    overflowed: list[int] = []
    with placeholders(pipe, {identity.placeholder_token: identity.vectors for identity in identities}):
        denoiser.check_lengths([*prompts, *(version for versions in read for version in versions), unwanted or ""])
        for first in range(0, len(jobs), batch_size):
            batch = jobs[first : first + batch_size]
            generators = [torch.Generator().manual_seed(s) for _, s in batch]
            with regional_prompts(pipe, [prompts[p] for p, _ in batch], [read[p] for p, _ in batch], unwanted) as text:
                call = text | options | call_pictures(pipe, pictures, len(batch))
                drawn = _call(pipe, call | {"generator": generators}, given)
            flags = getattr(drawn, "nsfw_content_detected", None) or [False] * len(batch)  # of the safety checker
            for image, flag, (p, own_seed) in zip(drawn.images, flags, batch, strict=True):
                if flag:
                    rejected.append(own_seed)
                elif is_black(image):
                    overflowed.append(own_seed)
                if placed[p]:
                    image.info["regions"] = json.dumps(placed[p])
                size = {"size": f"{image.width}x{image.height}"}
                image.info |= {"prompt": prompts[p], "seed": str(own_seed)} | details | size
            images += drawn.images
    for seeds, who, what in (
        (rejected, "the model's safety checker", "try another seed or prompt"),
        (overflowed, f"an overflow in {_precision(pipe)}", _against_overflow(pipe)),
    ):
        if seeds:
            logger.warning(
                f"{who} made {len(seeds)} of {len(images)} pictures black (seed {', '.join(map(str, seeds))}): {what}"
            )
    return images


def _call(pipe: Pipeline, arguments: Mapping[str, Any], pictures: Collection[str]) -> Any:
    """Return what a pipeline draws. Raises PromptError for pictures that it does not take."""
    check_call(pipe, arguments)
    with np.errstate(invalid="ignore"):  # of numbers that overflowed, of which the caller tells
        if not pictures:
            return pipe(**arguments)
        try:
            with silence_libraries():
                return pipe(**arguments)
        except ValueError as error:  # each pipeline has conditions of its own
            raise PromptError(
                f"a {type(pipe).__name__} does not draw from {' and '.join(pictures)} here: "
                f"{excerpt(' '.join(str(error).split()), 200)}"
            ) from error


def is_black(image: Image.Image) -> bool:
    """Return whether all pixels are black: a safety checker objected, or the autoencoder's numbers overflowed."""
    return image.convert("RGB").getbbox() is None


def _precision(pipe: Pipeline) -> str:
    return str(pipe.vae.dtype).removeprefix("torch.")


def _against_overflow(pipe: Pipeline) -> str:
    """Return what to do where a model's numbers overflow."""
    if pipe.vae.dtype != torch.float16:
        return "get the model again, or draw with less guidance"
    fixed = ", or replace its autoencoder by madebyollin/sdxl-vae-fp16-fix" * hasattr(pipe, "text_encoder_2")
    return f"load the model in bfloat16 or float32{fixed}"


def steps_to_take(pipe: Pipeline, asked: int | None, default: int, strength: float | None) -> int:
    """Return the number of steps: at least as many as leave one for the share of them that an image has to go through.

    Raises PromptError where the number asked for leaves none.
    """
    steps = default if asked is None else asked
    own = inspect.signature(type(pipe).__call__).parameters
    if "strength" not in own:
        return steps
    share = own["strength"].default if strength is None else strength
    if int(steps * share) >= 1:
        return steps
    least = math.ceil(1 / share)
    least += int(least * share) < 1  # rounding
    if asked is None:
        return least
    raise PromptError(
        f"{steps} steps at strength {share:g} draw nothing anew: take at least {least}", argument="num_inference_steps"
    )


def _details(
    pipe: Pipeline,
    identities: Sequence[Identity],
    negative_prompt: str | None,
    asked: Mapping[str, Any],
    pictures: Mapping[str, Sequence[Image.Image]],
) -> dict[str, str]:
    """Return what all images of a call have in common, in words: enough to draw them again."""
    strengths = {i.placeholder_token: i.provenance["strength"] for i in identities if "strength" in i.provenance}
    found = {
        "negative_prompt": negative_prompt,
        "steps": asked["num_inference_steps"],
        "guidance": asked["guidance_scale"],
        "sampler": asked["sampler"] or type(pipe.scheduler).__name__.removesuffix("Scheduler"),
        "strength": " ".join(f"{token}={strength}" for token, strength in strengths.items()),
        "identities": " ".join(f"{identity.placeholder_token}={identity.digest[:12]}" for identity in identities),
        "loras": " ".join(f"{name}={weight:g}" for name, weight in active_loras(pipe).items()),
        "model": shared_name(model_name(pipe)),
        "model_hash": fingerprint(pipe)[:16],
        "denoising_strength": asked["strength"],
    } | {
        name: hashlib.sha256(b"".join(picture.tobytes() for picture in own)).hexdigest()[:12]
        for name, own in pictures.items()
    }
    return {key: str(value) for key, value in found.items() if value not in (None, "")}


def _check_numbers(guidance_scale: float | None, seed: int, **counts: int) -> None:
    """Raise PromptError for numbers with which no model draws a picture."""
    for name, number in counts.items():
        if not 1 <= number <= MAX_COUNT:
            least = "at least 1" if number < 1 else f"at most {MAX_COUNT}"
            raise PromptError(f"{name}={number} must be {least}")
    if guidance_scale is not None and not 0 <= guidance_scale < MAX_GUIDANCE:
        raise PromptError(f"guidance_scale={guidance_scale} must be a number from 0, below {MAX_GUIDANCE}")
    if not 0 <= seed < 2**63 - MAX_COUNT:
        raise PromptError(f"seed={seed} must be a whole number of 0 or more, below 2**63 - {MAX_COUNT}")


def check_people(
    prompts: Sequence[str], tokens: Sequence[str], vocabulary: Container[str] = (), negative_prompt: str | None = None
) -> None:
    """Raise PromptError for prompts that do not name the people given, or name others; no model is needed.

    vocabulary: the tokens that the model knows; where it is empty, a token that nobody has may be the model's own.
    """
    known = vocabulary.__contains__ if vocabulary else lambda token: True
    _check_mentioned([_lowercase_tokens(text, tokens, known) for text in (*prompts, negative_prompt or "")], tokens)


def _check_mentioned(prompts: Sequence[str], tokens: Sequence[str]) -> None:
    """Raise PromptError unless each token is one person's and stands in one of the prompts."""
    for token in tokens:
        if tokens.count(token) > 1:
            raise PromptError(f"two identities are called {token}: give one another token")
        if not any(token in text for text in prompts):
            raise PromptError(f"the prompt does not mention {token}: write the token where a name would stand")


def _lowercase_tokens(prompt: str, tokens: Sequence[str], known: Callable[[str], bool]) -> str:
    """Return a prompt with its tokens in lower case. Raises PromptError for a token that nobody has.

    known: whether a token that is no person's has a meaning in the model.
    """
    check_text(prompt)
    check_notation(prompt)
    if part := PART.search(prompt):
        raise PromptError(f"{part[0]} is no name: write {part[1]} with a space after it")
    for written in ANY_CASE.findall(prompt):
        if written.lower() in tokens:
            # Tokenizers ignore case, diffusers' own expansion of tokens does not.
            prompt = prompt.replace(written, written.lower())
        elif not known(written):
            raise PromptError(f"nobody called {written} was given: add that identity, or take it out of the prompt")
    return prompt


def _lowercase_regions(
    regions: Mapping[str, Box], tokens: Sequence[str], known: Callable[[str], bool]
) -> dict[str, Box]:
    """Return the regions, with tokens in lower case. Raises PromptError for two names that differ in case alone."""
    lowercase: dict[str, Box] = {}
    for name, box in regions.items():
        if any(name.lower() == other.lower() for other in lowercase):
            raise PromptError(f"two regions are called {name!r}, as case makes no difference: name each once")
        lowercase[_lowercase_tokens(name, tokens, known)] = box
    return lowercase


def _check_options(pipe: Pipeline, num_inference_steps: int, **sides: int | None) -> None:
    """Raise PromptError for steps and sizes that the model cannot draw; diffusers would fail later, in many lines."""
    most = pipe.scheduler.config.num_train_timesteps
    if not 1 <= num_inference_steps <= most:
        raise PromptError(f"{num_inference_steps} steps: this model takes 1 to {most}", argument="num_inference_steps")
    try:
        copy.deepcopy(pipe.scheduler).set_timesteps(num_inference_steps)
    except Exception as error:  # each scheduler has reasons of its own
        if get_denoiser(pipe).prediction_type != FLOW:  # those of flow models are told sizes as well
            raise PromptError(
                f"{type(pipe.scheduler).__name__} does not take {num_inference_steps} steps: take others, or another "
                f"sampler ({excerpt(' '.join(str(error).split()))})",
                argument="num_inference_steps",
            ) from error
    grid = _grid(get_denoiser(pipe))
    for name, side in sides.items():
        if side is not None and (side < 1 or side % grid):
            raise PromptError(f"{name} {side}: it must be a multiple of {grid} pixels in this model", argument=name)
        if side is not None and side > MAX_SIDE:
            raise PromptError(f"{name} {side}: at most {MAX_SIDE} pixels can be drawn")


def _grid(denoiser: Denoiser) -> int:
    """Return the number of pixels of which sides are multiples: diffusers wants eights of every model."""
    return math.lcm(8, denoiser.size_multiple)

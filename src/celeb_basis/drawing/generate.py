"""Prompts with identities in them become pictures."""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from PIL import Image

from ..errors import PromptError
from ..identity import Identity
from ..models.encoders import check_text, knows, placeholders
from ..models.families import denoiser_of
from ..models.pipeline import Pipeline, model_card, model_name
from ..models.samplers import sampling
from ..models.turn import turn
from ..notation import PLACEHOLDER, Box
from .regions import Regions, apart, layouts

logger = logging.getLogger(__name__)
MOST_PICTURES, MOST_GUIDANCE, MOST_PIXELS = 100_000, 1000, 4096
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
    batch_size: int = 4,
    regions: Regions = None,
    between_steps: Callable[[], None] | None = None,
) -> list[Image.Image]:
    """Draw pictures of a prompt (or of several, one after the other) that names identities by their token.

    Picture i of a prompt starts from the noise of `seed + i`; `batch_size`, how many are drawn at once, does not
    change it. Options that are None take the model's own default; samplers are ddim, dpm++2m, euler, rbf and unipc. A
    picture that the model's safety checker rejects
    comes out black, and a warning is logged.

    regions: keeps people apart. A dict gives each name in the prompt (the token of an identity, or words such as a
    celebrity's name) a box (left, top, right, bottom), in shares of the picture. Inside a box, the model reads the
    prompt with all names replaced by that one, and with everybody's side written out. "auto" gives each identity in
    the prompt a column of its own, if there are two or more, in the order that "on the left", "in the middle" and "on
    the right" ask for.

    between_steps: called after each step of the sampler; an exception from it ends the drawing.

    Of several threads that draw with one pipeline, the others wait.

    Raises IdentityError for an identity of another model. Raises PromptError for a prompt that is too long or names a
    token without an identity, for numbers that this model cannot draw with, for a sampler that does not exist, for a
    region whose name is not in the prompt, and for a box without an inside.
    """
    prompts = [prompt] if isinstance(prompt, str) else list(prompt)
    _check_numbers(guidance_scale, seed, num_images_per_prompt=num_images_per_prompt, batch_size=batch_size)
    with turn(pipe), sampling(pipe, sampler):
        return _generate(
            pipe, prompts, identities, negative_prompt, num_images_per_prompt, seed, batch_size, regions, between_steps,
            num_inference_steps=num_inference_steps, guidance_scale=guidance_scale, height=height, width=width,
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
    **asked: Any,
) -> list[Image.Image]:
    denoiser = denoiser_of(pipe)
    for identity in identities:
        identity.check(pipe)
    if negative_prompt is not None and not denoiser.takes_negative_prompt:
        raise PromptError(f"{model_name(pipe)} takes no negative prompt, as its guidance is learnt: leave it out")
    tokens = [identity.placeholder_token for identity in identities]
    prompts = [_spelt(pipe, text, tokens) for text in prompts]
    unwanted = None if negative_prompt is None else _spelt(pipe, negative_prompt, tokens)
    for token in tokens:
        if tokens.count(token) > 1:
            raise PromptError(f"two identities are called {token}: give one another token")
        if not any(token in text for text in prompts):
            raise PromptError(f"the prompt does not mention {token}: write the token where a name would stand")
    if regions is not None and not isinstance(regions, str):
        regions = _spelt_regions(pipe, regions, tokens)
    read = layouts(prompts, regions, tokens)
    if side := model_card(pipe).resolution:
        asked |= {name: side for name in ("height", "width") if asked[name] is None}
    _check_options(pipe, asked["num_inference_steps"], height=asked["height"], width=asked["width"])
    options = {
        key: value
        for key, own in asked.items()
        if (value := getattr(model_card(pipe), key, None) if own is None else own) is not None
    }
    if between_steps is not None:

        def stepped(*_: Any) -> dict[str, Any]:
            between_steps()
            return {}

        options["callback_on_step_end"] = stepped
    jobs = [(p, r, seed + i) for p, r in zip(prompts, read, strict=True) for i in range(num_images_per_prompt)]
    pictures: list[Image.Image] = []
    blackened: list[int] = []
    with placeholders(pipe, {identity.placeholder_token: identity.vectors for identity in identities}):
        denoiser.check_lengths([*prompts, *(version for layout in read for version in layout), unwanted or ""])
        for first in range(0, len(jobs), batch_size):
            batch = jobs[first : first + batch_size]
            generators = [torch.Generator().manual_seed(s) for _, _, s in batch]
            with apart(pipe, [p for p, _, _ in batch], [r for _, r, _ in batch], unwanted) as text:
                drawn = pipe(**text, generator=generators, **options)
            pictures += drawn.images
            flags = getattr(drawn, "nsfw_content_detected", None) or []  # of the safety checker, where there is one
            blackened += [s for (_, _, s), flag in zip(batch, flags, strict=False) if flag]
    if blackened:
        logger.warning(
            f"the model's safety checker made {len(blackened)} of {len(pictures)} pictures black "
            f"(seed {', '.join(map(str, blackened))}): try another seed or prompt"
        )
    return pictures


def _check_numbers(guidance_scale: float | None, seed: int, **counts: int) -> None:
    """Raise PromptError for numbers with which no model draws a picture."""
    for name, number in counts.items():
        if not 1 <= number <= MOST_PICTURES:
            least = "at least 1" if number < 1 else f"at most {MOST_PICTURES}"
            raise PromptError(f"{name}={number} must be {least}")
    if guidance_scale is not None and not 0 <= guidance_scale < MOST_GUIDANCE:
        raise PromptError(f"guidance_scale={guidance_scale} must be a number from 0, below {MOST_GUIDANCE}")
    if not 0 <= seed < 2**63 - MOST_PICTURES:
        raise PromptError(f"seed={seed} must be a whole number of 0 or more, below 2**63 - {MOST_PICTURES}")


def _spelt(pipe: Pipeline, prompt: str, tokens: Sequence[str]) -> str:
    """A prompt with its tokens in lower case. Raises PromptError for a token that nobody has."""
    check_text(prompt)
    if part := PART.search(prompt):
        raise PromptError(f"{part[0]} is no name: write {part[1]} with a space after it")
    for written in ANY_CASE.findall(prompt):
        if written.lower() in tokens:
            # Tokenizers ignore case, diffusers' own expansion of tokens does not.
            prompt = prompt.replace(written, written.lower())
        elif not knows(pipe, written):
            raise PromptError(f"nobody called {written} was given: add that identity, or take it out of the prompt")
    return prompt


def _spelt_regions(pipe: Pipeline, regions: Mapping[str, Box], tokens: Sequence[str]) -> dict[str, Box]:
    """The regions, with tokens in lower case. Raises PromptError for two names that differ in case alone."""
    spelt: dict[str, Box] = {}
    for name, box in regions.items():
        if any(name.lower() == other.lower() for other in spelt):
            raise PromptError(f"two regions are called {name!r}, as case makes no difference: name each once")
        spelt[_spelt(pipe, name, tokens)] = box
    return spelt


def _check_options(pipe: Pipeline, num_inference_steps: int | None, **sides: int | None) -> None:
    """Raise PromptError for steps and sizes that the model cannot draw; diffusers would fail later, in many lines."""
    most = pipe.scheduler.config.num_train_timesteps
    if num_inference_steps is not None and not 1 <= num_inference_steps <= most:
        raise PromptError(f"{num_inference_steps} steps: this model takes 1 to {most}")
    grid = math.lcm(8, denoiser_of(pipe).multiple)  # diffusers wants eights of every model
    for name, side in sides.items():
        if side is not None and (side < 1 or side % grid):
            raise PromptError(f"{name} {side}: it must be a multiple of {grid} pixels in this model")
        if side is not None and side > MOST_PIXELS:
            raise PromptError(f"{name} {side}: at most {MOST_PIXELS} pixels can be drawn")

"""What `generate --like` takes from a picture, and what is not as it was then."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Container, Mapping, Sequence
from typing import TYPE_CHECKING

from ..backend.card import SAMPLERS
from ..errors import IdentityError, ModelError, PromptError
from ..notation import excerpt

if TYPE_CHECKING:
    from ..identity import Identity
    from ..image_files import Drawn
    from ..model import Model

logger = logging.getLogger(__name__)

OPTIONS = {"loras": "lora", "reference_image": "reference"}  # otherwise than the fact in a picture


def find_people(like: Drawn, prompt: str, given: Container[str]) -> dict[str, Identity]:
    """Return the people in a picture whom the prompt still mentions and nobody gave, found by their names."""
    from ..identity import Identity
    from ..library import find_identity
    from ..regions import mentions

    wanted = [token for token in like.digests if token not in given and mentions(prompt, token)]
    return {token: Identity.load(find_identity(token[1:-1]), token) for token in wanted}


def take_settings(args: argparse.Namespace, like: Drawn, prompt: str, tokens: Sequence[str]) -> None:
    """Take from a picture what the command line leaves open. Raises PromptError where the picture needs more files."""
    from ..regions import mentions

    for name in ("negative_prompt", "num_inference_steps", "guidance_scale", "seed", "width", "height"):
        if getattr(args, name) is None:
            setattr(args, name, getattr(like, name))
    for name, value in like.others.items():
        if not getattr(args, name, None) and not getattr(args, OPTIONS.get(name, name), None):
            option = OPTIONS.get(name, name).replace("_", "-")
            raise PromptError(
                f"{args.like} was drawn with {name.replace('_', ' ')} {excerpt(value)}: give --{option} too"
            )
    if args.image and args.image_strength is None:
        args.image_strength = like.image_strength
    if args.sampler is None and like.sampler in SAMPLERS:
        args.sampler = like.sampler
    if not args.strength:
        args.strength = [(token, strength) for token, strength in like.strengths.items() if token in tokens]
    if not args.apart and not args.region:
        args.region = [(name, box) for name, box in like.regions.items() if mentions(prompt, name)]


def model_of(identities: Sequence[Identity], like: Drawn | None) -> str:
    """Return the model that people were made for, or else that of a picture to draw again. Raises ModelError."""
    from ..backend.known_models import find_model
    from ..model import model_of_identities

    if identities or not like or not like.model:
        return model_of_identities(identities)
    found = find_model(like.model, like.model_hash)
    if found is None:
        raise ModelError(f"{excerpt(like.model)} is not on this machine: name the model", argument="model")
    return found


def check_same(args: argparse.Namespace, model: Model, like: Drawn, found: Mapping[str, Identity]) -> None:
    """Raise IdentityError where somebody who was found by name is another person than the one in the picture.

    The log says what else is not as it was, where the command line did not ask for that.
    """
    from ..backend.text_encoders import fingerprint

    as_strong = dict(args.strength) == dict(like.strengths)
    for token, identity in found.items():
        if as_strong and not identity.digest.startswith(like.digests[token]):
            raise IdentityError(
                f"this is not the {token} in {args.like}: name the file with --identity, or another person"
            )
    own = type(model.pipe.scheduler).__name__.removesuffix("Scheduler")
    if args.sampler is None and like.sampler not in (None, own):
        logger.warning(f"{args.like} was drawn with the sampler {excerpt(like.sampler or '')}, this will be with {own}")
    if not fingerprint(model.pipe).startswith(like.model_hash):
        logger.warning(
            f"{args.like} was drawn by {excerpt(like.model)}, which had other text encoders than {model.name}"
        )

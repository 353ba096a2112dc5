"""Milestones: people are drawn on the way of their fit, and each ends as the milestone that is most like the photos."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from .backend.families import get_denoiser
from .backend.memory import drawn_at_once
from .backend.pipeline import Pipeline
from .faces.face import Face, FaceReader, mean_features
from .fit.loop import FitStep
from .generate import generate
from .identity import Identity
from .known_names import default_draw_settings, portrait_prompts

logger = logging.getLogger(__name__)

MIN_STEPS = 20  # between two milestones, whose pictures take as long as some steps
IMAGES = 4
MAX_SIDE = 512  # of a milestone's pictures, in pixels
SEED = 0


@dataclass(frozen=True, eq=False)
class Milestone:
    """A person after some step, and how much the pictures of it are like their photos."""

    step: int
    likeness: float
    vectors: Tensor  # (2, dim)


def keep_best(
    pipe: Pipeline,
    steps: Iterator[FitStep],
    people: Sequence[Sequence[Face]],
    reader: FaceReader,
    num_milestones: int,
) -> Iterator[FitStep]:
    """Yield the steps of a fit, the last one with each person as their best milestone has them.

    num_milestones: spread evenly over what the fit may take, the last step among them; fewer where steps are few.
    reader: who has read the people's own faces.
    """
    features, every = mean_features(people), 1 / num_milestones
    kept = [Milestone(0, -1.0, torch.empty(0))] * len(people)
    drawn, passed = 0, 0
    for at in steps:
        reached = int(at.share / every + 1e-9)
        # With a single milestone, the last step, there is nothing to choose.
        if drawn if at.is_last else reached > passed and at.step - drawn >= MIN_STEPS:
            drawn, passed = at.step, reached
            at = replace(at, likeness=tuple(likeness(pipe, at.identities, features, reader)))
            here = (Milestone(at.step, *each) for each in zip(at.likeness, at.vectors, strict=True))
            kept = [max(new, old, key=lambda each: each.likeness) for new, old in zip(here, kept, strict=True)]
            if at.is_last:
                at = _best(at, kept)
        yield at


def likeness(pipe: Pipeline, identities: Sequence[Identity], features: Tensor, reader: FaceReader) -> list[float]:
    """Return each person's mean cosine with `features` (people, d) in a few pictures; one without just one face has 0.

    The pictures are small, of few steps, and start from the same noise for everybody and at every call.
    """
    settings, side = default_draw_settings(pipe)[-1], min(MAX_SIDE, get_denoiser(pipe).resolution)
    portraits = portrait_prompts(pipe)[:IMAGES]
    people = [replace(identity, placeholder_token=f"<person-{i}>") for i, identity in enumerate(identities)]
    images = generate(
        pipe,
        [text.replace("{}", person.placeholder_token) for person in people for text in portraits],
        people,
        **settings._asdict(),
        seed=SEED,
        height=side,
        width=side,
        batch_size=drawn_at_once(pipe),
    )
    faces = iter(reader.read(images))
    scores = []
    for feature in features:
        found = [next(faces) for _ in portraits]
        alike = [float(own[0].feature.float().cpu() @ feature) if len(own) == 1 else 0.0 for own in found]
        scores.append(sum(alike) / len(alike))
    return scores


def _best(last: FitStep, kept: Sequence[Milestone]) -> FitStep:
    """Return a fit's last step with everybody as a milestone has them, which their provenance tells."""
    for token, milestone in zip(last.placeholder_tokens, kept, strict=True):
        if milestone.likeness == 0:
            logger.warning(f"{token}: no milestone's pictures show one face, so the last step is kept")
    provenance = [
        {**how, "kept_step": str(milestone.step), "likeness": f"{milestone.likeness:.3f}"}
        for how, milestone in zip(last.provenance, kept, strict=True)
    ]
    return replace(last, vectors=torch.stack([milestone.vectors for milestone in kept]), provenance=provenance)

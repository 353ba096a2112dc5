"""Draws every name a few times and reads the faces, which tell what the model knows of it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from ..basis.portraits import Portraits
from ..errors import BasisError
from ..faces.face import FaceReader
from ..models.encoders import fingerprint
from ..models.families import denoiser_of
from ..models.pipeline import Pipeline, model_card
from .generate import generate

PORTRAITS = (
    "a close-up photo of {}",
    "a portrait photo of {} smiling",
    "a photo of the face of {} outdoors",
    "a headshot of {} wearing a suit",
)


def draw_portraits(
    pipe: Pipeline,
    names: Sequence[str],
    reader: FaceReader,
    *,
    pictures: int = 4,
    num_inference_steps: int | None = None,
    guidance_scale: float | None = None,
    seed: int = 0,
    batch_size: int = 8,
    start: Portraits | None = None,
) -> Iterator[Portraits]:
    """Draw every name and read the faces; yield what there is after every few names, so that it can be kept.

    start: what an earlier drawing, perhaps one that was stopped, has already; its names are not drawn again.
    Raises BasisError if it was drawn by another model, with another reader or otherwise.
    """
    known = model_card(pipe).portraits or PORTRAITS
    prompts = [known[i % len(known)] for i in range(pictures)]
    how = [fingerprint(pipe), denoiser_of(pipe).digest, prompts, num_inference_steps, guidance_scale, seed]
    drawn = json.dumps(how)
    if start is not None and (start.drawn, start.face_reader) != (drawn, reader.name):
        raise BasisError(
            "the faces drawn earlier are another model's, or were drawn with other settings: "
            "remove their .faces.safetensors file, or name another output"
        )
    done = start or Portraits(torch.empty(0, pictures, 0), (), drawn, reader.name)
    left = [name for name in names if name not in set(done.names)]
    for first in range(0, len(left), batch_size):
        batch = left[first : first + batch_size]
        faces: list[list[Tensor | None]] = []  # of each picture, then of each name
        for i, prompt in enumerate(prompts):
            images = generate(
                pipe,
                [prompt.format(name) for name in batch],
                num_inference_steps=num_inference_steps,
                guidance_scale=guidance_scale,
                seed=seed + i,
                batch_size=batch_size,
            )
            faces.append([found[0].feature if len(found) == 1 else None for found in reader.read(images)])
        width = max([len(f) for row in faces for f in row if f is not None], default=done.features.shape[-1])
        blank = torch.zeros(width)
        rows = [torch.stack([blank if f is None else f.float().cpu() for f in row]) for row in faces]
        before = done.features if done.features.shape[-1] else torch.zeros(len(done.names), pictures, width)
        features = torch.cat([before, torch.stack(rows, dim=1)])
        done = Portraits(features, (*done.names, *batch), drawn, reader.name)
        yield done

"""Draws every name a few times and reads the faces, which tell what the model knows of it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..basis.portraits import Portraits
from ..errors import BasisError
from ..faces.face import FaceReader
from ..models.encoders import fingerprint
from ..models.families import denoiser_of
from ..models.memory import drawn_at_once
from ..models.pipeline import Pipeline, model_card
from .generate import generate

PORTRAITS = (
    "a close-up photo of {}",
    "a portrait photo of {} smiling",
    "a photo of the face of {} outdoors",
    "a headshot of {} wearing a suit",
)
MOST = 4  # pictures of a name
FAMOUS = 40  # names that a way of drawing has to tell from made-up ones


class Way(NamedTuple):
    """How portraits are drawn; None is the model's own."""

    num_inference_steps: int | None = None
    guidance_scale: float | None = None
    sampler: str | None = None


# The cheapest first. Without guidance names are told apart as well, but the instant map of such faces is worse.
WAYS = (Way(3, None, "unipc"), Way(8, None, "unipc"))


def draw_portraits(
    pipe: Pipeline,
    names: Sequence[str],
    reader: FaceReader,
    *,
    pictures: int = MOST,
    num_inference_steps: int | None = None,
    guidance_scale: float | None = None,
    sampler: str | None = None,
    seed: int = 0,
    batch_size: int | None = None,
    start: Portraits | None = None,
) -> Iterator[Portraits]:
    """Draw every name until it has so many pictures, and read the faces; yield what there is after every few names.

    batch_size: pictures drawn at once; None fills the memory that is free.
    start: what an earlier drawing, perhaps one that was stopped, has already; those pictures are not drawn again.
    Raises BasisError if it was drawn by another model, with another reader or otherwise.
    """
    way = Way(num_inference_steps, guidance_scale, sampler)
    return _draw(pipe, names, reader, way, _described(pipe, seed), pictures, seed, batch_size, start)


def _draw(
    pipe: Pipeline,
    names: Sequence[str],
    reader: FaceReader,
    way: Way,
    described: list[Any],
    pictures: int,
    seed: int,
    batch_size: int | None,
    start: Portraits | None,
) -> Iterator[Portraits]:
    known = model_card(pipe).portraits or PORTRAITS
    drawn = json.dumps([*described, *way])
    if start is not None and (start.drawn, start.face_reader) != (drawn, reader.name):
        raise BasisError(
            "the faces drawn earlier are another model's, or were drawn with other settings: "
            "remove their .faces.safetensors file, or name another output"
        )
    faces: dict[str, list[Tensor]] = {}  # of each name, a feature for each picture, or zeros of any length
    if start is not None:
        counts = start.num_images.tolist()
        faces = {name: list(f[:n]) for name, f, n in zip(start.names, start.features, counts, strict=True)}
    left = list(lacking(start, names, pictures))
    batch_size = batch_size or drawn_at_once(pipe)
    for first in range(0, len(left), batch_size):
        for i in range(pictures):
            batch = [name for name in left[first : first + batch_size] if len(faces.setdefault(name, [])) == i]
            if not batch:
                continue
            images = generate(
                pipe,
                [known[i % len(known)].format(name) for name in batch],
                num_inference_steps=way.num_inference_steps,
                guidance_scale=way.guidance_scale,
                sampler=way.sampler,
                seed=seed + i,
                batch_size=batch_size,
            )
            for name, found in zip(batch, reader.read(images), strict=True):
                faces[name].append(found[0].feature.float().cpu() if len(found) == 1 else torch.zeros(0))
        yield _together(faces, drawn, reader.name)


def survey(
    pipe: Pipeline,
    names: Sequence[str],
    made_up: Sequence[str],
    reader: FaceReader,
    *,
    pictures: int = MOST,
    num_inference_steps: int | None = None,
    guidance_scale: float | None = None,
    sampler: str | None = None,
    seed: int = 0,
    batch_size: int | None = None,
    start: Portraits | None = None,
    draw: Callable[..., Iterator[Portraits]] | None = None,
) -> Iterator[tuple[Portraits, int]]:
    """Find out with as little drawing as possible which names a model knows; yield faces, and how many are to come.

    Every name is drawn twice, in the order given: the famous ones first. Then those that are still undecided are drawn
    again, up to so many pictures. What has been yielded is usable at any time.

    num_inference_steps, guidance_scale, sampler: None takes the first of WAYS in which the first names are told from
    the `made_up` ones, or else the last of them. start: as in `draw_portraits`.
    draw: called as `draw_portraits` is, but for the pipeline and the reader, in its place.
    """
    everybody, described = [*made_up, *names], _described(pipe, seed)
    ways = [Way(num_inference_steps, guidance_scale, sampler)]
    if ways == [Way()]:
        ways = list(WAYS)

    def drawing(way: Way, who: Sequence[str], count: int) -> Iterator[Portraits]:
        if draw is not None:
            return draw(who, pictures=count, seed=seed, start=start, **way._asdict())
        return _draw(pipe, who, reader, way, described, count, seed, batch_size, start)

    begun = [json.dumps([*described, *way]) for way in ways]
    if start is not None and start.drawn in begun:
        ways = ways[begun.index(start.drawn) :]
    famous = everybody[: len(made_up) + FAMOUS]
    while True:
        way, *ways = ways
        for start in drawing(way, famous, 2):
            yield start, _left(start, everybody, 2)
        if not ways or start is None or start.of(famous).told_apart(made_up):
            break
        start = None
    for start in drawing(way, everybody, 2):
        yield start, _left(start, everybody, 2)
    for count in range(3, pictures + 1):
        # More pictures of some names can put others in doubt.
        while start is not None and (doubtful := _doubtful(start.of(everybody), count, made_up)):
            for start in drawing(way, doubtful, count):
                yield start, _left(start, doubtful, count)


def _described(pipe: Pipeline, seed: int) -> list[Any]:
    """By which weights, for which prompts and from which noise faces are drawn."""
    return [fingerprint(pipe), denoiser_of(pipe).digest, model_card(pipe).portraits or PORTRAITS, seed]


def _doubtful(faces: Portraits, pictures: int, made_up: Sequence[str]) -> list[str]:
    """The undecided names that lack pictures."""
    return list(lacking(faces, faces.undecided(made_up), pictures))


def _left(faces: Portraits, names: Sequence[str], pictures: int) -> int:
    """How many pictures the names lack."""
    return sum(lacking(faces, names, pictures).values())


def lacking(faces: Portraits | None, names: Sequence[str], pictures: int) -> dict[str, int]:
    """How many pictures each of the names lacks, of those that lack some."""
    have = {} if faces is None else dict(zip(faces.names, faces.num_images.tolist(), strict=True))
    return {name: pictures - have.get(name, 0) for name in names if have.get(name, 0) < pictures}


def _together(faces: dict[str, list[Tensor]], drawn: str, reader: str) -> Portraits:
    """Features of several names in one tensor."""
    width = max(len(f) for own in faces.values() for f in own)
    most = max(map(len, faces.values()))
    features = torch.zeros(len(faces), most, width)
    for i, own in enumerate(faces.values()):
        for j, f in enumerate(own):
            features[i, j, : len(f)] = f
    return Portraits(features, torch.tensor([len(own) for own in faces.values()]), tuple(faces), drawn, reader)

"""Portraits on a fleet: many workers draw the names of a basis."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import psutil
import torch

from ..backend.families import get_denoiser
from ..backend.load import load_pipeline
from ..backend.memory import drawn_bytes, free_bytes
from ..backend.pipeline import Pipeline
from ..errors import FleetError
from ..faces.reader import get_face_reader as reader_of
from ..known_names import NUM_IMAGES, Portraits, missing_images
from ..known_names import draw_portraits as draw_here
from .pool import LOCAL, Needs, run


@dataclass(frozen=True, eq=False)
class _Drawing:
    """How names are drawn: the arguments of `load_pipeline` and of `drawing.portraits.draw_portraits`."""

    model: Mapping[str, Any]
    face_reader: str | None
    batch_size: int
    options: Mapping[str, Any]

    @cached_property
    def pipe(self) -> Pipeline:
        return load_pipeline(**self.model)

    @property
    def device(self) -> str | None:
        return self.model.get("device")

    def start(self) -> Needs:
        denoiser = get_denoiser(self.pipe)
        free = free_bytes(next(denoiser.network.parameters()).device)
        return Needs(psutil.Process().memory_info().rss, free, drawn_bytes(denoiser), self.batch_size)

    def use(self, threads: int) -> None:
        torch.set_num_threads(threads)

    def do(self, names: Sequence[str]) -> list[Portraits]:
        reader = reader_of(self.pipe, self.face_reader)
        *_, drawn = draw_here(self.pipe, names, reader, batch_size=self.batch_size, **self.options)
        return [drawn.of(names)]


def draw_portraits(
    names: Sequence[str],
    *,
    model: Mapping[str, Any],
    face_reader: str | None = None,
    batch_size: int = 8,
    num_images: int = NUM_IMAGES,
    start: Portraits | None = None,
    address: str = LOCAL,
    workers: int | None = None,
    **options: Any,
) -> Iterator[Portraits]:
    """Draw every name until it has so many pictures, on the workers of a fleet; yield what there is after every few.

    The faces are those of `celeb_basis.draw_portraits`, the names in another order.

    model: the arguments of `load_pipeline`. options: num_inference_steps, guidance_scale, sampler, seed.
    address, workers: see `fleet.fit`.
    """
    left = list(missing_images(start, names, num_images))
    if start is not None and not left:
        yield start
    drawing = _Drawing(model, face_reader, batch_size, {"pictures": num_images, "start": start, **options})
    done = start
    for batch, answers in run(drawing, left, len(left), address=address, workers=workers) if left else ():
        if isinstance(answers, FleetError):
            raise FleetError(f"{batch[0]} cannot be drawn: {answers}")
        [drawn] = answers
        if done is not None:
            drawn = done.of([name for name in done.names if name not in set(batch)]).merge(drawn)
        done = drawn
        yield done

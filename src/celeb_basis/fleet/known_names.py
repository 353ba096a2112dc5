"""Known names on a fleet: many workers draw the names of a basis."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .. import known_names
from ..backend.families import get_denoiser
from ..backend.memory import drawn_bytes
from ..errors import FleetError
from ..known_names import NUM_IMAGES, Portraits, missing_images
from .job import ModelWork, loading_of
from .pool import LOCAL, run


@dataclass(frozen=True, eq=False)
class _NamesWork(ModelWork):
    """Names become portraits; options are those of `known_names.draw_portraits`."""

    batch_size: int
    options: Mapping[str, Any]

    @property
    def bytes_per_item(self) -> int:
        return drawn_bytes(get_denoiser(self.model.pipe))

    @property
    def max_batch(self) -> int:
        return self.batch_size

    def process(self, batch: Sequence[str]) -> list[Portraits]:
        *_, drawn = known_names.draw_portraits(
            self.model.pipe, batch, self.model.face_reader, batch_size=self.batch_size, **self.options
        )
        return [drawn.of(batch)]


def draw_portraits(
    names: Sequence[str],
    *,
    model: Mapping[str, Any] | str,
    face_reader: str | None = None,
    batch_size: int = 8,
    num_images: int = NUM_IMAGES,
    start: Portraits | None = None,
    address: str = LOCAL,
    workers: int | None = None,
    **options: Any,
) -> Iterator[Portraits]:
    """Draw every name until it has so many images, on the workers of a fleet; yield what there is after every few.

    The faces are those of `known_names.draw_portraits`, the names in another order.

    model, address, workers: see `fleet.fit`. options: num_inference_steps, guidance_scale, sampler, seed.
    """
    left = list(missing_images(start, names, num_images))
    if start is not None and not left:
        yield start
    work = _NamesWork(
        loading_of(model), None, None, face_reader, batch_size, {"num_images": num_images, "start": start, **options}
    )
    done = start
    for batch, answers in run(work, left, len(left), address=address, workers=workers) if left else ():
        if isinstance(answers, FleetError):
            raise FleetError(f"{batch[0]} cannot be drawn: {answers.message}")
        [drawn] = answers
        if done is not None:
            drawn = done.of([name for name in done.names if name not in set(batch)]).merge(drawn)
        done = drawn
        yield done

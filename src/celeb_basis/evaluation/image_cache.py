"""Pictures of a protocol: drawn once, kept in a folder, found there the next time."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from PIL import Image

from ..backend.defaults import drawing_defaults
from ..backend.denoiser import FLOW
from ..backend.families import get_denoiser
from ..backend.pipeline import Pipeline, has_safety_checker, model_card
from ..backend.schedulers import drawn_with
from ..backend.text_encoders import fingerprint
from ..generate import generate
from ..identity import Identity
from ..image_files import file_stem, save_image
from .protocols import Protocol

BATCH = 10  # drawn at once, and lost at most where drawing is interrupted


@dataclass(frozen=True)
class ImageRequest:
    """One picture: a prompt with names or tokens in it, the seed of its noise, and what it should not show."""

    prompt: str
    seed: int
    negative_prompt: str | None = None


@dataclass(frozen=True)
class ImageCache:
    """How a model draws the pictures of a protocol.

    num_inference_steps, guidance_scale, sampler: None takes the model's own.
    folder: where pictures are kept; None keeps none.
    negative_prompt: of all pictures; None takes the protocol's, "" takes none.
    """

    pipe: Pipeline
    num_inference_steps: int | None = None
    guidance_scale: float | None = None
    folder: Path | None = None
    sampler: str | None = None
    negative_prompt: str | None = None

    def following(self, protocol: Protocol) -> ImageCache:
        """Return this with what it leaves open as the protocol has it, where that can be meant for the model."""
        if not takes_published_settings(self.pipe):
            return self
        own = {name: getattr(self, name) for name in ("num_inference_steps", "guidance_scale", "sampler")}
        return replace(self, **{name: getattr(protocol, name) for name, value in own.items() if value is None})

    def negative_prompts(self, protocol: Protocol) -> dict[str, str | None]:
        """Return what pictures should not show, by kind of prompt."""
        published = protocol.negative_prompts if takes_published_settings(self.pipe) else {}
        given = self.negative_prompt
        return {kind: published.get(kind) if given is None else given or None for kind in protocol.prompts}

    def draw(
        self,
        wanted: Sequence[ImageRequest],
        identities: Sequence[Identity] = (),
        progress: Callable[[int], None] | None = None,
    ) -> list[Image.Image]:
        """Return the images asked for: those in the folder are read, the others are drawn and kept.

        progress: told how many of them are there.
        """
        files = [self._file(picture, identities) for picture in wanted]
        pictures = [_kept(file) for file in files]
        left = [i for i, picture in enumerate(pictures) if picture is None]
        for seed, negative in dict.fromkeys((wanted[i].seed, wanted[i].negative_prompt) for i in left):
            alike = [i for i in left if (wanted[i].seed, wanted[i].negative_prompt) == (seed, negative)]
            for first in range(0, len(alike), BATCH):
                if progress:
                    progress(sum(picture is not None for picture in pictures))
                batch = alike[first : first + BATCH]
                texts = [wanted[i].prompt for i in batch]
                drawn = generate(
                    self.pipe,
                    texts,
                    [each for each in identities if any(each.placeholder_token in text for text in texts)],
                    negative_prompt=negative,
                    num_inference_steps=self.num_inference_steps,
                    guidance_scale=self.guidance_scale,
                    sampler=self.sampler,
                    seed=seed,
                    batch_size=BATCH,
                )
                for i, picture in zip(batch, drawn, strict=True):
                    pictures[i] = picture
                    if file := files[i]:
                        file.parent.mkdir(parents=True, exist_ok=True)
                        save_image(picture, file)
        return [picture for picture in pictures if picture is not None]

    def _file(self, picture: ImageRequest, identities: Sequence[Identity]) -> Path | None:
        """Return where an image is kept; its name holds a hash of all that it depends on."""
        if self.folder is None:
            return None
        digest = hashlib.sha256(repr((self._model, picture)).encode())
        for identity in identities:
            if identity.placeholder_token in picture.prompt:
                digest.update(identity.vectors.numpy().tobytes())
        return self.folder / f"{file_stem(picture.prompt, picture.seed)}-{digest.hexdigest()[:12]}.png"

    @cached_property
    def _model(self) -> tuple[object, ...]:
        """Return what names the model, once, as hashing a large one takes seconds."""
        how = drawn_with(self.pipe, self.num_inference_steps, self.guidance_scale, self.sampler)
        return (fingerprint(self.pipe), get_denoiser(self.pipe).digest, has_safety_checker(self.pipe), *how)


def takes_published_settings(pipe: Pipeline) -> bool:
    """Return whether a model can be drawn as papers drew Stable Diffusion.

    Neither its card nor its makers say how it is drawn, and it has noise levels and guidance of that kind.
    """
    card, denoiser = model_card(pipe), get_denoiser(pipe)
    silent = card.num_inference_steps is None and card.guidance_scale is None and not drawing_defaults(pipe).reason
    return silent and denoiser.prediction_type != FLOW and denoiser.takes_negative_prompt


def _kept(file: Path | None) -> Image.Image | None:
    """Return an image that was drawn before, if it was; files are written whole or not at all."""
    if file is None or not file.is_file():
        return None
    with Image.open(file) as picture:
        return picture.convert("RGB")

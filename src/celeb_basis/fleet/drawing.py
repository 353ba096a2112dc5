"""Drawing on a fleet: rows with identity files become pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from ..backend.families import get_denoiser
from ..backend.memory import drawn_bytes
from ..backend.pipeline import model_name
from ..errors import PromptError
from ..generate import generate
from ..identity import Identity
from ..image_files import file_stem, save_image
from . import storage as storage
from .job import Job, Line
from .table import Row

TOGETHER = 8  # people in a batch


@dataclass(frozen=True, eq=False)
class GenerateJob(Job):
    """Which pictures of each person are drawn, and how; a row's own seed comes before that of the job.

    prompts: with {} where the name stands.
    options: of `generate`; None takes the model's own.
    """

    needed = ("identity",)

    prompts: Sequence[str]
    num_images_per_prompt: int
    seed: int
    options: Mapping[str, Any]

    def __post_init__(self) -> None:
        for text in self.prompts:
            if "{}" not in text:
                raise PromptError(f"the prompt {text!r} needs {{}} where the name stands")
        files = self.outputs(Row("somebody"))
        if len(set(files)) < len(files):
            raise PromptError("two of these prompts begin with the same 60 letters: their files would have one name")

    @property
    def settings(self) -> Mapping[str, Any]:
        return {
            "prompts": self.prompts,
            "pictures": self.num_images_per_prompt,
            "seed": self.seed,
            "options": dict(self.options),
        }

    @property
    def bytes_each(self) -> int:
        return drawn_bytes(get_denoiser(self.pipe))

    @property
    def most(self) -> int:
        return TOGETHER

    def files(self, row: Row) -> list[str]:
        return [row.identity]

    def outputs(self, row: Row) -> list[str]:
        seed = self._seed(row)
        seeds = range(seed, seed + self.num_images_per_prompt)
        return [f"{row.name}/{file_stem(self._prompt(text, row), s)}.png" for text in self.prompts for s in seeds]

    def opened(self, row: Row, files: Sequence[Path]) -> Identity:
        identity = Identity.load(files[0], f"<{row.name}>")
        identity.check(self.pipe)
        return identity

    def done(self, rows: Sequence[Row], read: Sequence[Identity]) -> list[Line]:
        seed = self._seed(rows[0])
        for text in self.prompts:
            pictures = iter(
                generate(
                    self.pipe,
                    [self._prompt(text, row) for row in rows],
                    read,
                    num_images_per_prompt=self.num_images_per_prompt,
                    seed=seed,
                    batch_size=len(rows),
                    **self.options,
                )
            )
            for row in rows:
                for s in range(seed, seed + self.num_images_per_prompt):
                    self._write(next(pictures), self._prompt(text, row), row, s)
        return [{"identity": row.identity, "pictures": self.outputs(row)} for row in rows]

    def _seed(self, row: Row) -> int:
        return self.seed if row.seed is None else row.seed

    def _prompt(self, text: str, row: Row) -> str:
        return text.replace("{}", f"<{row.name}>")

    def _write(self, picture: Image.Image, prompt: str, row: Row, seed: int) -> None:
        with storage.written(storage.join(self.out, f"{row.name}/{file_stem(prompt, seed)}.png")) as temporary:
            save_image(picture, temporary, prompt=prompt, seed=seed, model=model_name(self.pipe))

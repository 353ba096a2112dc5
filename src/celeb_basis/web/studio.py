"""Studio: the models and the disk that all visitors of the page share."""

from __future__ import annotations

import os
import re
import shutil
import stat
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

from PIL import Image

from .. import CelebBasisError, Model, ModelError, miniature, open_photo
from ..backend.card import DEFAULT_MODEL, PORTRAITS, SHIPPED, local_path
from ..backend.defaults import drawing_defaults
from ..backend.families import get_denoiser
from ..backend.known_models import models_here
from ..limits import MAX_DISK_BYTES

EXAMPLES = (0, 1, 2, 5, 8, 10)  # drawn people whom the miniature was not trained on
EXAMPLE_SIZE = 256  # of which one takes a quarter of a second
FOLDER = re.compile(r"\d{4}-\d{2}-\d{2}-\d{6}-[0-9a-f]{16}")  # of a visitor

Sampling = tuple[int, float, int, int]
"""Steps, guidance, width and height of a picture."""


class Studio:
    """The models of one machine, and the folders of the page's visitors.

    out: the folder in which every visitor gets a folder of their own.
    first: the model that visitors find.
    models: those that they may choose beside it, and beside the other one that ships; None lets them choose any.
    keep: whether a visitor's folder stays after they left. max_bytes: what all folders may hold.
    folders: of the visitors so far. uploads: the folders for what visitors send.
    """

    def __init__(
        self,
        out: Path,
        device: str | None = None,
        *,
        first: str = DEFAULT_MODEL,
        models: Sequence[str] | None = None,
        keep: bool = True,
        max_bytes: int = MAX_DISK_BYTES,
    ) -> None:
        self.out = Path(os.path.realpath(out))
        self.folders: list[Path] = []
        self.uploads: list[Path] = []
        shipped = SHIPPED if first in SHIPPED else ()  # which of them is used depends on the photo
        self.models = None if models is None else tuple(dict.fromkeys((first, *shipped, *models)))
        self.keep, self._max_bytes = keep, max_bytes
        self._device = device
        self._pipelines: WeakValueDictionary[str, Any] = WeakValueDictionary()  # while a visitor uses them
        self._examples: dict[str, list[Image.Image]] = {}
        self.first = self.load(first)
        self.first.generate("a photo of a person")  # the first picture takes longer: let nobody wait for it

    def load(self, name: str, basis_file: str | None = None, map_file: str | None = None) -> Model:
        """Load a model, or share the one that another visitor uses; see `Model.load`.

        Raises ModelError for a model that this page does not offer, and what `Model.load` raises.
        """
        if not self.offers(name):
            assert self.models is not None
            raise ModelError(f"this page offers {', '.join(self.models)}: choose one of these")
        files = {"basis": basis_file, "instant_map": map_file}
        pipe = self._pipelines.get(name)
        if pipe is not None:
            return Model.from_pipeline(pipe, **files)
        model = Model.load(name, device=self._device, **files)
        self._pipelines[name] = model.pipe
        return model

    def offers(self, name: str) -> bool:
        """Return whether visitors may use a model."""
        return self.models is None or name in self.models

    def models_here(self) -> list[tuple[str, str]]:
        """Return the models that visitors find in the list, each with how it is shown: its name and its size."""
        sizes = models_here()
        names = list(sizes) if self.models is None else list(self.models)
        return [(f"{name} ({_size(sizes[name])})" if name in sizes else name, name) for name in names]

    def examples(self, model: Model) -> list[Image.Image]:
        """Return photographs to try: drawn people for the models that ship, else what the model's own folder has.

        That is the folder `examples` in a model's folder.
        """
        if model.name not in self._examples:
            self._examples[model.name] = (
                [miniature.person(seed, EXAMPLE_SIZE) for seed in EXAMPLES]
                if model.name in SHIPPED
                else _photos_beside(model.name)
            )
        return self._examples[model.name]

    def find_folder(self, name: str) -> Path | None:
        """Return the folder of a visitor who was here before, by its name, which nobody else knows."""
        folder = self.out / name
        return folder if FOLDER.fullmatch(name) and folder.is_dir() and not folder.is_symlink() else None

    def has_file(self, path: str) -> bool:
        """Return whether a path names a regular file that visitors uploaded, or that the page made for them."""
        folders = [*self.folders, *self.uploads]

        def is_inside(file: str) -> bool:
            return any(Path(file).is_relative_to(folder) for folder in folders)

        try:
            return (
                is_inside(os.path.abspath(path))  # what lies elsewhere is not even looked for
                and is_inside(os.path.realpath(path, strict=True))
                and stat.S_ISREG(os.stat(path).st_mode)
            )
        except (OSError, ValueError):
            return False

    def has_room(self) -> bool:
        """Return whether what visitors have on the disk is below the limit."""
        return sum(map(_count_bytes, [*self.folders, *self.uploads])) < self._max_bytes

    def leave(self, folder: Path) -> None:
        """Forget a visitor's folder; remove it unless it is to be kept."""
        with suppress(ValueError):
            self.folders.remove(folder)
        if not self.keep and folder not in self.folders:  # the same visitor may have come back
            shutil.rmtree(folder, ignore_errors=True)

    def close(self) -> None:
        """Forget all visitors."""
        for folder in list(self.folders):
            self.leave(folder)


def _photos_beside(model: str) -> list[Image.Image]:
    """Return the photographs in the folder `examples` of a model that is a folder, as far as they can be read."""
    folder, photos = local_path(model) / "examples", []
    with suppress(OSError):
        for file in sorted(folder.iterdir())[: len(EXAMPLES)]:
            with suppress(CelebBasisError):
                photos.append(open_photo(file))
    return photos


def _size(count: int) -> str:
    """Return bytes as 4.3 GB or 21 MB."""
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"


def _count_bytes(folder: Path) -> int:
    """Return the bytes of the files in a folder, which others may be removing."""
    total = 0
    for place, _, files in os.walk(folder):
        for file in files:
            with suppress(OSError):
                total += os.stat(os.path.join(place, file)).st_size
    return total


def missing_parts(model: Model) -> list[str]:
    """Return a line for each thing that a model lacks."""
    notes = []
    if model.instant_map is None:
        notes.append("no instant map: fits start from the mean person, and need steps")
    try:
        assert model.face_reader
    except ModelError as error:
        notes.append(f"photos cannot be read: {error.message}")
    return notes


def describe(model: Model) -> str:
    """Return what a model draws and reads, in a few words."""
    if model.name == DEFAULT_MODEL:
        return "a small model of drawn people. For a photo of a real person, the model portraits takes over."
    if model.name == PORTRAITS:
        return "a small model of photographed people. Pictures are like the person, but small and soft."
    return f"people are learnt among {len(model.basis.names)} celebrities whom it knows."


def default_sampling(model: Model) -> Sampling:
    """Return steps, guidance, width and height with which a model draws where nobody asks for others."""
    defaults, side = drawing_defaults(model.pipe), get_denoiser(model.pipe).resolution
    return defaults.num_inference_steps, defaults.guidance_scale, side, side

"""Models and whose turn it is: what all visitors of the page share."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar
from weakref import WeakValueDictionary

from .. import Model, ModelError
from ..backend.card import DEFAULT_MODEL
from ..backend.load import load_pipeline
from ..limits import MAX_DISK_BYTES
from ..model import resolve_basis

Step = TypeVar("Step")


class Studio:
    """One machine's models, which one visitor uses at a time.

    out: the folder in which every visitor gets a folder of their own.
    models: those that visitors may choose beside the miniature; None lets them choose any.
    keep: whether a visitor's folder stays after they left. max_bytes: what all folders may hold.
    folders: of the visitors so far; files are served from there and from nowhere else.
    counted: folders on the disk whose size has a limit, beside those of visitors.
    """

    def __init__(
        self,
        out: Path,
        device: str | None = None,
        *,
        models: Sequence[str] | None = None,
        keep: bool = True,
        max_bytes: int = MAX_DISK_BYTES,
    ) -> None:
        self.out = out.absolute()
        self.folders: list[str] = []
        self.counted: list[str] = []
        self.models = None if models is None else (DEFAULT_MODEL, *models)
        self.keep, self._most = keep, max_bytes
        self._device = device
        self._pipelines: WeakValueDictionary[str, Any] = WeakValueDictionary()  # while a visitor uses them
        self.first = self.open(DEFAULT_MODEL)
        self.first.generate("a photo of a person")  # the first picture takes longer: let nobody wait for it

    def open(self, name: str, basis_file: str | None = None, instant_file: str | None = None) -> Model:
        """Load a model by hub id, folder, .safetensors file or "miniature"; the files come before its own.

        Raises ModelError, or BasisError where the files belong to another model.
        """
        if self.models is not None and name not in self.models:
            raise ModelError(f"this page offers {', '.join(self.models)}: choose one of these")
        basis, instant_map = resolve_basis(name, basis_file, instant_file)
        pipe = self._pipelines.get(name)
        if pipe is None:
            pipe = self._pipelines[name] = load_pipeline(name, device=self._device)
        return Model(pipe, basis=basis, instant_map=instant_map)

    def has_room(self) -> bool:
        """Whether what visitors have on the disk is below the limit."""
        return sum(map(_bytes, [*self.folders, *self.counted])) < self._most

    def leave(self, folder: Path) -> None:
        """Forget a visitor's folder; remove it unless it is to be kept."""
        with suppress(ValueError):
            self.folders.remove(str(folder))
        if not self.keep:
            shutil.rmtree(folder, ignore_errors=True)

    def close(self) -> None:
        """Forget all visitors."""
        for folder in list(self.folders):
            self.leave(Path(folder))


def notes_on(model: Model) -> list[str]:
    """Return a line for each thing that a model lacks."""
    notes = []
    if model.instant_map is None:
        notes.append("no instant map: fits start from the mean person, and need steps")
    try:
        assert model.face_reader
    except ModelError as error:
        notes.append(f"photos cannot be read: {error}")
    return notes


def _bytes(folder: str) -> int:
    """Bytes of the files in a folder, which others may be removing."""
    total = 0
    for place, _, files in os.walk(folder):
        for file in files:
            with suppress(OSError):
                total += os.stat(os.path.join(place, file)).st_size
    return total

"""Models and whose turn it is: what all visitors of the page share."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from weakref import WeakValueDictionary

from .. import (
    DEFAULT_MODEL,
    CelebBasis,
    CelebBasisMethod,
    InstantMap,
    ModelError,
    card_of,
    celebrities,
    face_reader,
    generate,
    load_pipeline,
)

MOST_BYTES = 4 * 2**30
Step = TypeVar("Step")


@dataclass(frozen=True, eq=False)
class Model:
    """A pipeline with what is needed to learn people in it.

    notes: one line for each thing that is missing, or was made because it was missing.
    """

    name: str
    pipe: Any
    basis: CelebBasis
    instant: InstantMap | None
    reader: Any  # of faces; None where notes say why no photo can be read
    notes: tuple[str, ...]

    @property
    def default_steps(self) -> int:
        """How many steps a fit takes from the start that this model has."""
        return CelebBasisMethod().max_train_steps(self.instant)


class Studio:
    """One machine's models, which one visitor uses at a time.

    out: the folder in which every visitor gets a folder of their own.
    models: those that visitors may choose beside the miniature; None lets them choose any.
    keep: whether a visitor's folder stays after they left. most_bytes: what all folders may hold.
    folders: of the visitors so far; files are served from there and from nowhere else.
    counted: folders on the disk whose size has a limit, beside those of visitors.
    turn: held around every use of a pipeline, which cannot draw two things at once; never for a whole job, so that
        a job that was stopped leaves nothing locked.
    """

    def __init__(
        self,
        out: Path,
        device: str | None = None,
        *,
        models: Sequence[str] | None = None,
        keep: bool = True,
        most_bytes: int = MOST_BYTES,
    ) -> None:
        self.out = out.absolute()
        self.folders: list[str] = []
        self.counted: list[str] = []
        self.models = None if models is None else (DEFAULT_MODEL, *models)
        self.keep, self._most = keep, most_bytes
        self.turn = threading.Lock()
        self._device = device
        self._pipelines: WeakValueDictionary[str, Any] = WeakValueDictionary()  # while a visitor uses them
        self.first = self.open(DEFAULT_MODEL)
        generate(self.first.pipe, "a photo of a person")  # the first picture takes longer: let nobody wait for it

    def open(self, name: str, basis_file: str | None = None, instant_file: str | None = None) -> Model:
        """Load a model by hub id, folder, .safetensors file or "miniature", with a basis and an instant map.

        Without `basis_file` the miniature brings its own, and another model gets one made from the celebrities it
        knows. Raises ModelError, or BasisError where the files belong to another model.
        """
        if self.models is not None and name not in self.models:
            raise ModelError(f"this page offers {', '.join(self.models)}: choose one of these")
        pipe = self._pipelines.get(name)
        if pipe is None:
            pipe = self._pipelines[name] = load_pipeline(name, device=self._device)
        notes, card = [], card_of(name)
        own_basis = basis_file is None and card.basis is not None
        if basis_file:
            basis = CelebBasis.load(basis_file)
        elif own_basis:
            basis = CelebBasis.from_card(card)
        else:
            basis = CelebBasis.from_pipeline(pipe, celebrities())
            notes.append(f"no basis was given: made one of the {len(basis.names)} celebrities this model knows")
        basis.check(pipe)
        instant = InstantMap.load(instant_file) if instant_file else None
        if own_basis and instant is None:
            instant = InstantMap.from_card(card)
        if instant is None:
            notes.append("no instant map: fits start from the mean person, and need steps")
        else:
            instant.check(basis)
        try:
            reader = face_reader(pipe)
        except ModelError as error:
            reader = None
            notes.append(f"photos cannot be read: {error}")
        return Model(name, pipe, basis, instant, reader, tuple(notes))

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

    def in_turn(self, steps: Iterator[Step]) -> Iterator[Step]:
        """Take each step with the pipelines to itself; between two steps others may draw."""
        while True:
            with self.turn:
                step = next(steps, None)
            if step is None:
                return
            yield step


def _bytes(folder: str) -> int:
    """Bytes of the files in a folder, which others may be removing."""
    total = 0
    for place, _, files in os.walk(folder):
        for file in files:
            with suppress(OSError):
                total += os.stat(os.path.join(place, file)).st_size
    return total

"""Models and whose turn it is: what all visitors of the page share."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from weakref import WeakValueDictionary

from .. import (
    DEFAULT_MODEL,
    CelebBasis,
    InstantMap,
    ModelError,
    card_of,
    celebrities,
    face_reader,
    generate,
    load_pipeline,
)

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


class Studio:
    """One machine's models, which one visitor uses at a time.

    out: the folder in which every visitor gets a folder of their own.
    folders: of the visitors so far; files are served from there and from nowhere else.
    turn: held around every use of a pipeline, which cannot draw two things at once; never for a whole job, so that
        a job that was stopped leaves nothing locked.
    """

    def __init__(self, out: Path, device: str | None = None) -> None:
        self.out = out.absolute()
        self.folders: list[str] = []
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

    def in_turn(self, steps: Iterator[Step]) -> Iterator[Step]:
        """Take each step with the pipelines to itself; between two steps others may draw."""
        while True:
            with self.turn:
                step = next(steps, None)
            if step is None:
                return
            yield step

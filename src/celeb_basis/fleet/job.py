"""Job: what is done for the people of a table on each worker, and how a line of the manifest comes about."""

from __future__ import annotations

import hashlib
import json
import time
from abc import ABC, abstractmethod
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import psutil
import torch

from ..backend.families import get_denoiser
from ..backend.load import load_pipeline
from ..backend.memory import free_bytes
from ..backend.pipeline import Pipeline
from ..errors import CelebBasisError, PhotoError
from ..faces.photo import SUFFIXES
from . import storage as storage
from .pool import Needs
from .table import Row

Line = dict[str, Any]


@dataclass(frozen=True, eq=False)
class Job(ABC):
    """One kind of work on people.

    model: the arguments of `load_pipeline`.
    out: the folder where its files go.
    """

    needed: ClassVar[tuple[str, ...]]  # columns of the table

    model: Mapping[str, Any]
    out: str

    @cached_property
    def pipe(self) -> Pipeline:
        """The model; each worker loads it once."""
        return load_pipeline(**self.model)

    @property
    def device(self) -> str | None:
        """The device asked for."""
        return self.model.get("device")

    @property
    @abstractmethod
    def settings(self) -> Mapping[str, Any]:
        """All that results depend on beside the model and the row, as it can be written in JSON."""

    @property
    @abstractmethod
    def bytes_each(self) -> int:
        """Memory that a person takes."""

    @property
    @abstractmethod
    def most(self) -> int:
        """People that are worth having in one batch."""

    @abstractmethod
    def files(self, row: Row) -> list[str]:
        """The files that a row names."""

    def outputs(self, row: Row) -> list[str]:
        """The files that are made of it, as they are called in the folder."""
        return []

    def together(self, row: Row) -> Hashable:
        """Rows with the same answer can be done in one go."""
        return row.seed

    @abstractmethod
    def opened(self, row: Row, files: Sequence[Path]) -> Any:
        """What is read of the files, for `done`."""

    @abstractmethod
    def done(self, rows: Sequence[Row], read: Sequence[Any]) -> list[Line]:
        """Do the work and write the files; what the manifest says of each."""

    def start(self) -> Needs:
        """Load the model, look at what it needs."""
        network = get_denoiser(self.pipe).network
        free = free_bytes(next(network.parameters()).device)
        return Needs(psutil.Process().memory_info().rss, free, self.bytes_each, self.most)

    def use(self, threads: int) -> None:
        """Compute with so many threads."""
        torch.set_num_threads(threads)

    def do(self, batch: Sequence[tuple[Row, str | None]]) -> list[Line | None]:
        """The manifest's line about each row, None where the inputs are what they were and the files are there.

        batch: rows, and the digest of the inputs that the files there are made of.
        """
        lines: dict[str, Line | None] = {}
        groups: dict[Hashable, list[tuple[Row, str, Any]]] = {}
        for row, before in batch:
            try:
                paths = self.files(row)
                with storage.fetched(paths) as files:
                    digest = self._digest(row, files)
                    if digest == before and all(
                        storage.exists(storage.join(self.out, file)) for file in self.outputs(row)
                    ):
                        lines[row.name] = None
                        continue
                    groups.setdefault(self.together(row), []).append((row, digest, self.opened(row, files)))
            except CelebBasisError as error:
                lines[row.name] = line_of(row, str(error))
            except Exception as error:  # the libraries that look for faces may stumble over any picture
                lines[row.name] = line_of(row, f"{type(error).__name__}: {error}")
        for group in groups.values():
            for line in self._lines(group):
                lines[line["name"]] = line
        return [lines[row.name] for row, _ in batch]

    def _lines(self, group: Sequence[tuple[Row, str, Any]]) -> list[Line]:
        """The lines of people who are done in one go, or else each alone, where one of them cannot be done."""
        begun = time.monotonic()
        try:
            found = self.done([row for row, _, _ in group], [read for _, _, read in group])
        except (CelebBasisError, torch.OutOfMemoryError) as error:
            if len(group) > 1:
                return [line for each in group for line in self._lines([each])]
            return [line_of(group[0][0], str(error))]
        seconds = round((time.monotonic() - begun) / len(group), 3)
        return [
            line_of(row, None) | own | {"seconds": seconds, "inputs": digest}
            for (row, digest, _), own in zip(group, found, strict=True)
        ]

    def _digest(self, row: Row, files: Sequence[Path]) -> str:
        """A hash of all that the results depend on; files count by their content, not by where they are."""
        asked = [row.name, row.seed, row.method, row.steps, self._asked]
        known = hashlib.sha256(json.dumps(asked, default=str, sort_keys=True).encode())
        for path in files:
            with path.open("rb") as file:
                known.update(hashlib.file_digest(file, "sha256").digest())
        return known.hexdigest()[:32]

    @cached_property
    def _asked(self) -> Mapping[str, Any]:
        model = {key: value for key, value in self.model.items() if key != "device"}
        return {"job": type(self).__name__, "model": model} | dict(self.settings)


def line_of(row: Row, error: str | None) -> Line:
    """What the manifest says of a row whatever becomes of it."""
    given = {"photos": list(row.photos)} if row.photos else {}
    return {"name": row.name, "error": error} | given


def photos_of(row: Row) -> list[str]:
    """A row's photographs; folders among them count as all photographs in them. Raises PhotoError."""
    found = []
    for path in row.photos:
        if storage.suffix(path) not in SUFFIXES and storage.is_folder(path):
            names = [name for name in storage.names_in(path) if storage.suffix(name) in SUFFIXES]
            if not names:
                raise PhotoError(f"{path} holds no photos: put JPEG or PNG files in it")
            found += [storage.join(path, name) for name in names]
        else:
            found.append(path)
    return found

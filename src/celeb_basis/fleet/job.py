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

from ..backend.card import DEFAULT_MODEL, SHIPPED, local_path
from ..backend.families import get_denoiser
from ..backend.memory import free_bytes
from ..basis import CelebBasis
from ..errors import CelebBasisError, PhotoError
from ..faces.photo import SUFFIXES
from ..instant_map import InstantMap
from ..limits import MAX_MESSAGE_LENGTH, MAX_PHOTOS
from ..model import Model
from ..notation import excerpt
from . import storage
from .pool import Needs
from .table import Row

Line = dict[str, Any]


@dataclass(frozen=True, eq=False)
class ModelWork(ABC):
    """Work of the pool for which every worker loads a model.

    loading: the arguments of `load_pipeline`; a model of this machine is named as every process finds it.
    basis, instant_map, face_reader: see `Model.load`.
    """

    loading: Mapping[str, Any]
    basis: CelebBasis | None
    instant_map: InstantMap | None
    face_reader: str | None

    @cached_property
    def model(self) -> Model:
        """Return the model, which is loaded once."""
        loading = dict(self.loading)
        return Model.load(
            loading.pop("model"),
            basis=self.basis,
            instant_map=self.instant_map,
            face_reader=self.face_reader,
            **loading,
        )

    @property
    def device(self) -> str | None:
        """Return the device asked for."""
        return self.loading.get("device")

    @property
    @abstractmethod
    def bytes_per_item(self) -> int:
        """Return the memory that an item takes."""

    @property
    @abstractmethod
    def max_batch(self) -> int:
        """Return how many items are worth having in one batch."""

    @abstractmethod
    def process(self, batch: Sequence[Any]) -> list[Any]:
        """Return the answers to a batch."""

    def load(self) -> Needs:
        """Load the model and return what it needs. Raises the error that everybody would meet."""
        network = get_denoiser(self.model.pipe).network
        free = free_bytes(next(network.parameters()).device)
        return Needs(psutil.Process().memory_info().rss, free, self.bytes_per_item, self.max_batch)

    def set_threads(self, threads: int) -> None:
        """Compute with this many threads."""
        torch.set_num_threads(threads)


def loading_of(model: Mapping[str, Any] | str) -> Mapping[str, Any]:
    """Return the arguments of `load_pipeline` with a model of this machine under its absolute path."""
    loading = {"model": model} if isinstance(model, str) else {"model": DEFAULT_MODEL, **model}
    name = loading["model"]
    if name not in SHIPPED and local_path(name).exists():
        loading["model"] = str(local_path(name).absolute())
    return loading


@dataclass(frozen=True, eq=False)
class Job(ModelWork):
    """One kind of work on people.

    out: the folder where its files go.
    """

    columns: ClassVar[tuple[str, ...]]  # that the table must have

    out: str

    @property
    @abstractmethod
    def settings(self) -> Mapping[str, Any]:
        """Return all that results depend on beside the model and the row, as it can be written in JSON."""

    @abstractmethod
    def inputs(self, row: Row) -> list[str]:
        """Return the files that a row names. Raises PhotoError."""

    def outputs(self, row: Row) -> list[str]:
        """Return the files that are made of a row, as they are called in the folder."""
        return []

    def group(self, row: Row) -> Hashable:
        """Return a key; rows with the same one can be done in one go."""
        return row.seed

    @abstractmethod
    def read(self, row: Row, files: Sequence[Path]) -> Any:
        """Return what `work` needs of a row's files. Raises the error that goes into the row's line."""

    @abstractmethod
    def work(self, rows: Sequence[Row], contents: Sequence[Any]) -> list[Line]:
        """Do the work and write the files; return what the manifest says of each, an error too."""

    def process(self, batch: Sequence[tuple[Row, str | None]]) -> list[Line | None]:
        """Return the manifest's line about each row, None where the inputs are as before and the files are there.

        batch: rows, and the digest of the inputs that the files there are made of.
        """
        lines: dict[str, Line | None] = {}
        groups: dict[Hashable, list[tuple[Row, str, Any]]] = {}
        for row, before in batch:
            try:
                with storage.fetched(self.inputs(row)) as files:
                    digest = self._digest(row, files)
                    if digest == before and all(storage.exists(self._path(file)) for file in self.outputs(row)):
                        lines[row.name] = None
                        continue
                    content = self.read(row, files)
                groups.setdefault(self.group(row), []).append((row, digest, content))
            except Exception as error:  # the libraries that look for faces may stumble over any picture
                lines[row.name] = line_of(row, error)
        for group in groups.values():
            for line in self._lines(group):
                lines[line["name"]] = line
        return [lines[row.name] for row, _ in batch]

    def _lines(self, group: Sequence[tuple[Row, str, Any]]) -> list[Line]:
        """Return the lines of people who are done in one go, or else each alone where that fails."""
        begun = time.monotonic()
        try:
            found = self.work([row for row, _, _ in group], [content for _, _, content in group])
        except Exception as error:
            known = isinstance(error, CelebBasisError | torch.OutOfMemoryError)
            if not known and self.model.pipe.device.type != "cpu":
                raise  # the device may be of no more use, another worker tries
            if len(group) > 1:
                return [line for each in group for line in self._lines([each])]
            return [line_of(group[0][0], error)]
        seconds = round((time.monotonic() - begun) / len(group), 3)
        return [
            line_of(row) | own | ({} if own.get("error") else {"seconds": seconds, "inputs": digest})
            for (row, digest, _), own in zip(group, found, strict=True)
        ]

    def _path(self, file: str) -> str:
        return storage.join(self.out, file)

    def _digest(self, row: Row, files: Sequence[Path]) -> str:
        """Return a hash of all that the results depend on; files count by their content, not by where they are."""
        asked = [row.name, row.seed, row.method, row.steps, self._asked]
        known = hashlib.sha256(json.dumps(asked, default=str, sort_keys=True).encode())
        for path in files:
            with path.open("rb") as file:
                known.update(hashlib.file_digest(file, "sha256").digest())
        return known.hexdigest()[:32]

    @cached_property
    def _asked(self) -> Mapping[str, Any]:
        model = {key: value for key, value in self.loading.items() if key != "device"}
        return {"job": type(self).__name__, "model": model} | dict(self.settings)


def line_of(row: Row, error: Exception | None = None) -> Line:
    """Return what the manifest says of a row whatever becomes of it."""
    said = None
    if error is not None:
        said = error.message if isinstance(error, CelebBasisError) else f"{type(error).__name__}: {error}"
        said = excerpt(" ".join(said.split()), MAX_MESSAGE_LENGTH)
    return {"name": row.name, "error": said} | ({"photos": list(row.photos)} if row.photos else {})


def photos_of(row: Row) -> list[str]:
    """Return a row's photographs; a folder among them counts as all photographs in it.

    Raises PhotoError for a folder without any, and for more photographs than are kept in memory.
    """
    found: list[str] = []
    for path in row.photos:
        if storage.suffix(path) not in SUFFIXES and storage.is_folder(path):
            names = [name for name in storage.files_in(path) if storage.suffix(name) in SUFFIXES]
            if not names:
                raise PhotoError(f"{path} holds no photos: put JPEG or PNG files in it")
            found += [storage.join(path, name) for name in names]
        else:
            found.append(path)
    if len(found) > MAX_PHOTOS:
        raise PhotoError(f"{len(found)} photos of one person, {found[0]} among them: choose {MAX_PHOTOS} at most")
    return found

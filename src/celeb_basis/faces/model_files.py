"""Face models' files: in an installed package or on the model hub, known by their SHA-256."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Protocol

from ..errors import ModelError
from ..models.quiet import quiet


class ModelFile(Protocol):
    """A file that holds a face model."""

    def fetch(self) -> str:
        """Where the file lies. Raises ModelError where it cannot be had or is not the file expected."""
        ...


@dataclass(frozen=True)
class PackagedFile:
    """A file in an installed package, which is found without being imported."""

    package: str  # its name on PyPI
    path: str
    sha256: str
    install: str  # what to install where it is missing

    def fetch(self) -> str:
        """Where the file lies. Raises ModelError where the package is missing or the sum differs."""
        try:
            files = metadata.files(self.package) or []
        except metadata.PackageNotFoundError:
            files = []
        for file in files:
            path = Path(str(file.locate()))
            if file.as_posix() == self.path and path.is_file():
                if not _is(path, self.sha256):
                    raise ModelError(
                        f"{path} is not the file expected (its SHA-256 differs): reinstall {self.package}, or another "
                        f"version of it: {self.install}"
                    )
                return str(path)
        raise ModelError(f"faces in real photographs need the face models of {self.package}: {self.install}")


@dataclass(frozen=True)
class HubFile:
    """A file on the model hub."""

    repository: str
    path: str
    sha256: str

    def fetch(self) -> str:
        """Where the file lies, downloaded once. Raises ModelError when offline or when the sum differs."""
        from huggingface_hub import hf_hub_download
        from huggingface_hub.errors import LocalEntryNotFoundError

        try:
            with quiet():
                try:
                    path = hf_hub_download(self.repository, self.path, local_files_only=True)
                except LocalEntryNotFoundError:
                    path = hf_hub_download(self.repository, self.path)
        except OSError as error:
            reason = str(error).strip().splitlines()[0]
            raise ModelError(f"the face model {self.repository} has to be downloaded once: {reason}") from error
        if not _is(Path(path), self.sha256):
            # Not the link but what it points to in the hub's cache.
            where = Path(path).resolve()
            raise ModelError(f"{where} is not the file expected (its SHA-256 differs): delete it and try again")
        return str(path)


def _is(path: Path, sha256: str) -> bool:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == sha256

"""The caches on this machine: the model hub's, in which a file may be damaged, and the library's own."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ..errors import ModelError
from ..io import read_text
from ..notation import excerpt
from .card import local_path

CACHE = "CELEB_BASIS_CACHE"  # the environment variable that names another folder for the library's own
DIGEST = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")


def cache_folder() -> Path:
    """Return the folder for what can be made again, such as a model's basis; it need not exist."""
    from platformdirs import user_cache_path

    own = os.environ.get(CACHE)
    return Path(own) if own else user_cache_path("celeb-basis")


@contextmanager
def explain_corrupt_cache(folder: Path | None) -> Iterator[None]:
    """Let a ModelError that is due to a damaged file in the hub's cache say which file to delete.

    folder: where the model lies. Its files are checked only after an error, as large ones take seconds.
    """
    try:
        yield
    except ModelError as error:
        if folder is not None and (file := damaged(folder)) is not None:
            raise ModelError(f"{error}; delete {file}, so that it is downloaded again") from error
        raise


def damaged(folder: Path) -> Path | None:
    """Return what to delete of a model in the hub's cache; None where nothing is damaged, or outside the cache.

    The cache names a file by its SHA-256, or by its SHA-1 in Git, and a model's folder holds links to such files. On a
    system without links nothing says which file is damaged, and the model's folder is returned.
    """
    from huggingface_hub.constants import HF_HUB_CACHE

    cache = Path(HF_HUB_CACHE).resolve()
    if cache not in folder.resolve().parents:
        return None
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        stored = file.resolve()
        if not DIGEST.fullmatch(stored.name):
            return cache / folder.resolve().relative_to(cache).parts[0]
        if _digest(stored) != stored.name:
            return stored
    return None


def _digest(file: Path) -> str:
    if len(file.name) == 64:
        with file.open("rb") as content:
            return hashlib.file_digest(content, "sha256").hexdigest()
    content_bytes = file.read_bytes()
    return hashlib.sha1(f"blob {len(content_bytes)}\0".encode() + content_bytes).hexdigest()


# A tokenizer is written in one of these, whole or as its vocabulary alone.
FILES = ("tokenizer/tokenizer.json", "tokenizer/vocab.json")


def local_vocabulary(model: str) -> frozenset[str]:
    """Return the tokens that a model's tokenizer knows; none for a model that is not on this machine."""
    for path in _files(model, *FILES):
        try:
            content = json.loads(read_text(path, ModelError))
            if "model" not in content:
                return frozenset(content)
            return frozenset(
                [*content["model"]["vocab"], *(each["content"] for each in content.get("added_tokens", []))]
            )
        except (ModelError, ValueError, TypeError, KeyError, RecursionError):
            continue
    return frozenset()


def local_pipeline(model: str) -> str | None:
    """Return the name of the class of a model's pipeline; None for a model that is not on this machine."""
    for path in _files(model, "model_index.json"):
        with suppress(ModelError, ValueError, AttributeError, RecursionError):
            name = json.loads(read_text(path, ModelError)).get("_class_name")
            return name if isinstance(name, str) else None
    return None


def _files(model: str, *names: str) -> Iterator[Path]:
    """Yield where files of a model may lie: in its folder, or in the hub's cache."""
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    for name in names:
        yield local_path(model) / name
        try:
            cached = try_to_load_from_cache(model, name)
        except HFValidationError:  # a path is no hub id
            continue
        if isinstance(cached, str):
            yield Path(cached)


def is_local(model: str) -> bool:
    """Return whether a model lies on this machine: in this package, in a folder or a file, or in the hub's cache."""
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    path = local_path(model)
    if (path / "model_index.json").is_file() or (path.suffix == ".safetensors" and path.is_file()):
        return True
    try:
        return isinstance(try_to_load_from_cache(model, "model_index.json"), str)
    except HFValidationError:
        return False


def is_hub_id(name: str) -> bool:
    """Return whether the hub could have a model of this name: an owner and a model, like owner/model."""
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(name)
    except HFValidationError:
        return False
    return name.count("/") == 1


def hub_error(model: str, revision: str | None, error: Exception) -> ModelError:
    """Return what to do about the hub's answer, which diffusers may have wrapped in an error of its own."""
    from huggingface_hub import errors

    answers = (error, error.__cause__)
    if any(isinstance(answer, errors.GatedRepoError) for answer in answers):
        return ModelError(
            f"{model} asks for its licence to be accepted: open https://huggingface.co/{model}, accept it, "
            "then run `hf auth login`"
        )
    if any(isinstance(answer, errors.RepositoryNotFoundError) for answer in answers):
        return ModelError(f"the hub has no model {model}, or it is private: check the name, or `hf auth login`")
    if any(isinstance(answer, errors.RevisionNotFoundError) for answer in answers):
        return ModelError(f"{model} has no revision {revision}: https://huggingface.co/{model}/commits lists them")
    return ModelError(
        f"{model} is neither a folder here, nor in the cache, nor to be had from the hub: connect to "
        f"the network, or name a folder ({first_sentences(error)})"
    )


def first_sentences(error: Exception) -> str:
    """Return the first sentences of an error of another library."""
    text = " ".join(str(error).split()) or type(error).__name__
    if len(text) <= 200:
        return text
    end = text.rfind(". ", 40, 200)
    text = text[:end] if end > 0 else excerpt(text, 200)
    return text[: text.rindex("(")].rstrip() if text.count("(") > text.count(")") else text

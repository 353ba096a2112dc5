"""Which model of this machine a file's people were made for: files hold no path, the user's cache does."""

from __future__ import annotations

import json
import os
from pathlib import Path, PureWindowsPath

from ..errors import ModelError, OutputError
from ..io import read_text, write_atomically
from ..limits import MAX_KNOWN_MODELS
from .card import SHIPPED, local_path
from .hub import cache_folder, is_local, local_vocabulary


def shared_name(model: str) -> str:
    """Return a model's name as files may carry it to others: of a folder or a file the last part alone.

    A hub id and the name of a shipped model stay as they are.
    """
    path = PureWindowsPath(model)  # which knows both kinds of separators
    is_place = len(path.parts) > 2 or path.anchor or model.startswith((".", "~")) or os.path.exists(model)
    if model in SHIPPED or not is_place:
        return model
    return path.name if path.name.strip(".") else Path(model).resolve().name


def remember_model(model: str | Path, fingerprint: str) -> None:
    """Note in the user's cache where a model with these text encoders lies, if it is a folder or a file.

    Where the cache cannot be written, nothing is noted.
    """
    path = local_path(model)
    if str(model) in SHIPPED or not path.exists():
        return
    place, key = str(path.resolve()), _key(shared_name(str(model)), fingerprint)
    known = _known()
    if known.get(key) == place:
        return
    known.pop(key, None)  # the newest are last
    known[key] = place
    newest = dict(list(known.items())[-MAX_KNOWN_MODELS:])
    try:
        _file().parent.mkdir(parents=True, exist_ok=True)
        with write_atomically(_file()) as temporary:
            temporary.write_text(json.dumps(newest, indent=1), encoding="utf-8")
    except (OSError, OutputError, UnicodeEncodeError):
        return


def find_model(name: str, fingerprint: str) -> str | None:
    """Return what a model that a file names is called on this machine; None where it is not here."""
    place = _known().get(_key(name, fingerprint))
    if place is not None and is_local(place):
        return place
    return name if is_local(name) else None


def models_here() -> dict[str, int]:
    """Return the models on this machine that can be loaded by name, with their bytes on the disk; shipped ones first.

    They are those in the hub's cache, and the folders and files that were loaded before.
    """
    from huggingface_hub import scan_cache_dir
    from huggingface_hub.errors import CacheNotFound

    try:
        cached = scan_cache_dir().repos
    except CacheNotFound:
        cached = frozenset()
    on_hub = {
        repo.repo_id: repo.size_on_disk for repo in cached if repo.repo_type == "model" and is_local(repo.repo_id)
    }
    placed = {place: _bytes(Path(place)) for place in _known().values() if is_local(place)}
    shipped = {name: _bytes(folder) for name, folder in SHIPPED.items()}
    return shipped | dict(sorted(on_hub.items())) | dict(sorted(placed.items()))


def _bytes(place: Path) -> int:
    files = [place] if place.is_file() else place.rglob("*")
    return sum(file.stat().st_size for file in files if file.is_file())


def known_vocabulary(name: str, fingerprint: str) -> frozenset[str]:
    """Return the tokens of a model that a file names; none where it is not on this machine."""
    return local_vocabulary(find_model(name, fingerprint) or name)


def _file() -> Path:
    return cache_folder() / "models.json"


def _key(name: str, fingerprint: str) -> str:
    """Return what is noted of a model: many have the same text encoders, and many the same name."""
    return f"{fingerprint[:16]} {name}"


def _known() -> dict[str, str]:
    """Return the places noted, the oldest first; none where the note cannot be read."""
    if not os.path.isfile(_file()):
        return {}
    try:
        content = json.loads(read_text(_file(), ModelError))
    except (ModelError, ValueError, RecursionError):
        return {}
    if not isinstance(content, dict):
        return {}
    return {key: place for key, place in content.items() if isinstance(place, str)}

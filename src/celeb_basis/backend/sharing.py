"""Sharing: what the library makes, as repositories of the model hub with a card that says what they are."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from ..errors import ModelError
from ..notation import excerpt
from .hub import first_sentences, hub_error, is_hub_id
from .pipeline import silence_libraries

logger = logging.getLogger(__name__)

LIBRARY = "celeb-basis"
CARD = "README.md"
BASIS, INSTANT_MAP, IDENTITY = "basis.safetensors", "instant_map.safetensors", "identity.safetensors"


@dataclass(frozen=True)
class About:
    """What the card of a repository says beside its name.

    title: what this is. model: that it was made for. made: how, one fact a line. use: Python, with {} for the
    repository. consent: whose face or name it is, and that they agreed.
    license: of the hub's list; None where that of the model holds.
    """

    title: str
    model: str
    made: Mapping[str, object]
    use: str
    consent: str
    license: str | None = None


def fetch(repository: str | Path, file: str, *, revision: str | None = None, token: str | None = None) -> Path:
    """Return a file of a folder, or of a repository of the hub, from which it is downloaded once.

    Raises ModelError for a repository that is not to be had, or that has no such file.
    """
    found = find(repository, file, revision=revision, token=token)
    if found is None:
        raise ModelError(f"{repository} holds no {file}: it was not uploaded by this library")
    return found


def find(repository: str | Path, file: str, *, revision: str | None = None, token: str | None = None) -> Path | None:
    """Return what `fetch` returns, or None where the repository has no such file."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    if Path(repository).is_dir():
        if revision is not None:
            raise ModelError(f"{repository} is a folder: leave the revision out", argument="revision")
        return Path(repository) / file if (Path(repository) / file).is_file() else None
    if not is_hub_id(str(repository)):
        raise ModelError(f"{excerpt(str(repository))} is no folder here, nor a repository like owner/name")
    try:
        with silence_libraries():
            return Path(hf_hub_download(str(repository), file, revision=revision, token=token))
    except LocalEntryNotFoundError as error:  # offline
        raise hub_error(str(repository), revision, error) from error
    except EntryNotFoundError:
        return None
    except Exception as error:  # the hub's other kinds, and those of the network
        raise hub_error(str(repository), revision, error) from error


def push(
    repository: str,
    files: Mapping[str, Callable[[Path], None]],
    about: About,
    *,
    private: bool | None = None,
    token: str | None = None,
    commit_message: str | None = None,
) -> str:
    """Upload files with a card to a repository of the hub, which is made if there is none; return its address.

    files: what writes each, by its name in the repository; what else is there stays.

    Raises ModelError where the hub refuses.
    """
    from huggingface_hub import HfApi

    if not is_hub_id(repository):
        raise ModelError(f"{excerpt(repository)} is no repository of the hub: name one like owner/name")
    with tempfile.TemporaryDirectory(prefix="celeb-basis-") as scratch:
        folder = Path(scratch)
        for name, write in files.items():
            write(folder / name)
        (folder / CARD).write_text(_card(repository, about), encoding="utf-8")
        try:
            with silence_libraries():
                api = HfApi(token=token)
                address = api.create_repo(repository, private=private, exist_ok=True)
                api.upload_folder(
                    repo_id=repository, folder_path=folder, commit_message=commit_message or f"Upload {about.title}"
                )
        except Exception as error:  # the hub's own kinds, and those of the network
            raise ModelError(
                f"{repository} cannot be uploaded: {first_sentences(error)}; `hf auth login` says who you are there"
            ) from error
    return str(address)


def _card(repository: str, about: About) -> str:
    """Return the text of a repository's card."""
    from huggingface_hub import ModelCardData

    data = ModelCardData(
        library_name=LIBRARY,
        base_model=about.model if is_hub_id(about.model) else None,
        license=about.license or "other",
        license_name=None if about.license else "that-of-the-base-model",
        tags=[LIBRARY, "text-to-image", "diffusers"],
    )
    made = "\n".join(f"- {key}: {excerpt(' '.join(str(value).split()))}" for key, value in about.made.items())
    licence = about.license or f"what is made of a model is under that model's licence ({about.model or 'unknown'})"
    return f"""---
{data.to_yaml()}
---

# {about.title}

Made for {about.model or "a model"} with [celeb-basis](https://arxiv.org/abs/2306.00926).

## Use

```python
{about.use.replace("{}", repository)}
```

## How it was made

{made}

## Licence

{licence[0].upper()}{licence[1:]}.

## Consent

{about.consent}
"""

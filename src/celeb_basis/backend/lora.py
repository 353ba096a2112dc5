"""LoRA files beside people: loaded for a while, and what is active in a pipeline."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from ..errors import ModelError, how_to_install
from ..limits import MAX_LORA_WEIGHT
from ..notation import excerpt
from .pipeline import Pipeline, model_name, silence_libraries


@contextmanager
def loras(pipe: Any, files: Mapping[Path, float]) -> Iterator[None]:
    """Let LoRA files change what a pipeline draws inside the block, each with its weight; no weight is another after.

    Raises ModelError for a file that is none, or one of another family of models.
    """
    if not files:
        yield
        return
    if not hasattr(pipe, "load_lora_weights"):
        raise ModelError(f"{model_name(pipe)} is a {type(pipe).__name__}, which takes no LoRA: leave it out")
    names = {_name(file): (file, weight) for file, weight in check_loras(files.items()).items()}
    before = _adapters(pipe)
    active = active_loras(pipe)
    if taken := before & names.keys():
        raise ModelError(f"the pipeline has a LoRA {', '.join(taken)} already: rename the file")
    try:
        for name, (file, _) in names.items():
            _load(pipe, file, name)
        pipe.set_adapters(list(names), [weight for _, weight in names.values()])
        yield
    finally:
        if not before:
            pipe.unload_lora_weights()
        elif loaded := _adapters(pipe) - before:
            pipe.delete_adapters(list(loaded))
            pipe.set_adapters(list(active), list(active.values()))


def check_loras(files: Iterable[tuple[Path, float]]) -> dict[Path, float]:
    """Return LoRA files and their weights. Raises ModelError for what cannot be one, before a model is loaded."""
    found: dict[Path, float] = {}
    for file, weight in files:
        if file.suffix.lower() != ".safetensors":
            raise ModelError(f"{file} is no .safetensors file: convert the LoRA to one, as a pickle can run any code")
        if not os.path.isfile(file):
            raise ModelError(f"{file}: no such file")
        if _name(file) in map(_name, found):
            raise ModelError(f"two LoRA files are called {file.stem}: rename one")
        if not abs(weight) <= MAX_LORA_WEIGHT:
            raise ModelError(f"a LoRA's weight of {weight:g} must be from -{MAX_LORA_WEIGHT} to {MAX_LORA_WEIGHT}")
        found[file] = weight
    if found and not find_spec("peft"):
        raise ModelError(f"LoRA files need peft: {how_to_install('lora')}")
    return found


def _name(file: Path) -> str:
    """Return what a file's adapter is called, in the letters that names of modules may have."""
    return re.sub(r"[^a-zA-Z0-9_-]", "_", file.stem)


def _load(pipe: Any, file: Path, name: str) -> None:
    try:
        with silence_libraries():
            pipe.load_lora_weights(load_file(file), adapter_name=name)
    except Exception as error:  # diffusers and peft raise nearly every kind there is
        raise ModelError(
            f"{file} cannot be loaded as a LoRA of {model_name(pipe)}: {excerpt(' '.join(str(error).split()), 200)}"
        ) from error
    if name not in _adapters(pipe):  # diffusers leaves out keys that it does not know
        raise ModelError(f"{file} holds no LoRA for {model_name(pipe)}: name one of this family of models")


def _adapters(pipe: Any) -> set[str]:
    if not find_spec("peft") or not hasattr(pipe, "get_list_adapters"):
        return set()
    return {name for names in pipe.get_list_adapters().values() for name in names}


def active_loras(pipe: Pipeline) -> dict[str, float]:
    """Return the LoRAs with which a pipeline draws at present, and their weights."""
    if not _adapters(pipe):
        return {}
    from peft.tuners.lora import LoraLayer

    found: dict[str, float] = {}
    for part in pipe.components.values():
        for layer in part.modules() if isinstance(part, torch.nn.Module) else ():
            if isinstance(layer, LoraLayer) and not layer.disable_adapters:
                for name in layer.active_adapters:
                    if name in layer.scaling:
                        unscaled = layer.lora_alpha[name] / layer.r[name] ** (0.5 if layer.use_rslora.get(name) else 1)
                        found.setdefault(name, layer.scaling[name] / unscaled)
    return found

"""Validation of a model: of its folder before it is loaded, and of its weights before they are used."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Container, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from ..errors import ModelError
from ..io import check_regular
from ..limits import MAX_JSON_BYTES, MAX_JSON_DEPTH, MAX_LATENT_SIDE
from ..notation import excerpt
from .pipeline import Pipeline
from .text_encoders import SUFFIXES, text_length


def check_configuration(folder: Path) -> None:
    """Raise ModelError for a JSON file in a model's folder that cannot be read, or that would take for ever."""
    for file in sorted(folder.rglob("*.json")):
        if any(part.startswith(".") for part in file.relative_to(folder).parts):
            continue
        check_json(file)


def check_json(file: Path) -> None:
    """Raise ModelError for a JSON file that cannot be read, or that is nested too deeply."""
    check_regular(file, ModelError, MAX_JSON_BYTES)
    try:
        deep = _deeper(json.loads(file.read_bytes()), MAX_JSON_DEPTH)
    except RecursionError:
        deep = True
    except (OSError, ValueError) as error:
        raise ModelError(f"{file} is no JSON file ({error}): {AGAIN}") from None
    if deep:
        raise ModelError(f"{file} is nested more than {MAX_JSON_DEPTH} deep, as no configuration is: {AGAIN}")


AGAIN = "get the model again"


def read_index(folder: Path) -> dict[str, Any]:
    """Return what a folder in diffusers' format says of its parts; empty where it says nothing.

    Raises ModelError where its model_index.json is damaged.
    """
    file = folder / "model_index.json"
    if not os.path.isfile(file):
        return {}
    check_json(file)
    index = json.loads(file.read_bytes())
    if not isinstance(index, dict) or not isinstance(index.get("_class_name"), str):
        raise ModelError(f"{file} does not name the pipeline's class: {AGAIN}")
    for name, part in index.items():
        pairs = (str, str), (type(None), type(None))  # a library and a class, or nothing
        if isinstance(part, list | dict) and not name.startswith("_") and tuple(map(type, part)) not in pairs:
            raise ModelError(f"{file} does not say what its {excerpt(name)} is: {AGAIN}")
    return index


# How diffusers and transformers call files with weights: whole or in pieces, and of a variant.
WEIGHTS = re.compile(r"(?:diffusion_pytorch_)?model(?:\.(?P<variant>\w+))?(?:-\d+-of-\d+)?\.safetensors")


def check_files(folder: Path, variant: str | None, without: Container[str] = ()) -> None:
    """Raise ModelError where a part's weights are there in another variant alone, or as a pickle alone.

    without: the names of parts that are not loaded.
    """
    for name, kind in read_index(folder).items():
        part = folder / name
        if name == "safety_checker" and name not in without and kind != [None, None]:
            if not any(part.glob("*model*")):  # which some leave out, as it is large
                raise ModelError(
                    f"{folder} says that it has a safety checker, and holds no weights of it: get the model again, or "
                    "load it without the checker"
                )
        if not os.path.isdir(part) or name in without:
            continue
        files = sorted(file.name for file in part.iterdir())
        found = {match["variant"] for file in files if (match := WEIGHTS.fullmatch(file))}
        others = sorted(each for each in found if each)
        if others and not found & {None, variant}:
            raise ModelError(
                f"{folder} holds the weights of its {name} as {' and '.join(others)} alone: ask for that variant",
                argument="variant",
            )
        if not found and any(file.endswith((".bin", ".pt", ".ckpt")) for file in files):
            raise ModelError(
                f"{folder} holds the weights of its {name} as a pickle, which can run any code when read: "
                "convert it to .safetensors"
            )


# Keys of embeddings, which are no models, and what the keys of a LoRA have in them.
EMBEDDING = {"emb_params", "clip_l", "clip_g", "t5xxl", "text_encoders_0", "text_encoders_1", "qwen3_4b", "qwen3_8b"}
LORA = re.compile(r"(?:^|[._])lora(?:[._]|$)|^bundle_emb\.|\.hada_w|\.lokr_w")


def check_checkpoint(path: Path, keys: Sequence[str], metadata: Mapping[str, str]) -> None:
    """Raise ModelError for a single file that holds something else than a model, by its keys and its metadata."""
    kind = metadata.get("format", "").removeprefix("celeb-basis ")
    if metadata.get("format", "") != kind:
        what = f"of the kind {excerpt(kind)!r}"
    elif set(keys) <= EMBEDDING:
        what = "an embedding"
    elif any(LORA.search(key) for key in keys):
        what = "a LoRA"
    else:
        return
    raise ModelError(f"{path} is {what}, no model: name the model that it was made for")


def check_present(pipe: Pipeline) -> None:
    """Raise ModelError where a pipeline lacks a part without which nothing is drawn."""
    for name in ("tokenizer", "text_encoder", "unet", "transformer", "vae", "scheduler"):
        if pipe.components.get(name, pipe) is None:  # no pipeline has both a unet and a transformer
            raise ModelError(f"{pipe.config.get('_name_or_path')} has no {name}: {AGAIN}")


def _deeper(value: Any, levels: int) -> bool:
    """Return whether a JSON value is nested deeper than so many levels."""
    if not isinstance(value, dict | list):
        return False
    inside = value.values() if isinstance(value, dict) else value
    return levels == 0 or any(_deeper(each, levels - 1) for each in inside if isinstance(each, dict | list))


def check_weights(pipe: Pipeline, source: Path, variant: str | None = None) -> None:
    """Raise ModelError unless every part of a pipeline has all its weights, and all of them are finite numbers.

    source: the folder or file it was loaded from. diffusers leaves weights that it did not find without values,
    transformers makes them up.
    """
    for name, part in pipe.components.items():
        if not isinstance(part, torch.nn.Module):
            continue
        check_part(part, f"the {name} of {source}", source / name, variant)


def check_part(part: torch.nn.Module, what: str, folder: Path, variant: str | None = None) -> None:
    """Raise ModelError unless a network has all its weights, and all of them are finite.

    what: the network in messages. folder: it was loaded from there, unless there is no such folder.
    """
    missing = [key for key, weight in part.named_parameters() if weight.is_meta]
    if not missing and type(part).__module__.startswith("transformers.") and folder.is_dir():
        missing = _made_up(part, folder, variant)
    if missing:
        raise ModelError(f"{what} lacks {len(missing)} of its weights ({missing[0]}): {AGAIN}")
    for key, weight in part.named_parameters():
        if weight.is_floating_point() and weight.numel() and not torch.stack(weight.aminmax()).isfinite().all():
            raise ModelError(f"{what} holds weights that are no finite numbers ({key}): {AGAIN}")


def _made_up(part: torch.nn.Module, folder: Path, variant: str | None) -> list[str]:
    """Return the weights of a part that are in none of its files, in which their names may be longer."""
    files = list(folder.glob("*.safetensors"))
    files = [file for file in files if variant and f".{variant}" in file.name] or files
    stored: set[str] = set()
    for file in files:
        with safe_open(file, framework="pt") as opened:
            for key in opened.keys():
                pieces = key.split(".")
                stored.update(".".join(pieces[i:]) for i in range(len(pieces)))
    return [key for key, _ in part.named_parameters() if key not in stored]


def check_parts(pipe: Pipeline) -> None:
    """Raise ModelError for tokenizers and sizes with which nothing can be encoded or drawn."""
    for suffix in SUFFIXES:
        tokenizer, encoder = getattr(pipe, f"tokenizer{suffix}", None), getattr(pipe, f"text_encoder{suffix}", None)
        if encoder is None:
            continue
        rows = len(encoder.get_input_embeddings().weight)
        words = 0 if tokenizer is None else len(tokenizer)
        if tokenizer is None or not 2 < words <= rows:
            raise ModelError(
                f"the tokenizer{suffix} of {pipe.config.get('_name_or_path')} knows {words} tokens, its text encoder "
                f"{rows}: {AGAIN}, with the files of the tokenizer"
            )
        if not 2 < text_length(tokenizer, encoder):
            raise ModelError(f"the tokenizer{suffix} reads {tokenizer.model_max_length} tokens of a prompt: {AGAIN}")
        if not all(isinstance(getattr(module, "eos_token_id", 0), int) for module in encoder.modules()):
            raise ModelError(f"the text_encoder{suffix}'s eos_token_id is no whole number: {AGAIN}")
    settings = pipe.scheduler.config
    if settings.get("timestep_spacing", "leading") not in ("leading", "trailing", "linspace"):
        raise ModelError(
            f"the scheduler's timestep_spacing is {excerpt(repr(settings['timestep_spacing']))}: "
            "its configuration must say leading, trailing or linspace"
        )
    betas = getattr(pipe.scheduler, "betas", None)
    if betas is not None and len(betas) != settings.num_train_timesteps:
        raise ModelError(
            f"the scheduler has {len(betas)} betas for {settings.num_train_timesteps} timesteps: "
            "its configuration must say as many"
        )
    scale = pipe.vae.config.get("scaling_factor", 1.0)  # FLUX.2 has statistics instead
    if not (isinstance(scale, int | float) and 0 < scale < math.inf):
        raise ModelError(f"the vae's scaling_factor is {scale!r}: its config.json must say a number above 0")
    network = "unet" if "unet" in pipe.components else "transformer"
    side = pipe.components[network].config.get("sample_size", 1)  # later transformers take any
    if not (type(side) is int and 1 <= side <= MAX_LATENT_SIDE):
        raise ModelError(
            f"the {network}'s sample_size is {side!r}: its config.json must say how many latents wide pictures are"
        )

"""Models: a hub id, a folder, a single .safetensors file or "miniature" becomes a frozen pipeline."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from .errors import ModelError
from .face import FaceReader, OpenCVReader

HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


def load_pipeline(
    model: str | Path = "miniature",
    *,
    device: str | torch.device | None = None,
    dtype: torch.dtype | None = None,
) -> Any:
    """Load a Stable Diffusion 1, 2 or SDXL pipeline, ready to draw: eval mode, frozen, silent.

    model: "miniature" (the small world in this package), a folder in diffusers' format, a single
    .safetensors checkpoint, or a hub id like "stable-diffusion-v1-5/stable-diffusion-v1-5"; only the
    last one uses the network, and only for what is not in the cache yet. Pickled weights are refused.
    device: the best there is by default (CUDA, Apple's MPS, CPU).
    dtype: float16 on CUDA by default, float32 elsewhere (MPS draws black pictures in float16).

    Raises ModelError, in one line, for anything that cannot be loaded.
    """
    name = str(model)
    device = _device(device)
    dtype = dtype or (torch.float16 if device.type == "cuda" else torch.float32)
    path = Path(model).expanduser()
    if name == "miniature":
        from . import miniature

        pipe: Any = miniature.load_pipeline(dtype)
    elif os.path.isdir(path):  # unlike Path.is_dir, False for a name too long or a place out of reach
        if not (path / "model_index.json").is_file():
            raise ModelError(
                f"{path} has no model_index.json: name a folder that diffusers' save_pretrained wrote"
            )
        pipe = _from_pretrained(path, dtype, local=True)
    elif path.suffix == ".safetensors":
        pipe = _from_single_file(path, dtype)
    elif path.suffix in {".ckpt", ".pt", ".pth", ".bin"}:
        raise ModelError(f"{path} is a pickle, which can run any code when read: convert it to .safetensors")
    elif HUB_ID.fullmatch(name):
        pipe = _from_pretrained(name, dtype, local=False)
    else:
        raise ModelError(
            f"no model {name!r}: name a folder, a .safetensors file, a hub id like owner/model, or miniature"
        )
    _check_kind(pipe, name)
    pipe.to(device)
    pipe.set_progress_bar_config(disable=True)
    for part in pipe.components.values():
        if isinstance(part, torch.nn.Module):
            part.eval().requires_grad_(False)
    pipe.register_to_config(_name_or_path=name)
    return pipe


def model_name(pipe: Any) -> str:
    """What the model was called when it was loaded, for people to read in metadata."""
    return str(pipe.config.get("_name_or_path") or type(pipe).__name__)


def face_reader(pipe: Any) -> FaceReader:
    """The reader for a model's faces: its own where it has one, as the miniature does, else OpenCV's.

    Raises ModelError where OpenCV or its two face models are missing and cannot be had.
    """
    own = hints(pipe).get("face_reader")
    return own() if own else OpenCVReader()


def hints(pipe: Any) -> Mapping[str, Any]:
    """What a model recommends for itself, set as its attribute `hints` by whoever made it.

    Keys are those of `generate` (num_inference_steps, guidance_scale) and of `Recipe` (templates, scales), and
    `face_reader`, a function without arguments, and `portraits`, the prompts by which `draw_portraits` looks at names.
    """
    return getattr(pipe, "hints", None) or {}


def _device(wish: str | torch.device | None) -> torch.device:
    """The device wished for, if it is there, or the best there is."""
    if wish is None:
        wish = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        return torch.empty(0, device=wish).device
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise ModelError(f"there is no device {str(wish)!r} here: leave it out, or use cpu") from error


def _from_pretrained(source: str | Path, dtype: torch.dtype, *, local: bool) -> Any:
    from diffusers import DiffusionPipeline
    from huggingface_hub import errors

    try:
        return DiffusionPipeline.from_pretrained(
            source, dtype=dtype, use_safetensors=True, local_files_only=local
        )
    except errors.GatedRepoError as error:
        raise ModelError(
            f"{source} asks for its licence to be accepted: open https://huggingface.co/{source}, accept it, "
            "then run `hf auth login`"
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise ModelError(
            f"the hub has no model {source}, or it is private: check the name, or `hf auth login`"
        ) from error
    except Exception as error:  # diffusers and its loaders raise nearly every kind there is
        if local:
            raise ModelError(f"{source} cannot be loaded as a pipeline: {_one_line(error)}") from error
        raise ModelError(
            f"{source} is neither a folder here, nor in the cache, nor to be had from the hub: connect to "
            f"the network, or name a folder ({_one_line(error)})"
        ) from error


def _from_single_file(path: Path, dtype: torch.dtype) -> Any:
    from diffusers import StableDiffusionPipeline, StableDiffusionXLPipeline

    if not os.path.isfile(path):
        raise ModelError(f"{path}: no such file")
    try:
        with safe_open(path, framework="pt") as file:
            is_xl = any(key.startswith("conditioner.embedders.1.") for key in file.keys())
        kind = StableDiffusionXLPipeline if is_xl else StableDiffusionPipeline
        return kind.from_single_file(path, dtype=dtype, local_files_only=True)
    except Exception as error:
        raise ModelError(
            f"{path} cannot be loaded as a checkpoint: {_one_line(error)} (its configuration is taken from "
            "the hub's cache: load the model it derives from by its hub id once)"
        ) from error


def _check_kind(pipe: Any, name: str) -> None:
    unet, encoder = getattr(pipe, "unet", None), getattr(pipe, "text_encoder", None)
    kind = type(pipe).__name__
    if unet is None or encoder is None or getattr(pipe, "text_encoder_3", None) is not None:
        raise ModelError(f"{name} is a {kind}: Stable Diffusion 1, 2 and SDXL are supported")
    if unet.config.in_channels != pipe.vae.config.latent_channels:
        raise ModelError(
            f"{name} is an inpainting or editing model: name the text-to-image model it derives from"
        )


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__

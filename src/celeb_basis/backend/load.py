"""Loading: a hub id, a folder, a single .safetensors file or "miniature" becomes a frozen pipeline."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from ..errors import ModelError
from ..notation import excerpt
from .card import DEFAULT_MODEL, SHIPPED, ModelCard, local_path
from .defaults import drawing_defaults
from .families import FAMILIES, Family, get_denoiser, named_family
from .hub import explain_corrupt_cache, first_sentences, hub_error, is_hub_id
from .memory import free_bytes, place, quantised_parts
from .pipeline import Pipeline, silence_libraries
from .schedulers import get_scheduler
from .validate import (
    check_checkpoint,
    check_configuration,
    check_files,
    check_json,
    check_parts,
    check_present,
    check_weights,
    read_index,
)

logger = logging.getLogger(__name__)

MIN_BFLOAT16_BYTES = 2**29  # of weights, from which a CPU's bfloat16 is worth its rounding


def load_pipeline(
    model: str | Path = DEFAULT_MODEL,
    *,
    device: str | torch.device | None = None,
    dtype: torch.dtype | None = None,
    revision: str | None = None,
    variant: str | None = None,
    config: str | Path | None = None,
    safety_checker: bool = True,
) -> Pipeline:
    """Load a pipeline of one of FAMILIES, ready to draw: in eval mode, frozen, and without progress bars.

    model: "miniature" or "portraits" (which are in this package), a folder in diffusers' format, a single
    .safetensors checkpoint, or a hub id like "stable-diffusion-v1-5/stable-diffusion-v1-5"; only hub ids
    use the network, and only for what is not in the cache yet. Pickled weights are refused.
    device: the best there is by default (CUDA, Apple's MPS, CPU).
    dtype: by default float16 on CUDA, or bfloat16 for a transformer; bfloat16 for a large model on a CPU that
    computes in it, else float32 (MPS draws black pictures in float16).
    revision: a hub model's branch, tag or commit.
    variant: of the weights, where the model has several, such as "fp16".
    config: of a single file: the folder or hub id of the model it derives from, for the tokenizer and the
    configuration that the file lacks; a family's own, if in the cache, by default. A file that holds a transformer
    alone needs the whole model as a folder, whose transformer it replaces.
    safety_checker: False leaves out the one that a model brings along; a single file never does.

    Where memory is short, the log says what is done to save it, see `memory.place`; of a distilled model it says how
    it is drawn.

    Raises ModelError, in one line, for anything that cannot be loaded.
    """
    name = str(model)
    device = _device(device)
    path = local_path(model)
    if name in SHIPPED:
        _refuse(name, revision=revision, variant=variant, config=config)
    if os.path.isdir(path):  # unlike Path.is_dir, False for a name too long or a place out of reach
        if not (path / "model_index.json").is_file():
            raise ModelError(
                f"{path} has no model_index.json: name a folder that diffusers' save_pretrained wrote"
                if name not in SHIPPED
                else f"the weights of {name} are not installed: reinstall celeb-basis from its wheel"
            )
        _refuse(name, revision=revision, config=config)
        own = dtype or _dtype(device, _size(path), _half(path))
        pipe = _from_folder(path, own, variant, _small(path, device), **_left_out(path, safety_checker))
    elif path.suffix == ".safetensors":
        _refuse(name, revision=revision, variant=variant)
        pipe = _from_single_file(path, config, device, dtype)
    elif path.suffix in {".ckpt", ".pt", ".pth", ".bin"}:
        raise ModelError(f"{path} is a pickle, which can run any code when read: convert it to .safetensors")
    elif is_hub_id(name) and not _looks_like_a_path(name):
        _refuse(name, config=config)
        path = _download(name, revision, variant)
        own = dtype or _dtype(device, _size(path), _half(path))
        pipe = _from_folder(path, own, variant, _small(path, device), **_left_out(path, safety_checker))
    else:
        raise ModelError(
            f"no model {excerpt(name)!r} is here: name a folder, a .safetensors file, a hub id like owner/model, "
            f"or {DEFAULT_MODEL}"
        )
    pipe.register_to_config(_name_or_path=name)
    pipe.card = ModelCard.of(path)
    with explain_corrupt_cache(path):
        check_present(pipe)
        _check_kind(pipe)
        check_parts(pipe)
        check_weights(pipe, path, variant)
    if pipe.card.sampler:
        pipe.scheduler = get_scheduler(pipe, pipe.card.sampler)
    if not safety_checker and "safety_checker" in pipe.components:
        pipe.safety_checker = None
        pipe.register_to_config(requires_safety_checker=False)
    pipe.set_progress_bar_config(disable=True)
    for part in pipe.components.values():
        if isinstance(part, torch.nn.Module):
            part.eval().requires_grad_(False)
    place(pipe, device)
    if (drawn := drawing_defaults(pipe)).reason:
        logger.info(
            f"{excerpt(name)} is distilled ({drawn.reason}): by default images take {drawn.num_inference_steps} "
            f"step{'s' * (drawn.num_inference_steps > 1)} and guidance {drawn.guidance_scale:g}"
        )
    logger.debug(f"loaded {excerpt(name)}, a {type(pipe).__name__}, from {path}, as {pipe.dtype} on {pipe.device}")
    loaded: Pipeline = pipe
    return loaded


def _device(wish: str | torch.device | None) -> torch.device:
    """Return the device wished for, if it is there, or the best there is."""
    if wish is None:
        wish = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.empty(0, device=wish).device
        if device.type == "meta":  # holds shapes and no numbers
            raise NotImplementedError
        return device
    except (RuntimeError, AssertionError, NotImplementedError, ImportError, TypeError) as error:
        raise ModelError(
            f"there is no device {str(wish)!r} here: leave it out, or name cpu", argument="device"
        ) from error


def _dtype(device: torch.device, size: int, half: torch.dtype = torch.float16) -> torch.dtype:
    """Return the precision for weights of `size` bytes."""
    if device.type == "cuda":
        return half
    # Asked of PyTorch where it is new enough to know.
    features: Mapping[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    native = features.get("avx512_bf16") or features.get("amx_bf16")
    return torch.bfloat16 if device.type == "cpu" and native and size >= MIN_BFLOAT16_BYTES else torch.float32


def _half(folder: Path) -> torch.dtype:
    """Return the half precision of the model in a folder."""
    family = named_family(str(read_index(folder).get("_class_name")))
    return torch.float16 if family is None else family.half_precision


def _size(path: Path) -> int:
    """Return the bytes of weights in a folder or a file."""
    files = path.rglob("*.safetensors") if os.path.isdir(path) else [path] * os.path.isfile(path)
    return sum(file.stat().st_size for file in files)


def _looks_like_a_path(name: str) -> bool:
    """Return whether a name that might be a hub id begins with a folder of this machine."""
    return name.startswith(".") or os.path.isdir(name.split("/")[0])


def _refuse(model: str, **options: object) -> None:
    """Raise ModelError for options that have no effect on this model."""
    meant = {"revision": "a hub model", "variant": "a hub model or a folder", "config": "a .safetensors file"}
    for option, value in options.items():
        if value is not None:
            raise ModelError(f"{option} {value} is for {meant[option]}, not for {model}: leave it out")


def _small(folder: Path, device: torch.device) -> Any:
    """Return how to load a transformer in 4 bits where its GPU is too small and bitsandbytes is installed, or None."""
    if device.type != "cuda" or "transformer" not in read_index(folder) or not find_spec("bitsandbytes"):
        return None
    sizes = {part.name: _size(part) for part in folder.iterdir() if part.is_dir()}
    parts = quantised_parts(sizes, free_bytes(device))
    if parts:
        logger.info(f"to save memory, in 4 bits: {', '.join(parts)}")
    return in_four_bits(parts) if parts else None


def in_four_bits(parts: Sequence[str]) -> Any:
    """Return the configuration with which diffusers loads these parts of a pipeline in 4 bits."""
    from diffusers import PipelineQuantizationConfig

    kind = {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_compute_dtype": torch.bfloat16}
    return PipelineQuantizationConfig(
        quant_backend="bitsandbytes_4bit", quant_kwargs=kind, components_to_quantize=list(parts)
    )


def _left_out(folder: Path, safety_checker: bool) -> dict[str, None]:
    """Return the parts of a folder that are not loaded: a checker that nobody wants, whose weights may be gone."""
    return {} if safety_checker or "safety_checker" not in read_index(folder) else {"safety_checker": None}


def _from_folder(folder: Path, dtype: torch.dtype, variant: str | None, small: Any = None, **parts: Any) -> Any:
    from diffusers import DiffusionPipeline

    with explain_corrupt_cache(folder):
        check_configuration(folder)
        check_files(folder, variant, without=parts)
        # diffusers asks for parts that a model does without, such as the third text encoder of Stable Diffusion 3.
        parts |= {name: None for name, kind in read_index(folder).items() if kind == [None, None]}
        if small is not None:
            parts["quantization_config"] = small
        try:
            with silence_libraries():
                return DiffusionPipeline.from_pretrained(
                    folder, dtype=dtype, variant=variant, use_safetensors=True, local_files_only=True, **parts
                )
        except Exception as error:  # diffusers and its loaders raise nearly every kind there is
            raise ModelError(f"{folder} cannot be loaded as a pipeline: {first_sentences(error)}") from error


def _download(model: str, revision: str | None, variant: str | None) -> Path:
    """Return the folder of a hub model in the cache, after downloading what is not there."""
    from diffusers import DiffusionPipeline
    from huggingface_hub import try_to_load_from_cache

    cached = try_to_load_from_cache(model, "model_index.json", revision=revision)
    if isinstance(cached, str):
        with explain_corrupt_cache(Path(cached).parent):  # diffusers would take it for a model that is not there
            check_json(Path(cached))
    else:
        logger.info(f"there is no folder {model} here, nor such a model in the cache: asking the hub for it")
    try:
        with silence_libraries():
            return Path(DiffusionPipeline.download(model, revision=revision, variant=variant, use_safetensors=True))
    except Exception as error:
        raise hub_error(model, revision, error) from error


def _from_single_file(path: Path, config: str | Path | None, device: torch.device, dtype: torch.dtype | None) -> Any:
    import diffusers

    if not os.path.isfile(path):
        raise ModelError(f"{path}: no such file")
    try:
        with safe_open(path, framework="pt") as file:
            keys, metadata = list(file.keys()), file.metadata() or {}
    except Exception as error:
        raise ModelError(f"{path} cannot be loaded as a checkpoint: {first_sentences(error)}") from error
    check_checkpoint(path, keys, metadata)
    if any(key.startswith("edm_") for key in keys):
        raise ModelError(
            f"{path} was trained with the noise of EDM (it holds edm_...): name a model with a schedule of betas"
        )
    family, hub_id = _family_of_file(keys)
    folder = _configuration(path, config, family, hub_id)
    index = read_index(folder)
    is_transformer = "transformer" in index
    kind = family.pipeline if family is not None and not is_transformer else str(index.get("_class_name"))
    dtype = dtype or _dtype(device, _size(path), _half(folder))
    absent = {name: None for name, part in index.items() if part == [None, None]} if is_transformer else {}
    options = {"dtype": dtype, "local_files_only": True}
    with explain_corrupt_cache(folder):
        check_configuration(folder)
        try:
            with silence_libraries():
                if not is_transformer or any(key.startswith("text_encoders.") for key in keys):
                    pipe = getattr(diffusers, kind).from_single_file(path, config=str(folder), **options, **absent)
                else:
                    network = getattr(diffusers, index["transformer"][1])
                    own = network.from_single_file(path, config=str(folder), subfolder="transformer", **options)
                    pipe = _from_folder(folder, dtype, None, transformer=own)
        except ModelError:
            raise
        except Exception as error:
            raise ModelError(
                f"{path} cannot be loaded as a checkpoint with the configuration in {folder}: {first_sentences(error)}"
            ) from error
    for name, part in pipe.components.items():
        if isinstance(part, torch.nn.Module) and any(weight.is_meta for weight in part.parameters()):
            raise ModelError(f"{path} lacks weights of the {name} in {folder}: name the model it derives from")
    if "v_pred" in keys:  # how SDXL models that predict velocity mark their files, and a schedule ending in noise
        pipe.scheduler = type(pipe.scheduler).from_config(
            pipe.scheduler.config, prediction_type="v_prediction", rescale_betas_zero_snr="ztsnr" in keys
        )
    return pipe


def _family_of_file(keys: Sequence[str]) -> tuple[Family | None, str | None]:
    """Return the family that a single file's keys show, and the hub model whose configuration such a file takes."""
    for family in FAMILIES:
        for mark, hub_id in family.single_files.items():
            if any(key.startswith(mark) for key in keys):
                return family, hub_id
    return None, None


def _configuration(path: Path, config: str | Path | None, family: Family | None, hub_id: str | None) -> Path:
    """Return the folder with the tokenizer and configuration that a single file lacks: as asked for, or hub_id's."""
    from huggingface_hub import snapshot_download

    if config is not None:
        if os.path.isdir(config):
            return Path(config)
        if not is_hub_id(str(config)):
            raise ModelError(f"no config {str(config)!r}: name a folder or hub id of the model {path} derives from")
        try:
            with silence_libraries():
                return Path(snapshot_download(str(config), allow_patterns=["*.json", "*.txt"]))
        except Exception as error:
            raise hub_error(str(config), None, error) from error
    need = f"{path} holds no tokenizer and no configuration: give the model it derives from, a folder or hub id"
    if hub_id is None:
        why = "" if family is None else "; it also says whether the model predicts noise or velocity"
        raise ModelError(f"{need}{why}", argument="config")
    try:
        return Path(snapshot_download(hub_id, allow_patterns=["*.json", "*.txt"], local_files_only=True))
    except Exception as error:  # nothing is downloaded that nobody named
        raise ModelError(f"{need}, such as {hub_id}", argument="config") from error


def _check_kind(pipe: Any) -> None:
    """Raise ModelError for an inpainting or editing model, or one of a family that is not supported."""
    denoiser = get_denoiser(pipe)
    if denoiser.in_channels != pipe.vae.config.latent_channels:
        raise ModelError(
            f"{pipe.config['_name_or_path']} is an inpainting or editing model: "
            "name the text-to-image model it derives from"
        )

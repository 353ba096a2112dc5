"""Folders in the layout of published checkpoints: their configurations with small widths, and random weights.

published/*.json holds the configurations, with their source. Schedulers, classes and what a configuration says of
heads, activations and predictions are the published ones; widths, depths and vocabularies are not.
"""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers
from conftest import add_safety_checker, make_pipeline, make_tokenizer
from flows import qwen_tokenizer, t5_tokenizer

EULER = {
    "_class_name": "EulerDiscreteScheduler", "_diffusers_version": "0.24.0.dev0", "beta_end": 0.012,
    "beta_schedule": "scaled_linear", "beta_start": 0.00085, "clip_sample": False, "interpolation_type": "linear",
    "num_train_timesteps": 1000, "prediction_type": "epsilon", "sample_max_value": 1.0, "set_alpha_to_one": False,
    "skip_prk_steps": True, "steps_offset": 1, "timestep_spacing": "trailing", "trained_betas": None,
    "use_karras_sigmas": False,
}  # fmt: skip
# A checkpoint's name as its makers write it: the file of published/ that it follows, and where it differs.
CHECKPOINTS: dict[str, tuple[str, dict[str, Any]]] = {
    "stable-diffusion-v1-5": ("sd15", {}),
    "a-fine-tune": ("sd15", {"safety_checker": [None, None], "feature_extractor": [None, None]}),
    "stable-diffusion-2-1": ("sd21", {}),
    "stable-diffusion-2-1-base": ("sd21", {"scheduler": {"prediction_type": "epsilon"}}),
    "sd-turbo": ("sd21", {"scheduler": EULER}),
    "stable-diffusion-xl-base-1.0": ("sdxl", {}),
    "sdxl-turbo": ("sdxl", {"scheduler": EULER | {"_class_name": "EulerAncestralDiscreteScheduler"}}),
    "an-sdxl-of-velocity": (
        "sdxl", {"scheduler": EULER | {"prediction_type": "v_prediction", "rescale_betas_zero_snr": True}}
    ),
    "stable-diffusion-3.5-medium": (
        "sd3", {"transformer": {"dual_attention_layers": [0], "qk_norm": "rms_norm", "pos_embed_max_size": 384}}
    ),
    "FLUX.1-dev": ("flux-dev", {}),
    "FLUX.1-schnell": ("flux-schnell", {}),
    "FLUX.2-klein-4B": ("klein", {}),
    "Z-Image": ("z-image-turbo", {"scheduler": {"shift": 6.0}}),
    "Z-Image-Turbo": ("z-image-turbo", {}),
}  # fmt: skip
WIDTH, WIDTH_2 = 16, 32  # of the first text encoder, and of the others
SIDE = 64  # of the images, in pixels
FLOW_DIM = {"num_attention_heads": 2, "attention_head_dim": 16}


def build(name: str, folder: Path) -> Path:
    """Write a checkpoint's folder, called as the checkpoint is."""
    kind, changes = CHECKPOINTS[name]
    files = json.loads((Path(__file__).parent / "published" / f"{kind}.json").read_text())["files"]
    index = files.pop("model_index.json")
    folder = folder / name
    folder.mkdir()
    for part, change in changes.items():
        if isinstance(change, list):
            index[part] = change
        elif "_class_name" in change:
            files["scheduler/scheduler_config.json"], index[part] = change, ["diffusers", change["_class_name"]]
        else:
            file = f"{part}/{'scheduler_config' if part == 'scheduler' else 'config'}.json"
            files[file] = files[file] | change
    _write(folder / "model_index.json", index)
    _write(folder / "scheduler" / "scheduler_config.json", files["scheduler/scheduler_config.json"])
    _write(folder / "celeb_basis.json", {"resolution": SIDE})  # Z-Image and klein draw 1,024 pixels by themselves
    torch.manual_seed(0)
    for suffix in ("", "_2", "_3"):
        if f"tokenizer{suffix}" not in index:
            continue
        tokenizer = _tokenizer(index[f"tokenizer{suffix}"][1], files[f"tokenizer{suffix}/tokenizer_config.json"])
        tokenizer.save_pretrained(folder / f"tokenizer{suffix}")
        part, config = f"text_encoder{suffix}", files[f"text_encoder{suffix}/config.json"]
        config = config | _text_widths(index["_class_name"], suffix, config) | {"vocab_size": len(tokenizer)}
        encoder_class = index[part][1]
        made = getattr(transformers, encoder_class)
        _save(made(made.config_class(**copy.deepcopy(config))), folder / part, config)
    for part in ("unet", "transformer", "vae"):
        if part in index:
            config = files[f"{part}/config.json"]
            config = config | _widths(index["_class_name"], part, config)
            _save(getattr(diffusers, index[part][1]).from_config(copy.deepcopy(config)), folder / part, config)
    checked = make_pipeline("sd1")
    add_safety_checker(checked, 2)
    for part in ("safety_checker", "feature_extractor"):
        if index.get(part, [None])[0]:
            getattr(checked, part).save_pretrained(folder / part)
    return folder


def _tokenizer(kind: str, config: dict[str, Any]) -> Any:
    made: Any
    if "CLIP" in kind:
        made = make_tokenizer(config["pad_token"])
    else:
        made = t5_tokenizer() if "T5" in kind else qwen_tokenizer()
    made.model_max_length = config["model_max_length"]
    return made


def _text_widths(pipeline: str, suffix: str, config: dict[str, Any]) -> dict[str, Any]:
    if config.get("model_type") == "t5":
        return {"d_model": WIDTH + WIDTH_2, "d_ff": 32, "d_kv": 8, "num_heads": 2, "num_layers": 2}
    width = WIDTH_2 if suffix else WIDTH
    small = {"hidden_size": width, "intermediate_size": 2 * width, "num_attention_heads": 2}
    if config["model_type"] == "qwen3":
        layers = 28 if pipeline == "Flux2KleinPipeline" else 3  # klein reads the 27th
        return small | {"head_dim": 8, "num_key_value_heads": 1, "num_hidden_layers": layers}
    return small | {"projection_dim": width, "num_hidden_layers": 3}


def _widths(pipeline: str, part: str, config: dict[str, Any]) -> dict[str, Any]:
    if part == "vae":
        return {"block_out_channels": [8] * 4, "norm_num_groups": 4, "layers_per_block": 1, "sample_size": SIDE}
    if part == "unet":
        levels = len(config["block_out_channels"])
        heads = config["attention_head_dim"]
        small: dict[str, Any] = {
            "block_out_channels": [16] * levels, "norm_num_groups": 4, "layers_per_block": 1, "sample_size": SIDE // 8,
            "attention_head_dim": [2] * levels if isinstance(heads, list) else heads, "cross_attention_dim": WIDTH,
        }  # fmt: skip
        if config["_diffusers_version"] < "0.9":  # for which diffusers takes 64 latents to be the least
            small["_diffusers_version"] = "0.9.0"
        if config.get("addition_embed_type") == "text_time":
            small |= {"cross_attention_dim": WIDTH + WIDTH_2, "transformer_layers_per_block": [1] * levels}
            small |= {"addition_time_embed_dim": 8, "projection_class_embeddings_input_dim": 6 * 8 + WIDTH_2}
        return small
    if pipeline == "StableDiffusion3Pipeline":
        joint = WIDTH + WIDTH_2
        return FLOW_DIM | {
            "num_layers": 2, "joint_attention_dim": joint, "pooled_projection_dim": joint,
            "caption_projection_dim": 32, "sample_size": SIDE // 8,
        }  # fmt: skip
    if pipeline == "FluxPipeline":
        joint = {"joint_attention_dim": WIDTH + WIDTH_2, "pooled_projection_dim": WIDTH}
        return FLOW_DIM | joint | {"num_layers": 1, "num_single_layers": 1, "axes_dims_rope": [4, 6, 6]}
    if pipeline == "Flux2KleinPipeline":
        return FLOW_DIM | {
            "joint_attention_dim": 3 * WIDTH, "num_layers": 1, "num_single_layers": 1, "axes_dims_rope": [4, 4, 4, 4]
        }  # fmt: skip
    return {
        "dim": 32, "n_heads": 2, "n_kv_heads": 2, "n_layers": 2, "n_refiner_layers": 1, "cap_feat_dim": WIDTH,
        "axes_dims": [4, 6, 6],
    }  # fmt: skip


def _save(network: torch.nn.Module, folder: Path, config: dict[str, Any]) -> None:
    for weight in network.parameters():  # many start at zero, where nothing depends on anything
        if not weight.abs().max():
            torch.nn.init.normal_(weight, std=0.1)
    network.save_pretrained(folder)  # type: ignore[operator]
    _write(folder / "config.json", config)


def _write(file: Path, content: dict[str, Any]) -> None:
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps(content))

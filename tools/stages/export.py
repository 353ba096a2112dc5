"""Packs what was trained into the folder that ships: half precision, safetensors, with a history."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

import torch
from diffusers import AutoencoderTiny, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from tqdm import tqdm
from transformers import CLIPTextModel, CLIPTokenizer

from celeb_basis import CelebBasis
from celeb_basis.backend.card import DEFAULT_MODEL, FILE, SHIPPED
from celeb_basis.backend.load import load_pipeline
from celeb_basis.backend.pipeline import Pipeline
from celeb_basis.known_names import draw_portraits
from celeb_basis.miniature.drawn.captions import FACE_CROP
from celeb_basis.miniature.drawn.people import celebrities
from celeb_basis.miniature.drawn.readers import WEIGHTS, fitting_reader

from . import transformer

_DERIVED = {"unet": {"_name_or_path"}, "vae": {"_name_or_path", "block_out_channels"}}
CURVES = {"vae": "autoencoder", "text_encoder": "text"}
"""The stages that train parts of another name."""
READERS = ("finder", "fitting", "evaluation", "judge")
PIPELINE = SHIPPED[DEFAULT_MODEL]
TRAINING = Path(__file__).parents[1] / "training"
"""What training needs to go on elsewhere and the package does not."""
N_COMPONENTS = 64
CARD = {
    "num_inference_steps": 10,
    "guidance_scale": 2.5,
    "templates": [FACE_CROP],
    "scales": [0.5, 0.75, 1.0],
    "portraits": [
        "a close up photo of {}",
        "a photo of {} smiling",
        "a photo of {} in the forest",
        "a photo of {} in a studio wearing a black suit",
    ],
    "face_reader": "miniature-fitting",
    "judge": "miniature",
}
LEARNT = {"basis": "basis.safetensors", "instant_map": "instant_map.safetensors"}
DIRECTIONS = {"directions": "directions.safetensors"}


def best_denoiser(folder: Path) -> str:
    """The part of a training folder to take: a cooled denoiser before another."""
    return "unet-cooled" if (folder / "unet-cooled").exists() else "unet"


def pictures_seen(folder: Path, part: str) -> int:
    """How many pictures a network learnt from: what its exported file says, else the last line of its curve."""
    for path in (folder / part).glob("*.safetensors"):
        with safe_open(path, "pt") as file:
            if seen := (file.metadata() or {}).get("pictures"):
                return int(seen)
    curve = (folder / f"{CURVES.get(part, part)}.jsonl").read_text().splitlines()
    return int(json.loads(curve[-1])["pictures"])


def assemble(folder: Path) -> StableDiffusionPipeline:
    """The pipeline of what a training folder holds by now, in float32."""
    pipe = StableDiffusionPipeline(
        vae=AutoencoderTiny.from_pretrained(folder / "vae"),
        text_encoder=CLIPTextModel.from_pretrained(folder / "text_encoder"),
        tokenizer=CLIPTokenizer.from_pretrained(folder / "tokenizer"),
        unet=UNet2DConditionModel.from_pretrained(folder / best_denoiser(folder)),
        scheduler=DDIMScheduler.from_pretrained(folder / "scheduler"),
        safety_checker=None, feature_extractor=None, image_encoder=None, requires_safety_checker=False,
    )  # fmt: skip
    pipe.set_progress_bar_config(disable=True)
    return pipe


def run(folder: Path, *, device: str) -> None:
    """Write what is there by now to the package's weights."""
    WEIGHTS.mkdir(parents=True, exist_ok=True)
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty"], capture_output=True, text=True, check=True
    ).stdout.strip()
    for name in READERS:
        if (source := folder / f"{name}.safetensors").exists():
            with safe_open(source, "pt") as file:
                metadata = file.metadata()
            save_file(load_file(source), WEIGHTS / source.name, metadata | {"commit": commit})
    if not (folder / best_denoiser(folder)).exists():
        return
    shutil.rmtree(PIPELINE, ignore_errors=True)
    ship(folder, PIPELINE, {"commit": commit})
    write_card(CARD)


def ship(folder: Path, target: Path, metadata: Mapping[str, str]) -> None:
    """Write the pipeline of a training folder to one that ships, in half precision.

    metadata: of each network's file, beside the number of pictures that it learnt from.
    """
    pipe = assemble(folder)
    pipe.to(torch.float16).save_pretrained(target)
    # transformers loads a text encoder as it was saved: stock pipelines want all parts alike, single precision.
    pipe.text_encoder.float().save_pretrained(target / "text_encoder")
    # diffusers writes down what it derives from the rest, of which it warns when it reads it, and where it came from.
    for part in ("unet", "vae"):
        config = target / part / "config.json"
        kept = {k: v for k, v in json.loads(config.read_text()).items() if k not in _DERIVED[part]}
        config.write_text(json.dumps(kept, indent=2) + "\n")
    for part in ("unet", *CURVES):
        pictures = str(pictures_seen(folder, best_denoiser(folder) if part == "unet" else part))
        for path in (target / part).glob("*.safetensors"):
            save_file(load_file(path), path, {"format": "pt", "pictures": pictures, **metadata})


def write_card(card: dict, target: Path = PIPELINE) -> None:
    """Write the card that says how a pipeline is used, the shipped one or another."""
    (target / FILE).write_text(json.dumps(card, indent=2) + "\n")


def learn(folder: Path, *, device: str) -> None:
    """Make the basis of the shipped pipeline; from the portraits it draws of its celebrities the map and directions."""
    pipe, basis = learn_basis(PIPELINE, CARD, device)
    with tqdm(total=len(basis.names), desc="portraits") as bar:
        for drawn in draw_portraits(
            pipe, basis.names, fitting_reader(), num_images=2, num_inference_steps=5, batch_size=32
        ):
            bar.update(len(drawn.names) - bar.n)
    instant_map = drawn.instant_map(pipe, basis)
    instant_map.save(PIPELINE / LEARNT["instant_map"])
    directions = drawn.directions(pipe, basis, fitting_reader().trait_rows()).worthwhile()
    directions.save(PIPELINE / DIRECTIONS["directions"])
    write_card(CARD | LEARNT | DIRECTIONS)
    print(
        json.dumps(
            {"names": len(basis.names), "k": N_COMPONENTS, "alpha": instant_map.alpha, "score": instant_map.loo_r2}
        )
    )


def learn_basis(target: Path, card: dict, device: str) -> tuple[Pipeline, CelebBasis]:
    """Make the basis of a pipeline in a folder, and write the card that names it."""
    write_card(card, target)
    pipe = load_pipeline(DEFAULT_MODEL if target == PIPELINE else target, device=device)
    basis = CelebBasis.from_pipeline(pipe, celebrities(), N_COMPONENTS)
    basis.save(target / LEARNT["basis"])
    write_card(card | {"basis": LEARNT["basis"]}, target)
    return pipe, basis


def keep(folder: Path, *, device: str) -> None:
    """Keep what training needs to go on elsewhere and an hour does not make again, in half precision.

    The denoiser's raw weights without their average and the optimizers' state, the picture encoder of the captions, the
    transformers, and the curves, thinned. tools/training/README.md says what each file is.
    """
    TRAINING.mkdir(parents=True, exist_ok=True)
    source = folder / "unet.ckpt.safetensors"
    with safe_open(source, "pt") as file:
        metadata = file.metadata()
    weights = {key: value.bfloat16() for key, value in load_file(source).items() if key.startswith("weights.")}
    save_file(weights, TRAINING / source.name, metadata)
    save_file(_half(load_file(folder / "matcher.safetensors")), TRAINING / "matcher.safetensors")
    if (folder / f"{transformer.NAME}-cooled.ckpt.safetensors").exists():
        transformer.keep(folder, TRAINING)
    for curve in folder.glob("*.jsonl"):
        lines = curve.read_text().splitlines()
        thin = lines[:: max(1, len(lines) // 100)]
        (TRAINING / curve.name).write_text("\n".join([*thin, *(lines[-1:] if thin[-1:] != lines[-1:] else [])]) + "\n")


def restore(folder: Path, *, device: str) -> None:
    """Fill a training folder from what ships and what is kept.

    The denoiser's average is not kept: it starts at the weights, and is an average again after a ninth as many steps as
    were taken so far.
    """
    for path in PIPELINE.iterdir():
        if path.is_dir():
            shutil.copytree(path, folder / path.name, dirs_exist_ok=True)
    shutil.copytree(TRAINING, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("*.md", "portraits"))
    for path in WEIGHTS.glob("*.safetensors"):
        shutil.copy(path, folder)
    checkpoint = folder / "unet.ckpt.safetensors"
    with safe_open(checkpoint, "pt") as file:
        metadata = file.metadata()
    # What was kept in half precision learns on in single.
    weights = {key: value.float() for key, value in load_file(checkpoint).items()}
    average = {key.replace("weights.", "average.", 1): value.clone() for key, value in weights.items()}
    save_file(weights | average, checkpoint, metadata)
    transformer.restore(folder, TRAINING)


def _half(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {key: value.half() if value.is_floating_point() else value for key, value in state.items()}

"""Packs what was trained into the folder that ships with the package: half precision, safetensors, with a history."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import torch
from diffusers import AutoencoderTiny, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from tqdm import tqdm
from transformers import CLIPTextModel, CLIPTokenizer

from celeb_basis import DEFAULT_MODEL, CelebBasis, draw_portraits, load_pipeline
from celeb_basis.miniature.people import celebrities
from celeb_basis.miniature.readers import WEIGHTS, fitting_reader
from celeb_basis.models.card import FILE, SHIPPED

N_COMPONENTS = 64
_DERIVED = {"unet": {"_name_or_path"}, "vae": {"_name_or_path", "block_out_channels"}}
MODELS = {"unet": "unet", "vae": "autoencoder", "text_encoder": "text"}


def run(folder: Path, *, device: str) -> None:
    """Write pipeline, readers, basis and instant map to the package's weights."""
    target, readers = SHIPPED[DEFAULT_MODEL], WEIGHTS
    card = (target / FILE).read_text()  # written by hand, kept as it is
    for place in (target, readers):
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True)
    pipe = StableDiffusionPipeline(
        vae=AutoencoderTiny.from_pretrained(folder / "vae"),
        text_encoder=CLIPTextModel.from_pretrained(folder / "text_encoder"),
        tokenizer=CLIPTokenizer.from_pretrained(folder / "tokenizer"),
        unet=UNet2DConditionModel.from_pretrained(folder / "unet"),
        scheduler=DDIMScheduler.from_pretrained(folder / "scheduler"),
        safety_checker=None, feature_extractor=None, image_encoder=None, requires_safety_checker=False,
    )  # fmt: skip
    pipe.to(torch.float16).save_pretrained(target)
    (target / FILE).write_text(card)
    # transformers loads a text encoder as it was saved: stock pipelines want all parts alike, single precision.
    pipe.text_encoder.float().save_pretrained(target / "text_encoder")
    # diffusers writes down what it derives from the rest, of which it warns when it reads it, and where it came from.
    for part in ("unet", "vae"):
        config = target / part / "config.json"
        kept = {k: v for k, v in json.loads(config.read_text()).items() if k not in _DERIVED[part]}
        config.write_text(json.dumps(kept, indent=2) + "\n")
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty"], capture_output=True, text=True, check=True
    ).stdout.strip()
    for part, stage in MODELS.items():
        pictures = str(json.loads((folder / f"{stage}.jsonl").read_text().splitlines()[-1])["pictures"])
        for path in (target / part).glob("*.safetensors"):
            save_file(load_file(path), path, {"format": "pt", "commit": commit, "pictures": pictures})
    for name in ("finder", "fitting", "evaluation", "judge"):
        with safe_open(folder / f"{name}.safetensors", "pt") as file:
            metadata = file.metadata()
        save_file(
            load_file(folder / f"{name}.safetensors"),
            readers / f"{name}.safetensors",
            metadata | {"commit": commit},
        )
    learn(N_COMPONENTS)


def learn(n_components: int) -> None:
    """Make the basis of the shipped pipeline, and the instant map from the portraits it draws of its celebrities."""
    pipe = load_pipeline("miniature", device="cpu")
    basis = CelebBasis.from_pipeline(pipe, celebrities(), n_components)
    basis.save(SHIPPED[DEFAULT_MODEL] / "basis.safetensors")
    with tqdm(total=len(basis.names), desc="portraits") as bar:
        for drawn in draw_portraits(pipe, basis.names, fitting_reader()):
            bar.update(len(drawn.names) - bar.n)
    instant = drawn.instant_map(pipe, basis)
    instant.save(SHIPPED[DEFAULT_MODEL] / "instant_map.safetensors")
    print(json.dumps({"names": len(basis.names), "k": n_components, "alpha": instant.alpha, "score": instant.score}))

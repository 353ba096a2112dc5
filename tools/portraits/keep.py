"""Writes the pipeline that ships, and takes it back to train on: half precision, no optimizers' state, no photos."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from stages.export import CARD as DRAWN
from stages.export import LEARNT, best_denoiser, ship, write_card
from torch.nn.functional import normalize

from celeb_basis import CelebBasis, InstantMap
from celeb_basis.backend.card import PORTRAITS, SHIPPED
from celeb_basis.backend.load import load_pipeline
from celeb_basis.backend.text_encoders import name_rows
from celeb_basis.faces.recognise import DEFAULT_RECOGNISER, RECOGNISERS
from celeb_basis.miniature.portraits.people import celebrities

from . import inversion, pack
from .data import pictures_of
from .features import FILE
from .text import goals

PIPELINE = SHIPPED[PORTRAITS]
KEPT = Path(__file__).parents[1] / "training" / "portraits"
FOLDERS = ("text_encoder", "tokenizer", "vae", "unet", "scheduler")
LINES = 120
"""Of a curve, at most."""
N_COMPONENTS = 96
CARD = {key: DRAWN[key] for key in ("num_inference_steps", "guidance_scale", "templates", "scales", "portraits")} | {
    "max_train_steps": 80,
    "num_milestones": 0,
    "scenes": [
        "a close up photo of {} in the forest",
        "a photo of {} holding a balloon in the snow",
        "a photo of {} on the beach with a blue cap",
        "a photo of {} in the desert wearing a blue sweater",
        "a photo of {} smiling in a city at night",
        "a photo of {} in space with a crown",
        "a photo of {} looking right in the snow wearing a black suit",
        "a close up photo of {} smiling with a red hat",
    ],
    "face_loss_steps": 40,
    "judge": "portraits",
}


def keep(folder: Path, *, device: str) -> None:
    """Write the pipeline with the denoiser's averaged weights to the package, and the curves, thinned, to the tools."""
    checkpoint = folder / f"{best_denoiser(folder)}.ckpt.safetensors"
    ship(folder, PIPELINE, {"training": json.dumps(_metadata(checkpoint))})
    write_card(CARD, PIPELINE)
    for curve in folder.glob("*.jsonl"):
        lines = curve.read_text().splitlines()
        thin = lines if curve.stem == "figures" else lines[:: -(-len(lines) // LINES)]
        (KEPT / curve.name).write_text("\n".join([*thin, *(lines[-1:] if thin[-1:] != lines[-1:] else [])]) + "\n")


def learn(folder: Path, *, device: str) -> None:
    """Make the basis of the pipeline that ships, and the instant map from the celebrities' photographs."""
    pipe = load_pipeline(PIPELINE, device=device)
    basis = replace(CelebBasis.from_pipeline(pipe, celebrities(), N_COMPONENTS), model=PORTRAITS)
    basis.save(PIPELINE / LEARNT["basis"])
    rows, names = name_rows(pipe, celebrities())
    rank = {name: i for i, name in enumerate(celebrities())}
    read = load_file(folder / FILE)["sface"]
    heads = pack.load(folder)
    photographs = pictures_of(heads)
    features = normalize(torch.stack([read[photographs[rank[name]]].mean(0) for name in names]), dim=-1)
    reader = RECOGNISERS[DEFAULT_RECOGNISER].name
    instant_map = InstantMap.fit(features, basis.transform(rows), basis=basis, face_reader=reader)
    told, _ = goals(folder, heads)
    back, r2 = inversion.learnt(folder, pipe, heads, told)
    print(json.dumps({"R2 of coefficients": instant_map.loo_r2}))
    instant_map = replace(instant_map, inversion=back, loo_r2=r2)
    instant_map.save(PIPELINE / LEARNT["instant_map"])
    write_card(CARD | LEARNT, PIPELINE)
    print(json.dumps({"names": len(basis.names), "alpha": instant_map.alpha, "score": instant_map.loo_r2}))


def restore(folder: Path, *, device: str) -> None:
    """Fill a training folder with what ships: the denoiser goes on from its average, in single precision."""
    for name in FOLDERS:
        shutil.copytree(PIPELINE / name, folder / name, dirs_exist_ok=True)
        for path in (folder / name).glob("*.safetensors"):
            save_file({key: value.float() for key, value in load_file(path).items()}, path, _metadata(path))
    for curve in KEPT.glob("*.jsonl"):
        shutil.copy(curve, folder)
    [weights] = (folder / "unet").glob("*.safetensors")
    state = load_file(weights)
    save_file(
        {f"{part}.{key}": value.clone() for part in ("weights", "average") for key, value in state.items()},
        folder / "unet.ckpt.safetensors",
        json.loads(_metadata(weights)["training"]),
    )


def _metadata(path: Path) -> dict[str, str]:
    with safe_open(path, "pt") as file:
        return dict(file.metadata() or {})

"""Keeps what training needs to go on elsewhere, in half precision and without the optimizers' state; no photographs."""

from __future__ import annotations

import shutil
from pathlib import Path

from safetensors import safe_open
from safetensors.torch import load_file, save_file

KEPT = Path(__file__).parents[1] / "training" / "portraits"
FOLDERS = ("text_encoder", "tokenizer", "vae", "unet", "scheduler")
LINES = 120
"""Of a curve, at most."""


def keep(folder: Path, *, device: str) -> None:
    """Copy the networks, with the denoiser's averaged weights, and the curves, thinned."""
    KEPT.mkdir(parents=True, exist_ok=True)
    for name in FOLDERS:
        if (folder / name).exists():
            shutil.copytree(folder / name, KEPT / name, dirs_exist_ok=True)
    for path in KEPT.rglob("*.safetensors"):
        save_file({key: value.half() for key, value in load_file(path).items()}, path, _metadata(path))
    if (folder / "unet.ckpt.safetensors").exists():
        [weights] = (KEPT / "unet").glob("*.safetensors")
        save_file(load_file(weights), weights, _metadata(weights) | _metadata(folder / "unet.ckpt.safetensors"))
    for curve in folder.glob("*.jsonl"):
        lines = curve.read_text().splitlines()
        thin = lines if curve.stem == "figures" else lines[:: -(-len(lines) // LINES)]
        (KEPT / curve.name).write_text("\n".join([*thin, *(lines[-1:] if thin[-1:] != lines[-1:] else [])]) + "\n")


def restore(folder: Path, *, device: str) -> None:
    """Fill a training folder with what is kept: the denoiser goes on from its average, in single precision."""
    shutil.copytree(KEPT, folder, dirs_exist_ok=True)
    for path in folder.rglob("*.safetensors"):
        if path.parent.name in FOLDERS:
            save_file({key: value.float() for key, value in load_file(path).items()}, path, _metadata(path))
    [weights] = (folder / "unet").glob("*.safetensors")
    state = load_file(weights)
    save_file(
        {f"{part}.{key}": value.clone() for part in ("weights", "average") for key, value in state.items()},
        folder / "unet.ckpt.safetensors",
        _metadata(weights),
    )


def _metadata(path: Path) -> dict[str, str]:
    with safe_open(path, "pt") as file:
        return dict(file.metadata() or {})

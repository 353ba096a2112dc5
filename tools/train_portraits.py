"""Trains the photographs' miniature, in stages; killed at any moment, the same command goes on where it stopped.

    python tools/train_portraits.py heads names features text sides autoencoder components unet --portraits DIR

DIR holds portraits.csv, portraits-cutouts.zip and portraits-crops.zip; only the first stages read it. Every stage reads
what the earlier ones left in the folder and logs its curve in `<stage>.jsonl`. On from what is kept in
tools/training/portraits, in a new folder:

    python tools/train_portraits.py heads features restore components unet --portraits DIR

On a machine with a GPU the same commands train there; see tools/training/portraits/README.md.
"""

from __future__ import annotations

import argparse
import importlib
from pathlib import Path

import torch

STAGES = {
    "heads": ("pack.run", {"portraits": Path("portraits")}),
    "names": ("names.run", {"portraits": Path("portraits")}),
    "features": ("features.run", {}),
    "world": ("sheet.world", {}),
    "text": ("text.run", {"steps": 3000}),
    "sides": ("sides.run", {"steps": 1500}),
    "autoencoder": ("autoencoder.run", {"steps": 1600}),
    "decoder": ("decoder.run", {"steps": 600}),
    "components": ("components.run", {}),
    "unet": ("unet.run", {"minutes": float("inf"), "cooldown_minutes": 0.0, "workers": 0}),
    "meaning": ("measure.meaning", {}),
    "order": ("measure.order", {}),
    "through": ("measure.through", {}),
    "steering": ("drawing.steering", {}),
    "identity": ("drawing.identity", {"celebrities": 40}),
    "together": ("drawing.together", {"celebrities": 40}),
    "sheet": ("drawing.sheet", {}),
    "people": ("sheet.people", {"portraits": Path("portraits")}),
    "keep": ("keep.keep", {}),
    "learn": ("keep.learn", {}),
    "restore": ("keep.restore", {}),
}


def main() -> None:
    """Run the stages asked for, one after another."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stages", nargs="+", choices=STAGES)
    parser.add_argument("--folder", type=Path, default=Path("runs/portraits"))
    parser.add_argument("--portraits", type=Path, help="where the portraits to train on are")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--steps", type=int, help="instead of the stage's own number of steps")
    parser.add_argument("--minutes", type=float, help="of this call of the denoiser's training")
    parser.add_argument("--cooldown-minutes", type=float, help="let the rate fall for so long, in a checkpoint beside")
    parser.add_argument("--workers", type=int, help="processes that draw pictures ahead for the denoiser")
    parser.add_argument("--celebrities", type=int, help="how many of them are measured")
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    for stage in arguments.stages:
        where, options = STAGES[stage]
        module, function = where.split(".")
        given = {key: value for key in options if (value := getattr(arguments, key, None)) is not None}
        run = getattr(importlib.import_module(f"portraits.{module}"), function)
        run(arguments.folder, device=arguments.device, **options | given)


if __name__ == "__main__":
    main()

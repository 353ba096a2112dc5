"""Trains the miniature from nothing, in stages; killed at any moment, the same command goes on where it stopped.

    python tools/train_miniature.py text autoencoder finder fitting evaluation judge unet export learn figures

The experiment on transformers (benchmarks/studies/README.md), in the same folder, from nothing, or from what is kept:

    python tools/train_miniature.py language transformer
    python tools/train_miniature.py restore transformer

Every stage reads what the earlier ones left in the folder and logs its curve in `<stage>.jsonl`.
On CPUs the denoiser learns faster in two processes of one thread each:

    OMP_NUM_THREADS=1 torchrun --nproc-per-node 2 tools/train_miniature.py unet
"""

from __future__ import annotations

import argparse
import importlib
from pathlib import Path

import torch

STAGES = {
    "text": ("text.run", {"steps": 6500}),
    "autoencoder": ("autoencoder.run", {"steps": 1600}),
    "finder": ("readers.finder", {"steps": 1400}),
    "fitting": ("readers.recogniser", {"name": "fitting", "steps": 700}),
    "evaluation": ("readers.recogniser", {"name": "evaluation", "steps": 700}),
    "judge": ("readers.judge", {"steps": 1800}),
    "unet": ("unet.run", {"minutes": float("inf"), "cooldown_minutes": 0.0}),
    "language": ("language.run", {"steps": 6500}),
    "meaning": ("meaning.run", {"reads": "text"}),
    "transformer": ("transformer.run", {"minutes": float("inf"), "cooldown_minutes": 0.0}),
    "pack": ("pack.run", {"reads": "text"}),
    "export": ("export.run", {}),
    "learn": ("export.learn", {}),
    "keep": ("export.keep", {}),
    "restore": ("export.restore", {}),
    "sheet": ("sheet.run", {}),
    "figures": ("figures.run", {"celebrities": 160}),
    "progress": ("figures.run", {"celebrities": 40, "readers": False}),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stages", nargs="+", choices=STAGES)
    parser.add_argument("--folder", type=Path, default=Path("runs/miniature"))
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--steps", type=int, help="instead of the stage's own number of steps")
    parser.add_argument("--minutes", type=float, help="of this call of the denoiser's training")
    parser.add_argument("--cooldown-minutes", type=float, help="let the rate fall for so long, in a checkpoint beside")
    parser.add_argument("--reads", choices=("text", "language"), help="the text encoder: CLIP's, or the language model")
    parser.add_argument("--celebrities", type=int, help="how many of them are measured")
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    for stage in arguments.stages:
        where, options = STAGES[stage]
        module, function = where.split(".")
        given = {key: value for key in options if (value := getattr(arguments, key, None)) is not None}
        run = getattr(importlib.import_module(f"stages.{module}"), function)
        run(arguments.folder, device=arguments.device, **options | given)


if __name__ == "__main__":
    main()

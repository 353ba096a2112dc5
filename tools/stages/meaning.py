"""What the text encoder learnt: how much of a person's traits its rows tell, and how well captions find pictures."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import CLIPTokenizer

from celeb_basis.miniature.drawn import world
from celeb_basis.miniature.drawn.people import celebrities, celebrity_identities

from .data import signed
from .language import WHERE, encoder_of
from .text import GROUP, Matcher, halved, same_scene


def run(folder: Path, *, device: str, reads: str) -> None:
    """Measure a text encoder, print it, and keep it in the folder."""
    figures = rows(folder, reads) | {"retrieval among 16": retrieval(folder, reads)}
    print(json.dumps(figures, indent=1))
    (folder / f"{reads}-figures.json").write_text(json.dumps(figures, indent=1) + "\n")


def matcher(folder: Path, reads: str = "text") -> tuple[Matcher, CLIPTokenizer]:
    """A text encoder and the picture encoder it learnt with."""
    tokens = CLIPTokenizer.from_pretrained(folder / "tokenizer")
    module = Matcher(encoder_of(folder, reads), tokens.eos_token_id)
    module.load_state_dict(load_file(folder / f"{WHERE[reads][2]}.safetensors"), strict=False)
    return module.eval(), tokens


def held_out_r2(x: Tensor, y: Tensor, folds: int = 8) -> float:
    """The best over a few penalties of a ridge regression's share of explained variance on people it has not seen."""
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
    best = -1.0
    x = (x - x.mean(0)) / x.std(0).clamp(min=1e-6)
    for penalty in (1.0, 10.0, 100.0, 1000.0):
        wrong = 0.0
        for test in order.chunk(folds):
            train = torch.ones(len(x), dtype=torch.bool)
            train[test] = False
            mean = y[train].mean(0)
            a = x[train]
            weights = torch.linalg.solve(a.T @ a + penalty * torch.eye(a.shape[1]), a.T @ (y[train] - mean))
            wrong += float((x[test] @ weights + mean - y[test]).square().sum())
        best = max(best, 1 - wrong / float((y - y.mean(0)).square().sum()))
    return round(best, 3)


@torch.no_grad()
def rows(folder: Path, reads: str = "text") -> dict:
    """R2 of the visible traits from each row of a name and from its caption's end, and the spectrum of the rows.

    The states at the name's last token are those after each layer, so the last but one is what Z-Image's class reads.
    """
    module, tokens = matcher(folder, reads)
    ids = tokens([f"a photo of {name}" for name in celebrities()], return_tensors="pt").input_ids
    table = module.encoder.get_input_embeddings().weight
    first, last = table[ids[:, 4]], table[ids[:, 5]]
    output = module.encoder(ids, output_hidden_states=True)
    end = output.last_hidden_state[:, -1]
    traits = world.visible(celebrity_identities())
    traits = (traits - traits.mean(0)) / traits.std(0)
    values = torch.linalg.svdvals(last - last.mean(0)).square()
    share = values.cumsum(0) / values.sum()
    return {
        "r2": {
            "first row": held_out_r2(first, traits), "last row": held_out_r2(last, traits),
            "both": held_out_r2(torch.cat([first, last], 1), traits), "caption's end": held_out_r2(end, traits),
            "last token, after each layer": [held_out_r2(h[:, 5], traits) for h in output.hidden_states[1:]],
            "end, after each layer": [held_out_r2(h[:, -1], traits) for h in output.hidden_states[1:]],
        },
        "spectrum of last rows": {f"{k} components": round(float(share[k - 1]), 3) for k in (8, 16, 32, 64)},
        "effective components": round(float(values.sum() ** 2 / values.square().sum()), 1),
    }  # fmt: skip


@torch.no_grad()
def retrieval(folder: Path, reads: str = "text", groups: int = 120, seed: int = 60_000) -> dict[str, float]:
    """How often a caption finds its picture among 16 of the same scene with different people, all drawn afresh."""
    module, tokens = matcher(folder, reads)
    found: dict[str, float] = {}
    for i, kind in enumerate(("single", "face", "pair", "three")):
        described = same_scene(kind, groups, seed + i)
        right = []
        ids = tokens(described.captions, padding=True, return_tensors="pt").input_ids
        pictures = signed(halved(described.draw()))
        for captions, seen in zip(ids.split(GROUP), pictures.split(GROUP), strict=True):
            alike = module.text(captions) @ module.picture(seen).T
            right.append((alike.argmax(-1) == torch.arange(GROUP)).float().mean())
        found[kind] = round(float(torch.stack(right).mean()), 3)
    return found

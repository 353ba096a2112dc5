"""Figures: what the text encoder's states and rows tell of a face, and what comes through the autoencoder."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from diffusers import AutoencoderTiny
from stages.data import signed
from stages.meaning import held_out_r2
from torch import Tensor
from torch.nn.functional import interpolate
from transformers import CLIPTextModel, CLIPTokenizer

from celeb_basis.miniature.portraits.people import celebrities

from . import features, pack
from .text import name_ids


def note(folder: Path, figures: dict[str, object]) -> None:
    """Print figures, and keep them in the folder, one line a time."""
    print(json.dumps(figures, indent=1))
    with (folder / "figures.jsonl").open("a") as file:
        file.write(json.dumps(figures) + "\n")


@torch.no_grad()
def meaning(folder: Path, *, device: str) -> None:
    """Measure R2 of SFace's and dlib's features and of the pixels' components, for celebrities left out.

    They are told from states and rows. dlib's features are read anew, which takes some minutes.
    """
    tokens = CLIPTokenizer.from_pretrained(folder / "tokenizer")
    encoder = CLIPTextModel.from_pretrained(folder / "text_encoder").eval()
    heads = pack.load(folder)
    dlib = features.averaged(features.filled(features.of_crops(heads.crops, "dlib")), heads)
    goals = features.of_celebrities(folder, heads) | {"dlib": dlib}
    names = celebrities()
    ids = tokens([f"a photo of {name}" for name in names], return_tensors="pt").input_ids
    table = encoder.get_input_embeddings().weight
    first, last = table[name_ids(tokens, names)].unbind(1)
    hidden = encoder(ids).last_hidden_state
    places = {"last row": last, "first row": first, "both rows": torch.cat([first, last], 1),
              "state of the last name": hidden[:, 5], "state of the end": hidden[:, 6]}  # fmt: skip
    values = torch.linalg.svdvals(last - last.mean(0)).square()
    note(folder, {
        "r2": {place: {key: held_out_r2(x, y) for key, y in goals.items()} for place, x in places.items()},
        "effective components": round(float(values.sum() ** 2 / values.square().sum()), 1), "people": len(names),
    })  # fmt: skip


@torch.no_grad()
def order(folder: Path, *, device: str, n: int = 800) -> None:
    """Measure what the states of captions with two people tell: who is named first, and whom the words after tell."""
    tokens = CLIPTokenizer.from_pretrained(folder / "tokenizer")
    encoder = CLIPTextModel.from_pretrained(folder / "text_encoder").eval()
    names = celebrities()
    pairs = torch.randperm(len(names), generator=torch.Generator().manual_seed(0))[: 2 * n].view(-1, 2).tolist()

    def states(caption: str) -> Tensor:
        texts = [caption.format(names[a], names[b]) for a, b in pairs]
        return encoder(tokens(texts, return_tensors="pt").input_ids).last_hidden_state

    first, second = (states(f"a photo of {{{i}}} on the beach")[:, 5] for i in (0, 1))  # alone
    both, turned = states("a photo of {0} and {1} on the beach"), states("a photo of {1} and {0} on the beach")
    sides = states("a photo of {0} on the right and {1} on the left")
    which = torch.tensor([1.0, -1.0]).repeat_interleave(n)[:, None]
    told = {"and": both[:, 6], "the caption's end": both[:, -1], "right, said of the first": sides[:, 8]}
    note(folder, {"order": {
        "R2 of the second name's state from the one alone": round(
            1 - float((both[:, 8] - second).square().sum() / (second - second.mean(0)).square().sum()), 3),
        "R2 of who is first, from a name's state": held_out_r2(torch.cat([turned[:, 5], both[:, 8]]), which),
        "R2 of the first, the second person": {
            word: [held_out_r2(x, person) for person in (first, second)] for word, x in told.items()
        },
    }, "pairs": n})  # fmt: skip


@torch.no_grad()
def through(folder: Path, *, device: str, n: int = 120) -> None:
    """Measure SFace's cosine between crops of people never trained on before and behind the autoencoder."""
    heads = pack.load(folder)
    vae = AutoencoderTiny.from_pretrained(folder / "vae").eval()
    index = (heads.celebrity < 0).nonzero()[:, 0]
    crops = heads.crops[index[torch.linspace(0, len(index) - 1, n).long()]].float()
    figures: dict[str, object] = {"pictures": n}
    for side in (128, 96, 64):
        canvas = torch.zeros(n, 3, 128, 128)
        canvas[..., :side, :side] = interpolate(crops, (side, side), mode="bilinear", antialias=True).round()
        passed = torch.cat([vae.decode(vae.encode(x).latents).sample for x in signed(canvas).split(20)])
        passed = (passed.clamp(-1, 1) * 127.5 + 127.5).round()
        before, after = (features.of_crops(x.byte()) for x in (canvas, passed))
        cosine = (before * after).sum(1)
        error = (canvas - passed)[..., :side, :side].square().mean((1, 2, 3))
        figures[f"{side} pixels"] = {
            "median": round(float(cosine.nanmedian()), 3), "5%": round(float(cosine.nanquantile(0.05)), 3),
            "psnr": round(float((10 * (255**2 / error).log10()).mean()), 2), "read": int((~cosine.isnan()).sum()),
        }  # fmt: skip
    note(folder, {"through the autoencoder": figures})

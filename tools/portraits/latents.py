"""What the denoiser learns from: latents of pictures and their captions' tokens, made afresh in rounds."""

from __future__ import annotations

from concurrent.futures import Future, ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import torch
from diffusers import AutoencoderTiny
from safetensors.torch import load_file, save_file
from stages.latents import encode, on_faces
from torch import Tensor
from transformers import CLIPTokenizer

from celeb_basis.miniature.drawn.world import FRAMINGS

from . import pack
from .data import SIDES, Described, celebrities_in

SHARES = {"single": 0.40, "pair": 0.32, "three": 0.16, "face": 0.12}
WINDOW = 8
"""Side of a window round a face, in latents: 64 pixels."""
STRIP = 3
"""First row, in latents, of the strip with the heads of several people. It is as high as a window and as wide as the
picture: a window would not tell whose head it shows."""
AROUND = 0.2
"""Share of a face's square, at every side, that counts as little as what lies beside it: hair and air say less of who
somebody is, and can be guessed less well."""
SEEN = (*(f"face {side}" for side in SIDES), *(f"scene {framing}" for framing in FRAMINGS[:3]))
"""Faces of one size on black, and heads of people alone in scenes of one framing."""
_SEED = 200_000
_CHUNK = 1024


class Rounds:
    """Rounds of one part, the next ones drawn ahead by `workers` processes, where a fast device would wait for them."""

    def __init__(self, folder: Path, pictures: int, part: int = 0, workers: int = 0) -> None:
        self._make = partial(make_round, folder, pictures=pictures, part=part)
        self._workers = workers
        self._pool = (
            ProcessPoolExecutor(workers, get_context("spawn"), torch.set_num_threads, (1,)) if workers else None
        )
        self._ahead: dict[int, Future[Path]] = {}

    def take(self, number: int) -> dict[str, Tensor]:
        """Return what a round holds; earlier rounds are removed.

        `latents (n, channels, 16, 16)` in half precision, `ids (n, length)`, `faces (n, 1, 16, 16)`: which latents lie
        in the middle of a face, `corner (n, 2)`: top and left of a window round the face, -1 where there are several,
        `seen (n, 3)`: how the window shows the face, as `seen_as` says it.
        """
        if self._pool:
            for later in range(number, number + self._workers):
                if later not in self._ahead:
                    self._ahead[later] = self._pool.submit(self._make, later)
        path = self._ahead.pop(number).result() if self._pool else self._make(number)
        for old in path.parent.glob(f"{path.stem.rsplit('-', 1)[0]}-*.safetensors"):
            if int(old.stem.rsplit("-", 1)[1]) < number:
                old.unlink()
        return load_file(path)


def make_round(folder: Path, number: int, pictures: int, part: int = 0) -> Path:
    """Draw round `number` of `part`, unless it is there, and return its file."""
    path = folder / f"latents-{part}-{number}.safetensors"
    if path.exists():
        return path
    heads = pack.load(folder)
    vae = AutoencoderTiny.from_pretrained(folder / "vae").to(memory_format=torch.channels_last)
    tokens = CLIPTokenizer.from_pretrained(folder / "tokenizer")
    columns: dict[str, list[Tensor]] = {"latents": [], "ids": [], "faces": [], "corner": [], "seen": []}
    for i, (kind, share) in enumerate(SHARES.items()):
        left = round(share * pictures)
        for chunk in range(-(-left // _CHUNK)):
            # The same pictures whatever was made before, different ones for every round, part, kind and chunk.
            seed = _SEED + (((number * 8 + part) * 8) + i) * 256 + chunk
            described = celebrities_in(kind, min(_CHUNK, left - chunk * _CHUNK), seed, heads)
            ids = tokens(described.captions, padding="max_length", truncation=True, return_tensors="pt").input_ids
            boxes = described.boxes.float()
            columns["ids"].append(ids.short())
            columns["faces"].append(on_faces(boxes.lerp(boxes[..., [2, 3, 0, 1]], AROUND)))
            columns["corner"].append(corners(boxes))
            columns["seen"].append(seen_as(described))
            columns["latents"] += [encode(vae, x) for x in described.draw(heads).split(128)]
    state = {key: torch.cat(value) for key, value in columns.items()}
    temporary = path.with_suffix(".part")
    save_file(state, temporary)
    temporary.replace(path)
    return path


def corners(boxes: Tensor) -> Tensor:
    """Return top and left `(n, 2)`, in latents, of the windows in the middle of faces' squares `(n, people, 4)`."""
    if boxes.shape[1] > 1:
        return torch.full((len(boxes), 2), -1)
    middle = (boxes[:, 0, :2] + boxes[:, 0, 2:]) / 2
    return (middle / 8 - WINDOW / 2).round().long().clamp(0, 16 - WINDOW).flip(-1)


def seen_as(described: Described) -> Tensor:
    """Return how windows show faces `(n, 3)`: top and left, in the window, of what is seen of it, and which of `SEEN`.

    The last is -1 for three people, and for drawings. Faces of a kind all lie alike on the autoencoder's grid; those of
    two people lie in the halves of their strip as those far away do in windows.
    """
    n = len(described.boxes)
    scene = described.scene
    if described.kind == "face":
        left, top, right, _ = (described.boxes[:, 0] / 8).long().unbind(-1)
        corner = torch.stack([top, left], -1) - corners(described.boxes.float())
        side = torch.tensor([SIDES.index(8 * width) for width in (right - left).tolist()])
        return torch.cat([corner.clamp(min=0), side[:, None]], -1)
    if described.kind == "three":
        return torch.full((n, 3), -1)
    framing = scene.framing if described.kind == "single" else FRAMINGS.index("far away")
    kind = torch.where(scene.style == 0, len(SIDES) + framing, -1)
    return torch.cat([torch.zeros(n, 2, dtype=torch.long), kind[:, None]], -1)


def strips(x: Tensor) -> Tensor:
    """Return the strips `(n, c, 8, w)` of `x (n, c, h, w)` with the heads of several people."""
    return x[..., STRIP : STRIP + WINDOW, :]


def halves(strip: Tensor) -> Tensor:
    """Return the left halves, then the right ones, `(2 n, c, 8, 8)`, of strips `(n, c, 8, 16)`."""
    return torch.cat(strip.split(WINDOW, -1))


def windows(x: Tensor, corner: Tensor, side: int = WINDOW) -> Tensor:
    """Return windows `(n, c, side, side)` of `x (n, c, h, w)`, whose tops and lefts are `corner (n, 2)`."""
    axis = torch.arange(side)
    down, across = (corner[:, i, None] + axis for i in (0, 1))
    row = torch.arange(len(x))[:, None, None]
    return x.permute(0, 2, 3, 1)[row, down[:, :, None], across[:, None]].permute(0, 3, 1, 2)

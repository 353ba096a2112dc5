"""Linear maps from latents of faces to what names tell of them, by which the denoiser's guesses are judged."""

from __future__ import annotations

import math
from pathlib import Path

import torch
from diffusers import AutoencoderTiny
from safetensors.torch import load_file, save_file
from stages.latents import encode
from torch import Tensor
from torch.nn.functional import interpolate, pad
from tqdm import tqdm

from celeb_basis.miniature.drawn.world import FACE_REACH, FRAMINGS, HEAD, SIZE
from celeb_basis.miniature.portraits.heads import Heads

from . import features, pack
from .features import GREY
from .latents import SEEN, WINDOW, corners, windows

FILE = "components.safetensors"
RIDGE = 0.01
"""Of the mean square of a latent. On 600 faces left out, 64 pixels wide, the maps' R2 falls from .99 to .83."""


class Components:
    """Whitened fine components of an error in latents, for faces that are seen in any of the ways in `SEEN`."""

    def __init__(self, folder: Path, device: str) -> None:
        if not (folder / FILE).exists():
            save_file(_fitted(folder), folder / FILE)
        maps = load_file(folder / FILE)
        self._maps = [maps[kind].to(device) for kind in SEEN]

    def __call__(self, error: Tensor, seen: Tensor) -> Tensor:
        """Return components `(faces, 96)` of errors in windows `(n, channels, 8, 8)`, kind by kind.

        seen: `(n, 3)`, as `seen_as` says it; windows of no kind are left out.
        """
        found = []
        for kind, maps in enumerate(self._maps):
            own = seen[:, 2] == kind
            side = math.isqrt(len(maps) // error.shape[1])
            found.append(windows(error[own], seen[own, :2], side).flatten(1) @ maps)
        return torch.cat(found)


@torch.no_grad()
def _fitted(folder: Path) -> dict[str, Tensor]:
    """Return the maps, fitted by ridge regression on celebrities' photographs."""
    heads = pack.load(folder)
    kept = (heads.celebrity >= 0).nonzero()[:, 0]
    fine = load_file(folder / features.FILE)["fine"][kept]
    fine = fine - fine.mean(0)
    _, directions = torch.linalg.eigh(fine.T @ fine)
    components = fine @ directions[:, -features.COMPONENTS["fine"] :].flip(-1)
    asked = components / components.std(0)
    vae = AutoencoderTiny.from_pretrained(folder / "vae").to(memory_format=torch.channels_last)
    maps = {}
    for kind in tqdm(SEEN, "components"):
        shown = _on_black if kind.startswith("face") else _on_grey
        number = int(kind.split()[1]) if kind.startswith("face") else FRAMINGS.index(kind.removeprefix("scene "))
        x = torch.cat([shown(heads, some, number, vae).flatten(1) for some in kept.split(128)])
        x = x - x.mean(0)
        square = x.T @ x
        square.diagonal().add_(RIDGE * square.diagonal().mean())
        maps[kind] = torch.linalg.solve(square, x.T @ asked).contiguous()
    return maps


def _on_black(heads: Heads, picture: Tensor, side: int, vae: AutoencoderTiny) -> Tensor:
    """Return latents of what windows show of face crops, `side` pixels wide, on black."""
    edge = (SIZE - side) // 16 * 8
    inner = min(side // 8, WINDOW)
    corner = (edge + side // 2) // 8 - inner // 2
    small = interpolate(heads.crops[picture].float(), (side, side), mode="area").round().byte()
    on_black = pad(small, (edge, SIZE - side - edge, edge, SIZE - side - edge))
    return encode(vae, on_black)[..., corner : corner + inner, corner : corner + inner].float()


def _on_grey(heads: Heads, picture: Tensor, framing: int, vae: AutoencoderTiny) -> Tensor:
    """Return latents of windows round heads on grey, where a framing places them."""
    n = len(picture)
    half, y = HEAD[framing].tolist()
    x = SIZE / 2
    head = [torch.full((n,), value) for value in (x, y, half)]
    laid = heads.laid(("whole",), picture, torch.zeros(n), *head, SIZE, SIZE)
    on_grey = GREY + (laid[:, :3] - GREY) * laid[:, 3:]
    reach, middle = half * FACE_REACH, y - 0.12 * half
    boxes = torch.tensor([[x - reach, middle - reach, x + reach, middle + reach]]).expand(n, 1, 4)
    return windows(encode(vae, (on_grey * 255).round().byte()).float(), corners(boxes))

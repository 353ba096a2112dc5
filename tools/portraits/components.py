"""Linear maps from latents of faces to what names tell of them, by which the denoiser's guesses are judged."""

from __future__ import annotations

from pathlib import Path

import torch
from diffusers import AutoencoderTiny
from safetensors.torch import load_file, save_file
from stages.latents import encode
from torch import Tensor
from torch.nn.functional import interpolate, pad
from tqdm import tqdm

from celeb_basis.miniature.drawn.world import SIZE

from . import features, pack
from .data import SIDES
from .latents import WINDOW, windows

FILE = "components.safetensors"
RIDGE = 0.01
"""Of the mean square of a latent. On 600 faces left out, 64 pixels wide, the maps' R2 falls from .99 to .83."""


class Components:
    """Whitened fine components of an error in latents, for faces of each of the sides on the autoencoder's grid."""

    def __init__(self, folder: Path, device: str) -> None:
        if not (folder / FILE).exists():
            save_file(_fitted(folder), folder / FILE)
        self._maps = {int(side) // 8: maps.to(device) for side, maps in load_file(folder / FILE).items()}

    def __call__(self, error: Tensor, squares: Tensor) -> Tensor:
        """Return components `(faces, 96)` of errors in windows `(n, channels, 8, 8)`.

        squares: `(n, 3)`, top and left in the window and side in latents; those with side 0 are left out.
        """
        found = []
        for side, maps in self._maps.items():
            own = squares[:, 2] == side
            inner = windows(error[own], squares[own, :2].clamp(min=0), min(side, WINDOW))
            found.append(inner.flatten(1) @ maps)
        return torch.cat(found)


@torch.no_grad()
def _fitted(folder: Path) -> dict[str, Tensor]:
    """Return the maps by the faces' side in pixels, fitted by ridge regression on celebrities' photographs."""
    heads = pack.load(folder)
    kept = heads.celebrity >= 0
    fine = load_file(folder / features.FILE)["fine"][kept]
    fine = fine - fine.mean(0)
    _, directions = torch.linalg.eigh(fine.T @ fine)
    components = fine @ directions[:, -features.COMPONENTS["fine"] :].flip(-1)
    asked = components / components.std(0)
    vae = AutoencoderTiny.from_pretrained(folder / "vae").to(memory_format=torch.channels_last)
    maps = {}
    for side in tqdm(SIDES, "components"):
        edge = (SIZE - side) // 16 * 8
        inner = min(side // 8, WINDOW)
        corner = (edge + side // 2) // 8 - inner // 2
        seen = []
        for some in heads.crops[kept].split(128):
            small = interpolate(some.float(), (side, side), mode="area").round().byte()
            on_black = pad(small, (edge, SIZE - side - edge, edge, SIZE - side - edge))
            seen.append(encode(vae, on_black)[..., corner : corner + inner, corner : corner + inner].float().flatten(1))
        x = torch.cat(seen)
        x = x - x.mean(0)
        square = x.T @ x
        square.diagonal().add_(RIDGE * square.diagonal().mean())
        maps[str(side)] = torch.linalg.solve(square, x.T @ asked).contiguous()
    return maps

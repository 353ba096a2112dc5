"""Linear maps from latents of faces to what names tell of them, by which the denoiser's guesses are judged."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from diffusers import AutoencoderTiny
from safetensors.torch import load_file, save_file
from stages.latents import encode
from torch import Tensor
from tqdm import tqdm

from celeb_basis.instant_map import ridge
from celeb_basis.miniature.drawn.world import FRAMINGS, SIZE
from celeb_basis.miniature.portraits.captions import Sampler
from celeb_basis.miniature.portraits.heads import Heads

from . import features, pack
from .data import SIDES, Described
from .latents import SEEN, WINDOW, corners, seen_as, windows

FILE = "components.safetensors"
RIDGE = 0.03
"""The penalty, as a share of the mean sum of squares of a latent."""
_SEED = 700_000


class Components:
    """Whitened fine components of an error in latents, for faces that are seen in any of the ways in `SEEN`."""

    def __init__(self, folder: Path, device: str) -> None:
        maps = load_file(folder / FILE)
        self._maps = [maps[kind].to(device) for kind in SEEN]

    def __call__(self, error: Tensor, seen: Tensor) -> Tensor:
        """Return components `(faces, 96)` of errors in windows `(n, channels, 8, 8)`, kind by kind.

        seen: `(n, 3)`, as `seen_as` says it; windows of no kind are left out.
        """
        found = []
        for kind, maps in enumerate(self._maps):
            own = seen[:, 2] == kind
            if own.any():
                found.append(within(error[own], seen[own]) @ maps)
        return torch.cat(found) if found else error.new_zeros(0, self._maps[0].shape[1])


@torch.no_grad()
def run(folder: Path, *, device: str) -> None:
    """Fit the maps by ridge regression on pictures of all celebrities, once."""
    if (folder / FILE).exists():
        return
    heads = pack.load(folder)
    kept = (heads.celebrity >= 0).nonzero()[:, 0]
    fine = features.fine(heads)[kept]
    fine = fine - fine.mean(0)
    _, directions = torch.linalg.eigh(fine.T @ fine)
    told = fine @ directions[:, -features.COMPONENTS["fine"] :].flip(-1)
    told = told / told.std(0)
    vae = AutoencoderTiny.from_pretrained(folder / "vae").to(memory_format=torch.channels_last)
    maps = {}
    for kind in tqdm(SEEN, "components"):
        described = pictured(kind, kept, heads)
        latents = torch.cat([encode(vae, some).float() for some in described.draw(heads).split(128)])
        x = within(windows(latents, corners(described.boxes.float())), seen_as(described))
        penalty = RIDGE * float((x - x.mean(0)).square().sum(0).mean())
        maps[kind] = ridge(x.double(), told.double(), (penalty,)).coef.T.float().contiguous()
    save_file(maps, folder / FILE)


def within(shown: Tensor, seen: Tensor) -> Tensor:
    """Return the latents of faces in windows that all show them in one way, `(n, p)`."""
    kind = int(seen[0, 2])
    side = min(SIDES[kind] // 8, WINDOW) if kind < len(SIDES) else WINDOW
    return windows(shown, seen[:, :2], side).flatten(1)


def pictured(kind: str, picture: Tensor, heads: Heads) -> Described:
    """Describe pictures of some photographs, all seen in one way and not mirrored; nobody is named."""
    scene = Sampler(_SEED, heads).scenes(picture[:, None])
    scene.identity[..., 1] = 0
    shown, which = kind.split(maxsplit=1)
    if shown == "face":
        corner = (SIZE - int(which)) // 16 * 8
        boxes = torch.tensor([corner, corner, corner + int(which), corner + int(which)]).expand(len(picture), 1, 4)
        return Described("face", scene, [], picture[:, None], boxes, _SEED)
    scene = replace(
        scene, style=torch.zeros_like(scene.style), object=torch.zeros_like(scene.object),
        framing=torch.full_like(scene.framing, FRAMINGS.index(which)), x=torch.full_like(scene.x, SIZE / 2),
    )  # fmt: skip
    return Described("single", scene, [], picture[:, None], scene.boxes(), _SEED)

"""Figures of the pictures that the model makes: whether names steer the denoiser, and whom the faces are like."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from stages.export import assemble, best_denoiser, pictures_seen
from stages.figures import generate
from stages.latents import encode
from stages.sheet import tiled
from stages.unet import scheduler
from torch import Tensor
from torch.nn.functional import normalize

from celeb_basis.miniature.drawn.captions import FACE_CROP
from celeb_basis.miniature.portraits.people import celebrities as names_of

from . import features, pack
from .data import celebrities_in, pictures_of
from .latents import corners, windows
from .measure import note
from .unet import noised

TIMESTEPS = (999, 900, 800, 700, 600, 500, 400, 200)
PROMPTS = (
    FACE_CROP, "a close up photo of {}", "a photo of {} on the beach", "a photo of {} in space wearing a spacesuit",
    "a photo of {} in the forest wearing a red shirt", "a photo of {} in a studio wearing a black suit",
    "a photo of {} in the snow with a red hat", "a photo of {} in a city at night with a crown",
)  # fmt: skip
TOGETHER = (
    "a photo of {} and {} on the beach", "a photo of {} on the left and {} on the right in the snow",
    "a photo of {} and {} in a studio wearing a blue sweater", "a photo of {} and {} in the forest",
)  # fmt: skip
READERS = ("sface-int8", "dlib")
_SEED = 900_000


@torch.no_grad()
def steering(folder: Path, *, device: str, n: int = 256) -> None:
    """Measure the loss on fresh windows round faces with the right name and with somebody else's, by timestep."""
    pipe, heads = assemble(folder).to(device), pack.load(folder)
    torch.manual_seed(_SEED)
    alphas = scheduler().alphas_cumprod.to(device)
    latents, right, wrong = [], [], []
    for kind in ("face", "single"):
        described = celebrities_in(kind, n // 2, _SEED, heads)
        whole = torch.cat([encode(pipe.vae, x.to(device)).float() for x in described.draw(heads).split(64)])
        latents.append(windows(whole, corners(described.boxes.float())))
        called = [names_of()[i] for i in described.who[:, 0].tolist()]
        right += described.captions
        wrong += [
            caption.replace(own, other)
            for caption, own, other in zip(described.captions, called, called[1:] + called[:1], strict=True)
        ]
    x0 = torch.cat(latents)
    read = {key: _states(pipe, captions, device) for key, captions in (("right", right), ("wrong", wrong))}
    found = {}
    for step in TIMESTEPS:
        noise, t = torch.randn_like(x0), torch.full((len(x0),), step, device=device)
        noisy, velocity = noised(x0, t, noise, alphas)
        found[step] = {
            key: round(float((pipe.unet(noisy, t, hidden).sample - velocity).square().mean()), 4)
            for key, hidden in read.items()
        }
    seen = pictures_seen(folder, best_denoiser(folder))
    note(folder, {"steering": found, "pictures": seen, "windows": len(x0), "seed": _SEED})


def _states(pipe, captions: list[str], device: str) -> Tensor:
    ids = pipe.tokenizer(captions, padding="max_length", truncation=True, return_tensors="pt").input_ids
    return pipe.text_encoder(ids.to(device)).last_hidden_state


def identity(folder: Path, *, device: str, celebrities: int) -> None:
    """Measure cosines of faces in the pictures of celebrities to their own photographs, and to others', by each reader.

    SFace's likeness may be a part of the denoiser's loss; dlib's never is.
    """
    _measure(folder, device, celebrities, 1, PROMPTS, _alike)


def together(folder: Path, *, device: str, celebrities: int) -> None:
    """Measure pictures of two celebrities: whether two faces are found, and whom each is like, by each reader."""
    _measure(folder, device, celebrities // 2 * 2, 2, TOGETHER, _beside)


def _measure(
    folder: Path, device: str, celebrities: int, people: int, prompts: Sequence[str],
    compare: Callable[[list[Tensor], list[Tensor]], dict[str, object]],
) -> None:  # fmt: skip
    """Draw celebrities, so many in a picture, and note what `compare` says of each reader's features.

    compare: features of the faces in each picture, prompt by prompt, and of everybody's photographs `(faces, 128)`.
    """
    pipe, heads = assemble(folder).to(device), pack.load(folder)
    photographs = pictures_of(heads)
    who = torch.linspace(0, len(photographs) - 1, celebrities).long().view(people, -1).T.flatten().tolist()
    names = [names_of()[i] for i in who]
    groups = [names[k : k + people] for k in range(0, len(names), people)]
    pictures = generate(pipe, [prompt.format(*group) for group in groups for prompt in prompts], 1000)
    reader = features.Reader(*READERS)
    known = [reader.features(features.images(heads.crops[photographs[i]])) for i in who]
    found = {}
    for name, read, photographed in zip(READERS, reader.features(pictures), zip(*known, strict=True), strict=True):
        found[name] = compare(read, [torch.cat(each) for each in photographed])
    note(folder, {
        **found, "in a picture": people, "pictures": pictures_seen(folder, best_denoiser(folder)),
        "celebrities": celebrities, "seed": 1000,
    })  # fmt: skip


def _rounded(value: Tensor | float) -> float:
    return round(float(value), 3)


def _mean(photographs: list[Tensor]) -> Tensor:
    """Return the mean features `(n, 128)` of everybody's photographs, of length one."""
    return normalize(torch.stack([each.mean(0) for each in photographs]), dim=-1)


def _beside(read: list[Tensor], photographs: list[Tensor]) -> dict[str, object]:
    """Return means over pictures with two faces: cosines to the person asked for in a place, and to the other."""
    own = _mean(photographs)
    both = [k for k, faces in enumerate(read) if len(faces) == 2]
    alike = torch.stack([read[k] @ own.view(-1, 2, 128)[k // len(TOGETHER)].T for k in both])
    mine, others = alike.diagonal(dim1=1, dim2=2), alike.flip(-1).diagonal(dim1=1, dim2=2)
    return {
        "identity": _rounded(mine.mean()),
        "to the other": _rounded(others.mean()),
        "two faces": _rounded(len(both) / len(read)),
        "both on their sides": _rounded((mine > others).all(1).float().mean()),
    }


def _alike(read: list[Tensor], photographs: list[Tensor]) -> dict[str, object]:
    """Return means of cosines to the person asked for and to others, over pictures with one face.

    Of people with a second photograph also those to the first and to the second, and of these two to one another.
    """
    own = _mean(photographs)
    one = [k for k, faces in enumerate(read) if len(faces) == 1]
    mine = torch.tensor(one) // len(PROMPTS)
    alike = torch.cat([read[k] for k in one]) @ own.T
    to_own = alike.gather(1, mine[:, None])[:, 0]
    prompt = torch.tensor(one) % len(PROMPTS)
    found: dict[str, object] = {
        "identity": _rounded(to_own.mean()),
        "to others": _rounded((alike.sum(1) - to_own).mean() / (len(own) - 1)),
        f"first of {len(own)}": _rounded((alike.argmax(1) == mine).float().mean()),
        "one face": _rounded(len(one) / len(read)),
        "by prompt": [_rounded(to_own[prompt == i].mean()) for i in range(len(PROMPTS))],
    }
    twice = [k for k in one if len(photographs[k // len(PROMPTS)]) > 1]
    if not twice:
        return found
    pairs = torch.stack([photographs[k // len(PROMPTS)][:2] for k in twice])
    to_each = (pairs @ torch.cat([read[k] for k in twice])[..., None])[..., 0]
    return found | {
        "people with two photographs": len({k // len(PROMPTS) for k in twice}),
        "to the first, to the second": [_rounded(x) for x in to_each.mean(0)],
        "one to the other": _rounded((pairs[:, 0] * pairs[:, 1]).sum(1).mean()),
    }


def sheet(folder: Path, *, device: str, rows: int = 12) -> None:
    """Write `contact-sheet.png`: a row a celebrity, the photograph first, then a picture of each prompt."""
    pipe, heads = assemble(folder).to(device), pack.load(folder)
    photographs = pictures_of(heads)
    who = torch.linspace(0, len(photographs) - 1, rows).long().tolist()
    texts = [prompt.format(names_of()[i]) for i in who for prompt in PROMPTS]
    made = generate(pipe, texts, 3000)
    pictures = []
    for row, i in enumerate(who):
        [photograph] = features.images(heads.crops[photographs[i][:1]])
        pictures += [photograph.resize(made[0].size), *made[row * len(PROMPTS) :][: len(PROMPTS)]]
    tiled(pictures, 1 + len(PROMPTS)).save(folder / "contact-sheet.png", optimize=True)

"""What the denoiser learns from: latents of pictures and their captions' tokens, drawn afresh in rounds."""

from __future__ import annotations

from pathlib import Path

import torch
from diffusers import AutoencoderTiny
from safetensors.torch import load_file, save_file
from torch import Tensor
from tqdm import tqdm
from transformers import CLIPTokenizer

from .data import celebrities_in, signed

SHARES = {"single": 0.52, "pair": 0.20, "three": 0.14, "face": 0.14}
_SEED = 100_000
_CHUNK = 2048


def of_round(folder: Path, number: int, pictures: int, part: int = 0, device: str = "cpu") -> dict[str, Tensor]:
    """Round `number` of `part`, kept in the folder until the next: latents, token ids, and which latents are faces.

    `latents (n, channels, 16, 16)` in half precision, `ids (n, length)`, `faces (n, 1, 16, 16)`.
    """
    path = folder / f"latents-{part}-{number}.safetensors"
    if path.exists():
        return load_file(path)
    vae = AutoencoderTiny.from_pretrained(folder / "vae").to(device, memory_format=torch.channels_last)
    tokens = CLIPTokenizer.from_pretrained(folder / "tokenizer")
    encoded, ids, faces = [], [], []
    for i, (kind, share) in enumerate(SHARES.items()):
        left = round(share * pictures)
        for chunk in tqdm(range(-(-left // _CHUNK)), f"round {number}, {kind}", mininterval=10):
            # The same pictures whatever was drawn before, different ones for every round, part, kind and chunk.
            seed = _SEED + (((number * 8 + part) * 8) + i) * 256 + chunk
            described = celebrities_in(kind, min(_CHUNK, left - chunk * _CHUNK), seed)
            ids.append(_ids(tokens, described.captions))
            faces.append(on_faces(described.boxes))
            for bytes_ in described.draw().split(128):
                encoded.append(encode(vae, bytes_.to(device)).cpu())
    state = {"latents": torch.cat(encoded), "ids": torch.cat(ids), "faces": torch.cat(faces)}
    temporary = path.with_suffix(".part")
    save_file(state, temporary)
    temporary.replace(path)
    for old in folder.glob(f"latents-{part}-*.safetensors"):
        if old != path:
            old.unlink()
    return state


def _ids(tokens: CLIPTokenizer, captions: list[str]) -> Tensor:
    return tokens(captions, padding="max_length", truncation=True, return_tensors="pt").input_ids.short()


@torch.no_grad()
def encode(vae: AutoencoderTiny, pictures: Tensor) -> Tensor:
    """Bytes `(n, 3, 128, 128)` to scaled latents in half precision."""
    x = signed(pictures).contiguous(memory_format=torch.channels_last)
    return (vae.encode(x).latents * vae.config.scaling_factor).half().contiguous()


def on_faces(boxes: Tensor) -> Tensor:
    """Which latents lie on a face, `(n, 1, 16, 16)`, for squares `(n, people, 4)` in pixels."""
    centre = (torch.arange(16) + 0.5) * 8
    # A face's square has hair and air around it: two thirds of its side are the head.
    left, top, right, bottom = boxes.lerp(boxes[..., [2, 3, 0, 1]], 1 / 6)[..., None, None].unbind(2)
    across = (centre > left) & (centre < right)
    down = (centre[:, None] > top) & (centre[:, None] < bottom)
    return (across & down).any(1, keepdim=True)

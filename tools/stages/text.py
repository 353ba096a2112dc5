"""The text encoder: learns what captions mean from pictures alone, as CLIP did, and is then kept frozen.

It is never told a trait or who is who. Half of each batch are groups of pictures of one scene with different people, so
that a name is the only thing by which a caption finds its picture.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, cross_entropy, normalize
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer, PreTrainedModel

from celeb_basis.miniature.captions import Sampler
from celeb_basis.miniature.people import fame
from celeb_basis.miniature.readers import Trunk

from .data import COUNT, celebrities_in, describe
from .loop import train
from .tokenizer import LENGTH, tokenizer

WIDTH, LAYERS = 128, 3
JOINT = 192
"""Dimensions of the space where captions meet pictures."""
GROUP = 16
ANY = {"single": 18_000, "pair": 6_000, "three": 4_000, "face": 4_000}
GROUPS = {"single": 14_400, "pair": 2_400, "three": 1_600, "face": 4_800}
BATCH = 192


def build(tokens: CLIPTokenizer) -> CLIPTextModel:
    """A CLIP text model of 3 layers and 128 channels."""
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokens), hidden_size=WIDTH, intermediate_size=4 * WIDTH, num_hidden_layers=LAYERS,
            num_attention_heads=4, max_position_embeddings=LENGTH, projection_dim=WIDTH,
            bos_token_id=tokens.bos_token_id, eos_token_id=tokens.eos_token_id, pad_token_id=tokens.pad_token_id,
        )
    )  # fmt: skip


class Matcher(nn.Module):
    """A text encoder and, while it learns, a picture encoder beside it."""

    def __init__(self, encoder: PreTrainedModel, end: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.end = end
        self.eye = Trunk(32, 64, 96, 128)
        self.of_text = nn.Linear(WIDTH, JOINT)
        self.of_picture = nn.Linear(128 * 16, JOINT)
        self.sharpness = nn.Parameter(torch.tensor(2.7))

    def text(self, ids: Tensor) -> Tensor:
        """Token ids `(n, length)` to directions `(n, JOINT)`, read at the caption's end."""
        hidden = self.encoder(ids).last_hidden_state
        at = (ids == self.end).int().argmax(-1)
        return normalize(self.of_text(hidden[torch.arange(len(ids), device=ids.device), at]).float(), dim=-1)

    def picture(self, pictures: Tensor) -> Tensor:
        """Pictures `(n, 3, 64, 64)` in [-1, 1] to directions `(n, JOINT)`."""
        return normalize(self.of_picture(self.eye(pictures).flatten(1)).float(), dim=-1)


def same_scene(kind: str, groups: int, seed: int):
    """`groups` times 16 described pictures of one scene each, with different people, famous or not alike."""
    generator = torch.Generator().manual_seed(seed)
    many = COUNT[kind]
    who = torch.stack([torch.multinomial(fame().sqrt(), GROUP * many, generator=generator) for _ in range(groups)])
    like = torch.arange(groups).repeat_interleave(GROUP) * GROUP
    return describe(kind, who.view(-1, many), Sampler(seed), generator, like)


def halved(pictures: Tensor) -> Tensor:
    """Bytes of half the side."""
    return torch.cat([avg_pool2d(part.float(), 2).round().byte() for part in pictures.split(512)])


def pictures(folder: Path, tokens: CLIPTokenizer) -> dict[str, Tensor]:
    """Pictures of 64 x 64 and their captions' token ids, drawn once and kept in the folder; groups stand at the end."""
    path = folder / "text-pictures.safetensors"
    if not path.exists():
        seen, captions = [], []
        described = [celebrities_in(kind, n, 20_000 + COUNT[kind]) for kind, n in ANY.items()]
        described += [same_scene(kind, n // GROUP, 21_000 + i) for i, (kind, n) in enumerate(GROUPS.items())]
        for part in described:
            seen.append(halved(part.draw()))
            captions += part.captions
        ids = tokens(captions, padding="max_length", truncation=True, return_tensors="pt").input_ids
        temporary = path.with_suffix(".part")
        save_file({"pictures": torch.cat(seen), "ids": ids.short()}, temporary)
        temporary.replace(path)
    return load_file(path)


def run(folder: Path, *, steps: int, device: str) -> None:
    """Train CLIP's text model, the miniature's own."""
    learn(folder, "text", build, "text_encoder", "matcher", steps, device)


def learn(
    folder: Path, name: str, builder: Callable[[CLIPTokenizer], PreTrainedModel], own: str, other: str, steps: int,
    device: str,
) -> None:  # fmt: skip
    """Learn from captions and pictures, then keep the text encoder for good.

    own: the folder the text encoder goes to. other: the file for the picture encoder it learnt with.
    """
    tokens = tokenizer()
    tokens.save_pretrained(folder / "tokenizer")
    data = pictures(folder, tokens)
    of_any = sum(ANY.values())
    groups = (len(data["ids"]) - of_any) // GROUP
    torch.manual_seed(2)
    module = Matcher(builder(tokens), tokens.eos_token_id).to(device, memory_format=torch.channels_last)
    target = torch.arange(BATCH, device=device)

    def loss(step: int) -> tuple[Tensor, dict[str, float]]:
        group = torch.randperm(groups)[: BATCH // 2 // GROUP]
        index = torch.cat([
            torch.randint(of_any, (BATCH // 2,)),
            (of_any + group[:, None] * GROUP + torch.arange(GROUP)).flatten(),
        ])  # fmt: skip
        ids = data["ids"][index].long()
        ids = ids[:, : int((ids != tokens.eos_token_id).sum(-1).max()) + 1].to(device)
        seen = (data["pictures"][index].to(device).float() / 127.5 - 1).contiguous(memory_format=torch.channels_last)
        seen = seen + 0.05 * torch.randn_like(seen)
        with torch.autocast(device, torch.bfloat16):
            pictured = module.picture(seen)
        alike = module.sharpness.exp().clamp(max=50) * module.text(ids) @ pictured.T
        value = (cross_entropy(alike, target) + cross_entropy(alike.T, target)) / 2
        with torch.no_grad():
            right = (alike.argmax(-1) == target).float()
        return value, {"found": right[: BATCH // 2].mean().item(), "in group": right[BATCH // 2 :].mean().item()}

    def is_matrix(name: str) -> bool:
        return name.endswith("weight") and any(p in name for p in ("_proj", "mlp.fc", "eye")) and "norm" not in name

    dimensions = {name: p.dim() for name, p in module.named_parameters()}
    average, _ = train(
        name, module, loss, folder, steps=steps, learning_rate=2e-3, batch_size=BATCH, ema=0.99,
        matrices=lambda name: is_matrix(name) and dimensions[name] > 1,
    )  # fmt: skip
    module.load_state_dict(average)
    module.to("cpu", memory_format=torch.contiguous_format)
    module.encoder.save_pretrained(folder / own)
    # The picture encoder does not ship; it stays to measure how well captions find their pictures.
    eye = {key: value.contiguous() for key, value in module.state_dict().items() if not key.startswith("encoder.")}
    save_file(eye, folder / f"{other}.safetensors")

"""The text encoder: learns what captions mean from pictures alone, as CLIP did, and is then kept frozen.

It is never told a trait or who is who. Half of each batch are groups of pictures that are hard to tell apart: one
scene with different people, the same people doing different things there, and people who look alike to the picture
encoder so far.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, cross_entropy, normalize
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer, PreTrainedModel

from celeb_basis.miniature.drawn.captions import Sampler
from celeb_basis.miniature.drawn.people import celebrity_identities, fame, portrait_scene
from celeb_basis.miniature.drawn.readers import Trunk
from celeb_basis.miniature.drawn.world import CLOTHES, EXPRESSIONS, HEADWEAR, OBJECTS, POSES, SCENES, SIZE

from .data import COUNT, Described, celebrities_in, describe, draw, signed
from .loop import train
from .precision import autocast
from .tokenizer import LENGTH, tokenizer

WIDTH, LAYERS = 128, 3
JOINT = 192
"""Dimensions of the space where captions meet pictures."""
GROUP = 16
ANY = {"single": 18_000, "pair": 6_000, "three": 4_000, "face": 4_000}
"""Pictures of each kind."""
SAME_SCENE = {"single": 14_400, "pair": 2_400, "three": 1_600, "face": 4_800}
SAME_PEOPLE = {"single": 9_600, "pair": 1_600}
THIRD = {"scene": SCENES, "clothes": CLOTHES, "object": OBJECTS, "headwear": HEADWEAR}
"""What else differs among the same people; several wear no hats and hold nothing."""
LOOKALIKES = {"single": 9_600, "face": 4_800}
LOOKALIKES_FROM = 2400
"""The step from which people who look alike are told apart."""
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


def same_scene(kind: str, groups: int, seed: int, alike: Tensor | None = None) -> Described:
    """`groups` times 16 described pictures of one scene each, with different people, famous or not alike.

    alike: `(2048, 16)`, whom each celebrity stands among, one in each picture; otherwise anybody.
    """
    generator = torch.Generator().manual_seed(seed)
    many, sampler, worth = COUNT[kind], Sampler(seed), fame().sqrt()
    if alike is None:
        who = torch.stack([torch.multinomial(worth, GROUP * many, generator=generator) for _ in range(groups)])
    else:
        who = alike[torch.multinomial(worth, groups, True, generator=generator)]
    identity = celebrity_identities()[who.view(-1, many)]
    scene = replace(sampler.scenes(identity)[first_of_group(groups)], identity=identity)
    return describe(kind, who.view(-1, many), scene, sampler, generator)


def same_people(kind: str, groups: int, seed: int) -> Described:
    """`groups` times 16 described pictures of the same people in one scene, all different in what they do there.

    They differ in expression, pose, and one more thing, of which a group has two kinds: what is worn or held, or where.
    """
    generator = torch.Generator().manual_seed(seed)
    many, sampler = COUNT[kind], Sampler(seed, said=1.0)
    who = torch.stack([torch.multinomial(fame().sqrt(), many, generator=generator) for _ in range(groups)])
    who, first = who.repeat_interleave(GROUP, 0), first_of_group(groups)
    scene = sampler.scenes(celebrity_identities()[who])[first]
    if many == 1:  # so that there is room for what is held
        scene.x, scene.framing = scene.x.clamp(max=SIZE / 2), torch.zeros_like(scene.framing)
    of_group = torch.cartesian_prod(torch.arange(len(EXPRESSIONS)), torch.arange(len(POSES)), torch.arange(2))
    chosen = [of_group[torch.randperm(len(of_group), generator=generator)[:GROUP]] for _ in range(groups)]
    expression, pose, more = torch.cat(chosen).T
    scene.expression, scene.pose = (value[:, None].expand(-1, many) for value in (expression, pose))
    third = (first // GROUP) % (len(THIRD) if many == 1 else 2)
    for i, (attribute, values) in enumerate(THIRD.items()):
        value = getattr(scene, attribute)
        step = torch.randint(1, len(values), (len(who),), generator=generator)[first]
        changed = (value + (more * step * (third == i)).view(-1, *[1] * (value.dim() - 1))) % len(values)
        setattr(scene, attribute, changed)
    return describe(kind, who, scene, sampler, generator)


def in_groups(described: Callable[[str, int, int], Described], counts: dict[str, int], seed: int) -> list[Described]:
    """Groups of each kind in `counts`, so many pictures of it, each from a seed of its own."""
    return [described(kind, n // GROUP, seed + i) for i, (kind, n) in enumerate(counts.items())]


def first_of_group(groups: int) -> Tensor:
    """The place of the first picture of its group for each of `groups` times 16."""
    return torch.arange(groups).repeat_interleave(GROUP) * GROUP


def halved(pictures: Tensor) -> Tensor:
    """Bytes of half the side."""
    return torch.cat([avg_pool2d(part.float(), 2).round().byte() for part in pictures.split(512)])


def drawn(path: Path, tokens: CLIPTokenizer, described: Callable[[], list[Described]]) -> dict[str, Tensor]:
    """Pictures of 64 x 64 and their captions' token ids, drawn once and kept."""
    if not path.exists():
        parts = described()
        captions = [caption for part in parts for caption in part.captions]
        ids = tokens(captions, padding="max_length", truncation=True, return_tensors="pt").input_ids
        temporary = path.with_suffix(".part")
        save_file({"pictures": torch.cat([halved(part.draw()) for part in parts]), "ids": ids.short()}, temporary)
        temporary.replace(path)
    return load_file(path)


@torch.no_grad()
def lookalikes(module: Matcher, device: str) -> Tensor:
    """The 16 celebrities who look most alike to the picture encoder on plain portraits, for each, `(2048, 16)`."""
    seen = signed(halved(draw(portrait_scene(celebrity_identities()), "portraits")))
    features = torch.cat([module.picture(part.to(device)) for part in seen.split(256)])
    features = normalize(features - features.mean(0), dim=-1)
    return (features @ features.T).topk(GROUP).indices.cpu()


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
    any_kind = drawn(
        folder / "text-any.safetensors", tokens,
        lambda: [celebrities_in(kind, n, 20_000 + COUNT[kind]) for kind, n in ANY.items()],
    )  # fmt: skip
    groups = {
        "same scene": drawn(
            folder / "text-same-scene.safetensors", tokens, lambda: in_groups(same_scene, SAME_SCENE, 21_000)
        ),
        "same people": drawn(
            folder / "text-same-people.safetensors", tokens, lambda: in_groups(same_people, SAME_PEOPLE, 22_000)
        ),
    }
    torch.manual_seed(2)
    module = Matcher(builder(tokens), tokens.eos_token_id).to(device, memory_format=torch.channels_last)
    target = torch.arange(BATCH, device=device)

    def described_lookalikes() -> list[Described]:
        return in_groups(partial(same_scene, alike=lookalikes(module, device)), LOOKALIKES, 23_000)

    def loss(step: int) -> tuple[Tensor, dict[str, float]]:
        if step >= LOOKALIKES_FROM and "lookalikes" not in groups:
            groups["lookalikes"] = drawn(folder / f"{name}-lookalikes.safetensors", tokens, described_lookalikes)
        index = [(any_kind, torch.randint(len(any_kind["ids"]), (BATCH // 2,)))]
        for kind in groups.values():
            start = torch.randperm(len(kind["ids"]) // GROUP)[: BATCH // 2 // GROUP // len(groups), None] * GROUP
            index.append((kind, (start + torch.arange(GROUP)).flatten()))
        ids, seen = (torch.cat([kind[key][i] for kind, i in index]) for key in ("ids", "pictures"))
        ids = ids.long()
        ids = ids[:, : int((ids != tokens.eos_token_id).sum(-1).max()) + 1].to(device)
        seen = signed(seen.to(device)).contiguous(memory_format=torch.channels_last)
        seen = seen + 0.05 * torch.randn_like(seen)
        with autocast(device):
            pictured = module.picture(seen)
        alike = module.sharpness.exp().clamp(max=50) * module.text(ids) @ pictured.T
        value = (cross_entropy(alike, target) + cross_entropy(alike.T, target)) / 2
        with torch.no_grad():
            right = (alike.argmax(-1) == target).float()
        parts = zip(("any", *groups), right.split([len(i) for _, i in index]), strict=True)
        return value, {kind: part.mean().item() for kind, part in parts}

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

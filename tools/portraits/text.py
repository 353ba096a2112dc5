"""The text encoder: the drawn miniature's, which knows the words, learns the names of photographed people.

It learns by contrast, as CLIP did: the state of a name in a caption must find its person among all others. The side
of the pictures is fixed: components of pixels. If it could be learnt, and the temperature rise, people would be told
apart by arbitrary codes, which a denoiser would have to learn by heart. Once everybody is found, contrast asks for
nothing more, so the features themselves are asked for as well.

What a state tells in a linear way, a denoiser soon draws; what it has to work out, as a face from SFace's features, it
has not learnt from 600,000 pictures. So SFace's features are no part of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from stages.loop import train
from stages.text import WIDTH, build
from stages.tokenizer import LENGTH, tokenizer
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize
from transformers import CLIPTextModel, CLIPTokenizer

from celeb_basis.backend.card import DEFAULT_MODEL, SHIPPED
from celeb_basis.miniature.drawn import people as drawn_people
from celeb_basis.miniature.drawn.captions import FACE_CROP
from celeb_basis.miniature.portraits.captions import Sampler
from celeb_basis.miniature.portraits.heads import Heads
from celeb_basis.miniature.portraits.people import celebrities, fame

from . import features, pack

TEMPERATURE = 11.0
BATCH = 192
CAPTIONS = {1: 3000, 2: 1200, 3: 800}
"""Captions to put names into, by how many people they are about."""
PLAIN = ("{}", "a photo of {}", "a close up photo of {}", FACE_CROP)
TURNS = (0, 0, 1, 0, 2, 0, 1, 3)
"""About how many people the captions of each step are, in turns; 0 stands for plain captions, which are short."""
TOLD = 4.0
"""How much it counts that a linear map tells the features from a name's state."""
HELD_WORDS, HELD_END = 1.0, 0.2
"""How much it counts that words keep the states they had, and that the caption's end and what follows does."""


class Names(nn.Module):
    """A text encoder, and two linear maps from its states to the fixed features: from a name's, and the end's."""

    def __init__(self, encoder: CLIPTextModel, dimensions: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.of_name = nn.Linear(WIDTH, dimensions)
        self.of_end = nn.Linear(WIDTH, dimensions)


@dataclass
class Slots:
    """Captions with room for names: token ids `(n, length)` and the places of last names `(n, people)`."""

    ids: Tensor
    at: Tensor

    def filled(self, rows: Tensor, names: Tensor) -> Tensor:
        """Return the ids of captions number `rows (b,)` about people whose tokens are `names (b, people, 2)`."""
        ids, at = self.ids[rows].clone(), self.at[rows]
        return ids.scatter(1, at - 1, names[..., 0]).scatter(1, at, names[..., 1])


def slots(captions: list[str], people: int, tokens: CLIPTokenizer, names: tuple[str, ...]) -> Slots:
    """Return captions, formats of as many names as `people`, as token ids."""
    ids = _ids(tokens, [caption.format(*names) for caption in captions])
    lasts = name_ids(tokens, names)[:people, 1]
    return Slots(ids, torch.stack([(ids == last).int().argmax(1) for last in lasts], 1))


def name_ids(tokens: CLIPTokenizer, names: tuple[str, ...]) -> Tensor:
    """Return the two tokens of each name, `(n, 2)`."""
    return torch.tensor(tokens(list(names), add_special_tokens=False).input_ids)


def _ids(tokens: CLIPTokenizer, captions: list[str]) -> Tensor:
    return tokens(captions, padding="max_length", truncation=True, return_tensors="pt").input_ids


def formats(heads: Heads) -> dict[int, list[str]]:
    """Return captions with a place for each name, by how many people they are about; 0: plain ones, about one."""
    generator = torch.Generator().manual_seed(40)
    found = {0: list(PLAIN)}
    for many, n in CAPTIONS.items():
        sampler = Sampler(40 + many, heads)
        scene = sampler.scenes(torch.randint(len(heads), (n, many), generator=generator))
        found[many] = sampler.captions(scene, [tuple(f"{{{i}}}" for i in range(many))] * n)
    return found


def begun(tokens: CLIPTokenizer, old_tokens: CLIPTokenizer, old: CLIPTextModel) -> CLIPTextModel:
    """Return the drawn miniature's encoder with rows of its own for the new names, as spread out as the old ones."""
    encoder = build(tokens)
    state = {key: value for key, value in old.state_dict().items() if "token_embedding" not in key}
    encoder.load_state_dict(state, strict=False)
    table = encoder.get_input_embeddings().weight
    former = old.get_input_embeddings().weight
    known = name_ids(old_tokens, drawn_people.celebrities()).flatten().unique()
    with torch.no_grad():
        table.copy_(former[known].mean(0) + former[known].std(0) * torch.randn(table.shape))
        places = old_tokens.get_vocab()
        own = set(name_ids(tokens, celebrities()).flatten().tolist())
        for piece, row in tokens.get_vocab().items():
            if piece in places and row not in own:
                table[row] = former[places[piece]]
    return encoder


def goals(folder: Path, heads: Heads) -> tuple[Tensor, Tensor]:
    """Return components of everybody's face `(people, m)`, and what an error in each counts as unexplained, `(m,)`.

    The head's and the face's components count alike.
    """
    known = features.of_celebrities(folder, heads)
    parts = [known[key] for key in features.COMPONENTS]
    share = [x.new_full((x.shape[1],), 1 / (len(parts) * float(x.square().sum(1).mean()))) for x in parts]
    return torch.cat(parts, 1), torch.cat(share)


def is_matrix(name: str) -> bool:
    """Return whether a parameter is a hidden matrix of a module's text encoder."""
    return name.startswith("encoder") and name.endswith("weight") and ("_proj" in name or "mlp.fc" in name)


def run(folder: Path, *, steps: int, device: str) -> None:
    """Learn the names, then keep the text encoder for good."""
    heads, names = pack.load(folder), celebrities()
    tokens = tokenizer(names)
    tokens.save_pretrained(folder / "tokenizer")
    old_tokens = CLIPTokenizer.from_pretrained(SHIPPED[DEFAULT_MODEL] / "tokenizer")
    old = CLIPTextModel.from_pretrained(SHIPPED[DEFAULT_MODEL] / "text_encoder", torch_dtype=torch.float32)
    old = old.to(device).eval().requires_grad_(False)
    torch.manual_seed(41)
    goal, share = (x.to(device) for x in goals(folder, heads))
    everybody = normalize(goal, dim=-1)
    module = Names(begun(tokens, old_tokens, old), goal.shape[1]).to(device)
    captions = formats(heads)
    drawn = drawn_people.celebrities()
    new = {many: slots(texts, max(many, 1), tokens, names[:3]) for many, texts in captions.items()}
    former = {many: slots(texts, max(many, 1), old_tokens, drawn[:3]) for many, texts in captions.items()}
    of_names, of_drawn = name_ids(tokens, names), name_ids(old_tokens, drawn)
    often, end = fame(len(names)).sqrt(), tokens.eos_token_id

    def loss(step: int) -> tuple[Tensor, dict[str, float]]:
        kind = TURNS[step % len(TURNS)]
        many = max(kind, 1)
        n = BATCH // many
        rows = torch.randint(len(captions[kind]), (n,))
        who = torch.multinomial(often, n * many).view(n, many)
        others = torch.randint(len(drawn), (n, many))
        ids, old_ids = new[kind].filled(rows, of_names[who]), former[kind].filled(rows, of_drawn[others])
        length = min(LENGTH, int((ids != end).sum(1).max()) + 3)
        ids, old_ids = ids[:, :length].to(device), old_ids[:, :length].to(device)
        hidden = module.encoder(ids).last_hidden_state
        with torch.no_grad():
            before = old(old_ids).last_hidden_state
        at, who = new[kind].at[rows].to(device), who.to(device)
        row = torch.arange(n, device=device)
        named = hidden[row[:, None], at].flatten(0, 1)
        guess = module.of_name(named)
        untold = ((guess - goal[who.flatten()]).square() @ share).mean()
        found = TEMPERATURE * normalize(guess, dim=-1) @ everybody.T
        value = cross_entropy(found, who.flatten())
        if many == 1:
            at_end = hidden[row, (ids == end).int().argmax(1)]
            ended = TEMPERATURE * normalize(module.of_end(at_end), dim=-1) @ everybody.T
            value = value + 0.5 * cross_entropy(ended, who.flatten())
        weight = torch.where(ids == end, HELD_END, HELD_WORDS)
        weight = weight.scatter(1, at, 0.0).scatter(1, at - 1, 0.0)
        moved = ((hidden - before).square().mean(-1) * weight).sum() / weight.sum()
        right = (found.argmax(1) == who.flatten()).float().mean()
        return value + moved + TOLD * untold, {"right": right.item(), "moved": moved.item(), "untold": untold.item()}

    average, _ = train("text", module, loss, folder, steps=steps, learning_rate=2e-3, batch_size=BATCH, ema=0.99,
                       matrices=is_matrix)  # fmt: skip
    module.load_state_dict(average)
    module.encoder.to("cpu").save_pretrained(folder / "text_encoder")

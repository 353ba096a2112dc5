"""Teaches the text encoder who of several people is named first, and of whom a side is said.

A name's state says who it is, wherever it stands: so no denoiser could tell from it on which side somebody has to be.
Rows of names are not changed, and captions about one person keep their states, so that a basis, a map from photographs
and the way back through the text encoder stay as they are.
"""

from __future__ import annotations

from pathlib import Path

import torch
from stages.loop import train
from stages.text import WIDTH
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from transformers import CLIPTextModel, CLIPTokenizer

from celeb_basis.instant_map import ridge
from celeb_basis.miniature.portraits.people import celebrities

from . import pack
from .text import Slots, formats, goals, is_matrix, name_ids, slots

BATCH = 192
TURNS = (2, 1, 2, 0, 3, 1, 2, 3)
"""About how many people the captions of each step are, in turns; 0 stands for plain captions, which are short."""
HELD, HELD_NAMES = 4.0, 0.1
"""How much it counts that states stay as they were, and those of names beside others, which have to change a little."""
RIDGE = (0.1, 1.0, 10.0)


class Ordered(nn.Module):
    """A text encoder, and a linear map from a name's state to whether it is the first, the second or the third."""

    def __init__(self, encoder: CLIPTextModel) -> None:
        super().__init__()
        self.encoder = encoder
        self.which = nn.Linear(WIDTH, 3)


def said_of(ids: Tensor, at: Tensor, words: Tensor, the: int) -> Tensor:
    """Return of which person each token of captions `(n, length)` says a side, by number; -1 for all other tokens.

    at: `(n, people)`, where last names are. A side is said of the person who was named last: "X on the left".
    """
    place = torch.arange(ids.shape[1], device=ids.device)
    before = (at[:, None] < place[:, None]).sum(-1)  # how many people were named
    last = at[:, None].masked_fill(at[:, None] > place[:, None], -1).argmax(-1)
    side = torch.isin(ids, words) & (ids.roll(1, 1) == the) & (before > 0)
    return torch.where(side, last, -1)


def run(folder: Path, *, steps: int, device: str) -> None:
    """Learn it, and keep the text encoder; the former one stays beside it."""
    heads, names = pack.load(folder), celebrities()
    tokens = CLIPTokenizer.from_pretrained(folder / "tokenizer")
    former = folder / "text_encoder-alone"
    if not former.exists():
        CLIPTextModel.from_pretrained(folder / "text_encoder").save_pretrained(former)
    old = CLIPTextModel.from_pretrained(former).to(device).eval().requires_grad_(False)
    module = Ordered(CLIPTextModel.from_pretrained(former)).to(device)
    module.encoder.get_input_embeddings().requires_grad_(False)
    goal, share = goals(folder, heads)
    captions = formats(heads)
    new = {many: slots(texts, max(many, 1), tokens, names[:3]) for many, texts in captions.items()}
    of_names, end = name_ids(tokens, names), tokens.eos_token_id
    alone = torch.cat([_named(old, new[0], of_names[some].to(device)) for some in torch.arange(len(names)).split(256)])
    told = ridge(alone.cpu().double(), goal.double(), RIDGE)
    coef, intercept = (torch.as_tensor(x).float().to(device) for x in (told.coef, told.intercept))
    goal, share = goal.to(device), share.to(device)
    words = torch.tensor(tokens.convert_tokens_to_ids([f"{w}</w>" for w in ("left", "middle", "right")]), device=device)
    the = tokens.convert_tokens_to_ids("the</w>")

    def loss(step: int) -> tuple[Tensor, dict[str, float]]:
        kind = TURNS[step % len(TURNS)]
        many = max(kind, 1)
        n = BATCH // many
        rows = torch.randint(len(captions[kind]), (n,))
        who = torch.randint(len(names), (n, many))
        ids = new[kind].filled(rows, of_names[who])
        length = int((ids != end).sum(1).max()) + 1
        ids, at, who = ids[:, :length].to(device), new[kind].at[rows].to(device), who.to(device)
        hidden = module.encoder(ids).last_hidden_state
        with torch.no_grad():
            before = old(ids).last_hidden_state
        row = torch.arange(n, device=device)
        sides = said_of(ids, at, words, the)
        weight = torch.full(ids.shape, HELD, device=device).masked_fill(sides >= 0, 0.0)
        weight = weight.scatter(1, at, HELD if many == 1 else HELD_NAMES)
        moved = ((hidden - before).square().mean(-1) * weight).mean()
        place = (sides >= 0).nonzero()
        said = hidden[place[:, 0], place[:, 1]], who[place[:, 0], sides[place[:, 0], place[:, 1]]]
        named = hidden[row[:, None], at].flatten(0, 1), who.flatten()
        untold = [((state @ coef.T + intercept - goal[own]).square() @ share) for state, own in (named, said)]
        value = moved + untold[0].mean() + (untold[1].mean() if len(place) else 0.0)
        parts = {"moved": moved.item(), "untold": untold[0].mean().item()}
        if many > 1:
            order = torch.arange(many, device=device).repeat(n)
            guess = module.which(named[0])
            value = value + cross_entropy(guess, order)
            parts |= {"order": (guess.argmax(1) == order).float().mean().item(), "sides": untold[1].mean().item()}
        return value, parts

    average, _ = train("sides", module, loss, folder, steps=steps, learning_rate=2e-3, batch_size=BATCH, ema=0.99,
                       matrices=is_matrix)  # fmt: skip
    module.load_state_dict(average)
    module.encoder.to("cpu").save_pretrained(folder / "text_encoder")


@torch.no_grad()
def _named(encoder: CLIPTextModel, plain: Slots, names: Tensor) -> Tensor:
    """Return the states of names `(n, 2)`, each in the second of the plain captions."""
    rows = torch.ones(len(names), dtype=torch.long)
    ids = plain.filled(rows, names.cpu()[:, None])
    at = plain.at[rows, 0]
    return encoder(ids.to(encoder.device)).last_hidden_state[torch.arange(len(names)), at]

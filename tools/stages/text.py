"""The tokenizer, in which every word of the small world is one token, and the text encoder, which learns to read.

The encoder plays the part of CLIP, whose pretraining on pictures taught it what names look like. Here it is taught by
the world's own factors: at a last name who that is, at a caption's end who stands where and what else is asked for.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from celeb_basis.miniature import world
from celeb_basis.miniature.captions import FACE_CROP, VOCABULARY, WORDS, Sampler, asked
from celeb_basis.miniature.people import celebrities, celebrity_identities

from .loop import train

LENGTH, WIDTH = 32, 128
NOISE = 0.003
"""Standard deviation of the noise on the embeddings, so that what lies between two names is somebody, too."""


def tokenizer() -> CLIPTokenizer:
    """A real CLIPTokenizer whose merges continue until every word of the world is one token."""
    words = sorted({word for name in celebrities() for word in name.split()} | set(VOCABULARY))
    bpe = Tokenizer(models.BPE(unk_token="<|endoftext|>", end_of_word_suffix="</w>"))
    bpe.pre_tokenizer = pre_tokenizers.Whitespace()
    letters = [*"abcdefghijklmnopqrstuvwxyz0123456789.,-'!?"]
    trainer = trainers.BpeTrainer(
        vocab_size=50_000, initial_alphabet=letters, end_of_word_suffix="</w>", show_progress=False,
        special_tokens=["<|startoftext|>", "<|endoftext|>"],
    )  # fmt: skip
    bpe.train_from_iterator(words, trainer)
    state = bpe.to_str()
    import json

    model = json.loads(state)["model"]
    vocab = dict(model["vocab"])
    for letter in letters:
        vocab.setdefault(letter + "</w>", len(vocab))
    return CLIPTokenizer(vocab=vocab, merges=[tuple(pair) for pair in model["merges"]], model_max_length=LENGTH)


def build(tokens: CLIPTokenizer) -> CLIPTextModel:
    """A CLIP text model of 3 layers and 128 channels."""
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokens), hidden_size=WIDTH, intermediate_size=4 * WIDTH, num_hidden_layers=3,
            num_attention_heads=4, max_position_embeddings=LENGTH, projection_dim=WIDTH,
            bos_token_id=tokens.bos_token_id, eos_token_id=tokens.eos_token_id, pad_token_id=tokens.pad_token_id,
        )
    )  # fmt: skip


def captions(seed: int, n: int) -> tuple[list[str], Tensor, Tensor, Tensor]:
    """Captions, who is named `(n, 2)` from left to right, how many people `(n,)`, and what is asked `(n, attributes)`.

    An attribute that a caption does not name is -1.
    """
    sampler = Sampler(seed)
    generator = torch.Generator().manual_seed(seed)
    names, identities = celebrities(), celebrity_identities()
    who = torch.randint(len(names), (n, 2), generator=generator)
    many = (torch.rand(n, generator=generator) < 0.4).long() + 1
    lines: list[str] = [""] * n
    for people in (1, 2):
        index = (many == people).nonzero()[:, 0]
        scene = sampler.scenes(identities[who[index, :people]])
        called = [tuple(names[i] for i in row) for row in who[index, :people].tolist()]
        for i, line, name in zip(index.tolist(), sampler.captions(scene, called), called, strict=True):
            lines[i] = FACE_CROP.format(name[0]) if people == 1 and i % 10 == 0 else line
    wanted = torch.tensor([[asked(line).get(attribute, -1) for attribute in WORDS] for line in lines])
    return lines, who, many, wanted


def run(folder: Path, *, steps: int, device: str) -> None:
    """Teach the encoder to read, then keep it frozen for good."""
    tokens = tokenizer()
    torch.manual_seed(2)
    encoder = build(tokens)
    sizes = [len(values) for values, _ in WORDS.values()]
    traits = len(world.TRAITS)
    heads = nn.ModuleDict(
        {
            "name": nn.Linear(WIDTH, traits),
            "sides": nn.Linear(WIDTH, 2 * traits),
            "asked": nn.Linear(WIDTH, sum(sizes)),
        }
    )
    module = nn.ModuleDict({"encoder": encoder, "heads": heads}).to(device)
    known = world.visible(celebrity_identities())
    known = ((known - known.mean(0)) / known.std(0)).to(device)
    last_ids = torch.tensor(
        tokens.convert_tokens_to_ids([name.split()[1] + "</w>" for name in celebrities()]), device=device
    )
    assert tokens.unk_token_id not in last_ids
    batch_size = 192
    table = encoder.get_input_embeddings()

    def batches() -> Iterator[tuple[Tensor, ...]]:
        seed = 0
        while True:
            lines, *rest = captions(20_000 + seed, 4096)
            ids = tokens(lines, padding="max_length", truncation=True, return_tensors="pt").input_ids
            for start in range(0, len(ids) - batch_size + 1, batch_size):
                yield tuple(part[start : start + batch_size].to(device) for part in (ids, *rest))
            seed += 1

    stream = batches()

    def loss(step: int) -> tuple[Tensor, dict[str, float]]:
        ids, who, many, wanted = next(stream)
        noise = table.register_forward_hook(lambda _, __, rows: rows + NOISE * torch.randn_like(rows))
        hidden = encoder(ids).last_hidden_state
        noise.remove()
        row = torch.arange(len(ids), device=ids.device)
        end = hidden[row, (ids == tokens.eos_token_id).int().argmax(-1)]
        named = wrong_sides = 0.0
        for side in range(2):
            there = many > side
            at = (ids == last_ids[who[:, side], None]).int().argmax(-1)
            truth = known[who[:, side]]
            named = named + (heads["name"](hidden[row, at]) - truth)[there].square().mean() / 2
            guess = heads["sides"](end).view(-1, 2, traits)[:, side]
            wrong_sides = wrong_sides + (guess - truth)[there].square().mean() / 2
        misread = sum(
            nn.functional.cross_entropy(logits, wanted[:, i], ignore_index=-1)
            for i, logits in enumerate(heads["asked"](end).split(sizes, -1))
        ) / len(sizes)
        # Small rows, so that the noise is worth a part of them.
        size = 0.1 * table.weight.square().sum(-1).mean()
        parts = {"name": float(named), "sides": float(wrong_sides), "asked": float(misread)}
        return named + wrong_sides + misread + size, parts

    average, _ = train("text", module, loss, folder, steps=steps, learning_rate=2e-3, batch_size=batch_size, ema=0.99)
    module.load_state_dict(average)
    encoder.to("cpu").save_pretrained(folder / "text_encoder")
    tokens.save_pretrained(folder / "tokenizer")

"""A language model as text encoder: Qwen3's class, trained as the miniature's own, for the experiment on transformers.

Which of the two a stage is about is told by its curve's name: "text", CLIP's text model, or "language".
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor
from transformers import CLIPTextModel, CLIPTokenizer, PreTrainedModel, Qwen3Config, Qwen3Model

from .text import WIDTH, learn

LAYERS, HEADS, KEYS = 4, 4, 2
PIPELINE_LENGTH = 512
"""Tokens to which Z-Image's pipeline pads a prompt."""
WHERE: dict[str, tuple[type[PreTrainedModel], str, str]] = {
    "text": (CLIPTextModel, "text_encoder", "matcher"),
    "language": (Qwen3Model, "language_model", "language-matcher"),
}
"""Class of each text encoder, and where it and the picture encoder it learnt with lie in a training folder."""


def build(tokens: CLIPTokenizer) -> Qwen3Model:
    """A causal language model of 4 layers and 128 channels, about as large a layer as CLIP's."""
    return Qwen3Model(
        Qwen3Config(
            vocab_size=len(tokens), hidden_size=WIDTH, intermediate_size=11 * WIDTH // 4, num_hidden_layers=LAYERS,
            num_attention_heads=HEADS, num_key_value_heads=KEYS, head_dim=WIDTH // HEADS,
            max_position_embeddings=PIPELINE_LENGTH, use_cache=False, bos_token_id=tokens.bos_token_id,
            eos_token_id=tokens.eos_token_id,
        )
    )  # fmt: skip


def run(folder: Path, *, steps: int, device: str) -> None:
    """Train it on the captions and pictures of the miniature's text encoder."""
    _, own, other = WHERE["language"]
    learn(folder, "language", build, own, other, steps, device)


def encoder_of(folder: Path, reads: str) -> PreTrainedModel:
    """The text encoder of a training folder, frozen."""
    kind, own, _ = WHERE[reads]
    encoder: PreTrainedModel = kind.from_pretrained(folder / own)
    return encoder.eval().requires_grad_(False)


@torch.no_grad()
def states(encoder: PreTrainedModel, ids: Tensor, end: int) -> list[Tensor]:
    """What Z-Image's pipeline gives its transformer of captions: the last layer but one, without padding.

    ids `(n, length)`, padded with `end`; n tensors `(tokens, width)`.
    """
    lengths = (ids != end).sum(1) + 1
    hidden = encoder(ids[:, : int(lengths.max())], output_hidden_states=True).hidden_states[-2]
    return [row[:length] for row, length in zip(hidden, lengths.tolist(), strict=True)]

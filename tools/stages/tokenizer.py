"""The tokenizer: a real CLIPTokenizer in which every word of the small world is one token, the same in every build."""

from __future__ import annotations

from collections.abc import Sequence

from transformers import CLIPTokenizer

from celeb_basis.miniature.drawn.captions import VOCABULARY
from celeb_basis.miniature.drawn.people import celebrities

LENGTH = 40
START, END = "<|startoftext|>", "<|endoftext|>"
_LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789.,-'!?"


def tokenizer(names: Sequence[str] = ()) -> CLIPTokenizer:
    """Merges grow every word from its last letter to its first; names: of others than the drawn celebrities.

    A merge joins one letter to an ending of a word (`...</w>`), never two letters, so at each step only one merge can
    apply: whatever the order of the merges, every word of the world becomes one token and others fall into letters
    and a known ending.
    """
    words = {word for name in names or celebrities() for word in name.split()} | set(VOCABULARY)
    endings = sorted({word[i:] for word in words for i in range(len(word) - 1)}, key=lambda text: (len(text), text))
    pieces = [*_LETTERS, *(letter + "</w>" for letter in _LETTERS), *(text + "</w>" for text in endings), START, END]
    return CLIPTokenizer(
        vocab={piece: i for i, piece in enumerate(pieces)},
        merges=[(text[0], text[1:] + "</w>") for text in endings],
        model_max_length=LENGTH,
    )

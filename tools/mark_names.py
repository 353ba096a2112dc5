"""Marks each celebrity with the vocabularies in which the name is two tokens, and counts them."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import SimpleNamespace

from torch import nn
from transformers import AutoTokenizer

import celeb_basis
from celeb_basis.backend.text_encoders import unusable_names
from celeb_basis.basis import celebrity_names

FILE = Path(celeb_basis.__file__).with_name("celebrities.txt")


def main(*vocabularies: str) -> None:
    """Rewrite the list. vocabularies: NAME=FOLDER of a tokenizer, such as clip=..., t5=..., qwen=...."""
    names = celebrity_names()
    marks: dict[str, list[str]] = {name: [] for name in names}
    counts = []
    for vocabulary in vocabularies:
        label, _, folder = vocabulary.partition("=")
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        pipe = SimpleNamespace(tokenizer=tokenizer, text_encoder=nn.Identity())
        unusable = unusable_names(pipe, names)
        usable = [name for name in names if name not in unusable]
        ids = tokenizer([f" {name}" for name in usable], add_special_tokens=False).input_ids
        first, last = (len(set(tokens)) for tokens in zip(*ids, strict=True))
        counts.append(f"# {label}: {len(usable)} names; distinct first tokens: {first}; distinct last tokens: {last}.")
        for name in usable:
            marks[name].append(label)
    head = [line for line in FILE.read_text(encoding="utf-8").splitlines() if line.startswith("#")]
    head = [line for line in head if not re.match(r"# \w+: \d+ names;", line)]
    lines = [f"{name} # {' '.join(own)}" for name, own in marks.items() if own]
    FILE.write_text("\n".join([*head, *counts, *lines, ""]), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])

"""Other programs that draw with identity files: what a prompt says in each, and which names break one."""

from __future__ import annotations

import re
from collections.abc import Container
from pathlib import Path

from .notation import spelt

# Endings that make a new word of one that a vocabulary knows.
ENDINGS = ("elle", "vik", "owyn", "ulka", "ijo", "exa", "ozzi")


def in_prompts(file: str | Path, token: str) -> dict[str, str]:
    """What to write in a prompt of each program for an identity file: `{program: text}`.

    token: what names the person in celeb-basis; the others go by the name of the file.
    """
    stem = Path(file).stem
    return {
        "celeb-basis": token,
        "diffusers": f'{token} after Identity.load("{file}").load_into(pipe)',
        "AUTOMATIC1111, Forge": stem,
        "ComfyUI": f"embedding:{stem}",
        "SD.Next": stem,
        "InvokeAI": f"<{stem}>",
    }


def name_problems(name: str, vocabulary: Container[str] = ()) -> list[str]:
    """What goes wrong in other programs with a file called `name`, one line each; nothing for a name that works in all.

    vocabulary: the pieces that the model's tokenizers know.
    """
    problems = []
    if re.search(r"[<>]", name):
        problems.append("AUTOMATIC1111, ComfyUI and InvokeAI do not find a file with < or > in its name")
    elif not re.fullmatch(r"[a-z0-9_-]+", name):
        problems.append("prompts of ComfyUI and InvokeAI tell capitals apart and end a name at other signs")
    elif not re.fullmatch(r"[a-z]+", name):
        problems.append("stable-diffusion.cpp reads names of letters only")
    if name in vocabulary:
        problems.append(
            f"{name} is a piece of the model's vocabulary: SD.Next uses one of its two vectors and writes the person "
            "into words that contain it, sd-scripts refuses it"
        )
    elif f"{name}</w>" in vocabulary:
        problems.append(f"{name} is a word the model knows, which AUTOMATIC1111, Forge and SD.Next replace everywhere")
    return problems


def name_advice(name: str, vocabulary: Container[str] = ()) -> str:
    """One line on what a file called `name` breaks, and another name; empty for one that works everywhere."""
    problems = name_problems(name, vocabulary)
    return f"{'; '.join(problems)}: {free_name(name, vocabulary)} works everywhere" if problems else ""


def free_name(name: str, vocabulary: Container[str] = ()) -> str:
    """A name like the one wished for that works in every program: letters, and no piece of the vocabulary."""
    letters = re.sub(r"[^a-z]+", "", spelt(name)) or "person"
    for wish in (letters, *(letters + ending for ending in ENDINGS)):
        if not name_problems(wish, vocabulary):
            return wish
    return free_name(letters + ENDINGS[0], vocabulary)

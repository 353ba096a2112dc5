"""Other programs that draw with identity files: what a prompt says in each, and which names break one."""

from __future__ import annotations

import re
from collections.abc import Callable
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


def name_problems(name: str, knows: Callable[[str], bool] | None = None) -> list[str]:
    """What goes wrong in other programs with a file called `name`, one line each; nothing for a name that works in all.

    knows: whether a word is a piece of the model's vocabulary; without it only the spelling is checked.
    """
    problems = []
    if re.search(r"[<>]", name):
        problems.append("AUTOMATIC1111, ComfyUI and InvokeAI do not find a file with < or > in its name")
    elif not re.fullmatch(r"[a-z0-9_-]+", name):
        problems.append("prompts of ComfyUI and InvokeAI tell capitals apart and end a name at other signs")
    elif not re.fullmatch(r"[a-z]+", name):
        problems.append("stable-diffusion.cpp reads names of letters only")
    if knows and knows(name):
        problems.append(
            f"{name} is a piece of the model's vocabulary: SD.Next uses one of its two vectors and writes the person "
            "into words that contain it, sd-scripts refuses it"
        )
    elif knows and knows(f"{name}</w>"):
        problems.append(f"{name} is a word the model knows, which AUTOMATIC1111, Forge and SD.Next replace everywhere")
    return problems


def free_name(name: str, knows: Callable[[str], bool]) -> str:
    """A name like the one wished for that works in every program: letters, and no piece of the vocabulary."""
    letters = re.sub(r"[^a-z]+", "", spelt(name)) or "person"
    for wish in (letters, *(letters + ending for ending in ENDINGS)):
        if not name_problems(wish, knows):
            return wish
    return free_name(letters + ENDINGS[0], knows)

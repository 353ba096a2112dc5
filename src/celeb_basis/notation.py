"""How people and parts of an image are written in prompts and options: <ada>, and a box of four fractions."""

from __future__ import annotations

import hashlib
import re
import unicodedata

from .errors import PromptError
from .limits import MAX_TEMPLATE_LENGTH, MAX_TOKEN_LENGTH

PLACEHOLDER = re.compile(r"<[a-z0-9_-]+>")


def check_token(token: str) -> None:
    """Raise PromptError unless a placeholder token is written like <annika>."""
    if len(token) > MAX_TOKEN_LENGTH or not PLACEHOLDER.fullmatch(token):
        # Capitals would lose their second vector in diffusers; a bare word is also replaced inside words.
        raise PromptError(
            f"{excerpt(token)!r} cannot be a placeholder token: write lower-case letters, digits, - or _ "
            "between angle brackets, like <annika>"
        )


# What other programs write into prompts, and what it would be here: words.
NOTATIONS = (
    (
        re.compile(r"<(?:lora|lyco|lycoris|hypernet):[^<>]*>", re.IGNORECASE),
        "loads a file in AUTOMATIC1111: take it out, and load the LoRA itself",
        "lora",
    ),
    (
        re.compile(r"\([^()]*:\s*[-+]?(?:\d+\.?\d*|\.\d+)\s*\)"),
        "is a weight in AUTOMATIC1111 and ComfyUI: write it without, as prompts have no weights here",
        None,
    ),
    (
        re.compile(r"\[[^\[\]]*:[^\[\]]*:\s*(?:\d+\.?\d*|\.\d+)\s*\]"),
        "changes the prompt between steps in AUTOMATIC1111: write one prompt for all steps",
        None,
    ),
    (
        re.compile(r"(?<!\w)BREAK(?!\w)"),
        "begins another part of a prompt in AUTOMATIC1111: take it out, or write the word in small letters",
        None,
    ),
)


def check_notation(prompt: str) -> None:
    """Raise PromptError for what other programs write into a prompt, of which text encoders would read the letters."""
    for pattern, what, argument in NOTATIONS:
        if found := pattern.search(prompt):
            raise PromptError(f"{excerpt(found[0].strip())!r} {what}", argument=argument)


def placeholder_token(name: str) -> str:
    """Return the placeholder token of a name: annika and <annika> are <annika>. Raises PromptError."""
    token = f"<{name.strip().removeprefix('<').removesuffix('>')}>"
    check_token(token)
    return token


def is_template(value: object) -> bool:
    """Return whether a value is a prompt with {} where a name stands: once, without any other brace."""
    return (
        isinstance(value, str)
        and "{}" in value
        and value.count("{") == value.count("}") == 1
        and len(value) <= MAX_TEMPLATE_LENGTH
    )


def excerpt(text: str, length: int = 120) -> str:
    """Return the beginning of a text, for a message."""
    return text if len(text) <= length else f"{text[: length - 4]} ..."


# Letters of Latin alphabets that are no letter with an accent.
LETTERS = str.maketrans({"ø": "o", "ł": "l", "đ": "d", "ð": "d", "þ": "th", "æ": "ae", "œ": "oe", "ı": "i"})


def slugify(text: str) -> str:
    """Return a name as a placeholder token can hold it, without brackets: "Zoë Łuk" is zoe-luk.

    A name without any Latin letter becomes "person" and twelve letters of a checksum: of a million such names, the
    chance that two become one is 1 in 200,000.
    """
    plain = unicodedata.normalize("NFKD", text.casefold().translate(LETTERS))
    plain = "".join(c for c in plain if not unicodedata.combining(c))
    if any(c.isascii() and c.isalpha() for c in plain) or not any(c.isalpha() for c in plain):
        plain = re.sub(r"[^a-z0-9_-]+", "-", plain).strip("-")
        if plain:
            return plain
    number = int.from_bytes(hashlib.sha256(text.encode(errors="surrogatepass")).digest())
    return "person" + "".join(chr(ord("a") + number // 26**i % 26) for i in range(12))


Box = tuple[float, float, float, float]
"""Left, top, right and bottom of a part of a picture, as shares of its width and height."""


def check_box(name: str, box: Box) -> None:
    """Raise PromptError unless a box has an inside and lies in the picture."""
    if len(box) != 4 or not (0 <= box[0] < box[2] <= 1 and 0 <= box[1] < box[3] <= 1):
        raise PromptError(
            f"the region of {name} is {','.join(f'{side:g}' for side in box)}: give left,top,right,bottom as shares "
            "of the picture, 0 to 1, like 0,0,.5,1 for its left half"
        )

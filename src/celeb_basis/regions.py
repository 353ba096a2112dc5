"""Regions: each part of a picture reads the prompt with its own person's name in the place of every name."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, Literal

import torch
from torch import Tensor, nn

from .backend.denoiser import Denoiser
from .backend.families import get_denoiser
from .backend.pipeline import Pipeline, hook, model_name, uncompile
from .backend.text_encoders import expanded
from .errors import PromptError
from .notation import PLACEHOLDER, Box, check_box

Regions = Mapping[str, Box] | Literal["auto"] | None

SIDES = {"left": "left", "right": "right", "middle": "middle", "centre": "middle", "center": "middle"}
# "looking left", "in the right hand" and "in the middle of the street" do not say who stands on which side.
SIDE = re.compile(
    r"\b(?:(?:on|at|to)\s+(?:the\s+)?(?:far\s+)?(left|right)"
    r"|(?:in|at)\s+the\s+(middle|cent(?:er|re))(?!\s+of\b(?!\s+the\s+(?:picture|photo|image)))"
    r"|(left|right|middle|cent(?:er|re))(?=\s+(?:side\s+)?is\b|:))\b(\s+(?:side\s+)?is\b|:)?",
    re.IGNORECASE,
)


def columns(prompt: str, names: Sequence[str]) -> dict[str, Box]:
    """Return equal columns, from left to right, for those of the names that a prompt mentions; none for fewer than two.

    What the prompt says of sides ("X on the left", "left is X", "X in the middle") decides who stands where; who has
    no side takes what is left, in the order of first mention.
    """
    found = [(m.start(), m.group().lower()) for m in _pattern(names).finditer(prompt)] if names else []
    called = {name.lower(): name for name in names}
    people = list(dict.fromkeys(called[name] for _, name in found))
    if len(people) < 2:
        return {}
    sides: dict[str, str] = {}
    for said in SIDE.finditer(prompt):
        before = [called[name] for at, name in found if at < said.start()]
        after = [called[name] for at, name in found if at > said.start()]
        # "X on the left, on the right Y": a side is that of the name before it, unless that one has its own.
        whose = after if said[4] or not before or before[-1] in sides else before[::-1]
        if whose:
            sides.setdefault(whose[0], SIDES[next(filter(None, said.groups())).lower()])
    left, middle, right = ([p for p in people if sides.get(p) == side] for side in ("left", "middle", "right"))
    around, odd = divmod(len(people) - len(middle), 2)
    if odd:  # there is no middle of two
        middle = []
    free = [p for p in people if p not in [*left, *middle, *right]]
    cut = max(0, around - len(left))
    ordered = [*left, *free[:cut], *middle, *free[cut:], *right]
    return {name: (i / len(ordered), 0.0, (i + 1) / len(ordered), 1.0) for i, name in enumerate(ordered)}


def mentions(prompt: str, name: str) -> bool:
    """Return whether a name stands in a prompt, not inside another word; case makes no difference."""
    return bool(_pattern([name]).search(prompt))


def boxes_of(prompts: Sequence[str], regions: Regions, people: Sequence[str]) -> list[dict[str, Box]]:
    """Return the box of each name in each prompt, `{name: box}`; empty where no region is asked for.

    regions: boxes by the names as they stand in the prompts, or "auto" for `columns` of the people.

    Raises PromptError for a name that no prompt mentions and for a box without an inside.
    """
    if regions is None:
        return [{} for _ in prompts]
    if isinstance(regions, str):
        if regions != "auto":
            raise PromptError(f"regions={regions!r}: give a box for each name, or 'auto' for columns")
        return [columns(prompt, people) for prompt in prompts]
    for name, box in regions.items():
        check_box(name, box)
        if not name or not any(mentions(prompt, name) for prompt in prompts):
            raise PromptError(f"the prompt does not mention {name!r}: write a region's name as the prompt does")
    return [{n: box for n, box in regions.items() if mentions(prompt, n)} for prompt in prompts]


def layout(prompt: str, boxes: Mapping[str, Box], people: Sequence[str]) -> dict[str, Box]:
    """Return the version of a prompt that each box reads, `{version: box}`.

    people: names that are replaced too where they have no box.
    """
    parts = _pattern([*people, *boxes]).split(_add_positions(prompt, boxes)) if boxes else []
    return {name.join(parts): box for name, box in boxes.items()}


def _add_positions(prompt: str, boxes: Mapping[str, Box]) -> str:
    """Return the prompt with a side for everybody, from left to right as mentioned, if the boxes are in a row.

    The boxes decide who stands where, as each version holds one name only. Without the sides, "X and X" is often drawn
    as one person, and so is "X on the right and X on the left".
    """
    if len({left + right for left, _, right, _ in boxes.values()}) < max(2, len(boxes)):
        return prompt
    places = iter(["on the left", *["in the middle"] * (len(boxes) - 2), "on the right"])
    unsaid = {name.lower() for name in boxes}

    def placed(found: re.Match[str]) -> str:
        if found[1].lower() not in unsaid:
            return found[0]
        unsaid.discard(found[1].lower())
        return f"{found[0]} {next(places)}"

    plain = " ".join(SIDE.sub(" ", prompt).split()).replace(" ,", ",")
    return re.sub(rf"({_pattern(list(boxes)).pattern})(\s+(person|man|woman)\b)?", placed, plain, flags=re.IGNORECASE)


def _pattern(names: Sequence[str]) -> re.Pattern[str]:
    """Return a pattern that finds names, the longer first, and none inside another word; case makes no difference."""
    found = [
        re.escape(name) if PLACEHOLDER.fullmatch(name) else rf"(?<![\w<]){re.escape(name)}(?![\w>])"
        for name in sorted(names, key=len, reverse=True)
    ]
    return re.compile("|".join(found), re.IGNORECASE)


@contextmanager
def regional_prompts(
    pipe: Pipeline, prompts: Sequence[str], layouts: Sequence[Mapping[str, Box]], unwanted: str | None
) -> Iterator[dict[str, Any]]:
    """Yield the text to call a pipeline with inside the block, where each region reads its own version of it.

    layouts: `{version: box}` of each prompt. The states of all versions are given one after the other, the prompt's
    own first, and a mask in the denoiser's cross-attention shows a pixel those of its boxes, or outside every box the
    prompt's own. Weights and attention processors stay as they are, and the hooks are gone afterwards.
    """
    if not any(layouts):
        text: dict[str, Any] = {"prompt": expanded(pipe, prompts)}
        if unwanted is not None:
            text["negative_prompt"] = expanded(pipe, [unwanted] * len(prompts))
        yield text
        return
    denoiser = get_denoiser(pipe)
    if not denoiser.cross_attention():
        raise PromptError(
            f"{model_name(pipe)} is a {type(pipe).__name__}, whose attention takes no regions: leave regions out"
        )
    most = 1 + max(map(len, layouts))
    versions = [
        text
        for prompt, layout in zip(prompts, layouts, strict=True)
        for text in [prompt, *layout, *[prompt] * (most - 1 - len(layout))]
    ]
    with torch.no_grad():
        embeds = denoiser.embeds(versions, unwanted)
    length = embeds["prompt_embeds"].shape[1]
    text = {
        key: values[::most] if "pooled" in key else values.reshape(len(prompts), -1, values.shape[-1])
        for key, values in embeds.items()
    }
    with ExitStack() as undo:
        uncompile(undo, pipe, denoiser.part)
        _mask_attention(undo, get_denoiser(pipe), [list(layout.values()) for layout in layouts], length)
        yield text


def _mask_attention(undo: ExitStack, denoiser: Denoiser, boxes: Sequence[Sequence[Box]], length: int) -> None:
    """Mask the attention until `undo`: a pixel reads only the versions, `length` states each, of its boxes."""
    size = [0, 0]  # of the largest feature map
    masks: dict[int, Tensor] = {}

    def measure(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        if size != list(denoiser.map_size(args, kwargs)):
            size[:] = denoiser.map_size(args, kwargs)
            masks.clear()
        # Each version begins at place 0, where transformers count the places.
        return args, kwargs | {key: kwargs[key] % length for key in ("txt_ids",) if key in kwargs}

    def mask(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        features = args[0] if args else kwargs["hidden_states"]
        pixels = size[0] * size[1] if denoiser.joint_attention else features.shape[1]
        if pixels not in masks:
            reads = read_by(boxes, *_halved(size[0], size[1], pixels)).flatten(2).transpose(1, 2)
            shown = reads.repeat_interleave(length, dim=-1)
            shown = _joint(shown, length) if denoiser.joint_attention else shown
            masks[pixels] = torch.zeros(shown.shape, dtype=features.dtype).masked_fill(~shown, -torch.inf).to(features)
        own = masks[pixels]
        # With guidance the pictures come twice, without their text and with it.
        return args, kwargs | {"attention_mask": own.repeat(len(features) // len(own), *[1] * (own.ndim - 1))}

    hook(undo, denoiser.network.register_forward_pre_hook, measure, with_kwargs=True)
    for module in denoiser.cross_attention():
        hook(undo, module.register_forward_pre_hook, mask, with_kwargs=True)


def _joint(shown: Tensor, length: int) -> Tensor:
    """Return who attends to whom in joint attention, (images, 1, all, all), texts before pixels.

    Pixels attend to all pixels; a version attends to itself and to the pixels that read it.
    """
    pixels, texts = shown.shape[1:]
    version = torch.arange(texts) // length
    same = (version[:, None] == version).expand(len(shown), -1, -1)
    above = torch.cat([same, shown.transpose(1, 2)], dim=-1)
    below = torch.cat([shown, torch.ones(len(shown), pixels, pixels, dtype=torch.bool)], dim=-1)
    return torch.cat([above, below], dim=1)[:, None]


def _halved(height: int, width: int, pixels: int) -> tuple[int, int]:
    """Return the size that the network's halvings give a feature map of so many pixels."""
    while height * width > pixels:
        height, width = -(-height // 2), -(-width // 2)
    return height, width


def read_by(boxes: Sequence[Sequence[Box]], height: int, width: int) -> Tensor:
    """Return which versions a pixel reads, by its centre: (pictures, 1 + most boxes, height, width), booleans.

    Version 0, the prompt itself, is for the pixels outside all boxes of their picture.
    """
    y = ((torch.arange(height) + 0.5) / height)[:, None]
    x = (torch.arange(width) + 0.5) / width
    reads = torch.zeros(len(boxes), 1 + max(map(len, boxes)), height, width, dtype=torch.bool)
    for picture, own in zip(reads, boxes, strict=True):
        for version, (left, top, right, bottom) in zip(picture[1:], own, strict=False):
            version[:] = (left <= x) & (x < right) & (top <= y) & (y < bottom)
        picture[0] = ~picture[1:].any(0)
    return reads

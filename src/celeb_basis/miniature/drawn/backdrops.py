"""The places people stand in: one picture for each scene and each of its eight variants, drawn once and kept."""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate

from .canvas import SIZE, Canvas, box, colour, segment, soft, spot

SCENES = ("studio", "beach", "forest", "city", "snow", "space", "desert")
VARIANTS = 8
"""Variants of each scene."""
_SEED = 500_000
WHITE = colour(1.0, 1.0, 1.0)


@cache
def backdrop(scene: int, place: int, size: int = SIZE) -> Tensor:
    """Return the empty scene number `scene` in its variant `place`, `(3, size, size)` in [0, 1]."""
    c = Canvas(torch.zeros(1, 3, 2 * size, 2 * size))
    PAINTERS[SCENES[scene]](c, place, torch.Generator().manual_seed(_SEED + 100 * scene + place))
    return avg_pool2d(c.rgb.clamp(0, 1), 2)[0]


def backdrops(scene: Tensor, place: Tensor, size: int = SIZE) -> Tensor:
    """Return the empty scenes `(n, 3, size, size)` for indices `(n,)`."""
    unique, index = (scene * VARIANTS + place).unique(return_inverse=True)
    return torch.stack([backdrop(*divmod(i, VARIANTS), size) for i in unique.tolist()])[index]


def clouds(c: Canvas, generator: torch.Generator, wide: int, high: int, octaves: int = 4) -> Tensor:
    """Return smooth noise of spread 1 about 0, `(1, h, w)`; its largest spots are `1 / wide` by `1 / high`."""
    total = torch.zeros(1, 1, *c.rgb.shape[-2:])
    for octave in range(octaves):
        grid = torch.randn(1, 1, 1 + high * 2**octave, 1 + wide * 2**octave, generator=generator)
        total += interpolate(grid, total.shape[-2:], mode="bicubic", align_corners=True) * 0.55**octave
    return total[0]


def ridge(c: Canvas, generator: torch.Generator, points: int, octaves: int = 4) -> Tensor:
    """Return a jagged line along the picture about 0 with a spread of about 1, `(1, 1, w)`."""
    total = torch.zeros(1, 1, c.rgb.shape[-1])
    for octave in range(octaves):
        grid = torch.randn(1, 1, 1 + points * 2**octave, generator=generator)
        total += interpolate(grid, total.shape[-1], mode="linear", align_corners=True) * 0.5**octave
    return total


def _number(generator: torch.Generator, low: float, high: float) -> float:
    return low + (high - low) * float(torch.rand((), generator=generator))


def _sky(c: Canvas, top: Tensor, bottom: Tensor, horizon: float = SIZE) -> None:
    down = (c.y / horizon).clamp(0, 1)[None]
    c.paint(top[:, None, None] * (1 - down) + bottom[:, None, None] * down + 0 * c.rgb, torch.ones(1, 1, 1))


def _studio(c: Canvas, place: int, generator: torch.Generator) -> None:
    tones = ((0.66, 0.69, 0.74), (0.70, 0.64, 0.58), (0.48, 0.58, 0.68), (0.66, 0.56, 0.62),
             (0.58, 0.65, 0.58), (0.80, 0.76, 0.70), (0.40, 0.44, 0.52), (0.62, 0.52, 0.46))  # fmt: skip
    light = 0.70 + 0.52 * soft(((c.x - 50) ** 2 + 1.2 * (c.y - 46) ** 2).sqrt() - 44, 110)
    cloth = clouds(c, generator, 3, 4)
    c.paint(colour(*tones[place])[:, None, None] * (light + 0.018 * cloth)[:, None], torch.ones(1, 1, 1))


def _beach(c: Canvas, place: int, generator: torch.Generator) -> None:
    shift = 8.0 * (place % 4)
    _sky(c, colour(0.22, 0.56, 0.92), colour(0.80, 0.93, 1.0), 72)
    sun_x, sun_y = 18 + shift, 17.0
    away = ((c.x - sun_x) ** 2 + (c.y - sun_y) ** 2).sqrt()[None]
    c.paint(colour(1.0, 0.97, 0.80), 0.75 * torch.exp(-away / 16))
    c.paint(colour(1.0, 0.96, 0.72), c.cover(away - 8))
    puffs = clouds(c, generator, 2, 5)
    c.paint(WHITE, 0.75 * soft(0.55 - puffs + (c.y - 40) / 60, 1.2) * (c.y < 70))
    sea = (c.y - 70) / 24
    water = colour(0.05, 0.40, 0.70)[:, None, None] * (1 - sea) + colour(0.30, 0.78, 0.80)[:, None, None] * sea
    c.paint(water[None] + 0 * c.rgb, c.cover(70 - c.y + 0 * c.x)[None])
    crests = clouds(c, generator, 5, 60, 2) - 1.1 + 0.5 * sea
    c.paint(WHITE, 0.6 * crests.clamp(0, 1) * (c.y > 71))
    shore = 93 + 2.5 * (c.x * 0.07 + place).sin() + 1.5 * (c.x * 0.17).sin()
    c.paint(colour(0.80, 0.66, 0.42), c.cover(shore - c.y)[None])
    c.paint(colour(0.94, 0.82, 0.56), soft(shore + 7 - c.y, 9)[None])
    c.paint(WHITE, 0.9 * soft((c.y - shore).abs() - 1.0, 2.2)[None])
    c.paint(colour(0.62, 0.46, 0.24), 0.16 * clouds(c, generator, 40, 60, 2).clamp(0, 1) * soft(shore + 5 - c.y, 4))
    _palm(c, 112.0 if place % 2 else 14.0, -1 if place % 2 else 1)


def _palm(c: Canvas, foot: float, lean: int) -> None:
    bend = ((100 - c.y) / 62).clamp(0, 1)
    trunk = torch.maximum((c.x - foot - 5 * lean * bend**2).abs() - 2.4 + 0.9 * bend, (c.y - 70).abs() - 32)
    bark = 1.0 - 0.25 * ((c.y * 1.2).sin() > 0.3) - 0.10 * (c.x - foot - 5 * lean * bend**2)
    c.paint((colour(0.52, 0.37, 0.22)[:, None, None] * bark)[None], c.cover(trunk)[None])
    top_x, top_y = foot + 5 * lean, 38.0
    for reach, drop, rise, shade in (
        (-25, 15, 9, 0.80), (24, 17, 8, 0.72), (-19, 2, 9, 1.0), (20, 1, 9, 0.95), (-9, 22, 2, 0.70), (8, 22, 2, 0.66),
    ):  # fmt: skip
        t = ((c.x - top_x) / reach).clamp(0, 1)
        middle = top_y - rise * 4 * t * (1 - t) * 0.8 + drop * t**1.6
        comb = 0.75 + 0.25 * ((c.x * 2.4).sin())
        leaf = (c.y - middle).abs() - 3.6 * (t * (1 - t)).sqrt() * comb - 0.3
        leaf = torch.maximum(leaf, torch.maximum(-(c.x - top_x) / reach, (c.x - top_x) / reach - 1) * abs(reach))
        green = colour(0.16, 0.50, 0.20) * shade
        c.paint(green[None], c.cover(leaf)[None])
        c.paint((green * 1.4)[None], 0.6 * c.cover(torch.maximum(leaf, (c.y - middle + 0.8).abs() - 0.5))[None])


def _forest(c: Canvas, place: int, generator: torch.Generator) -> None:
    _sky(c, colour(0.62, 0.80, 0.50), colour(0.86, 0.93, 0.70), 96)
    leaves = clouds(c, generator, 5, 6)
    for depth in range(3):
        haze = (1, 0.62, 0.24)[depth]
        tone = colour(0.16, 0.36, 0.17).lerp(colour(0.62, 0.78, 0.50), 0.75 * haze)
        bark = colour(0.27, 0.18, 0.11).lerp(colour(0.55, 0.66, 0.45), 0.75 * haze)
        count, radius = (9, 6, 4)[depth], (1.6, 2.8, 5.0)[depth]
        for i in range(count):
            x0 = SIZE * (i + _number(generator, 0.15, 0.85)) / count
            tree = (c.x - x0 - 0.02 * (c.y - 60) * _number(generator, -1, 1)).abs() - radius
            tree = tree - 0.05 * radius * (c.y - 96).clamp(min=0)
            round_ = 1.15 - 0.30 * (c.x - x0) / radius + 0.10 * ((c.x * 2.2).sin() * (c.y * 0.35 + i).sin())
            c.paint((bark[:, None, None] * round_).clamp(0, 1)[None], c.cover(torch.maximum(tree, c.y - 104))[None])
        canopy = clouds(c, generator, 7 - depth, 6, 4)
        edge = (26, 20, 12)[depth] + 7 * canopy
        lit = (0.85 + 0.22 * leaves + 0.12 * clouds(c, generator, 26, 26, 2)).clamp(0.4, 1.5)
        c.paint((tone[:, None, None] * lit[:, None]).clamp(0, 1), soft(c.y - edge, 3.0))
    grass = 98 + 3 * ridge(c, generator, 3)
    blades = 0.95 + 0.22 * clouds(c, generator, 50, 10, 2) + 0.16 * leaves
    fade = colour(0.42, 0.60, 0.22)[:, None, None] * blades[:, None]
    c.paint(fade.clamp(0, 1), soft(grass - c.y, 3.0))
    for i in range(3):
        beam = ((c.x - 22 - 30 * i - 10 * (place % 3)) + 0.55 * (c.y - 20)).abs() - 4 - 0.03 * c.y
        c.paint(colour(1.0, 0.97, 0.72), (0.20 * soft(beam, 8) * soft(c.y - 92, 40))[None])


def _city(c: Canvas, place: int, generator: torch.Generator) -> None:
    _sky(c, colour(0.03, 0.05, 0.17), colour(0.42, 0.24, 0.46), 100)
    away = ((c.x - 100 + 10 * (place % 4)) ** 2 + (c.y - 20) ** 2).sqrt()[None]
    c.paint(colour(0.85, 0.88, 1.0), 0.45 * torch.exp(-away / 11))
    c.paint(colour(0.97, 0.96, 0.88), c.cover(away - 6.5))
    c.paint(
        colour(0.80, 0.79, 0.76), 0.5 * c.cover(((c.x - 99 + 10 * (place % 4)) ** 2 + (c.y - 18) ** 2).sqrt()[None] - 2)
    )
    for depth in range(3):
        width = (11.0, 15.0, 20.0)[depth]
        blocks = int(SIZE / width) + 2
        tall = torch.rand(blocks, generator=generator) * (34, 40, 30)[depth] + (40, 48, 74)[depth]
        offset = _number(generator, 0, width)
        block = ((c.x + offset) / width).floor().long().clamp(0, blocks - 1)
        top = tall[block]
        face = colour(0.30, 0.20, 0.42).lerp(colour(0.07, 0.07, 0.14), (0, 0.55, 1)[depth])
        within = (c.x + offset).remainder(width) / width
        side = 1.12 - 0.35 * within
        alpha = c.cover(top - c.y) * soft((within - 0.5).abs() - 0.47, 0.06)
        c.paint((face[:, None, None] * side)[None] + 0 * c.rgb, alpha[None])
        if depth == 0:
            continue
        step_x, step_y = (3.75, 5.0) if depth == 1 else (5.0, 6.0)
        column, row = (within * width / step_x).floor(), ((c.y - top) / step_y).floor()
        chance = ((block * 37.7 + column * 11.3 + row * 71.9 + place * 3.3).sin() * 4373.1).remainder(1)
        window = box((within * width).remainder(step_x) - step_x / 2, (c.y - top).remainder(step_y) - step_y / 2,
                     step_x * 0.29, step_y * 0.27)  # fmt: skip
        warm = colour(1.0, 0.84, 0.44)[:, None, None].lerp(
            colour(0.65, 0.85, 1.0)[:, None, None], (chance > 0.9).float()
        )
        lit = (chance > 0.48) * alpha * (c.y > top + 2) * (row * step_y + step_y < SIZE - top)
        c.paint(warm[None], (0.30 * soft(window - 0.4, 2.2) * lit)[None])
        c.paint(warm[None], (c.cover(window) * lit * (0.65 + 0.35 * chance))[None])
    c.paint(colour(1.0, 0.62, 0.34), (0.30 * soft(96 - c.y, 60) + 0 * c.x)[None])
    for i in range(9):
        x, y, r = SIZE * (i + _number(generator, 0, 1)) / 9, _number(generator, 100, 126), _number(generator, 2.5, 5)
        tone = (colour(1.0, 0.75, 0.35), colour(1.0, 0.40, 0.35), colour(0.55, 0.85, 1.0))[i % 3]
        away = ((c.x - x) ** 2 + (c.y - y) ** 2).sqrt()
        c.paint(tone[None], (0.50 * soft(away - r, 1.6))[None])


def _snow(c: Canvas, place: int, generator: torch.Generator) -> None:
    _sky(c, colour(0.50, 0.68, 0.88), colour(0.93, 0.95, 0.98), 80)
    for depth in range(2):
        peak = 34.0 + 18 * depth
        centre = 34 + 10 * (place % 4) + 52 * depth
        slope = (0.9 - 0.25 * depth) * ((c.x - centre + 50).remainder(100) - 50).abs()
        top = peak + slope + 3.2 * ridge(c, generator, 6)
        relief = clouds(c, generator, 6, 5)
        lit = soft(relief + 0.05 * ((c.x - centre + 50).remainder(100) - 50), 0.8)
        rock = colour(0.34, 0.42, 0.54).lerp(colour(0.62, 0.70, 0.80), 0.6 - 0.5 * depth)
        tone = rock[:, None, None] * (0.84 + 0.30 * lit)[:, None]
        c.paint(tone, c.cover(top - c.y))
        caps = torch.maximum(top - c.y, c.y - top - 15 - 6 * relief - 3 * ridge(c, generator, 20))
        white = colour(0.74, 0.82, 0.93)[:, None, None].lerp(WHITE[:, None, None], lit)
        c.paint(white[None] if white.dim() == 3 else white, c.cover(caps))
    ground = 88 + 2.5 * ridge(c, generator, 2, 2)
    for i in range(7):
        x, tall = SIZE * (i + _number(generator, 0, 1)) / 7, _number(generator, 20, 34)
        _pine(c, x, 92.0, tall)
    shade = (0.90 + 0.10 * soft(-clouds(c, generator, 3, 6), 2.0))[:, None]
    c.paint((colour(0.97, 0.98, 1.0)[:, None, None] * shade).clamp(0, 1), soft(ground - c.y, 2.0))
    flakes = torch.rand(60, 3, generator=generator)
    for x, y, r in flakes.tolist():
        away = ((c.x - SIZE * x) ** 2 + (c.y - SIZE * y) ** 2).sqrt()
        c.paint(WHITE, (0.9 * soft(away - 0.6 - 0.9 * r**3, 1.2))[None])


def _pine(c: Canvas, x: float, foot: float, tall: float) -> None:
    up = ((foot - c.y) / tall).clamp(0, 1)
    tier = (up * 4).remainder(1)
    half = tall * 0.30 * (1 - up) * (1.10 - 0.45 * tier)
    tree = torch.maximum((c.x - x).abs() - half, torch.maximum(c.y - foot, foot - tall - c.y))
    c.paint((colour(0.10, 0.27, 0.24)[:, None, None] * (1.2 - 0.04 * (c.x - x)))[None] + 0 * c.rgb, c.cover(tree)[None])
    snow = torch.maximum(tree, torch.maximum(tier - 0.32, -0.1 - (x - c.x) * 0.06))
    c.paint(colour(0.95, 0.97, 1.0)[None], (0.9 * c.cover(snow * 3))[None])


def _space(c: Canvas, place: int, generator: torch.Generator) -> None:
    _sky(c, colour(0.02, 0.02, 0.09), colour(0.07, 0.03, 0.16))
    mist = clouds(c, generator, 2, 2, 5)
    band = soft(((c.x - 64) * 0.6 + (c.y - 64) * 0.8 + 20 * (place % 3 - 1)).abs() - 8, 70)
    c.paint(colour(0.42, 0.16, 0.62), 0.62 * band * soft(0.2 - mist, 2.2))
    c.paint(colour(0.10, 0.46, 0.72), 0.50 * band * soft(0.4 + mist, 2.0))
    c.paint(colour(1.0, 0.55, 0.70), 0.30 * band * soft(1.0 - mist, 1.6))
    for x, y, r in torch.rand(85, 3, generator=generator).tolist():
        away = ((c.x - SIZE * x) ** 2 + (c.y - SIZE * y) ** 2).sqrt()
        tint = colour(1.0, 0.92, 0.80) if r < 0.5 else colour(0.82, 0.90, 1.0)
        c.paint(tint[None], (soft(away - 0.35 - 0.9 * r**6, 1.1) + 0.55 * r**6 * torch.exp(-away / 2.2))[None])
    x0, y0, r = 20.0 + 8 * (place % 4), 26.0, 15.0
    x, y = (c.x - x0) / r, (c.y - y0) / r
    disc = (x * x + y * y + 1e-6).sqrt()
    light = (-0.55 * x - 0.45 * y + 0.75 * (1 - disc**2).clamp(min=0).sqrt() + 0.05).clamp(0.04, 1.1)
    bands = clouds(c, generator, 1, 7, 4)
    warm, deep = ((0.96, 0.66, 0.38), (0.72, 0.34, 0.22)), ((0.50, 0.74, 0.90), (0.20, 0.38, 0.72))
    pale, dark = (colour(*tone)[:, None, None] for tone in (warm, deep)[place // 4])
    surface = pale.lerp(dark, soft(bands + (y * 9 + 1.5 * x).sin(), 2.2)) * light
    c.paint(
        (pale * 0.9)[None] + 0 * c.rgb,
        (0.35 * torch.exp(-(disc - 1).clamp(min=0) * 5))[None] * (1 - c.cover((disc - 1) * r)),
    )
    c.paint(surface[None] if surface.dim() == 3 else surface, c.cover((disc - 1) * r)[None])
    lean = y + 0.34 * x
    ring = ((x * 0.94 - y * 0.3) ** 2 + (lean / 0.24) ** 2 + 1e-6).sqrt()
    ring_alpha = soft((ring - 1.62).abs() - 0.20, 0.14) * (1 - c.cover((disc - 1) * r) * (lean < 0))
    c.paint(colour(0.92, 0.84, 0.72)[None], (0.75 * ring_alpha)[None])


def _desert(c: Canvas, place: int, generator: torch.Generator) -> None:
    _sky(c, colour(0.96, 0.50, 0.28), colour(1.0, 0.87, 0.62), 78)
    sun_x = 90.0 + 8 * (place % 4 - 2)
    away = ((c.x - sun_x) ** 2 + (c.y - 26) ** 2).sqrt()[None]
    c.paint(colour(1.0, 0.93, 0.66), 0.8 * torch.exp(-away / 20))
    c.paint(colour(1.0, 0.98, 0.86), c.cover(away - 9))
    c.paint(colour(0.94, 0.55, 0.40), 0.30 * soft(0.9 - clouds(c, generator, 1, 14, 3), 1.4) * (c.y < 60))
    mesa = 70 - 12 * soft((c.x - 34 - 10 * (place % 3)).abs() - 12, 5) - 7 * soft((c.x - 62).abs() - 7, 4)
    strata = 0.92 + 0.10 * (c.y * 1.1).sin()
    c.paint((colour(0.72, 0.38, 0.28)[:, None, None] * strata)[None] + 0 * c.rgb, c.cover(mesa - c.y)[None])
    for depth in range(3):
        crest = (74, 86, 102)[depth] + (4, 6, 6)[depth] * (
            (c.x * (0.07, 0.045, 0.035)[depth]) + place * 1.3 + depth * 2
        ).sin()
        slope = ((c.x * (0.07, 0.045, 0.035)[depth]) + place * 1.3 + depth * 2).cos()
        below = (c.y - crest).clamp(min=0)
        lee = soft(below - 10 * (slope.clamp(min=0)) - 1, 4) * (slope > 0)
        ripple = ((below * 0.9 + 2.5 * (c.x * 0.09 + depth).sin()).sin() * 0.035) * soft(8 - below, 10)
        sand = colour(0.98, 0.72, 0.42).lerp(colour(0.90, 0.56, 0.30), depth / 2)
        light = 1.04 - 0.26 * lee + ripple - 0.003 * below
        c.paint((sand[:, None, None] * light).clamp(0, 1)[None], c.cover(crest - c.y)[None])
    for x, foot, tall in ((16.0 if place % 2 else 112.0, 98.0, 34.0), (70.0 + 6 * (place % 4), 80.0, 12.0)):
        _cactus(c, x, foot, tall)


def _cactus(c: Canvas, x: float, foot: float, tall: float) -> None:
    r = tall * 0.115
    arms = [(x, foot, x, foot - tall + r, r)]
    for side, low, high in ((-1, 0.40, 0.72), (1, 0.55, 0.88)):
        bend = x + side * tall * 0.30
        arms += [
            (x, foot - low * tall, bend, foot - low * tall, r * 0.72),
            (bend, foot - low * tall, bend, foot - high * tall, r * 0.72),
        ]
    c.paint(colour(0.60, 0.34, 0.20)[None], (0.45 * spot(c.x - x - tall * 0.15, c.y - foot, tall * 0.55, 2.2))[None])
    for ax, ay, bx, by, radius in arms:
        shape = segment(c.x, c.y, ax, ay, bx + 1e-3, by, radius)
        light = 1.15 - 0.55 * (c.x - ax) / tall / 0.3 + 0.14 * ((c.x - ax) / radius * 5.0).sin()
        c.paint((colour(0.22, 0.46, 0.24)[:, None, None] * light).clamp(0, 1)[None] + 0 * c.rgb, c.cover(shape)[None])


PAINTERS = {
    "studio": _studio, "beach": _beach, "forest": _forest, "city": _city, "snow": _snow, "space": _space,
    "desert": _desert,
}  # fmt: skip

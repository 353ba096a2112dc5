"""What people wear and hold: clothes, hats and things, each drawn where the picture asks for it."""

from __future__ import annotations

import torch
from torch import Tensor

from .canvas import Canvas, box, colour, ellipse, segment, soft, spot
from .face import DARK, WHITE, Person, across, each

CLOTH = torch.tensor(
    [[0.86, 0.12, 0.14], [0.13, 0.13, 0.17], [0.93, 0.94, 0.97], [0.98, 0.80, 0.12], [0.16, 0.30, 0.76]]
)


def _tone(base: Tensor, light: Tensor) -> Tensor:
    return (across(base) * light[:, None]).clamp(0, 1)


def clothes(c: Canvas, p: Person, kind: Tensor) -> None:
    """Draw shoulders and chest in one of the five clothes; `kind (n,)`."""
    u, v = p.u, p.v
    slope = 1.13 + 0.10 * u.abs() + 0.42 * (u.abs() - 0.55).clamp(min=0) ** 1.6
    body = torch.maximum(slope - v, u.abs() - 1.24 - 0.06 * (v - 1.3))
    inside = c.cover(body * p.scale)
    folds = ((u * 5.5 + v * 3.0 + 1.2 * (v * 4).sin()).sin() * (v * 2.2 - u * 1.7).cos()).clamp(-0.6, 1)
    arm = soft((u.abs() - 0.93 - 0.10 * (v - 1.5)).abs() - 0.012, 0.07) * soft(1.45 - v, 0.2)
    light = 1.02 - 0.20 * u - 0.13 * u * u + 0.055 * folds - 0.26 * arm
    light = light - 0.30 * soft(ellipse(u, v - 1.02, 0.52, 0.36), 0.35)
    base = CLOTH[kind]
    sheen = each((kind == 1).float()) * 0.06 * (1 - u)
    c.paint((_tone(base, light) + sheen[:, None]).clamp(0, 1), inside)

    def on(index: int) -> Tensor:
        return each((kind == index).float()) * inside

    def detail(index: int, tone: Tensor, distance: Tensor, strength: Tensor | float = 1.0) -> None:
        c.paint(tone, c.cover(distance * p.scale) * on(index) * strength)

    skin = across(p.shadow).lerp(across(p.skin), (0.42 + 0.5 * (v - 1.1) - 0.25 * u)[:, None].clamp(0, 1))
    # A red shirt: an open collar with its two flaps, a placket and buttons.
    opening = u.abs() - 0.20 - 0.50 * (1.26 - v)
    c.paint(skin, c.cover(torch.maximum(opening, v - 1.62) * p.scale) * on(0))
    flap = torch.maximum((u.abs() - 0.34 - 0.25 * (v - 1.2)).abs() - 0.12, v - 1.46 + 0.5 * (u.abs() - 0.3))
    detail(0, colour(0.95, 0.24, 0.24), flap)
    detail(0, colour(0.52, 0.04, 0.07), (flap - 0.02).abs() - 0.014, 0.7)
    detail(0, colour(0.60, 0.05, 0.08), torch.maximum(u.abs() - 0.016, 1.5 - v), 0.8)
    detail(0, colour(0.98, 0.93, 0.88), ellipse(u - 0.05, (v - 1.75).remainder(0.26) - 0.13, 0.032, 0.032) + (v < 1.5))
    # A black suit: a white shirt, a red tie with its knot, lapels.
    wedge = u.abs() - 0.46 * (1.98 - v).clamp(min=0)
    detail(1, colour(0.95, 0.95, 0.97), wedge)
    detail(1, colour(0.70, 0.72, 0.78), (u.abs() - 0.22 + 0.55 * (v - 1.2)).abs() - 0.012, soft(v - 1.5, 0.05))
    tie = u.abs() - 0.055 - 0.075 * (v - 1.36).clamp(0, 0.6)
    tie = torch.minimum(torch.maximum(tie, 1.36 - v), torch.maximum(u.abs() - 0.10 + 0.25 * (v - 1.24), v - 1.36))
    detail(1, colour(0.78, 0.07, 0.12), torch.maximum(tie, wedge))
    detail(1, colour(0.95, 0.30, 0.32), torch.maximum(u.abs() - 0.012, 1.36 - v), 0.4)
    lapel = torch.maximum(wedge.abs() - 0.12, v - 1.98)
    detail(1, colour(0.22, 0.22, 0.28), torch.maximum(lapel, 0.02 - wedge), 0.9)
    # A spacesuit: a ring round the neck, a control box, stripes, a badge.
    ring = ellipse(u, v - 1.17, 0.58, 0.20)
    c.paint(_tone(colour(0.62, 0.66, 0.74).expand(len(kind), 3), 1.1 - 0.5 * u - 1.2 * (v - 1.17)),
            c.cover((ring.abs() - 0.085) * p.scale) * on(2))  # fmt: skip
    c.paint(colour(0.24, 0.27, 0.34), c.cover((ring + 0.09) * p.scale) * each((kind == 2).float()) * (v > 1.12))
    detail(2, colour(0.78, 0.80, 0.86), box(u, v - 1.86, 0.30, 0.20))
    detail(2, colour(0.88, 0.20, 0.18), ellipse(u + 0.16, v - 1.80, 0.05, 0.05))
    detail(2, colour(0.20, 0.66, 0.36), ellipse(u, v - 1.80, 0.05, 0.05))
    detail(2, colour(0.18, 0.40, 0.86), ellipse(u - 0.16, v - 1.80, 0.05, 0.05))
    detail(2, colour(0.16, 0.36, 0.82), box(u + 0.70, v - 1.62, 0.15, 0.10))
    detail(2, colour(0.90, 0.22, 0.18), box(u - 0.70, v - 1.62, 0.15, 0.10))
    detail(2, colour(0.90, 0.42, 0.15), (u.abs() - 1.04).abs() - 0.03, soft(1.62 - v, 0.02))
    # A yellow jacket: a standing collar, a zip, seams of pockets.
    stand = torch.maximum((u.abs() - 0.33).abs() - 0.15, (v - 1.19).abs() - 0.17)
    detail(3, colour(1.0, 0.88, 0.30), stand)
    detail(3, colour(0.70, 0.50, 0.04), stand.abs() - 0.014, 0.7)
    detail(3, colour(0.32, 0.27, 0.14), u.abs() - 0.045)
    detail(3, colour(0.85, 0.85, 0.82), torch.maximum(u.abs() - 0.030, (v.remainder(0.09) - 0.045).abs() - 0.025))
    detail(3, colour(0.66, 0.47, 0.03), segment(u.abs(), v, 0.50, 1.72, 0.78, 1.60, 0.018), 0.8)
    # A blue sweater: white stripes, ribs, a round neck.
    detail(4, colour(0.93, 0.95, 0.99), ((v + 0.06 * u * u - 1.50).remainder(0.36) - 0.18).abs() - 0.070,
           (v > 1.48) * (0.93 - 0.14 * u))  # fmt: skip
    c.paint(DARK, 0.13 * on(4) * (0.5 + 0.5 * (u * 42).sin()) * (p.scale / 34).clamp(max=1))
    detail(4, colour(0.24, 0.42, 0.88), ellipse(u, v - 1.08, 0.40, 0.26).abs() - 0.07)
    throat = c.cover(ellipse(u, v - 1.06, 0.33, 0.20) * p.scale)
    c.paint(skin, throat * each(((kind == 4) | (kind == 3)).float()) * (v > 1.0) * 0.98)


def headwear(c: Canvas, p: Person, kind: Tensor) -> None:
    """Draw a red hat, a crown or a blue cap; `kind (n,)`, 0 for none."""
    u, v = p.u, p.v
    wide = p.width + p.volume

    def on(index: int) -> Tensor:
        return each((kind == index).float())

    def paint(index: int, tone: Tensor, distance: Tensor, strength: Tensor | float = 1.0) -> None:
        c.paint(tone, c.cover(distance * p.scale) * on(index) * strength)

    round_light = 1.06 - 0.34 * u / wide - 0.20 * (u / wide) ** 2
    # What a hat keeps from the light.
    c.paint(DARK, 0.34 * spot(u, v + 0.42, 0.80, 0.20) * each((kind > 0).float()))

    felt = colour(0.84, 0.10, 0.13).expand(len(kind), 3)
    dome = torch.maximum(ellipse(u, v + 0.62, wide * 0.86, 0.70), v + 0.55)
    dent = spot(u + 0.05, v + 1.30, 0.34, 0.16)
    c.paint(_tone(felt, round_light - 0.30 * dent), c.cover(dome * p.scale) * on(1))
    c.paint(_tone(colour(0.16, 0.06, 0.08).expand(len(kind), 3), round_light + 0.2),
            c.cover(box(u, v + 0.68 - 0.05 * (u / wide) ** 2, wide * 0.86, 0.085) * p.scale) * on(1))  # fmt: skip
    brim = ellipse(u, v + 0.53 + 0.07 * (u / wide) ** 2, wide * 1.42, 0.125)
    c.paint(_tone(felt, 1.10 - 0.22 * u - 2.2 * (v + 0.53)), c.cover(brim * p.scale) * on(1))

    gold = colour(0.99, 0.78, 0.18).expand(len(kind), 3)
    teeth = ((u / wide * 2.6 + 0.5).remainder(1) * 2 - 1).abs()
    shape = torch.maximum(box(u, v + 0.84, wide * 0.86, 0.36), 0.36 * teeth - (v + 1.17))
    shine = 0.80 + 0.35 * spot(u + 0.34, 0 * u, 0.30, 1.0) + 0.14 * spot(u - 0.46, 0 * u, 0.20, 1.0) - 0.20 * u
    c.paint(_tone(gold, shine + 0.20 * (-0.75 - v)), c.cover(shape * p.scale) * on(2))
    c.paint(_tone(gold, shine * 1.15), c.cover(box(u, v + 0.53, wide * 0.88, 0.060) * p.scale) * on(2))
    paint(2, colour(0.55, 0.36, 0.05), box(u, v + 0.595, wide * 0.86, 0.012), 0.8)
    for x, tone in ((0.0, colour(0.86, 0.08, 0.22)), (0.42, colour(0.12, 0.34, 0.86))):
        gem = ellipse(u.abs() - x, v + 0.76, 0.085, 0.095)
        paint(2, tone, gem)
        paint(2, WHITE, ellipse(u.abs() - x + 0.02, v + 0.80, 0.026, 0.026), 0.9)
    ball = ellipse((u / wide * 2.6 + 0.5).remainder(1) * wide / 2.6 - 0.5 * wide / 2.6, v + 1.19, 0.055, 0.055)
    paint(2, colour(1.0, 0.93, 0.62), torch.maximum(ball, u.abs() - wide * 0.86))

    cloth = colour(0.14, 0.32, 0.82).expand(len(kind), 3)
    shell = torch.maximum(ellipse(u, v + 0.50, wide * 0.97, 0.72), v + 0.50)
    seams = soft((u.abs() - 0.42 * wide * (1 - ((-v - 0.5) / 0.72) ** 2).clamp(min=0).sqrt()).abs() - 0.008, 0.04)
    c.paint(_tone(cloth, round_light - 0.22 * seams), c.cover(shell * p.scale) * on(3))
    visor = ellipse(u - 0.20 * p.turn, v + 0.46 + 0.05 * u * u, wide * 0.92, 0.13)
    c.paint(_tone(colour(0.08, 0.19, 0.56).expand(len(kind), 3), 1.25 - 0.3 * u - 3.5 * (v + 0.46)),
            c.cover(visor * p.scale) * on(3))  # fmt: skip
    paint(3, colour(0.97, 0.97, 1.0), ellipse(u, v + 0.82, 0.17, 0.155))
    paint(3, colour(0.90, 0.20, 0.18), ellipse(u, v + 0.82, 0.085, 0.075))
    paint(3, colour(0.10, 0.24, 0.66), ellipse(u, v + 1.22, 0.085, 0.04))


def held(c: Canvas, p: Person, kind: Tensor) -> None:
    """Draw a guitar, a balloon or a cup, and the hand that holds it; `kind (n,)`, 0 for none."""
    u, v = p.u, p.v

    def paint(index: int, tone: Tensor, distance: Tensor, strength: Tensor | float = 1.0) -> None:
        c.paint(tone, c.cover(distance * p.scale) * each((kind == index).float()) * strength)

    def hand(index: int, x: float, y: float) -> None:
        fist = ellipse(u - x, v - y, 0.15, 0.13)
        tone = _tone(p.skin, 0.92 - 0.8 * (u - x) - 0.9 * (v - y))
        c.paint(tone, c.cover(fist * p.scale) * each((kind == index).float()))
        paint(
            index,
            p.shadow,
            ((u - x - 0.02).remainder(0.07) - 0.035).abs() - 0.006 + 4 * (fist + 0.05).clamp(min=0),
            0.5,
        )

    along, across_ = (u - v + 1.62) * 0.707, (u + v - 1.62) * 0.707
    body = torch.minimum(ellipse(along + 0.34, across_, 0.40, 0.46), ellipse(along - 0.14, across_, 0.33, 0.35))
    paint(1, colour(0.26, 0.13, 0.05), body - 0.045)
    c.paint((colour(0.80, 0.45, 0.15)[:, None, None] * (1.08 - 0.5 * across_ - 0.2 * along)[:, None]).clamp(0, 1),
            c.cover(body * p.scale) * each((kind == 1).float()))  # fmt: skip
    paint(1, colour(0.30, 0.16, 0.07), torch.maximum(box(along - 0.85, across_, 0.90, 0.065), -along - 0.05))
    paint(1, colour(0.78, 0.66, 0.42), ((along - 0.1).remainder(0.16) - 0.08).abs() - 0.010 +
          8 * (box(along - 0.95, across_, 0.75, 0.055)).clamp(min=0), 0.7)  # fmt: skip
    paint(1, colour(0.50, 0.25, 0.08), ellipse(along - 0.02, across_, 0.155, 0.155))
    paint(1, colour(0.13, 0.06, 0.03), ellipse(along - 0.02, across_, 0.125, 0.125))
    paint(1, colour(0.24, 0.12, 0.05), box(along + 0.50, across_, 0.045, 0.16))
    paint(1, colour(0.95, 0.93, 0.85), torch.maximum(((across_ + 0.02).remainder(0.04) - 0.02).abs() - 0.006,
                                                     box(along - 0.40, across_, 0.90, 0.05)), 0.6)  # fmt: skip
    paint(1, colour(0.20, 0.10, 0.04), box(along - 1.80, across_, 0.13, 0.10))
    hand(1, -0.30, 1.86)

    paint(2, colour(0.92, 0.92, 0.94), (u - 1.42 - 0.03 * (v * 5).sin()).abs() - 0.014 + ((v < 0.2) | (v > 1.72)) * 9.0)
    ball = ellipse(u - 1.42, v + 0.40, 0.42, 0.49)
    c.paint((colour(0.95, 0.16, 0.52)[:, None, None] * (1.08 - 0.62 * spot(u - 1.70, v + 0.10, 0.75, 0.85))[:, None]),
            c.cover(ball * p.scale) * each((kind == 2).float()))  # fmt: skip
    paint(2, colour(0.72, 0.08, 0.36), torch.maximum((u - 1.42).abs() - 0.6 * (v - 0.06), v - 0.16) + (v < 0.0) * 1.0)
    c.paint(WHITE, 0.80 * spot(u - 1.26, v + 0.60, 0.17, 0.20) * each((kind == 2).float()))
    hand(2, 1.36, 1.72)

    paint(3, colour(0.88, 0.89, 0.93), ellipse(u + 1.13, v - 1.62, 0.18, 0.18).abs() - 0.045)
    side = torch.where(v > 1.92, ellipse(u + 0.74, v - 1.90, 0.33, 0.08), box(u + 0.74, v - 1.64, 0.33, 0.28))
    porcelain = (1.06 - 0.55 * (u + 0.74) - 0.9 * (u + 0.74) ** 2)[:, None].clamp(0, 1)
    mask = each((kind == 3).float())
    c.paint(colour(0.97, 0.97, 0.99)[:, None, None] * porcelain, c.cover(side * p.scale) * mask)
    c.paint(colour(0.10, 0.58, 0.55)[:, None, None] * porcelain,
            c.cover(box(u + 0.74, v - 1.66, 0.33, 0.085) * p.scale) * mask)  # fmt: skip
    paint(3, colour(0.86, 0.87, 0.90), ellipse(u + 0.74, v - 1.36, 0.33, 0.085))
    paint(3, colour(0.30, 0.17, 0.09), ellipse(u + 0.74, v - 1.37, 0.27, 0.058))
    steam = soft((u + 0.74 - 0.07 * (v * 9).sin()).abs() - 0.03, 0.12) * soft((v - 1.08).abs() - 0.12, 0.2)
    c.paint(WHITE, 0.42 * steam * mask)
    hand(3, -0.46, 1.84)

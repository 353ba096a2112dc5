"""How a person is drawn: hair, ears, head, eyes, brows, nose and mouth, lit from the upper left.

Everything is measured in half heights of the head from its centre, `u` to the right and `v` down.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .canvas import Canvas, box, colour, ellipse, segment, soft, spot

DARK = colour(0.05, 0.03, 0.04)
WHITE = colour(1.0, 1.0, 1.0)


@dataclass
class Person:
    """One person of every picture of a batch: where the head is, what the traits look like, how it is turned."""

    u: Tensor
    v: Tensor
    scale: Tensor
    traits: dict[str, Tensor]
    turn: Tensor
    smiling: Tensor
    sad: Tensor
    surprised: Tensor

    def __post_init__(self) -> None:
        half = {key: (value + 1) / 2 for key, value in self.traits.items()}
        light = half["skin lightness"][:, None]
        dark, middle, pale = colour(0.27, 0.16, 0.11), colour(0.72, 0.49, 0.35), colour(1.0, 0.87, 0.78)
        skin = torch.where(light < 0.5, dark.lerp(middle, 2 * light), middle.lerp(pale, 2 * light - 1))
        self.skin = (skin + self.traits["skin warmth"][:, None] * colour(0.04, -0.012, -0.05)).clamp(0, 1)
        self.shadow = self.skin * colour(0.56, 0.44, 0.42)
        light = half["hair lightness"][:, None]
        brown = colour(0.34, 0.20, 0.12)
        hair = torch.where(
            light < 0.5,
            colour(0.06, 0.05, 0.06).lerp(brown, 2 * light),
            brown.lerp(colour(0.97, 0.84, 0.56), 2 * light - 1),
        )
        self.hair = (hair + half["hair redness"][:, None] * colour(0.30, 0.0, -0.14)).clamp(0.02, 1)
        self.lips = colour(0.48, 0.17, 0.17).lerp(colour(0.86, 0.36, 0.38), half["skin lightness"][:, None])
        brown, blue, green = colour(0.30, 0.16, 0.07), colour(0.25, 0.55, 0.92), colour(0.28, 0.58, 0.22)
        self.iris = brown.lerp(blue.lerp(green, half["iris green"][:, None]), half["iris"][:, None])
        self.width = each(0.76 + 0.10 * self.traits["face width"])
        self.volume = each(0.15 + 0.11 * self.traits["hair volume"])
        self.half = half

    def trait(self, name: str) -> Tensor:
        """Return a trait as it shows, -1 to 1 or, where it is worn, 0 to 1: `(n, 1, 1)`."""
        return each(self.traits[name])


def each(value: Tensor) -> Tensor:
    """Reshape one number an image, `(n,)` to `(n, 1, 1)`."""
    return value[:, None, None]


def across(tone: Tensor) -> Tensor:
    """Reshape one colour an image, `(n, 3)` to `(n, 3, 1, 1)`."""
    return tone[..., None, None]


def strands(p: Person) -> Tensor:
    """Draw light and dark lines that run down from the parting, -1 to 1; curly hair has curls instead."""
    angle = torch.atan2(p.u - 0.35 * p.trait("parting"), p.v + 1.35)
    lines = 0.6 * (angle * 29 + 2.0 * (p.v * 3.1).sin()).sin() + 0.4 * (angle * 53 + 1.5 * (p.v * 4.7).cos()).sin()
    curls = (p.u * 21 + 2.2 * (p.v * 9).sin()).sin() * (p.v * 19 + 2.2 * (p.u * 8).sin()).sin()
    return lines.lerp(curls * 1.3, each(p.half["curl"]) ** 2)


def outline(p: Person) -> Tensor:
    """Return how far curls push the outline of the hair out."""
    angle = torch.atan2(p.u, -p.v - 0.1)
    return each(p.half["curl"]) ** 2 * (0.10 * (angle * 11 + 1.0).sin() + 0.035 * (angle * 23).sin())


def hair_tone(p: Person, brightness: Tensor | float, contrast: float = 0.13) -> Tensor:
    """Draw the hair's colour with its strands and the light on it, a picture `(n, 3, h, w)`."""
    fade = contrast * (p.scale / 30).clamp(max=1)  # strands finer than a pixel are left out
    gloss = spot(p.u + 0.28, p.v + 0.82, 0.62, 0.24) * 0.34
    light = brightness + fade * strands(p) - 0.12 * p.u
    return across(p.hair) * light[:, None] + gloss[:, None] * (across(p.hair) * 0.6 + 0.10)


def hair_behind(c: Canvas, p: Person) -> None:
    """Draw hair behind the head: round the skull, and down to its length."""
    length = each(0.35 + 0.95 * p.half["hair length"])
    wide = p.width + p.volume
    bumps = outline(p)
    back = ellipse(p.u, p.v + 0.16, wide, 0.94 + p.volume) - bumps
    # Longer hair hangs down, a little narrower at its ends.
    ends = (p.v / length).clamp(0, 1)
    hanging = torch.maximum(
        p.u.abs() - wide * (0.98 - 0.14 * ends**3) - bumps, p.v - length - 0.05 * (p.u * 9).sin() + 0.25 * p.u**4
    )
    hanging = torch.maximum(hanging, -p.v - 0.2)
    shape = torch.where(length > 0.55, torch.minimum(back, hanging), back)
    under = soft(p.u.abs() - 0.75, 0.8)
    c.paint(hair_tone(p, 0.78 - 0.34 * under * (p.v > -0.2)), c.cover(shape * p.scale))


def neck(c: Canvas, p: Person) -> None:
    """Draw the neck, in the chin's shadow."""
    shape = torch.maximum(p.u.abs() - 0.30 - 0.10 * (p.v - 1.0).clamp(min=0), 0.6 - p.v)
    shape = torch.maximum(shape, p.v - 1.75)
    shade = 0.72 * soft(0.98 - p.v + 0.25 * p.u**2, 0.4) + 0.12 - 0.3 * p.u
    c.paint(across(p.shadow).lerp(across(p.skin), shade.clamp(0, 1)[:, None]), c.cover(shape * p.scale))


def head(c: Canvas, p: Person) -> Tensor:
    """Draw ears and the head itself, shaded as a rounded body; returns the head's signed distance."""
    ear_size = 1 + 0.28 * p.trait("ears")
    near = (p.u * p.turn).clamp(min=0).sign()  # the ear on the side looked to hides
    ear_x, ear_y = p.u.abs() - p.width * (1.0 - 0.06 * near), p.v - 0.06
    ear = ellipse(ear_x, ear_y, 0.125 * ear_size, 0.20 * ear_size)
    tone = across(p.shadow).lerp(across(p.skin), (0.74 - 0.25 * p.u)[:, None])
    c.paint(tone, c.cover(ear * p.scale))
    inner = ellipse(ear_x - 0.02, ear_y, 0.065 * ear_size, 0.12 * ear_size)
    c.paint(p.shadow, 0.5 * soft(inner * 1.0, 0.05))

    down = p.v.clamp(0, 1)
    taper = p.width * (1 - (0.24 - 0.13 * p.trait("jaw")) * down * down * (3 - 2 * down))
    chin = 1.0 + 0.05 * p.trait("chin")
    tall = torch.where(p.v > 0, chin, torch.ones_like(chin))
    shape = ellipse(p.u, p.v, taper, tall)
    nx, ny = p.u / taper, p.v / tall
    nz = (1 - 0.88 * (nx * nx + ny * ny)).clamp(min=0.04).sqrt()
    light = (0.17 - 0.36 * (nx - 0.25 * p.turn) - 0.30 * ny + 0.82 * nz).clamp(0, 1.12)
    c.paint(across(p.shadow).lerp(across(p.skin), light[:, None]), c.cover(shape * p.scale))
    blush = each(0.20 + 0.18 * p.traits["cheeks"]) + 0.10 * p.smiling
    cheek = spot(p.u.abs() - 0.42, p.v - 0.26, 0.34, 0.27)
    c.paint((p.skin * colour(1.02, 0.62, 0.58)).clamp(0, 1), cheek * blush)
    dots = ((p.u * 47 + 2 * (p.v * 13).sin()).sin() * (p.v * 43 + 2 * (p.u * 17).sin()).sin() - 0.50) * 6
    c.paint(p.shadow * 0.95, dots.clamp(0, 1) * (1.6 * cheek).clamp(max=0.85) * p.trait("freckles"))
    return shape


def beard(c: Canvas, p: Person, shape: Tensor) -> None:
    """Draw a full beard along the jaw."""
    upper = 0.34 - 1.0 * (p.u.abs() - 0.36).clamp(min=0) + 0.22 * soft(p.u.abs() - 0.28, 0.25)
    inside = c.cover((shape - 0.04) * p.scale) * soft(upper - p.v, 0.14)
    c.paint(hair_tone(p, 0.74 - 0.12 * (p.v - 0.6), 0.05), inside * p.trait("beard"))


def eyes(c: Canvas, p: Person) -> None:
    """Draw sockets, whites, irises with a catch light, lids and lashes, and the brows above."""
    look = p.u - 0.20 * p.turn
    side = look.sign()
    size = 1.0 + 0.20 * p.trait("eye size")
    apart = 0.36 + 0.06 * p.trait("eye spacing")
    narrow = 1 + 0.10 * side * p.turn  # the far eye is foreshortened
    out = (look.abs() - apart) * narrow
    y = p.v + 0.07 + 0.05 * p.trait("eye height")
    tilt = y + (0.16 * p.trait("eye tilt") - 0.20 * p.sad) * out
    wide, high = 0.205 * size, 0.118 * size * (1 + 0.38 * p.surprised - 0.14 * p.smiling)
    arch = (1 - (out / wide) ** 2).clamp(min=-1.5)
    upper, lower = -high * arch, 0.80 * high * arch
    almond = torch.maximum(upper - tilt, tilt - lower)

    c.paint(p.shadow, 0.34 * spot(out, tilt + 0.05, 0.34, 0.27))
    inside = c.cover(almond * p.scale)
    c.paint(colour(0.97, 0.96, 0.95), inside)
    gaze = side * out - 0.055 * p.turn
    radius = ((gaze**2 + (tilt + 0.01) ** 2) + 1e-6).sqrt()
    iris = c.cover((radius - 0.098 * size) * p.scale) * inside
    glow = (0.72 + 4.2 * tilt + 0.8 * (radius / size - 0.03))[:, None].clamp(0.4, 1.35)
    c.paint((across(p.iris) * glow).clamp(0, 1), iris)
    c.paint(p.iris * 0.30, iris * soft((0.086 * size - radius), 0.035))
    c.paint(DARK, c.cover((radius - 0.046 * size) * p.scale) * inside)
    c.paint(DARK, 0.42 * inside * soft(tilt - upper - 0.045, 0.06))
    c.paint(WHITE, 0.95 * c.cover((ellipse(gaze + 0.036, tilt + 0.040, 0.032, 0.032)) * p.scale) * inside)
    within = soft(out.abs() - wide * 1.10, 0.06)
    lash = soft((tilt - upper + 0.012).abs() - 0.026 * size, 0.03) * within
    c.paint(p.hair * 0.22, 0.92 * lash)
    c.paint(p.shadow * 0.8, 0.40 * soft((tilt - upper + 0.085).abs() - 0.010, 0.035) * within)
    c.paint(p.shadow * 0.8, 0.45 * soft((tilt - lower - 0.012).abs() - 0.008, 0.03) * within)

    slope = 0.18 * p.trait("brow slant") - 0.42 * p.sad
    thick = 0.046 + 0.028 * p.trait("brow thickness")
    brow = y + 0.245 + 0.11 * p.surprised + 0.045 * p.sad + slope * out + 0.9 * (out - 0.03) ** 2
    reach = soft(out.abs() - 0.21, 0.05)
    shape = brow.abs() - thick * (1 - 1.3 * (out - 0.02).clamp(min=0))
    c.paint(p.hair * 0.50, 0.94 * c.cover(shape * p.scale) * reach)


def nose(c: Canvas, p: Person) -> None:
    """Draw a bridge with its light and dark side, a tip, wings and nostrils."""
    x = p.u - 0.30 * p.turn
    long = 0.07 * p.trait("nose length")
    wide = 0.125 * (1 + 0.30 * p.trait("nose width"))
    y = p.v - 0.24 - long
    bridge = soft((y + 0.22).abs() - 0.22, 0.16)
    lean = x - 0.22 * p.turn * (y * 0.9).clamp(-0.5, 0)
    c.paint(p.shadow, 0.42 * bridge * spot(lean - 0.55 * wide, y + 0.16, 0.085, 0.42))
    c.paint((p.skin * 1.12 + 0.05).clamp(0, 1), 0.55 * spot(lean + 0.02, y + 0.14, 0.055, 0.40))
    c.paint(p.shadow, 0.62 * spot(x - 0.02, y - 0.075, wide * 1.35, 0.085))
    wings = ellipse(x.abs() - wide * 0.72, y - 0.005, wide * 0.50, 0.075)
    c.paint(p.shadow, 0.40 * soft(wings.abs() - 0.012, 0.035) * (y > -0.06))
    c.paint(p.shadow.lerp(p.skin, 0.86), soft(ellipse(x, y + 0.005, wide * 0.74, 0.092), 0.06))
    c.paint((p.skin * 1.14 + 0.07).clamp(0, 1), 0.75 * spot(x + 0.035, y + 0.030, 0.075, 0.065))
    c.paint(p.shadow * 0.45, 0.8 * soft(ellipse(x.abs() - wide * 0.52, y - 0.058, wide * 0.30, 0.026), 0.03))


def mouth(c: Canvas, p: Person) -> None:
    """Draw lips of two tones; teeth when smiling, an open mouth when surprised; a moustache above."""
    x = p.u - 0.23 * p.turn
    wide = (0.27 + 0.055 * p.trait("mouth width")) * (1 + 0.26 * p.smiling - 0.34 * p.surprised)
    lip = 0.060 + 0.026 * p.trait("lips")
    arch = (1 - (x / wide) ** 2).clamp(min=-1)
    y = p.v - 0.60 - 0.06 * p.sad + 0.06 * p.smiling
    bow = 0.30 * lip * spot(x, 0 * x, 0.12, 1.0)  # the dent in the middle of the upper lip
    top = arch * (-lip + p.smiling * (lip + 0.02) - p.sad * 0.16 - p.surprised * 0.12) + bow
    low = arch * (lip * 1.1 + p.smiling * 0.215 - p.sad * (lip + 0.11) + p.surprised * 0.15)
    thick = 0.6 * lip * p.sad  # sad lips hang as an arch of their own thickness
    inside = torch.maximum(torch.maximum(top - y - thick, y - low - thick), x.abs() - wide)

    c.paint(p.shadow, 0.45 * spot(x, p.v - 0.80 - 0.05 * p.smiling, 0.20, 0.085))
    c.paint((p.skin * 1.08 + 0.02).clamp(0, 1), 0.35 * spot(p.u - 0.15 * p.turn, p.v - 0.90, 0.20, 0.10))
    fold = (ellipse(x, y + 0.06, wide + 0.17, 0.30).abs() - 0.012) * 1.0
    fold = soft(fold, 0.05) * soft(y.abs() - 0.16, 0.2) * (x.abs() > wide * 0.9)
    c.paint(p.shadow, (0.16 + 0.34 * p.smiling) * fold)
    lobes = ellipse(x.abs() - 0.14, p.v - 0.455 - 0.10 * x.abs() + 0.02 * p.smiling, 0.20, 0.072)
    c.paint(hair_tone(p, 0.66 - 0.6 * (p.v - 0.45), 0.05), c.cover(lobes * p.scale) * p.trait("moustache"))

    part = y - arch * (0.10 * p.smiling - 0.15 * p.sad) * 1.0
    tone = across(p.lips * 0.80).lerp(across((p.lips * 1.10 + 0.02).clamp(0, 1)), soft(-part, 0.03)[:, None])
    c.paint(tone, c.cover(inside * p.scale))
    c.paint(colour(1.0, 0.85, 0.85), 0.34 * spot(x + 0.05, y - 0.75 * low, 0.11, 0.035) * (1 - p.sad))
    c.paint(p.lips * 0.34, 0.9 * soft(part.abs() - 0.010, 0.03) * soft(x.abs() - wide * 0.94, 0.06) * (1 - p.smiling) *
            (1 - p.surprised))  # fmt: skip
    open_mouth = c.cover((inside + 0.052) * p.scale)
    c.paint(colour(0.97, 0.97, 0.95), open_mouth * p.smiling)
    c.paint(colour(0.30, 0.10, 0.12), open_mouth * p.smiling * soft(0.66 * low - y, 0.03) * 0.9)
    c.paint(colour(0.22, 0.04, 0.06), open_mouth * p.surprised)
    c.paint(colour(0.72, 0.28, 0.30), c.cover(ellipse(x, y - 0.14, 0.10, 0.06) * p.scale) * open_mouth * p.surprised)


def glasses(c: Canvas, p: Person) -> None:
    """Draw dark round frames with a glint, and their arms to the ears."""
    look = p.u - 0.20 * p.turn
    apart = 0.36 + 0.06 * p.trait("eye spacing")
    out, y = look.abs() - apart, p.v + 0.05 + 0.05 * p.trait("eye height")
    lens = ellipse(out, y, 0.272, 0.235)
    worn = p.trait("glasses")
    c.paint(colour(0.80, 0.90, 1.0), 0.13 * worn * c.cover(lens * p.scale))
    c.paint(
        WHITE, 0.30 * worn * c.cover(lens * p.scale) * soft((p.u + 0.8 * p.v + 0.35 - look.sign() * apart).abs(), 0.1)
    )
    bridge = box(look, y + 0.05 - 0.15 * look**2, (apart - 0.26).clamp(min=0.03), 0.026)
    arms = torch.maximum(box(out - 0.45, y + 0.06, 0.20, 0.026), p.u.abs() - p.width * 1.02)
    frame = torch.minimum(torch.minimum(lens.abs() - 0.036, bridge), arms)
    c.paint(colour(0.07, 0.07, 0.10), worn * c.cover(frame * p.scale))


def hair_in_front(c: Canvas, p: Person) -> None:
    """Draw the hair above the hairline, parted, and locks that fall over the ears."""
    bumps = outline(p)
    parting = p.trait("parting")
    x = p.u - 0.30 * parting
    line = -0.55 + 0.22 * p.trait("fringe") + 0.24 * parting * p.u + 0.42 * p.u**2 - 0.16 * spot(x, 0 * x, 0.22, 1.0)
    line = line + 0.035 * (p.u * 17).sin() * (1 + p.trait("fringe")) + 0.6 * bumps
    skull = ellipse(p.u, p.v + 0.14, p.width + 0.75 * p.volume, 0.92 + p.volume) - bumps
    cap = torch.maximum(skull, p.v - line)
    length = each(0.35 + 0.95 * p.half["hair length"])
    side = p.u.abs() - p.width
    inner = 0.05 + 0.05 * p.v.clamp(-0.3, 0.8) + 0.06 * (p.v * 5 + 1).sin().clamp(min=0)
    lock = torch.maximum(-side - inner, torch.where(p.v < 0, skull, side - 0.75 * p.volume - bumps))
    ends = length - 0.10 - 0.5 * (side - 0.05).abs() - 0.03 * (p.u * 31).sin()
    lock = torch.maximum(torch.maximum(lock, p.v - ends), -p.v - 0.6)
    shape = torch.minimum(cap, torch.where(length > 0.55, lock, cap))
    c.paint(p.shadow, 0.36 * soft(cap - 0.07, 0.16) * soft(ellipse(p.u, p.v, p.width, 1.0), 0.05))
    edge = 0.20 * soft((p.v - line).abs(), 0.16)
    c.paint(hair_tone(p, 0.96 - edge - 0.22 * (p.v + 0.1).clamp(0, 1)), c.cover(shape * p.scale))
    seam = segment(p.u, p.v, 0.30 * parting, -1.02 - 0.5 * p.volume, 0.33 * parting, -0.62, 0.0)
    c.paint(p.hair * 0.55, 0.55 * soft(seam - 0.012, 0.05) * c.cover(skull * p.scale))

"""The small world's pictures: people and scenes drawn in batches with soft-edged signed-distance shapes.

Coordinates are those of a 64 x 64 picture whatever the resolution drawn, so one description gives a training picture of
64 pixels and a photograph of 512.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

SIZE = 64
TRAITS = (
    "skin lightness", "skin warmth", "hair lightness", "hair redness", "hair length", "hair volume", "fringe",
    "parting", "curl", "face width", "jaw", "eye size", "eye spacing", "iris", "brow thickness", "brow slant",
    "nose", "mouth width", "lips", "beard", "moustache", "glasses",
)  # fmt: skip
SCENES = ("studio", "beach", "forest", "city", "snow", "space", "desert")
CLOTHES = ("red shirt", "black suit", "spacesuit", "yellow jacket", "blue sweater")
HEADWEAR = ("none", "red hat", "crown", "blue cap")
EXPRESSIONS = ("neutral", "smiling", "sad", "surprised")
OBJECTS = ("none", "guitar", "balloon", "cup")
STYLES = ("photo", "pencil sketch", "pixel art")
POSES = ("front", "left", "right")
FRAMINGS = ("portrait", "close up", "far away", "pair")

# Head half-height and the height of its centre, by framing.
HEAD = torch.tensor([[17.0, 28.0], [22.0, 34.0], [12.0, 30.0], [11.5, 29.0]])
# A face's square reaches this many head half-heights from the head's centre.
FACE_REACH = 1.45


@dataclass
class Scene:
    """What a batch of pictures shows: indices into the tuples above, and the people in it.

    `identity (n, people, len(TRAITS))` is standard normal; `x (n, people)` the heads' centres; `place (n,)` in [0, 1)
    varies the background; every other field is an index `(n,)`, or `(n, people)` for what each person has.
    """

    identity: Tensor
    x: Tensor
    framing: Tensor
    scene: Tensor
    style: Tensor
    place: Tensor
    clothes: Tensor
    headwear: Tensor
    expression: Tensor
    pose: Tensor
    object: Tensor

    def __len__(self) -> int:
        return len(self.scene)

    def __getitem__(self, index: Tensor) -> Scene:
        return Scene(**{key: value[index] for key, value in vars(self).items()})

    def boxes(self) -> Tensor:
        """The squares of the faces, `(n, people, 4)` as left, top, right, bottom in 64ths of the picture."""
        half, y = HEAD[self.framing].unbind(-1)
        reach = (half * FACE_REACH)[:, None].expand_as(self.x)
        y = (y - 0.12 * half)[:, None].expand_as(self.x)
        return torch.stack([self.x - reach, y - reach, self.x + reach, y + reach], -1)


def visible(identity: Tensor) -> Tensor:
    """The traits as they show: standard normal factors squashed to [-1, 1], beard, moustache and glasses to [0, 1]."""
    soft = torch.tanh(0.8 * identity)
    worn = torch.sigmoid(6 * (identity[..., -3:] - 0.5))
    return torch.cat([soft[..., :-3], worn], -1)


def draw(scene: Scene, size: int = SIZE) -> Tensor:
    """Pictures `(n, 3, size, size)` in [0, 1] of a batch of scenes."""
    canvas = _Canvas(len(scene), size, scene.identity.device)
    _background(canvas, scene)
    for person in range(scene.x.shape[1]):
        _person(canvas, scene, person)
    return _styled(canvas.rgb, scene.style)


class _Canvas:
    """A batch of pictures being painted, with the coordinates shapes are measured in."""

    def __init__(self, n: int, size: int, device: torch.device) -> None:
        axis = (torch.arange(size, device=device) + 0.5) * (SIZE / size)
        self.x = axis[None, None, :].expand(n, 1, size)
        self.y = axis[None, :, None].expand(n, size, 1)
        self.sharp = size / SIZE
        self.rgb = torch.zeros(n, 3, size, size, device=device)

    def cover(self, distance: Tensor) -> Tensor:
        """How much of each pixel lies inside a shape, from the signed distance in 64ths of the picture."""
        return (0.5 - distance * self.sharp).clamp(0, 1)

    def paint(self, colour: Tensor, alpha: Tensor) -> None:
        """Lay a colour, `(n, 3)`, `(3,)` or a picture, over the picture where alpha `(n, h, w)` says."""
        if colour.dim() == 1:
            colour = colour[None]
        if colour.dim() == 2:
            colour = colour[..., None, None]
        self.rgb.lerp_(colour.expand_as(self.rgb), alpha[:, None].expand_as(self.rgb))


def _rgb(*values: float) -> Tensor:
    return torch.tensor(values)


def _n(value: Tensor) -> Tensor:
    return value[:, None, None]


def _ellipse(x: Tensor, y: Tensor, rx: Tensor | float, ry: Tensor | float) -> Tensor:
    """Distance to an ellipse round the origin, exact on its edge in the mean radius' units."""
    radius = ((x / rx) ** 2 + (y / ry) ** 2 + 1e-6).sqrt()
    # Dividing by the gradient's length keeps the soft edge equally wide all round.
    slope = ((x / rx**2) ** 2 + (y / ry**2) ** 2 + 1e-6).sqrt() / radius
    return (radius - 1) / slope


def _box(x: Tensor, y: Tensor, rx: Tensor | float, ry: Tensor | float) -> Tensor:
    return torch.maximum(x.abs() - rx, y.abs() - ry)


def _background(c: _Canvas, scene: Scene) -> None:
    x, y, place = c.x, c.y, _n(scene.place)
    shift = (place * 4).floor() * 4  # 0, 4, 8 or 12
    for index, name in enumerate(SCENES):
        on = _n((scene.scene == index).float())
        down = (y / SIZE)[:, None]

        def fill(top: Tensor, bottom: Tensor, down: Tensor = down, on: Tensor = on) -> None:
            c.paint(top[:, None, None] * (1 - down) + bottom[:, None, None] * down, on.expand_as(c.rgb[:, 0]))

        def shape(colour: Tensor, distance: Tensor, on: Tensor = on, strength: Tensor | float = 1.0) -> None:
            c.paint(colour, c.cover(distance) * on * strength)

        if name == "studio":
            fill(_rgb(0.74, 0.76, 0.79), _rgb(0.56, 0.58, 0.62))
        elif name == "beach":
            fill(_rgb(0.36, 0.68, 0.95), _rgb(0.75, 0.90, 1.0))
            shape(_rgb(1.0, 0.92, 0.40), _ellipse(x - 8 - shift, y - 9, 5.0, 5.0))
            shape(_rgb(0.10, 0.45, 0.75), 38 - y + 0 * x)
            shape(_rgb(0.94, 0.97, 1.0), 47.0 - y + 0 * x)
            shape(_rgb(0.90, 0.78, 0.50), 49.0 - y + 0 * x)
        elif name == "forest":
            fill(_rgb(0.16, 0.42, 0.18), _rgb(0.24, 0.52, 0.22))
            trunk = (x + shift).remainder(16) - 8
            shape(_rgb(0.36, 0.22, 0.12), _box(trunk, y - 32, 2.2, 24.0))
            shape(_rgb(0.05, 0.27, 0.10), _ellipse(trunk, y - 4, 9.0, 9.0))
            shape(_rgb(0.12, 0.34, 0.12), 56 - y + 0 * x)
        elif name == "city":
            fill(_rgb(0.05, 0.05, 0.18), _rgb(0.16, 0.12, 0.32))
            block = ((x + shift) / 12).floor()
            top = 14 + 12 * ((block * 2.4).sin().abs())
            shape(_rgb(0.10, 0.09, 0.14), top - y)
            window = torch.maximum((x.remainder(4) - 2).abs() - 1, (y.remainder(4) - 2).abs() - 1)
            lit = ((block * 3.1 + (x / 4).floor() * 5.3 + (y / 4).floor() * 7.7).sin() > 0).float()
            shape(_rgb(0.98, 0.85, 0.40), torch.maximum(window, top + 2 - y), strength=lit)
        elif name == "snow":
            fill(_rgb(0.62, 0.74, 0.88), _rgb(0.86, 0.91, 0.97))
            peak = ((x + shift).remainder(32) - 16).abs()
            shape(_rgb(0.46, 0.54, 0.66), 12 + 1.3 * peak - y)
            shape(_rgb(0.97, 0.98, 1.0), torch.maximum(12 + 1.3 * peak - y, y - 21))
            shape(_rgb(0.97, 0.98, 1.0), 44 - y + 0 * x)
        elif name == "space":
            fill(_rgb(0.02, 0.01, 0.08), _rgb(0.08, 0.03, 0.16))
            cell_x, cell_y = (x / 8).floor(), (y / 8).floor()
            star = (cell_x * 12.7 + cell_y * 7.1 + shift).sin()
            shape(
                _rgb(1.0, 1.0, 0.95),
                _box(x.remainder(8) - 4 - star, y.remainder(8) - 4 + star, 0.8, 0.8),
                strength=(star > -0.3).float(),
            )
            shape(_rgb(0.85, 0.45, 0.25), _ellipse(x - 8 - shift, y - 11, 7.5, 7.5))
            shape(_rgb(0.95, 0.68, 0.45), _ellipse(x - 6 - shift, y - 9, 3.0, 3.0))
        elif name == "desert":
            fill(_rgb(1.0, 0.62, 0.30), _rgb(1.0, 0.82, 0.55))
            shape(_rgb(1.0, 0.95, 0.75), _ellipse(x - 44 - shift, y - 12, 5.0, 5.0))
            shape(_rgb(0.86, 0.52, 0.26), 42 + 4 * ((x + shift) * 0.12).sin() - y)
            shape(_rgb(0.74, 0.40, 0.20), 52 + 3 * ((x - shift) * 0.10).cos() - y)


def _person(c: _Canvas, scene: Scene, person: int) -> None:
    half, centre = HEAD[scene.framing].unbind(-1)
    s = _n(half)
    u = (c.x - _n(scene.x[:, person])) / s
    v = (c.y - _n(centre)) / s
    t = dict(zip(TRAITS, visible(scene.identity[:, person]).unbind(-1), strict=True))

    def paint(colour: Tensor, distance: Tensor, strength: Tensor | float = 1.0) -> None:
        c.paint(colour, c.cover(distance * s) * strength)

    def blend(weight: Tensor, low: Tensor, high: Tensor) -> Tensor:
        return low + (high - low) * weight[:, None]

    def half_of(trait: str) -> Tensor:
        return (t[trait] + 1) / 2

    light = half_of("skin lightness")
    skin = blend(light, _rgb(0.30, 0.18, 0.12), _rgb(0.98, 0.84, 0.75))
    skin = (skin + t["skin warmth"][:, None] * _rgb(0.04, -0.01, -0.05)).clamp(0, 1)
    hair = blend(half_of("hair lightness"), _rgb(0.07, 0.05, 0.05), _rgb(0.95, 0.86, 0.62))
    hair = (hair + half_of("hair redness")[:, None] * _rgb(0.32, -0.04, -0.20)).clamp(0, 1)

    width = _n(0.76 + 0.12 * t["face width"])
    volume = _n(0.16 + 0.12 * t["hair volume"])
    curl = _n(half_of("curl") * 0.09)
    angle = torch.atan2(u, -v)
    waves = curl * (angle * 13).sin()
    turn = _n(torch.tensor([0.0, -1.0, 1.0])[scene.pose[:, person]])

    # Hair behind the head: round the skull, and down to its length.
    reach = _n(0.55 + 0.75 * t["hair length"])
    back = _ellipse(u, v + 0.18, width + volume, 0.92 + volume) + waves
    fall = _box(u, v - (reach - 0.2) / 2, width + volume * 0.8, (reach + 0.2).clamp(min=0) / 2) + waves
    paint(hair * 0.82, torch.minimum(back, torch.where(reach > 0.1, fall, back)))

    _clothes(c, scene.clothes[:, person], u, v, s, skin)

    paint(skin * 0.92, _ellipse(u.abs() - width, v - 0.06, 0.14, 0.19))
    jaw = 0.86 + 0.14 * t["jaw"]
    taper = width * (1 - (1 - _n(jaw)) * v.clamp(0, 1) * 1.5)
    head = _ellipse(u, v, taper, 1.0)
    paint(skin, head)

    cheek = 0.42 - 1.1 * (u.abs() - 0.34).clamp(min=0)
    paint(hair * 0.85, torch.maximum(head, cheek - v), _n(t["beard"]))

    # The fringe: what of the skull lies above the hairline.
    line = -0.52 + 0.20 * _n(t["fringe"]) + 0.34 * _n(t["parting"]) * u + 0.5 * u**2 + waves
    skull = _ellipse(u, v + 0.12, width + volume * 0.7, 0.90 + volume)
    paint(hair, torch.maximum(skull, v - line))

    expression = scene.expression[:, person]
    surprised, sad, smiling = (_n((expression == i).float()) for i in (3, 2, 1))

    look = u - 0.20 * turn
    size = _n(1.0 + 0.25 * t["eye size"])
    apart = _n(0.36 + 0.07 * t["eye spacing"])
    eye_x, eye_y = look.abs() - apart, v + 0.06
    paint(_rgb(0.98, 0.98, 0.98), _ellipse(eye_x, eye_y, 0.19 * size, 0.125 * size * (1 + 0.3 * surprised)))
    iris = blend(half_of("iris"), _rgb(0.30, 0.16, 0.06), _rgb(0.25, 0.62, 0.95))
    gaze = torch.where(look > 0, eye_x, -eye_x) - 0.07 * turn
    paint(iris, _ellipse(gaze, eye_y, 0.105 * size, 0.115 * size))
    paint(_rgb(0.03, 0.03, 0.03), _ellipse(gaze, eye_y, 0.05 * size, 0.055 * size))
    rim = _ellipse(eye_x, eye_y, 0.27, 0.23).abs() - 0.045
    frame = torch.minimum(rim, _box(look, eye_y, (apart - 0.27).clamp(min=0.02), 0.04))
    paint(_rgb(0.06, 0.06, 0.08), frame, _n(t["glasses"]))

    slope = _n(0.22 * t["brow slant"]) - 0.45 * sad
    brow = v + 0.33 + 0.13 * surprised + slope * eye_x
    paint(hair * 0.55, _box(eye_x, brow, 0.20, _n(0.055 + 0.035 * t["brow thickness"])))

    nose = u - 0.32 * turn
    long = _n(0.5 + 0.5 * t["nose"])
    paint(skin * 0.76, _ellipse(nose, v - 0.22, 0.075 + 0.06 * long, 0.10 + 0.05 * long))

    mouth = u - 0.24 * turn
    paint(hair * 0.75, _ellipse(mouth, v - 0.41, 0.30, 0.075), _n(t["moustache"]))
    wide = _n(0.27 + 0.06 * t["mouth width"]) * (1 + 0.30 * smiling - 0.35 * surprised)
    lip = _n(0.055 + 0.025 * t["lips"])
    arch = (1 - (mouth / wide) ** 2).clamp(min=-1)
    y = v - 0.58 - 0.08 * sad + 0.06 * smiling
    upper = y - arch * (-lip + smiling * (lip + 0.04) - sad * 0.16 - surprised * 0.13)
    lower = y - arch * (lip + smiling * 0.22 - sad * (lip + 0.10) + surprised * 0.15)
    # Sad lips are an arch of their own thickness, whose ends hang down.
    thick = 0.5 * lip * sad
    gap = torch.maximum(torch.maximum(-upper - thick, lower - thick), mouth.abs() - wide)
    lips = blend(light, _rgb(0.55, 0.18, 0.18), _rgb(0.85, 0.30, 0.32))
    paint(lips, gap)
    paint(_rgb(1.0, 1.0, 1.0), gap + 0.065, smiling)
    paint(_rgb(0.20, 0.03, 0.05), gap + 0.06, surprised)

    _headwear(c, scene.headwear[:, person], u, v, s, width, volume)
    _object(c, scene.object[:, person], u, v, s)


def _clothes(c: _Canvas, kind: Tensor, u: Tensor, v: Tensor, s: Tensor, skin: Tensor) -> None:
    body = torch.maximum(1.16 + 0.30 * u.abs() ** 2.5 - v, u.abs() - 1.32)
    # The body is narrower than tall pictures need: it runs down out of the picture.
    body = torch.maximum(body, 1.18 - v)
    neck = _box(u, v - 1.0, 0.30, 0.34)
    c.paint(skin * 0.84, c.cover(neck * s))
    colours = torch.tensor(
        [[0.85, 0.10, 0.12], [0.08, 0.08, 0.10], [0.93, 0.94, 0.96], [0.98, 0.82, 0.08], [0.16, 0.30, 0.78]]
    )
    c.paint(colours[kind], c.cover(body * s))

    def detail(index: int, colour: Tensor, distance: Tensor) -> None:
        c.paint(colour, c.cover(torch.maximum(distance, body) * s) * _n((kind == index).float()))

    detail(0, _rgb(0.60, 0.04, 0.06), _ellipse(u, v - 1.12, 0.42, 0.22))
    detail(1, _rgb(0.97, 0.97, 0.97), u.abs() - (1.9 - v).clamp(min=0) * 0.45)
    detail(1, _rgb(0.80, 0.05, 0.10), u.abs() - 0.10)
    detail(2, _rgb(0.45, 0.50, 0.60), _ellipse(u, v - 1.16, 0.62, 0.16))
    detail(2, _rgb(0.15, 0.35, 0.85), _box(u + 0.55, v - 1.68, 0.18, 0.12))
    detail(2, _rgb(0.90, 0.20, 0.15), _box(u - 0.55, v - 1.68, 0.18, 0.12))
    detail(3, _rgb(0.30, 0.24, 0.05), u.abs() - 0.07)
    detail(4, _rgb(0.92, 0.94, 0.98), (v.remainder(0.40) - 0.2).abs() - 0.08)
    c.paint(skin * 0.84, c.cover(_ellipse(u, v - 1.10, 0.30, 0.18) * s) * _n((kind != 2).float()))


def _headwear(c: _Canvas, kind: Tensor, u: Tensor, v: Tensor, s: Tensor, width: Tensor, volume: Tensor) -> None:
    wide = width + volume

    def paint(index: int, colour: Tensor, distance: Tensor) -> None:
        c.paint(colour, c.cover(distance * s) * _n((kind == index).float()))

    dome = torch.maximum(_ellipse(u, v + 0.55, wide * 0.92, 0.75), v + 0.55)
    paint(1, _rgb(0.88, 0.08, 0.10), dome)
    paint(1, _rgb(0.12, 0.05, 0.06), _box(u, v + 0.68, wide * 0.90, 0.08))
    paint(1, _rgb(0.88, 0.08, 0.10), _ellipse(u, v + 0.54, wide * 1.40, 0.12))
    spikes = 0.18 * ((u / wide * 2.5 + 0.5).remainder(1) * 2 - 1).abs()
    crown = torch.maximum(_box(u, v + 0.84, wide * 0.85, 0.32), -(v + 1.14) + 1.6 * spikes)
    paint(2, _rgb(1.0, 0.80, 0.12), crown)
    paint(2, _rgb(0.85, 0.10, 0.25), _ellipse(u, v + 0.66, 0.11, 0.11))
    paint(2, _rgb(0.15, 0.35, 0.85), _ellipse(u.abs() - 0.45, v + 0.66, 0.09, 0.09))
    paint(3, _rgb(0.12, 0.28, 0.80), torch.maximum(_ellipse(u, v + 0.50, wide * 0.98, 0.68), v + 0.50))
    paint(3, _rgb(0.07, 0.16, 0.52), _ellipse(u - 0.25, v + 0.50, wide * 0.95, 0.11))
    paint(3, _rgb(0.97, 0.97, 1.0), _ellipse(u, v + 0.80, 0.17, 0.15))


def _object(c: _Canvas, kind: Tensor, u: Tensor, v: Tensor, s: Tensor) -> None:
    def paint(index: int, colour: Tensor, distance: Tensor) -> None:
        c.paint(colour, c.cover(distance * s) * _n((kind == index).float()))

    along, across = (u + v - 1.55) * 0.707, (u - v + 1.55) * 0.707
    paint(1, _rgb(0.30, 0.16, 0.06), _box(along * 0 + across - 0.95, along, 0.85, 0.07))
    paint(1, _rgb(0.68, 0.36, 0.10), torch.minimum(_ellipse(across + 0.25, along, 0.50, 0.42),
                                                   _ellipse(across - 0.25, along, 0.36, 0.32)))  # fmt: skip
    paint(1, _rgb(0.16, 0.08, 0.03), _ellipse(across - 0.05, along, 0.15, 0.15))
    paint(2, _rgb(0.95, 0.95, 0.95), _box(u - 1.42, v - 0.7, 0.03, 0.95))
    paint(2, _rgb(0.95, 0.15, 0.55), _ellipse(u - 1.42, v + 0.65, 0.42, 0.48))
    paint(2, _rgb(1.0, 0.65, 0.82), _ellipse(u - 1.28, v + 0.82, 0.11, 0.13))
    paint(3, _rgb(0.96, 0.96, 0.96), _ellipse(u + 1.08, v - 1.52, 0.22, 0.20).abs() - 0.06)
    paint(3, _rgb(0.96, 0.96, 0.96), _box(u + 0.72, v - 1.52, 0.30, 0.32))
    paint(3, _rgb(0.10, 0.60, 0.55), _box(u + 0.72, v - 1.52, 0.30, 0.10))


def _styled(rgb: Tensor, style: Tensor) -> Tensor:
    grey = (rgb * _rgb(0.30, 0.59, 0.11)[:, None, None]).sum(1, keepdim=True)
    edge = (grey - avg_pool2d(grey, 3, 1, 1, count_include_pad=False)).clamp(max=0)
    sketch = (0.30 + 0.70 * grey + 2.5 * edge) * _rgb(1.0, 0.97, 0.90)[:, None, None]
    block = 2 * rgb.shape[-1] // SIZE
    pixels = ((avg_pool2d(rgb, block) - 0.5) * 1.25 + 0.5).clamp(0, 1)
    pixels = ((pixels * 5).round() / 5).repeat_interleave(block, -1).repeat_interleave(block, -2)
    kind = _n(style)[:, None]
    return torch.where(kind == 1, sketch, torch.where(kind == 2, pixels, rgb)).clamp(0, 1)

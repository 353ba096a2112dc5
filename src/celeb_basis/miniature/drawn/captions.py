"""The small world's language: what a prompt asks for, and the prompts that describe a scene."""

from __future__ import annotations

import random
import re
from dataclasses import dataclass, field

import torch
from torch import Tensor

from .backdrops import VARIANTS
from .world import CLOTHES, EXPRESSIONS, FRAMINGS, HEADWEAR, OBJECTS, PLACED, POSES, SCENES, SIZE, STYLES, TRAITS, Scene

PLACES = dict(
    zip(SCENES, ("in a studio", "on the beach", "in the forest", "in a city at night", "in the snow", "in space",
                 "in the desert"), strict=True)
)  # fmt: skip
WORN = {name: f"wearing a {name}" for name in CLOTHES}
HATS = {"red hat": "with a red hat", "crown": "with a crown", "blue cap": "with a blue cap"}
HELD = {name: f"holding a {name}" for name in OBJECTS[1:]}
LOOKS = {"left": "looking left", "right": "looking right", "front": "looking straight ahead"}
FACES = {name: name for name in EXPRESSIONS[1:]} | {"neutral": "with a neutral face"}
PICTURES = {
    "photo": "a photo of",
    "pencil sketch": "a pencil sketch of",
    "pixel art": "a pixel art picture of",
}
FACE_CROP = "a photo of the face of {}"
"""What a face pasted on black is called: the prompt of the method's own training pictures."""
SIDES = {2: ("on the left", "on the right"), 3: ("on the left", "in the middle", "on the right")}

WORDS = {
    "scene": (SCENES, PLACES),
    "clothes": (CLOTHES, WORN),
    "headwear": (HEADWEAR, HATS),
    "object": (OBJECTS, HELD),
    "expression": (EXPRESSIONS, FACES),
    "pose": (POSES, LOOKS),
    "style": (STYLES, PICTURES),
}
VOCABULARY = tuple(
    sorted(
        {word for _, phrases in WORDS.values() for phrase in phrases.values() for word in phrase.split()}
        | set("a photo of the face close up far away and on in middle left right person people two three".split())
    )
)


def asked(prompt: str) -> dict[str, int]:
    """Return what a prompt asks for, `{attribute: index}`; an attribute that it does not name is not asked for."""
    found = {}
    for attribute, (values, phrases) in WORDS.items():
        for value, phrase in phrases.items():
            if re.search(rf"\b{phrase}\b", prompt):
                found[attribute] = values.index(value)
    return found


@dataclass
class Sampler:
    """Draws scenes and their captions from one stream of random numbers.

    said: how often a caption names what is not usual.
    """

    seed: int
    said: float = 0.92
    _torch: torch.Generator = field(init=False)
    _words: random.Random = field(init=False)

    def __post_init__(self) -> None:
        self._torch = torch.Generator().manual_seed(self.seed)
        self._words = random.Random(self.seed)

    def people(self, n: int, people: int = 1) -> Tensor:
        """Return traits `(n, people, len(TRAITS))` of people nobody has met."""
        return torch.randn(n, people, len(TRAITS), generator=self._torch)

    def scenes(self, identity: Tensor) -> Scene:
        """Return a scene for each row of `identity (n, 1 to 3, len(TRAITS))`."""
        n, people = identity.shape[:2]

        def pick(weights: list[float]) -> Tensor:
            return torch.multinomial(torch.tensor(weights), n, True, generator=self._torch)

        def each(weights: list[float]) -> Tensor:
            return pick(weights)[:, None].expand(n, people)

        if people == 1:
            framing = pick([0.72, 0.20, 0.08])
            # Heads stand on the autoencoder's grid of eight pixels.
            x = SIZE / 2 + 8.0 * (pick([0.1, 0.2, 0.4, 0.2, 0.1]) - 2)[:, None]
            x = torch.where(framing[:, None] == 1, SIZE / 2, x)
            held = pick([0.64, 0.12, 0.12, 0.12])[:, None]
            held = torch.where((framing[:, None] == 1) | (x > SIZE / 2), 0, held)
            hat = pick([0.58, 0.14, 0.14, 0.14])[:, None]
        else:
            framing = torch.full((n,), FRAMINGS.index("pair" if people == 2 else "three"))
            x = torch.tensor(PLACED[people]).expand(n, people)
            held = hat = torch.zeros(n, people, dtype=torch.long)
        return Scene(
            identity=identity, x=x, framing=framing,
            scene=pick([1.0] * len(SCENES)), style=pick([0.84, 0.08, 0.08]), place=pick([1.0] * VARIANTS),
            clothes=each([1.0] * len(CLOTHES)), headwear=hat,
            expression=each([0.46, 0.18, 0.18, 0.18]), pose=each([0.6, 0.2, 0.2]), object=held,
        )  # fmt: skip

    def captions(self, scene: Scene, names: list[tuple[str, ...]]) -> list[str]:
        """Write one caption a scene, naming its people; what is ordinary is often left unsaid."""
        columns = {key: getattr(scene, key).reshape(len(scene), -1)[:, 0].tolist() for key in WORDS}
        framing = scene.framing.tolist()
        return [
            self._caption({key: columns[key][i] for key in WORDS}, FRAMINGS[framing[i]], names[i])
            for i in range(len(scene))
        ]

    def _caption(self, values: dict[str, int], framing: str, names: tuple[str, ...]) -> str:
        draw = self._words.random
        clauses = []
        for attribute, index in values.items():
            options, phrases = WORDS[attribute]
            value = options[index]
            usual = value in ("none", "neutral", "front")
            if attribute != "style" and value in phrases and draw() < (0.15 if usual else self.said):
                clauses.append(phrases[value])
        self._words.shuffle(clauses)
        opening = PICTURES[STYLES[values["style"]]]
        if framing in ("close up", "far away"):
            opening = opening.replace("a ", f"a {framing} ", 1)
        elif opening == PICTURES["photo"] and draw() < 0.3:
            opening = ""
        subject = " and ".join(names)
        if len(names) > 1 and draw() < 0.5:
            placed = [f"{name} {side}" for name, side in zip(names, SIDES[len(names)], strict=True)]
            self._words.shuffle(placed)
            subject = " and ".join(placed)
        return " ".join([opening, subject, *clauses]).strip()

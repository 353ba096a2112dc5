"""The work every contender does: unseen people, prompts of the paper's four kinds, and who looks at the pictures."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import torch
from PIL import Image
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from worlds import DRAWN, Person, World

from celeb_basis import Face, Identity
from celeb_basis.generate import generate

GALLERY, STARS = 60, 150  # new people and celebrities among whom a face has to be recognised
TOKENS = ("<one>", "<two>", "<three>")

# {0} is the new person, the others a celebrity or more new people. Whoever is named first stands on the left, unless
# the words say otherwise.
PROMPTS = {
    "style": (
        "a pencil sketch of {0} on the beach",
        "a pencil sketch of {0} smiling wearing a black suit",
        "a pencil sketch of {0} surprised in a city at night",
        "a pixel art picture of {0} in the forest",
        "a pixel art picture of {0} in space wearing a spacesuit",
        "a pixel art picture of {0} looking right with a blue cap",
    ),
    "scene": (
        "a photo of {0} on the beach wearing a red shirt",
        "a photo of {0} in the forest with a crown",
        "a photo of {0} in space wearing a spacesuit",
        "a photo of {0} smiling in the snow wearing a yellow jacket",
        "a photo of {0} in a city at night holding a guitar",
        "a photo of {0} sad in the desert with a red hat",
        "a photo of {0} looking left in a studio wearing a black suit",
        "a close up photo of {0} surprised wearing a blue sweater",
    ),
    "with a celebrity": (
        "a photo of {0} and {1} on the beach",
        "a photo of {1} and {0} in the snow wearing a yellow jacket",
        "a photo of {0} on the left and {1} on the right in a city at night",
        "a photo of {1} on the left and {0} on the right smiling in the forest",
        "a photo of {0} and {1} in the desert wearing a black suit",
        "a pencil sketch of {1} and {0} in a studio",
    ),
    "two new people": (
        "a photo of {0} and {1} in a studio wearing a blue sweater",
        "a photo of {0} and {1} smiling on the beach",
        "a photo of {0} on the left and {1} on the right in the snow",
        "a photo of {1} on the left and {0} on the right in the forest",
        "a photo of {1} and {0} in space wearing a spacesuit",
        "a photo of {0} on the right and {1} on the left in the desert",
        "a photo of {1} on the right and {0} on the left surprised in a city at night",
        "a photo of {1} and {0} looking right in the forest wearing a red shirt",
        "a pencil sketch of {0} and {1} on the beach",
        "a pixel art picture of {1} and {0} wearing a yellow jacket",
    ),
    "three new people": (
        "a photo of {0} and {1} and {2} on the beach",
        "a photo of {2} and {0} and {1} in a studio",
        "a photo of {1} and {2} and {0} in the forest wearing a red shirt",
        "a photo of {0} on the left and {1} in the middle and {2} on the right in the snow",
        "a photo of {2} in the middle and {0} on the right and {1} on the left in the desert",
        "a pencil sketch of {1} and {0} and {2} in a city at night",
    ),
}
ALONE = [(kind, text) for kind in ("style", "scene", "with a celebrity") for text in PROMPTS[kind]]
PAIRED = [("two new people", text) for text in PROMPTS["two new people"]]
THREES = [("three new people", text) for text in PROMPTS["three new people"]]
SHORT = [("scene", text) for text in PROMPTS["scene"]]


def counterpart(number: int, celebrities: int) -> int:
    """Which celebrity has the number, and so the noise, of a new person: an even one, of any rank of fame."""
    return 34 * (number % 1000) % (celebrities // 2 * 2)


class Work:
    """The people from number `first` on, and everybody they could be mistaken for, whatever the number of people.

    crowded: whether a face has to be told from the whole gallery, not from the others of the run alone. It takes
    minutes to read, so nobody is read before he is asked for.
    """

    def __init__(self, people: int, first: int, crowded: bool = True, world: World = DRAWN) -> None:
        self.first, self.world = first, world
        self._many, self._crowded = people, crowded
        self._stars: dict[int, Tensor] = {}

    @cached_property
    def people(self) -> list[Person]:
        """The new people."""
        return [self.world.person(self.first + i) for i in range(self._many)]

    @cached_property
    def celebrities(self) -> list[Person]:
        """As many of the model's own people, with the numbers, and so the noise, of the new ones."""
        many = len(self.world.names)
        return [self.world.celebrity(counterpart(person.number, many), person.number) for person in self.people]

    @cached_property
    def gallery(self) -> Tensor:
        """Features `(n, d)` of everybody among whom a face has to be recognised."""
        known = [person.feature for person in self.people]
        if self._crowded:
            known = known[:GALLERY]
            known += [self.world.person(self.first + i).feature for i in range(len(known), GALLERY)]
            known += [self.star(i) for i in range(STARS)]
        return torch.stack(known)

    def star(self, i: int) -> Tensor:
        """The feature of celebrity number `i`, read once."""
        if i not in self._stars:
            self._stars[i] = self.world.feature(self.world.star(i))
        return self._stars[i]

    def said(self, prompts: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
        """Return kinds and prompts in words that the model knows."""
        return [(kind, self.world.said(text)) for kind, text in prompts]

    def draw(
        self,
        pipe: Any,
        vectors: Tensor,
        people: Sequence[Person],
        prompts: Sequence[tuple[str, str]],
        seeds: int,
        batch_size: int,
        regions: bool = False,
        num_inference_steps: int | None = None,
    ) -> tuple[list[Image.Image], list[dict[str, Any]]]:
        """Pictures of one to three people with `vectors (people, 2, dim)` in every prompt, and what is seen in each.

        Noise depends on the person and the seed alone, so every contender starts from the same.
        """
        texts, sides, prompts = [], [], self.said(prompts)
        for i, (_, template) in enumerate(prompts):
            # Odd celebrities stand beside people: the even ones are measured themselves, as the ceiling.
            star = (2 * (7 * people[0].number + i) + 1) % STARS
            called = [*TOKENS[: len(people)], self.world.names[star]]
            known = [*(person.feature for person in people), self.star(star)]
            texts.append(template.format(*called))
            sides.append([known[k] for k in from_left(template)])
        width = vectors.shape[-1]
        pictures = generate(
            pipe,
            texts,
            [Identity(token, v, (width,)) for token, v in zip(TOKENS, vectors.cpu(), strict=False)],
            num_images_per_prompt=seeds,
            seed=10 * people[0].number,
            batch_size=batch_size,
            regions="auto" if regions else None,
            num_inference_steps=num_inference_steps,
        )
        new = {id(person.feature) for person in people}
        rows = []
        found = self.world.evaluation_reader.read(pictures)
        for i, (seen, faces) in enumerate(zip(self.world.seen(pictures, found), found, strict=True)):
            which, wanted = i // seeds, self.world.asked(texts[i // seeds])
            rows.append(
                {"kind": prompts[which][0], "prompt": prompts[which][1], "seed": i % seeds}
                | recognised(faces, sides[which], [id(f) in new for f in sides[which]], self.gallery, pictures[i].width)
                | {"asked": {key: float(seen.get(key) == value) for key, value in wanted.items()}}
            )
        return pictures, rows


def from_left(template: str) -> list[int]:
    """Numbers of the people whom a prompt names, in the order in which they are to stand."""
    named = re.findall(r"\{(\d)\}(?: (on the left|in the middle|on the right))?", template)
    places = ["on the left", "in the middle", "on the right"]
    return [int(k) for k, _ in sorted(named, key=lambda one: places.index(one[1]) if one[1] else 0)]


def recognised(
    faces: Sequence[Face], asked_for: Sequence[Tensor], new: Sequence[bool], gallery: Tensor, width: int
) -> dict[str, float | None]:
    """Who is in a picture `width` pixels wide, against features of the people asked for, left to right.

    identity and rank1 are means over the new people; a face that is not where it was asked for counts as 0. found: as
    many faces as people. Of several people, where all faces are there: sides, each is most like the person asked for in
    its place; apart, the same in the best of all orders; bleeding, the cosine with the others in that order;
    photographs, that of their photographs.
    """
    many = len(asked_for)
    largest = sorted(faces[:many], key=_centre)
    found: list[Tensor | None] = [face.feature for face in largest]
    if len(found) < many:
        # Of fewer faces than people each has the place in whose column it is.
        columns = {min(int(_centre(face) * many / width), many - 1): face.feature for face in largest}
        found = [columns.get(place) for place in range(many)]
    own = [0.0 if f is None else float(f @ person) for f, person in zip(found, asked_for, strict=True)]
    first = [
        float(f is not None and bool((gallery @ f).max() <= f @ person + 1e-6))
        for f, person in zip(found, asked_for, strict=True)
    ]
    result: dict[str, float | None] = {
        "identity": sum(value for value, is_new in zip(own, new, strict=True) if is_new) / sum(new),
        "rank1": sum(value for value, is_new in zip(first, new, strict=True) if is_new) / sum(new),
        "found": float(len(faces) == many),
    }
    if many > 1:
        people = torch.stack(list(asked_for))
        result |= {"sides": 0.0, "apart": 0.0, "bleeding": None, "photographs": _of_others(people @ people.T)}
        if len(largest) == many:
            cosine = torch.stack([face.feature for face in largest]) @ people.T
            best = cosine[:, linear_sum_assignment(cosine.numpy(), maximize=True)[1]]
            result["sides"], result["apart"] = _all_most_like(cosine), _all_most_like(best)
            result["bleeding"] = _of_others(best)
    return result


def _centre(face: Face) -> float:
    return (face.box[0] + face.box[2]) / 2


def _all_most_like(cosine: Tensor) -> float:
    """1 where every face, a row, is more like its own person, on the diagonal, than like any other."""
    other = cosine.masked_fill(torch.eye(len(cosine), dtype=torch.bool), -torch.inf)
    return float((cosine.diagonal() > other.max(1).values).all())


def _of_others(cosine: Tensor) -> float:
    """The mean beside the diagonal."""
    return float(cosine[~torch.eye(len(cosine), dtype=torch.bool)].mean())

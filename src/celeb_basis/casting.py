"""Casting: invented people who look the same in every picture, and like nobody else."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import normalize

from .backend.pipeline import Pipeline
from .errors import BasisError, IdentityError
from .faces.face import FaceReader
from .generate import generate
from .identity import Identity
from .known_names import DrawSettings, Portraits, portrait_prompts, settings_of

NUM_IMAGES = 4  # of somebody who tries
MAX_TRIES = 20  # for each person wanted
LESS_ALIKE = 0.1  # share of the celebrities whose own pictures are less alike than those of the cast have to be
NO_FACE, CHANGES, CELEBRITY, MEMBER = (
    "without a face in every picture",
    "not the same in all pictures",
    "too like a celebrity",
    "too like one of the cast",
)


@dataclass(frozen=True, eq=False)
class Member:
    """One person of a cast.

    seed: of which they were made. same: the mean cosine of every two of their pictures. celebrity: whom they are most
    like, `like_celebrity` how much. like_cast: the highest cosine to those who were taken before; None for the first.
    """

    identity: Identity
    seed: int
    feature: Tensor  # (d,), of length one
    same: float
    celebrity: str
    like_celebrity: float
    like_cast: float | None


@dataclass(frozen=True)
class Audition:
    """How far a casting is: the tries so far, those that may still be made, who was taken, and why others were not.

    least: the cosine that a member's own pictures have at least. most: the one to others that is allowed.
    """

    tries: int
    left: int
    cast: tuple[Member, ...]
    refused: dict[str, int]
    least: float
    most: float


def cast(
    pipe: Pipeline,
    faces: Portraits,
    reader: FaceReader,
    invent: Callable[[int, int], Identity],
    count: int,
    *,
    unlike: float | None = None,
    seed: int = 0,
) -> Iterator[Audition]:
    """Draw invented people until so many were taken; yield after each try.

    Somebody is taken who is alone in each of four pictures, whose pictures are as much alike as those of nine in ten
    celebrities, and whose face has at most the cosine `unlike` to that of every celebrity and of those taken before.
    The pictures are drawn as the celebrities' were.

    faces: of the celebrities, two pictures or more of some of them.
    invent: makes the person of a seed, who would be number so many of the cast.
    unlike: by default the median of the highest cosine of each celebrity to another.

    Raises BasisError for faces of another reader, or too few of them, and IdentityError where MAX_TRIES for each person
    were not enough.
    """
    if faces.face_reader != reader.name:
        raise BasisError(f"these faces were read by {faces.face_reader}, not by {reader.name}: draw them again")
    faces = faces.of([name for name, found in zip(faces.names, faces.found.tolist(), strict=True) if found])
    own = sameness(faces)
    if len(own) < 10:
        raise BasisError(f"two pictures of {len(own)} celebrities show a face: at least 10 are needed, draw more")
    least = float(own.quantile(LESS_ALIKE))
    celebrities = normalize(faces.features.sum(1), dim=-1)
    most = float(nearest(celebrities).median()) if unlike is None else unlike
    settings, taken = settings_of(pipe, faces), list[Member]()
    refused = dict.fromkeys((NO_FACE, CHANGES, CELEBRITY, MEMBER), 0)
    for tries in range(1, count * MAX_TRIES + 1):
        number = seed + tries - 1
        identity = invent(number, len(taken) + 1)
        features = _features(pipe, identity, reader, settings)
        member = None if features is None else _compared(identity, number, features, faces.names, celebrities, taken)
        if member is None:
            refused[NO_FACE] += 1
        elif member.same < least:
            refused[CHANGES] += 1
        elif member.like_celebrity > most:
            refused[CELEBRITY] += 1
        elif member.like_cast is not None and member.like_cast > most:
            refused[MEMBER] += 1
        else:
            taken.append(member)
        yield Audition(tries, count * MAX_TRIES - tries, tuple(taken), dict(refused), least, most)
        if len(taken) == count:
            return
    reasons = ", ".join(f"{number} {why}" for why, number in refused.items() if number)
    raise IdentityError(
        f"{len(taken)} of {count} people were found in {tries} tries ({reasons}; a cosine of {most:.2f} was allowed): "
        "allow more, or ask for fewer people",
        argument="unlike",
    )


def sameness(faces: Portraits) -> Tensor:
    """Return how alike the pictures of each name are, (names with two faces or more,): the mean cosine of every two."""
    several = faces.found > 1
    return mean_cosine(faces.features[several], faces.found[several])


def mean_cosine(features: Tensor, count: Tensor | int) -> Tensor:
    """Return the mean cosine of every two of `count` features of length one, (..., pictures, d); others are zero."""
    return (features.sum(-2).square().sum(-1) - count) / (count * (count - 1))


def nearest(features: Tensor) -> Tensor:
    """Return the highest cosine of each feature (n, d) to another, (n,)."""
    return (features @ features.T).fill_diagonal_(-1.0).amax(-1)


def _features(pipe: Pipeline, identity: Identity, reader: FaceReader, settings: DrawSettings) -> Tensor | None:
    """Return the face of a person in several pictures, (pictures, d); None where one has no face, or several."""
    prompts, features = portrait_prompts(pipe), []
    for i in range(NUM_IMAGES):
        text = prompts[i % len(prompts)].replace("{}", identity.placeholder_token)
        [found] = reader.read(generate(pipe, text, [identity], seed=i, **settings._asdict()))
        if len(found) != 1:
            return None
        features.append(found[0].feature.float().cpu())
    return torch.stack(features)


def _compared(
    identity: Identity,
    seed: int,
    features: Tensor,
    names: Sequence[str],
    celebrities: Tensor,
    taken: Sequence[Member],
) -> Member:
    """Return a person whose pictures have these features (pictures, d), compared with celebrities and others."""
    feature = normalize(features.sum(0), dim=0)
    alike = celebrities @ feature
    return Member(
        identity=identity,
        seed=seed,
        feature=feature,
        same=float(mean_cosine(features, len(features))),
        celebrity=names[int(alike.argmax())],
        like_celebrity=float(alike.max()),
        like_cast=max((float(other.feature @ feature) for other in taken), default=None),
    )

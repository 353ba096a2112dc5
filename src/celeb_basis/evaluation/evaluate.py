"""Identities become numbers: is it that person, does the picture show what the prompt asks, is there a face."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from ..backend.pipeline import Pipeline, model_card
from ..backend.schedulers import drawn_with
from ..basis import CelebBasis
from ..errors import ModelError, PhotoError
from ..faces.face import find_face, find_person
from ..identity import Identity
from .image_cache import ImageCache, ImageRequest
from .judge import Judge, get_judge
from .protocols import DEFAULT_PROTOCOL, PROMPTS, PROTOCOLS, Protocol
from .scores import Scores, detected, diversity, estimate, identity_scores, interval, prompt_scores, score, with_face

__all__ = ["CELEBRITIES", "PROMPTS", "Person", "Scores", "evaluate", "evaluate_people", "interval", "score"]

CELEBRITIES = 10
FICTION, NEW = "<another>", "two new people"  # who is drawn beside the person in this kind of prompts
PORTRAIT, PORTRAIT_SEEDS = "a close-up photo of the face of {}", range(900_000, 900_004)
Progress = Callable[[int, int, str], None]


@dataclass(frozen=True, eq=False)
class Person:
    """Somebody to measure: a fitted identity, and the photographs to compare its pictures with.

    name: by which a model may know them, if it is known.
    """

    identity: Identity
    photos: Sequence[Image.Image]
    name: str = ""


@dataclass(frozen=True, eq=False)
class Measured:
    """One person's pictures of a protocol and their scores; a kind, a prompt and a picture for each score."""

    scores: Scores
    kinds: Sequence[str]
    seeds: int
    prompts: Sequence[str]
    pictures: Sequence[Image.Image]
    impostor_similarity: (
        NDArray[np.float64] | None
    )  # (pictures,) mean cosine with the model's celebrities, if any are drawn
    diversity: NDArray[np.float64] | None  # (prompts,)

    def summary(self) -> dict[str, Any]:
        """Return means and 95% intervals over pictures, of each kind too where there are several."""
        found = self._of_pictures(self.scores)
        if self.impostor_similarity is not None:
            found["impostor_similarity"] = estimate(self.impostor_similarity)
        if self.diversity is not None:
            found["diversity"] = estimate(self.diversity)
            of_prompts = self.scores.identity.reshape(len(self.diversity), -1).mean(1)
            found["identity_x_diversity"] = estimate(of_prompts * self.diversity)
        if len(set(self.kinds)) > 1:
            found["kinds"] = {
                kind: self._of_pictures(
                    Scores(*(values[[own == kind for own in self.kinds]] for values in vars(self.scores).values()))
                )
                for kind in dict.fromkeys(self.kinds)
            }
        return found

    def _of_pictures(self, scores: Scores) -> dict[str, Any]:
        """Return the means of some of the pictures, missing faces counted in both ways."""
        where_found = scores.identity_where_found(self.seeds)
        means = {} if np.isnan(where_found).all() else {"identity_where_found": estimate(where_found)}
        return scores.summary() | means


def evaluate(
    pipe: Pipeline,
    identity: Identity,
    photo: Image.Image,
    *,
    largest_face: bool = False,
    progress: Progress | None = None,
    **options: Any,
) -> dict[str, Any]:
    """Measure an identity against a photograph of the person, and the model's own celebrities beside it.

    options: those of `evaluate_people`. Raises ModelError where nobody can judge the model's pictures, PhotoError for a
    photograph without a face or with several, of which `largest` takes the largest.
    """
    person = Person(identity, [photo])
    report, _ = evaluate_people(pipe, [person], largest_face=largest_face, progress=progress, **options)
    return report


def evaluate_people(
    pipe: Pipeline,
    people: Sequence[Person],
    *,
    judge: Judge | None = None,
    basis: CelebBasis | None = None,
    protocol: Protocol | None = None,
    seeds: int = 2,
    seed: int = 0,
    celebrities: int | None = None,
    with_diversity: bool = False,
    image_cache: ImageCache | None = None,
    largest_face: bool = False,
    progress: Progress | None = None,
) -> tuple[dict[str, Any], list[Measured]]:
    """Measure identities in the prompts of a protocol; return a report and what it is made of.

    judge: by default the one of the model's card, or one of photographs that fitted none of them.
    basis: whose names are drawn beside them; by default the model's own.
    protocol: what is drawn, and how; by default ten prompts.
    seeds: pictures of each prompt, from the noise of `seed` on.
    celebrities: how many names of the basis are drawn, 10 by default where there is a basis.
    with_diversity: also measure how different pictures of one prompt are; takes 2 seeds or more.

    Raises ModelError where nobody can judge, PhotoError for a photograph without a face or with several.
    """
    protocol = protocol or PROTOCOLS[DEFAULT_PROTOCOL]
    if judge is None:
        judge = get_judge(pipe, [each.identity for each in people], default_clip=protocol.clip)
    if basis is None and (own := model_card(pipe).basis):
        basis = CelebBasis.load(own)
    if with_diversity and seeds < 2:
        raise ModelError("diversity compares images of one prompt: draw 2 or more of each", argument="seeds")
    if basis is None and celebrities:
        raise ModelError(
            "the names drawn for comparison are those of a basis: give one, or draw no celebrities", argument="basis"
        )
    if basis is None and protocol.has_company:
        raise ModelError(
            "this protocol draws people together with celebrities, whom a basis names: give one", argument="basis"
        )
    persons = [_reference(each, judge, largest_face) for each in people]
    names = _chosen(basis, CELEBRITIES if celebrities is None else celebrities)
    total = len(people) + len(names)
    image_cache = (image_cache or ImageCache(pipe)).following(protocol)
    work = _Work(image_cache, judge, protocol, seeds, with_diversity, basis)

    def report(done: int) -> None:
        if progress:
            progress(done, total, "measuring")

    report(0)
    known: list[Measured] = []
    features: list[Tensor] = []
    for i, name in enumerate(names):
        feature = work.portrait(name)
        if feature is not None:
            known.append(work.measure(name, [], feature, seed=seed + 10 * i, impostor_similarity=[]))
            features.append(feature)
        report(1 + i)
    measured = []
    for i, (each, feature) in enumerate(zip(people, persons, strict=True)):
        measured.append(
            work.measure(
                each.identity.placeholder_token, [each.identity], feature, seed=seed, impostor_similarity=features
            )
        )
        report(len(names) + 1 + i)
    result = measured[0].summary() if len(people) == 1 else _over_people(measured, people)
    if known:
        result["celebrities"] = _together(known)
    if len(known) < len(names):
        result["celebrities_without_a_face"] = len(names) - len(known)
    result |= {"judge": judge.reader.name, "prompt_measure": judge.measure, "drawn_with": work.drawn_with()}
    return result | _beside(protocol, len(people)), measured


def without_celebrities(people: Sequence[Person], names: Iterable[str]) -> tuple[list[Person], list[str]]:
    """Return the people whom the names are not of, and the names of the others, whom the model knows already.

    Raises PhotoError where nobody is left.
    """
    known = {name.casefold() for name in names}
    others = [each for each in people if each.name.casefold() not in known]
    left_out = sorted({each.name for each in people if each.name.casefold() in known})
    if people and not others:
        raise PhotoError(f"everybody is in the basis ({', '.join(left_out[:3])}): measure people whom it does not name")
    return others, left_out


@dataclass(frozen=True, eq=False)
class _Work:
    """What is done for everybody alike."""

    image_cache: ImageCache
    judge: Judge
    protocol: Protocol
    seeds: int
    with_diversity: bool
    basis: CelebBasis | None

    def measure(
        self,
        name: str,
        identities: Sequence[Identity],
        feature: Tensor,
        *,
        seed: int,
        impostor_similarity: Sequence[Tensor],
    ) -> Measured:
        """Draw a person, called `name` in prompts, in the protocol, and score the pictures against a feature (d,)."""
        prompts = self.protocol.prompts
        rows = [(kind, text) for kind, texts in prompts.items() for text in texts for _ in range(self.seeds)]
        company, drawn = self._company(name)
        negative = self.image_cache.negative_prompts(self.protocol)
        # A celebrity is called by the name alone, as in the captions that the model learnt it from.
        person = "{}" if identities else "{} person"
        wanted = [
            ImageRequest(
                text.replace(person, name).replace("{}", name).replace("{1}", company.get(kind, "")),
                seed + i % self.seeds,
                negative[kind],
            )
            for i, (kind, text) in enumerate(rows)
        ]
        pictures = self.image_cache.draw(wanted, [*identities, *drawn])
        others = [text.count("{1}") for _, text in rows]
        faces = self.judge.reader.read(pictures)
        asked = [self.protocol.scored(text) for _, text in rows]
        scores = Scores(
            identity_scores(faces, feature, others),
            prompt_scores(pictures, asked, self.judge),
            detected(faces, others),
            with_face(faces),
        )
        mean = (
            np.mean([identity_scores(faces, other, others) for other in impostor_similarity], axis=0)
            if impostor_similarity
            else None
        )
        kinds = [kind for kind, _ in rows]
        return Measured(
            scores, kinds, self.seeds, asked, pictures, mean, self._diversity(pictures) if self.with_diversity else None
        )

    def drawn_with(self) -> dict[str, Any]:
        """Return how the pictures are drawn, for the report."""
        cache = self.image_cache
        steps, guidance, scheduler = drawn_with(
            cache.pipe, cache.num_inference_steps, cache.guidance_scale, cache.sampler
        )
        negative = {kind: text for kind, text in cache.negative_prompts(self.protocol).items() if text}
        return {"num_inference_steps": steps, "guidance_scale": guidance, "scheduler": scheduler} | (
            {"negative_prompts": negative} if negative else {}
        )

    def portrait(self, name: str) -> Tensor | None:
        """Return the judge's feature (d,) of a celebrity, from a photograph or the first portrait with one face."""
        photo = self.judge.photograph(name)
        if photo is not None:
            return find_face(photo, self.judge.reader).feature
        prompt, *_ = model_card(self.image_cache.pipe).portraits or (PORTRAIT,)
        for seed in PORTRAIT_SEEDS:
            [picture] = self.image_cache.draw([ImageRequest(prompt.replace("{}", name), seed)])
            [faces] = self.judge.reader.read([picture])
            if len(faces) == 1:
                return faces[0].feature
        return None

    def _company(self, name: str) -> tuple[dict[str, str], list[Identity]]:
        """Return who stands where a prompt says {1}, by kind of prompt, and the identities that are needed for it."""
        if self.basis is None or not self.protocol.has_company:
            return {}, []
        celebrity = next(each for each in self.basis.names[len(self.basis.names) // 2 :] if each != name)
        other = Identity.sample(self.basis, FICTION, torch.Generator().manual_seed(0))
        return {kind: FICTION if kind == NEW else celebrity for kind in self.protocol.prompts}, [other]

    def _diversity(self, pictures: Sequence[Image.Image]) -> NDArray[np.float64]:
        features = self.judge.features(pictures)
        if features is None:
            raise ModelError(
                "diversity takes a judge that sees whole images: for photographs, name a CLIP", argument="clip"
            )
        return np.array([diversity(each) for each in features.split(self.seeds)])


def _reference(person: Person, judge: Judge, largest_face: bool) -> Tensor:
    """Return the judge's feature (d,) of a person: the mean over the photographs, of unit length."""
    features = [face.feature for face in find_person(person.photos, judge.reader, largest_face=largest_face)]
    return torch.nn.functional.normalize(torch.stack(features).mean(0), dim=0)


def _chosen(basis: CelebBasis | None, number: int) -> list[str]:
    """Return so many names of a basis, spread over its list."""
    if basis is None or not number:
        return []
    number = min(number, len(basis.names))
    return list(basis.names[:: len(basis.names) // number][:number])


def _stacked(people: Sequence[Measured]) -> Scores:
    """Return the scores of several people, (people, pictures)."""
    return Scores(*(np.stack([getattr(each.scores, key) for each in people]) for key in vars(people[0].scores)))


def _over_people(measured: Sequence[Measured], people: Sequence[Person]) -> dict[str, Any]:
    """Return the means of all people, with intervals over people, and a row for each."""
    rows = [
        {"name": person.identity.placeholder_token} | own.summary()
        for person, own in zip(people, measured, strict=True)
    ]
    return _together(measured) | {"people": rows}


def _together(measured: Sequence[Measured]) -> dict[str, Any]:
    """Return the means of several people, with intervals over people."""
    found, each = _stacked(measured).summary(), [own.summary() for own in measured]
    for key in ("identity_where_found", "impostor_similarity", "diversity", "identity_x_diversity"):
        if means := [own[key]["mean"] for own in each if key in own]:
            found[key] = estimate(np.array(means))
    return found


def _beside(protocol: Protocol, people: int) -> dict[str, Any]:
    """Return the published figures that a protocol's stand beside, for the report."""
    if not protocol.published:
        return {}
    of = f"{people} of the published {protocol.people}" if protocol.people else str(people)
    return {
        "published": {name: dict(row) for name, row in protocol.published.items()},
        "published_by": protocol.source,
        "published_differs": list(protocol.differs),
        "measured_people": of,
    }

"""Portraits: the faces that a model draws for names tell which names it knows."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import torch
from PIL import Image
from torch import Tensor

from .backend.defaults import distilled_sign
from .backend.families import get_denoiser
from .backend.memory import drawn_at_once
from .backend.pipeline import Pipeline, has_safety_checker, model_card
from .backend.schedulers import drawn_with, few_steps_sampler
from .backend.text_encoders import fingerprint, name_rows
from .backend.tiny_autoencoder import TinyAutoencoder, cached_tiny_autoencoder, decoding
from .basis import CelebBasis
from .directions import Directions
from .errors import BasisError
from .faces.face import FaceReader
from .generate import generate, is_black
from .instant_map import InstantMap
from .io import load_safetensors, save_safetensors


@dataclass(frozen=True, eq=False)
class Portraits:
    """The faces a model draws for names: picture i of every name has the same prompt and starts from the same noise.

    Some names may have more pictures than others.

    Yuan et al. (2023) chose the names of their basis by looking at such pictures.
    """

    features: Tensor  # (names, pictures, d), unit length; zeros where no picture is, or one without exactly one face
    num_images: Tensor  # (names,), how many pictures each name has
    names: tuple[str, ...]
    drawn: str  # by which weights and with which settings; drawing continues only where both are the same
    face_reader: str

    def __post_init__(self) -> None:
        features = self.features
        if not isinstance(features, Tensor) or features.dtype != torch.float32 or not features.isfinite().all():
            raise BasisError("these are no portraits: the features are not finite numbers in float32")
        lengths = features.norm(dim=-1)
        if features.numel() and not ((lengths < 1e-6) | ((lengths - 1).abs() < 1e-2)).all():
            raise BasisError("these are no portraits: the features are neither of length one nor zero")
        if not all(isinstance(text, str) for text in (*self.names, self.drawn, self.face_reader)):
            raise BasisError("these are no portraits: the names are no list of texts")
        if features.ndim != 3 or len(features) != len(self.names) or len(set(self.names)) != len(self.names):
            raise BasisError(f"these are no portraits: {tuple(features.shape)} features of {len(self.names)} names")
        count = self.num_images
        if not isinstance(count, Tensor) or count.dtype != torch.int64 or count.shape != features.shape[:1]:
            raise BasisError("these are no portraits: num_images is not a whole number for each name")
        if ((count < 0) | (count > features.shape[1])).any() or features[self._absent].any():
            raise BasisError("these are no portraits: there are features of more pictures than num_images says")

    @property
    def _absent(self) -> Tensor:
        """Return which images were not drawn, (names, images)."""
        return torch.arange(self.features.shape[1]) >= self.num_images[:, None]

    @property
    def found(self) -> Tensor:
        """Return in how many of its images each name has exactly one face, (names,)."""
        return self.features.any(-1).sum(-1)

    def silhouettes(self, made_up: Sequence[str] = ()) -> Tensor:
        """Return how clearly each name is one person, (names,) in -1..1; -1 for less than two faces.

        The mean silhouette of the name's faces: with a the mean cosine distance to the name's other faces and b that
        to the faces of the nearest other name, (b - a) / max(a, b). Source: Rousseeuw (1987). The other names are
        those that are made up, where there are any: two people who look alike are no less somebody.
        """
        each, there = self._silhouettes_of_faces(made_up)
        return torch.where(self.found > 1, (each * there).sum(-1) / self.found.clamp(min=1), -1.0)

    def _silhouettes_of_faces(self, made_up: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Return the silhouette of every face, and where there is one, (names, images); none for a single face."""
        there = self.features.any(-1)
        several = there.sum(-1) > 1
        there = there & several[:, None]
        others = several & self._among(made_up)
        others = others if others.any() else several
        result = torch.full(there.shape, -1.0)
        if several.sum() < 2:
            return result, there
        faces, count = self.features[several], there.sum(-1)[several]
        own = 1 - (torch.einsum("npd,nd->np", faces, faces.sum(1)) - 1) / (count[:, None] - 1)
        # Mean cosine distance of every face to the faces of every other name: (names, pictures, others).
        other = 1 - faces @ (self.features[others].sum(1) / there.sum(-1)[others][:, None]).T
        itself = several.nonzero() == others.nonzero().T
        nearest = other.masked_fill(itself[:, None], torch.inf).amin(-1)
        result[several] = (nearest - own) / torch.maximum(nearest, own).clamp_min(1e-9)
        return result, there

    def unknown(self, made_up: Sequence[str]) -> dict[str, str]:
        """Return the names, without the `made_up` ones, that the model does not draw as one person: `{name: why}`.

        A name is somebody if its silhouette is above zero, and more than two standard deviations above the mean of the
        made-up names, whose faces the model makes up as well: 98% of a normal distribution are below. Made-up names
        that are drawn without a face do not count.
        """
        nobody = (self.silhouettes(made_up) <= self._least(made_up)) & ~self._among(made_up)
        return {
            name: "drawn without a face" if found < 2 else "drawn as nobody in particular"
            for name, unknown, found in zip(self.names, nobody.tolist(), self.found.tolist(), strict=True)
            if unknown
        }

    def undecided(self, made_up: Sequence[str]) -> list[str]:
        """Return the names, without the `made_up` ones, for which a few more images may change what `unknown` says.

        Those with less than two faces, and those whose silhouette is within two standard errors of the least that
        makes somebody; the spread of faces is taken to be the same for all names.
        """
        each, there = self._silhouettes_of_faces(made_up)
        found, score = self.found, self.silhouettes(made_up)
        spread = ((each - score[:, None]).square() * there).sum() / (there.sum() - (found > 1).sum()).clamp(min=1)
        near = (score - self._least(made_up)).abs() < 2 * (spread / found.clamp(min=1)).sqrt()
        doubtful = ((found < 2) | near) & ~self._among(made_up)
        return [name for name, doubt in zip(self.names, doubtful.tolist(), strict=True) if doubt]

    def separates_unknown(self, made_up: Sequence[str]) -> bool:
        """Return whether these images tell the famous names from the made-up ones.

        They do if a name, apart from the `made_up` ones, has a higher silhouette than a made-up one in nine of ten
        pairs: an area under the ROC curve of 0.9. Famous names are to be asked, as nearly all of them are known.
        """
        invented, score = self._among(made_up), self.silhouettes(made_up)
        higher = score[~invented, None] > score[invented]
        return bool(higher.numel() and higher.float().mean() >= 0.9)

    def _least(self, made_up: Sequence[str]) -> float:
        """Return the silhouette from which on a name counts as known."""
        invented = self._among(made_up)
        score = self.silhouettes(made_up)[invented & (self.found > 1)]
        if not len(score) or invented.all():
            return 0.0
        return max(0.0, float(score.mean() + 2 * score.std(correction=0)))

    def _among(self, names: Sequence[str]) -> Tensor:
        """Return which of the names drawn are among these, (names,)."""
        some = set(names)
        return torch.tensor([name in some for name in self.names], dtype=torch.bool)

    def of(self, names: Sequence[str]) -> Portraits:
        """Return the portraits of some of the names, in the order given."""
        where = {name: i for i, name in enumerate(self.names)}
        index = [where[name] for name in names]
        return replace(self, features=self.features[index], num_images=self.num_images[index], names=tuple(names))

    def merge(self, other: Portraits) -> Portraits:
        """Return these portraits with those of other names. Raises BasisError for other settings of drawing."""
        if (self.drawn, self.face_reader) != (other.drawn, other.face_reader):
            raise BasisError("these faces were drawn by other models, or with other settings")
        width = max(self.features.shape[-1], other.features.shape[-1])  # 0 where no picture has a face yet
        num_images = max(self.features.shape[1], other.features.shape[1])
        parts = [
            torch.nn.functional.pad(each, (0, width - each.shape[2], 0, num_images - each.shape[1]))
            for each in (self.features, other.features)
        ]
        counts = torch.cat([self.num_images, other.num_images])
        return replace(self, features=torch.cat(parts), num_images=counts, names=(*self.names, *other.names))

    def instant_map(self, pipe: Pipeline, basis: CelebBasis) -> InstantMap:
        """Learn the map from face to coefficients from those names of the basis that were drawn."""
        drawn = self.of([name for name in basis.names if name in set(self.names)])
        coefficients = basis.transform(name_rows(pipe, drawn.names)[0])
        some = drawn.found > 0
        features = torch.nn.functional.normalize(drawn.features[some].sum(1), dim=-1)
        return InstantMap.fit(features, coefficients[some], basis=basis, face_reader=self.face_reader)

    def directions(self, pipe: Pipeline, basis: CelebBasis, traits: Mapping[str, Tensor]) -> Directions:
        """Learn along which directions traits grow from those names of the basis that were drawn.

        traits: of the face reader: how much a face has of each is the product of its feature with the trait's row.
        """
        drawn = self.of([name for name in basis.names if name in set(self.names)])
        some = drawn.found > 0
        features = drawn.features[some].sum(1) / drawn.found[some, None]
        return Directions.fit(
            features @ torch.stack(list(traits.values())).T,
            basis.transform(name_rows(pipe, drawn.names)[0])[some],
            tuple(traits),
            basis=basis,
            seen_by=self.face_reader,
        )

    def save(self, path: str | Path) -> None:
        """Write the faces to a .safetensors file, from which drawing can go on."""
        metadata = {
            "format": FORMAT,
            "names": json.dumps(self.names),
            "drawn": self.drawn,
            "face_reader": self.face_reader,
        }
        save_safetensors(path, {"features": self.features, "num_images": self.num_images}, metadata)

    @classmethod
    def load(cls, path: str | Path) -> Portraits:
        """Read the file that `save` wrote; BasisError if it holds anything else."""
        tensors, metadata = load_safetensors(path, BasisError)
        try:
            if metadata["format"] != FORMAT:
                raise ValueError(metadata["format"])
            names = tuple(json.loads(metadata["names"]))
            return cls(tensors["features"], tensors["num_images"], names, metadata["drawn"], metadata["face_reader"])
        except (KeyError, ValueError, TypeError, RecursionError, BasisError) as error:
            raise BasisError(f"{path} does not hold the faces of names ({error})") from error


FORMAT = "celeb-basis portraits 3"
PROMPTS = (
    "a close-up photo of {}",
    "a portrait photo of {} smiling",
    "a photo of the face of {} outdoors",
    "a headshot of {} wearing a suit",
)
NUM_IMAGES = 4  # pictures of a name
READ_AT_ONCE = 4  # pictures; nobody who stops the drawing waits for more
ATTEMPTS = 3  # at a picture that comes out black
ANOTHER_NOISE = 10_000  # between the seeds of these attempts
FACELESS = 20  # pictures without any face, after which drawing more is no use
FAMOUS = 40  # names that a way of drawing has to tell from made-up ones


class DrawSettings(NamedTuple):
    """How portraits are drawn; None is the model's own."""

    num_inference_steps: int | None = None
    guidance_scale: float | None = None
    sampler: str | None = None


def portrait_prompts(pipe: Pipeline) -> tuple[str, ...]:
    """Return the prompts whose pictures show what a model knows of a name: its card's, or else PROMPTS."""
    return model_card(pipe).portraits or PROMPTS


def default_draw_settings(pipe: Pipeline) -> list[DrawSettings]:
    """Return the ways to draw portraits that are tried, the cheapest first.

    A distilled model is drawn as it is by default. Without guidance names are told apart as well, but the instant map
    of such faces is worse.
    """
    if distilled_sign(pipe):
        return [DrawSettings()]
    return [DrawSettings(steps, None, few_steps_sampler(pipe)) for steps in (3, 8)]


def settings_of(pipe: Pipeline, faces: Portraits | None) -> DrawSettings:
    """Return with which of the default settings portraits were drawn; the last of them where it was none."""
    settings = default_draw_settings(pipe)
    ends = [f", {json.dumps(drawn_with(pipe, *each))[1:]}" for each in settings]
    same = [each for each, end in zip(settings, ends, strict=True) if faces and faces.drawn.endswith(end)]
    return (same or settings)[-1]


def draw_portraits(
    pipe: Pipeline,
    names: Sequence[str],
    reader: FaceReader,
    *,
    num_images: int = NUM_IMAGES,
    num_inference_steps: int | None = None,
    guidance_scale: float | None = None,
    sampler: str | None = None,
    seed: int = 0,
    batch_size: int | None = None,
    start: Portraits | None = None,
) -> Iterator[Portraits]:
    """Draw every name until it has so many pictures, and read the faces; yield what there is after every few names.

    Faces are read in the background, on the CPU, while the next names are drawn; what is yielded is one batch behind.

    batch_size: pictures drawn at once; None fills the memory that is free.
    start: what an earlier drawing, perhaps one that was stopped, has already; those pictures are not drawn again.
    Raises BasisError if it was drawn by another model, with another reader or otherwise.
    """
    settings = DrawSettings(num_inference_steps, guidance_scale, sampler)
    return _draw(pipe, names, reader, settings, _described(pipe, seed), num_images, seed, batch_size, start)


def _draw(
    pipe: Pipeline,
    names: Sequence[str],
    reader: FaceReader,
    settings: DrawSettings,
    described: list[Any],
    num_images: int,
    seed: int,
    batch_size: int | None,
    start: Portraits | None,
    tiny: TinyAutoencoder | None = None,
) -> Iterator[Portraits]:
    drawn = _record(pipe, described, settings)
    if start is not None and (start.drawn, start.face_reader) != (drawn, reader.name):
        raise BasisError(
            "the faces drawn earlier are another model's, or were drawn with other settings: "
            "remove their .faces.safetensors file, or name another output"
        )
    faces: dict[str, list[Tensor]] = {}  # of each name, a feature for each picture, or zeros of any length
    if start is not None:
        counts = start.num_images.tolist()
        faces = {name: list(f[:n]) for name, f, n in zip(start.names, start.features, counts, strict=True)}
    left = list(missing_images(start, names, num_images))
    batch_size = batch_size or drawn_at_once(pipe)
    groups = [left[first : first + batch_size] for first in range(0, len(left), batch_size)]
    read: list[Future[list[tuple[str, Tensor]]]] = []  # of one group, in the order of the pictures
    background = ThreadPoolExecutor(1, "faces")
    try:
        for group in groups:
            before, read = read, []
            for i in range(num_images):
                batch = [name for name in group if len(faces.get(name, ())) <= i]
                if not batch:
                    continue
                with decoding(pipe, tiny):
                    images = _pictures(pipe, batch, i, settings, seed, batch_size)
                for j in range(0, len(batch), READ_AT_ONCE):
                    some = slice(j, j + READ_AT_ONCE)
                    read.append(background.submit(_read, reader, batch[some], images[some]))
            if before:
                _add(faces, before)
                yield _together(faces, drawn, reader.name)
        if read:
            _add(faces, read)
            yield _together(faces, drawn, reader.name)
    finally:
        background.shutdown(wait=False, cancel_futures=True)


def _read(reader: FaceReader, names: Sequence[str], images: Sequence[Image.Image]) -> list[tuple[str, Tensor]]:
    """Return each name with the feature of the one face in its picture, or else zeros of any length."""
    return [
        (name, found[0].feature.float().cpu() if len(found) == 1 else torch.zeros(0))
        for name, found in zip(names, reader.read(images), strict=True)
    ]


def _add(faces: dict[str, list[Tensor]], read: Iterable[Future[list[tuple[str, Tensor]]]]) -> None:
    """Add what was read of some pictures, as soon as it is."""
    for name, feature in chain.from_iterable(each.result() for each in read):
        faces.setdefault(name, []).append(feature)


def _pictures(
    pipe: Pipeline, names: Sequence[str], i: int, settings: DrawSettings, seed: int, batch_size: int
) -> list[Image.Image]:
    """Draw picture i of names. A black one says nothing of its name: it is drawn again, from another noise."""
    known = portrait_prompts(pipe)
    prompts = [known[i % len(known)].replace("{}", name) for name in names]
    images: dict[int, Image.Image] = {}
    left = list(range(len(names)))
    for attempt in range(ATTEMPTS):
        drawn = generate(
            pipe, [prompts[j] for j in left], seed=seed + i + attempt * ANOTHER_NOISE, batch_size=batch_size,
            **settings._asdict(),
        )  # fmt: skip
        images |= zip(left, drawn, strict=True)
        left = [j for j in left if is_black(images[j])]
        if not left or len(left) == len(names):  # where all are black, it is not the noise
            break
    return [images[j] for j in range(len(names))]


def find_known_names(
    pipe: Pipeline,
    names: Sequence[str],
    made_up: Sequence[str],
    reader: FaceReader,
    *,
    num_images: int = NUM_IMAGES,
    num_inference_steps: int | None = None,
    guidance_scale: float | None = None,
    sampler: str | None = None,
    seed: int = 0,
    batch_size: int | None = None,
    start: Portraits | None = None,
    draw: Callable[..., Iterator[Portraits]] | None = None,
) -> Iterator[tuple[Portraits, int]]:
    """Find out with as little drawing as possible which names a model knows; yield faces, and how many are to come.

    Every name is drawn twice, in the order given: the famous ones first. Then those that are still undecided are drawn
    again, up to so many pictures. What has been yielded is usable at any time.

    num_inference_steps, guidance_scale, sampler: None takes the first of `default_draw_settings` with which the first
    names are told from the `made_up` ones, or else the last of them. start: as in `draw_portraits`.
    draw: called as `draw_portraits` is, but for the pipeline and the reader, in its place.

    The tiny autoencoder of the family decodes the pictures where it is in the hub's cache, unless the pictures that are
    there were decoded by the model's own.

    Raises BasisError, with the likely reasons, where none of the first FACELESS pictures shows a face.
    """
    everybody, described = [*made_up, *names], _described(pipe, seed)
    settings_left = [DrawSettings(num_inference_steps, guidance_scale, sampler)]
    if settings_left == [DrawSettings()]:
        settings_left = default_draw_settings(pipe)
    tiny = cached_tiny_autoencoder(pipe) if draw is None else None
    own = [_record(pipe, described, settings) for settings in settings_left]
    if tiny is not None and (start is None or start.drawn not in own):
        described.append(tiny.name)
    else:
        tiny = None

    def drawing(settings: DrawSettings, who: Sequence[str], count: int) -> Iterator[Portraits]:
        if draw is not None:
            return draw(who, num_images=count, seed=seed, start=start, **settings._asdict())
        return _draw(pipe, who, reader, settings, described, count, seed, batch_size, start, tiny)

    begun = [_record(pipe, described, settings) for settings in settings_left]
    if start is not None and start.drawn in begun:
        settings_left = settings_left[begun.index(start.drawn) :]
    famous = everybody[: len(made_up) + FAMOUS]
    while True:
        settings, *settings_left = settings_left
        for start in drawing(settings, famous, 2):
            if _shows_nobody(start):
                break
            yield start, _left(start, everybody, 2)
        if start is not None and _shows_nobody(start):
            if not settings_left:
                count = int(start.num_images.sum())
                raise BasisError(_why_nobody(pipe, settings, count), argument="num_inference_steps")
            start = None
            continue
        if not settings_left or start is None or start.of(famous).separates_unknown(made_up):
            break
        start = None
    for start in drawing(settings, everybody, 2):
        yield start, _left(start, everybody, 2)
    for count in range(3, num_images + 1):
        # More pictures of some names can put others in doubt.
        while start is not None and (doubtful := _doubtful(start.of(everybody), count, made_up)):
            for start in drawing(settings, doubtful, count):
                yield start, _left(start, doubtful, count)


def _described(pipe: Pipeline, seed: int) -> list[Any]:
    """Return what the images of names depend on: the weights, the prompts, the safety checker and the seed."""
    prompts = portrait_prompts(pipe)
    return [fingerprint(pipe), get_denoiser(pipe).digest, prompts, has_safety_checker(pipe), seed]


def _record(pipe: Pipeline, described: list[Any], settings: DrawSettings) -> str:
    """Return by which weights and with which settings images are drawn, with the model's own defaults written out."""
    return json.dumps([*described, *drawn_with(pipe, *settings)])


def _shows_nobody(faces: Portraits) -> bool:
    """Return whether many pictures show no face at all."""
    return bool(faces.num_images.sum() >= FACELESS and not faces.found.any())


def _why_nobody(pipe: Pipeline, settings: DrawSettings, count: int) -> str:
    """Return the likely reasons for which no picture shows a face, and what to try."""
    steps, guidance, _ = drawn_with(pipe, *settings)
    checker = "the safety checker, which makes pictures black (load the model without it), "
    return (
        f"none of the first {count} pictures shows exactly one face. Likely reasons: "
        f"{checker * has_safety_checker(pipe)}too few steps ({steps} at guidance {guidance:g}: take more), or a model "
        "that draws no people (take another)"
    )


def _doubtful(faces: Portraits, num_images: int, made_up: Sequence[str]) -> list[str]:
    """Return the undecided names that lack pictures."""
    return list(missing_images(faces, faces.undecided(made_up), num_images))


def _left(faces: Portraits, names: Sequence[str], num_images: int) -> int:
    """Return how many pictures the names lack."""
    return sum(missing_images(faces, names, num_images).values())


def missing_images(faces: Portraits | None, names: Sequence[str], num_images: int) -> dict[str, int]:
    """Return how many pictures each of the names lacks, of those that lack some."""
    have = {} if faces is None else dict(zip(faces.names, faces.num_images.tolist(), strict=True))
    return {name: num_images - have.get(name, 0) for name in names if have.get(name, 0) < num_images}


def _together(faces: dict[str, list[Tensor]], drawn: str, reader: str) -> Portraits:
    """Return features of several names in one tensor."""
    width = max(len(f) for own in faces.values() for f in own)
    most = max(map(len, faces.values()))
    features = torch.zeros(len(faces), most, width)
    for i, own in enumerate(faces.values()):
        for j, f in enumerate(own):
            features[i, j, : len(f)] = f
    return Portraits(features, torch.tensor([len(own) for own in faces.values()]), tuple(faces), drawn, reader)

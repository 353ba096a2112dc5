"""Which names a model knows: it draws each of them in a few ways, and the faces tell."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..drawing.generate import generate
from ..errors import BasisError
from ..faces.face import FaceReader
from ..files import load_safetensors, save_safetensors
from ..models.encoders import fingerprint, name_rows
from ..models.load import hints, model_name
from .basis import CelebBasis
from .instant_map import InstantMap

PORTRAITS = (
    "a close-up photo of {}",
    "a portrait photo of {} smiling",
    "a photo of the face of {} outdoors",
    "a headshot of {} wearing a suit",
)


@dataclass(frozen=True, eq=False)
class Portraits:
    """The faces a model draws for names: picture i of every name has the same prompt and starts from the same noise.

    Yuan et al. (2023) chose the names of their basis by looking at such pictures.
    """

    features: Tensor  # (names, pictures, d), unit length; zeros where the picture has no face, or several
    names: tuple[str, ...]
    drawn: str  # by which model and how, in words that only the very same drawing shares
    reader_name: str

    @property
    def found(self) -> Tensor:
        """In how many of its pictures each name has exactly one face, (names,)."""
        return self.features.any(-1).sum(-1)

    @property
    def silhouettes(self) -> Tensor:
        """How much each name is somebody of their own, (names,) in -1..1; -1 for less than two faces.

        The mean silhouette of the name's faces: with a the mean cosine distance to the name's other faces and
        b that to the faces of the other name that is nearest, (b - a) / max(a, b). Source: Rousseeuw (1987).
        """
        there = self.features.any(-1)  # (names, pictures)
        count = there.sum(-1)
        several = count > 1
        if several.sum() < 2:
            return torch.full((len(self.names),), -1.0)
        faces, count = self.features[several], count[several]
        same = torch.arange(len(faces))
        # Mean cosine distance of every face to the faces of every name: (names, pictures, names).
        near = faces @ faces.sum(1).T
        own = 1 - (near[same, :, same] - 1) / (count[:, None] - 1)
        other = 1 - near / count
        other[same, :, same] = torch.inf
        nearest = other.amin(-1)
        each = (nearest - own) / torch.maximum(nearest, own).clamp_min(1e-9)
        result = torch.full((len(self.names),), -1.0)
        result[several] = (each * there[several]).sum(-1) / count
        return result

    def unknown(self, made_up: Sequence[str]) -> dict[str, str]:
        """The names, apart from the `made_up` ones, that the model does not draw as one person: `{name: why}`.

        A name is somebody if its silhouette is above zero and nearer to that of the names the model knows best (their
        upper quartile) than to that of made-up names (their median), whose faces the model makes up as well.
        """
        score = dict(zip(self.names, self.silhouettes.tolist(), strict=True))
        found = dict(zip(self.names, self.found.tolist(), strict=True))
        nobody = [score.pop(name) for name in made_up]
        least = 0.0
        if nobody and score:
            middle = (torch.tensor(nobody).median() + torch.tensor(list(score.values())).quantile(0.75)) / 2
            least = max(least, float(middle))
        return {
            name: "drawn without a face" if found[name] < 2 else "drawn as nobody in particular"
            for name, s in score.items()
            if s <= least
        }

    def of(self, names: Sequence[str]) -> Portraits:
        """The same of fewer names, in their order."""
        where = {name: i for i, name in enumerate(self.names)}
        return replace(self, features=self.features[[where[name] for name in names]], names=tuple(names))

    def instant_map(self, pipe: Any, basis: CelebBasis) -> InstantMap:
        """Learn the map from face to coefficients from these pictures of the basis' own names."""
        if missing := sorted(set(basis.names) - set(self.names)):
            raise BasisError(f"{len(missing)} names of this basis were not drawn, {missing[0]} among them")
        drawn = self.of(basis.names)
        coefficients = basis.transform(name_rows(pipe, basis.names)[0])
        some = drawn.found > 0
        features = torch.nn.functional.normalize(drawn.features[some].sum(1), dim=-1)
        return InstantMap.fit(features, coefficients[some], basis=basis, reader_name=self.reader_name)

    def save(self, path: str | Path) -> None:
        """Write the faces to a .safetensors file, from which drawing can go on."""
        metadata = {
            "format": FORMAT,
            "names": json.dumps(self.names),
            "drawn": self.drawn,
            "reader_name": self.reader_name,
        }
        save_safetensors(path, {"features": self.features}, metadata)

    @classmethod
    def load(cls, path: str | Path) -> Portraits:
        """Read the file that `save` wrote; BasisError if it holds anything else."""
        tensors, metadata = load_safetensors(path)
        try:
            if metadata["format"] != FORMAT:
                raise ValueError(metadata["format"])
            names = tuple(json.loads(metadata["names"]))
            return cls(tensors["features"], names, metadata["drawn"], metadata["reader_name"])
        except (KeyError, ValueError) as error:
            raise BasisError(f"{path} does not hold the faces of names ({error})") from error


FORMAT = "celeb-basis portraits 1"


def draw_portraits(
    pipe: Any,
    names: Sequence[str],
    reader: FaceReader,
    *,
    pictures: int = 4,
    num_inference_steps: int | None = None,
    guidance_scale: float | None = None,
    seed: int = 0,
    batch_size: int = 8,
    start: Portraits | None = None,
) -> Iterator[Portraits]:
    """Draw every name and read the faces; yield what there is after every few names, so that it can be kept.

    start: what an earlier drawing, perhaps one that was stopped, has already; its names are not drawn again.
    Raises BasisError if it was drawn by another model, with another reader or otherwise.
    """
    prompts = hints(pipe).get("portraits", PORTRAITS)
    prompts = [prompts[i % len(prompts)] for i in range(pictures)]
    how = [model_name(pipe), fingerprint(pipe), prompts, num_inference_steps, guidance_scale, seed]
    drawn = json.dumps(how)
    if start is not None and (start.drawn, start.reader_name) != (drawn, reader.name):
        raise BasisError(
            "the faces drawn earlier are another model's, or were drawn with other settings: "
            "remove their .faces.safetensors file, or name another output"
        )
    done = start or Portraits(torch.empty(0, pictures, 0), (), drawn, reader.name)
    left = [name for name in names if name not in set(done.names)]
    for first in range(0, len(left), batch_size):
        batch = left[first : first + batch_size]
        faces: list[list[Tensor | None]] = []  # of each picture, then of each name
        for i, prompt in enumerate(prompts):
            images = generate(
                pipe,
                [prompt.format(name) for name in batch],
                num_inference_steps=num_inference_steps,
                guidance_scale=guidance_scale,
                seed=seed + i,
                batch_size=batch_size,
            )
            faces.append([found[0].feature if len(found) == 1 else None for found in reader.read(images)])
        width = max([len(f) for row in faces for f in row if f is not None], default=done.features.shape[-1])
        blank = torch.zeros(width)
        rows = [torch.stack([blank if f is None else f.float().cpu() for f in row]) for row in faces]
        before = done.features if done.features.shape[-1] else torch.zeros(len(done.names), pictures, width)
        features = torch.cat([before, torch.stack(rows, dim=1)])
        done = Portraits(features, (*done.names, *batch), drawn, reader.name)
        yield done

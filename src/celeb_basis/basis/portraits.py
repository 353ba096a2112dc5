"""Portraits: the faces that a model draws for names tell which names it knows."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from ..errors import BasisError
from ..files import load_safetensors, save_safetensors
from ..models.encoders import name_rows
from ..models.pipeline import Pipeline
from .basis import CelebBasis
from .instant_map import InstantMap


@dataclass(frozen=True, eq=False)
class Portraits:
    """The faces a model draws for names: picture i of every name has the same prompt and starts from the same noise.

    Yuan et al. (2023) chose the names of their basis by looking at such pictures.
    """

    features: Tensor  # (names, pictures, d), unit length; zeros where the picture has no face, or several
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

    def joined(self, other: Portraits) -> Portraits:
        """These and the names of another drawing. Raises BasisError if that one was drawn otherwise."""
        if (self.drawn, self.face_reader) != (other.drawn, other.face_reader):
            raise BasisError("these faces were drawn by other models, or with other settings")
        width = max(self.features.shape[-1], other.features.shape[-1])  # 0 where no picture has a face yet
        parts = [torch.nn.functional.pad(each, (0, width - each.shape[-1])) for each in (self.features, other.features)]
        return replace(self, features=torch.cat(parts), names=(*self.names, *other.names))

    def instant_map(self, pipe: Pipeline, basis: CelebBasis) -> InstantMap:
        """Learn the map from face to coefficients from these pictures of the basis' own names."""
        if missing := sorted(set(basis.names) - set(self.names)):
            raise BasisError(f"{len(missing)} names of this basis were not drawn, {missing[0]} among them")
        drawn = self.of(basis.names)
        coefficients = basis.transform(name_rows(pipe, basis.names)[0])
        some = drawn.found > 0
        features = torch.nn.functional.normalize(drawn.features[some].sum(1), dim=-1)
        return InstantMap.fit(features, coefficients[some], basis=basis, face_reader=self.face_reader)

    def save(self, path: str | Path) -> None:
        """Write the faces to a .safetensors file, from which drawing can go on."""
        metadata = {
            "format": FORMAT,
            "names": json.dumps(self.names),
            "drawn": self.drawn,
            "face_reader": self.face_reader,
        }
        save_safetensors(path, {"features": self.features}, metadata)

    @classmethod
    def load(cls, path: str | Path) -> Portraits:
        """Read the file that `save` wrote; BasisError if it holds anything else."""
        tensors, metadata = load_safetensors(path, BasisError)
        try:
            if metadata["format"] != FORMAT:
                raise ValueError(metadata["format"])
            names = tuple(json.loads(metadata["names"]))
            return cls(tensors["features"], names, metadata["drawn"], metadata["face_reader"])
        except (KeyError, ValueError, TypeError, RecursionError, BasisError) as error:
            raise BasisError(f"{path} does not hold the faces of names ({error})") from error


FORMAT = "celeb-basis portraits 2"

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
        """Which pictures were not drawn, (names, pictures)."""
        return torch.arange(self.features.shape[1]) >= self.num_images[:, None]

    @property
    def found(self) -> Tensor:
        """In how many of its pictures each name has exactly one face, (names,)."""
        return self.features.any(-1).sum(-1)

    def silhouettes(self, made_up: Sequence[str] = ()) -> Tensor:
        """How much each name is somebody, (names,) in -1..1; -1 for less than two faces.

        The mean silhouette of the name's faces: with a the mean cosine distance to the name's other faces and b that
        to the faces of the nearest other name, (b - a) / max(a, b). Source: Rousseeuw (1987). The other names are
        those that are made up, where there are any: two people who look alike are no less somebody.
        """
        each, there = self._silhouettes_of_faces(made_up)
        return torch.where(self.found > 1, (each * there).sum(-1) / self.found.clamp(min=1), -1.0)

    def _silhouettes_of_faces(self, made_up: Sequence[str]) -> tuple[Tensor, Tensor]:
        """The silhouette of every face, and where there is one, (names, pictures); none of a name with one face."""
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
        """The names, apart from the `made_up` ones, that the model does not draw as one person: `{name: why}`.

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
        """The names, apart from the `made_up` ones, of which a few more pictures may change what `unknown` says.

        Those with less than two faces, and those whose silhouette is within two standard errors of the least that
        makes somebody; the spread of faces is taken to be the same for all names.
        """
        each, there = self._silhouettes_of_faces(made_up)
        found, score = self.found, self.silhouettes(made_up)
        spread = ((each - score[:, None]).square() * there).sum() / (there.sum() - (found > 1).sum()).clamp(min=1)
        near = (score - self._least(made_up)).abs() < 2 * (spread / found.clamp(min=1)).sqrt()
        doubtful = ((found < 2) | near) & ~self._among(made_up)
        return [name for name, doubt in zip(self.names, doubtful.tolist(), strict=True) if doubt]

    def told_apart(self, made_up: Sequence[str]) -> bool:
        """Whether these pictures tell somebody from nobody.

        They do if a name, apart from the `made_up` ones, has a higher silhouette than a made-up one in nine of ten
        pairs: an area under the ROC curve of 0.9. Famous names are to be asked, as nearly all of them are known.
        """
        invented, score = self._among(made_up), self.silhouettes(made_up)
        higher = score[~invented, None] > score[invented]
        return bool(higher.numel() and higher.float().mean() >= 0.9)

    def _least(self, made_up: Sequence[str]) -> float:
        """The silhouette above which a name is somebody."""
        invented = self._among(made_up)
        score = self.silhouettes(made_up)[invented & (self.found > 1)]
        if not len(score) or invented.all():
            return 0.0
        return max(0.0, float(score.mean() + 2 * score.std(correction=0)))

    def _among(self, names: Sequence[str]) -> Tensor:
        """Which of the names drawn are among these, (names,)."""
        some = set(names)
        return torch.tensor([name in some for name in self.names], dtype=torch.bool)

    def of(self, names: Sequence[str]) -> Portraits:
        """The same of fewer names, in their order."""
        where = {name: i for i, name in enumerate(self.names)}
        index = [where[name] for name in names]
        return replace(self, features=self.features[index], num_images=self.num_images[index], names=tuple(names))

    def joined(self, other: Portraits) -> Portraits:
        """These and the names of another drawing. Raises BasisError if that one was drawn otherwise."""
        if (self.drawn, self.face_reader) != (other.drawn, other.face_reader):
            raise BasisError("these faces were drawn by other models, or with other settings")
        width = max(self.features.shape[-1], other.features.shape[-1])  # 0 where no picture has a face yet
        pictures = max(self.features.shape[1], other.features.shape[1])
        parts = [
            torch.nn.functional.pad(each, (0, width - each.shape[2], 0, pictures - each.shape[1]))
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

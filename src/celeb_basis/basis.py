"""CelebBasis: the space of celebrity names; a PCA of their embedding rows at each token position."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .backend.card import ModelCard
from .backend.known_models import shared_name
from .backend.pipeline import Pipeline, model_name
from .backend.sharing import BASIS, INSTANT_MAP, About, fetch, push
from .backend.text_encoders import (
    TOKENS,
    embedding_dims,
    fingerprint,
    first_and_second_rows,
    is_made_for,
    name_rows,
    word_marks,
)
from .errors import BasisError
from .io import load_safetensors, read_text, save_safetensors
from .limits import MAX_BASIS_VALUE
from .notation import excerpt

MAX_COMPONENTS = 512  # the paper's
TENSORS = ("mean", "components", "explained_variance", "explained_variance_ratio", "median_radius")


@dataclass(frozen=True, eq=False)
class CelebBasis:
    """Mean and principal components of celebrity names, one set for each of the two token positions.

    With several text encoders a name's rows are concatenated, each encoder's part multiplied by its
    `encoder_scale`, so that every encoder brings the same total variance; mean and components live in
    that scaled space, `transform` and `inverse_transform` go in and out of it.

    Source: Yuan et al., "Inserting Anybody in Diffusion Models via Celeb Basis" (2023), section 3.2.
    """

    mean: Tensor  # (2, dim)
    components: Tensor  # (2, k, dim), orthonormal rows, most variance first
    explained_variance: Tensor  # (2, k), of the celebrities along each component
    explained_variance_ratio: Tensor  # (2, k), share of the position's total variance
    median_radius: Tensor  # (2,), median distance of the celebrities from the mean, in coefficients
    rank: tuple[int, ...]  # (2,), directions that the names span, of which k are kept
    encoder_dims: tuple[int, ...]  # sums to dim
    encoder_scale: tuple[float, ...]
    names: tuple[str, ...]
    fingerprint: str  # of the text encoders
    model: str  # what the model was called, for people
    word_marks: str = ""  # by which a fine-tune with another fingerprint is known; empty in older files

    def __post_init__(self) -> None:
        wrong = self._inconsistency()
        if wrong:
            raise BasisError(f"this is no celeb basis: {wrong}")

    def _inconsistency(self) -> str | None:
        """Return what is wrong with the values, if anything is."""
        for name in TENSORS:
            tensor = getattr(self, name)
            if not isinstance(tensor, Tensor) or tensor.dtype != torch.float32:
                return f"{name} is not in float32"
            if not tensor.isfinite().all():
                return f"{name} holds values that are not finite numbers"
        if self.components.ndim != 3 or self.mean.ndim != 2 or not self.components.numel():
            return f"components have the shape {tuple(self.components.shape)}, mean {tuple(self.mean.shape)}"
        _, k, dim = self.components.shape
        shapes = {
            "mean": (TOKENS, dim),
            "components": (TOKENS, k, dim),
            "explained_variance": (TOKENS, k),
            "explained_variance_ratio": (TOKENS, k),
            "median_radius": (TOKENS,),
        }
        for name, shape in shapes.items():
            if tuple(getattr(self, name).shape) != shape:
                return f"{name} has the shape {tuple(getattr(self, name).shape)}, {shape} is needed"
        gram = self.components @ self.components.mT
        if not torch.allclose(gram, torch.eye(k).expand_as(gram), atol=1e-3):
            return "its components are not orthonormal"
        variance, share = self.explained_variance, self.explained_variance_ratio
        if not ((variance > 0).all() and (self.median_radius > 0).all()):
            return "the celebrities do not spread along every component"
        if max(float(t.abs().max()) for t in (self.mean, variance, self.median_radius)) > MAX_BASIS_VALUE:
            return f"it holds numbers above {MAX_BASIS_VALUE:g}, as no model has in its embeddings"
        if (variance[:, 1:] > variance[:, :-1] * 1.001).any():
            return "its components are not in the order of their variance"
        total = variance.sum(-1, keepdim=True) / share.sum(-1, keepdim=True)
        if not (share > 0).all() or (share.sum(-1) > 1.001).any() or not torch.allclose(variance, share * total, 1e-2):
            return "the shares of the variance are not those of the variances"
        if len(self.encoder_dims) != len(self.encoder_scale) or not all(
            type(d) is int and d > 0 for d in self.encoder_dims
        ):
            return f"encoder_dims {self.encoder_dims} and encoder_scale {self.encoder_scale} do not match"
        if sum(self.encoder_dims) != dim or not all(
            isinstance(s, float | int) and 1 / MAX_BASIS_VALUE < s < MAX_BASIS_VALUE for s in self.encoder_scale
        ):
            return f"encoder_dims {self.encoder_dims} do not sum to {dim}, or an encoder_scale is no sound number"
        texts = (*self.names, self.fingerprint, self.model, self.word_marks)
        if len(self.names) < 3 or not all(isinstance(text, str) for text in texts):
            return "its names are no list of texts"
        if len(self.rank) != TOKENS or not all(type(r) is int and k <= r for r in self.rank):
            return f"rank {self.rank} is not {TOKENS} numbers of at least {k}"
        return None

    @classmethod
    def from_pipeline(
        cls, pipe: Pipeline, names: Sequence[str], n_components: int | None = None, *, any_length: bool = False
    ) -> CelebBasis:
        """Make the basis of a pipeline from those of `names` that are exactly two tokens; see `fit`.

        any_length: take the first and the second token of names of any number of tokens, as the released program of
            Yuan et al. (2023) does.
        """
        rows: Tensor | Sequence[Tensor]
        rows, kept = first_and_second_rows(pipe, names) if any_length else name_rows(pipe, names)
        if len(kept) < 3:
            what = "known" if any_length else "two tokens"
            raise BasisError(f"{len(kept)} of {len(names)} names are {what} in this model: at least 3 are needed")
        return cls.fit(
            rows,
            kept,
            n_components,
            encoder_dims=embedding_dims(pipe),
            fingerprint=fingerprint(pipe),
            model=model_name(pipe),
            word_marks=word_marks(pipe),
        )

    @classmethod
    def fit(
        cls,
        rows: Tensor | Sequence[Tensor],
        names: Sequence[str],
        n_components: int | None = None,
        *,
        encoder_dims: Sequence[int] | None = None,
        fingerprint: str = "",
        model: str = "",
        word_marks: str = "",
    ) -> CelebBasis:
        """Make a basis of the embedding rows (n, 2, dim) of n names.

        rows: may also be rows (n1, dim) and (n2, dim), as many as there are at either position.
        n_components: how many directions to keep at each position; None keeps the rank, at most 512.
        encoder_dims: how many columns each text encoder has; None for one encoder.
        fingerprint, model, word_marks: of the text encoders that the rows come from.

        Raises BasisError if there are fewer than three names, or more components are asked for than the names span
        at the poorer position (first names repeat, so distinct rows count, not names).
        """
        if len(names) < 3:
            raise BasisError(f"{len(names)} names: at least 3 are needed")
        if isinstance(rows, Tensor):
            if rows.ndim != 3 or rows.shape[:2] != (len(names), TOKENS):
                raise BasisError(f"rows of shape {tuple(rows.shape)}: ({len(names)}, {TOKENS}, dim) is needed")
            if wrong := [name for name, own in zip(names, rows, strict=True) if not own.isfinite().all()]:
                raise BasisError(
                    f"{len(wrong)} names, such as {excerpt(wrong[0])}, have embeddings that are no finite numbers: "
                    "leave them out, or get the model again"
                )
            rows = rows.unbind(1)
        if len(rows) != TOKENS or min(map(len, rows)) < 3 or not all(own.isfinite().all() for own in rows):
            raise BasisError(f"{TOKENS} tables of 3 or more rows of finite numbers are needed, one for each position")
        dims = tuple(encoder_dims or (rows[0].shape[-1],))
        rows = [own.double() for own in rows]
        variances = torch.stack([own.var(dim=0) for own in rows]).sum(dim=0)
        spread = [float(part.sum()) for part in variances.split(dims, dim=-1)]
        scale = tuple((sum(spread) / len(spread) / s) ** 0.5 if s > 0 else 1.0 for s in spread)
        rows = [own * _per_column(scale, dims) for own in rows]
        positions = [_principal_components(own) for own in rows]
        ranks = [each.rank for each in positions]
        k = min(*ranks, MAX_COMPONENTS) if n_components is None else n_components
        if not 1 <= k <= min(ranks):
            raise BasisError(
                f"n_components={n_components} must be between 1 and {min(ranks)}, the rank of these "
                f"{len(names)} names (first tokens {ranks[0]}, last tokens {ranks[1]})"
            )
        radii = [
            ((own - each.mean) @ each.components[:k].T).norm(dim=-1).median()
            for own, each in zip(rows, positions, strict=True)
        ]
        return cls(
            mean=torch.stack([each.mean for each in positions]).float(),
            components=torch.stack([each.components[:k] for each in positions]).float(),
            explained_variance=torch.stack([each.variance[:k] for each in positions]).float(),
            explained_variance_ratio=torch.stack([(v / v.sum())[:k] for _, _, v, _ in positions]).float(),
            median_radius=torch.stack(radii).float(),
            rank=tuple(ranks),
            encoder_dims=dims,
            encoder_scale=scale,
            names=tuple(names),
            fingerprint=fingerprint,
            model=model,
            word_marks=word_marks,
        )

    @property
    def n_components(self) -> int:
        """Return the number of coefficients at each of the two positions; a person is twice as many numbers."""
        return self.components.shape[1]

    @property
    def sigma(self) -> Tensor:
        """Return the standard deviation of the celebrities along each component, (2, k)."""
        return self.explained_variance.sqrt()

    @property
    def digest(self) -> str:
        """Return a hash of the space itself, for artefacts that only make sense in this very basis."""
        content = hashlib.sha256(self.fingerprint.encode())
        for tensor in (self.mean, self.components):
            content.update(tensor.numpy().tobytes())
        return content.hexdigest()

    def transform(self, vectors: Tensor) -> Tensor:
        """Project vectors (..., 2, dim) on the basis; return their coefficients (..., 2, k)."""
        scale, mean, components = self._on(vectors)
        return torch.einsum("...jd,jkd->...jk", vectors * scale - mean, components)

    def inverse_transform(self, coefficients: Tensor) -> Tensor:
        """Return the vectors (..., 2, dim) at coefficients (..., 2, k); gradients flow."""
        scale, mean, components = self._on(coefficients)
        return (mean + torch.einsum("...jk,jkd->...jd", coefficients, components)) / scale

    def _on(self, like: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        scale = _per_column(self.encoder_scale, self.encoder_dims)
        return scale.to(like), self.mean.to(like), self.components.to(like)

    def check(self, pipe: Pipeline) -> None:
        """Raise BasisError unless this basis was made from the pipeline's own text encoders, or nearly those."""
        own = self.fingerprint, self.word_marks
        if self.encoder_dims != embedding_dims(pipe) or not is_made_for(pipe, own, "the basis"):
            raise BasisError(
                f"this basis was made for {self.model or 'another model'} and does not fit "
                f"{model_name(pipe)}: make one with `celeb-basis basis`"
            )

    def save(self, path: str | Path) -> None:
        """Write the basis to a .safetensors file."""
        metadata = {
            "format": "celeb-basis basis 2",
            "names": json.dumps(self.names),
            "rank": json.dumps(self.rank),
            "encoder_dims": json.dumps(self.encoder_dims),
            "encoder_scale": json.dumps(self.encoder_scale),
            "fingerprint": self.fingerprint,
            "word_marks": self.word_marks,
            "model": shared_name(self.model),
        }
        save_safetensors(path, {name: getattr(self, name) for name in TENSORS}, metadata)

    @classmethod
    def from_pretrained(
        cls, repository: str | Path, *, revision: str | None = None, token: str | None = None
    ) -> CelebBasis:
        """Read the basis of a repository of the model hub, like owner/name, or of a folder.

        Raises ModelError for a repository that is not to be had, BasisError for one without a basis of ours.
        """
        return cls.load(fetch(repository, BASIS, revision=revision, token=token))

    def push_to_hub(self, repository: str, *, instant_map: Any = None, license: str | None = None, **how: Any) -> str:
        """Upload the basis with a card to a repository of the model hub; return its address.

        instant_map: of this basis, uploaded with it. license: of the hub's list, by default that of the model.
        how: private, token and commit_message of `sharing.push`. Raises ModelError where the hub refuses.
        """
        files = {BASIS: self.save} | ({} if instant_map is None else {INSTANT_MAP: instant_map.save})
        return push(repository, files, self._about(license), **how)

    def _about(self, license: str | None) -> About:
        """Return what a repository's card says."""
        return About(
            title=f"Celeb basis of {shared_name(self.model)}",
            model=shared_name(self.model),
            made={
                "names of people that it is made of": len(self.names),
                "components of each of the two tokens": self.n_components,
                "variance explained": ", ".join(f"{v:.3f}" for v in self.explained_variance_ratio.sum(-1).tolist()),
                "text encoders": self.fingerprint[:16],
            },
            use=f'import celeb_basis as cb\n\nmodel = cb.Model.load("{shared_name(self.model)}", '
            'basis=cb.CelebBasis.from_pretrained("{}"))',
            consent="It holds rows of a text encoder's table for public names, no face and no photograph. Fit only "
            "people who agreed to it.",
            license=license,
        )

    @classmethod
    def load(cls, path: str | Path) -> CelebBasis:
        """Read a basis from the file that `save` wrote, or from a folder whose card names one.

        Raises BasisError for anything else.
        """
        if os.path.isdir(path):
            own = ModelCard.of(Path(path)).basis
            if own is None:
                raise BasisError(f"{path} is a folder without a card that names a basis: name a file")
            path = own
        tensors, metadata = load_safetensors(path, BasisError)
        if metadata.get("format") != "celeb-basis basis 2" or set(tensors) != set(TENSORS):
            raise BasisError(f"{path} is not a celeb basis")
        try:
            values: dict[str, Any] = dict(tensors)
            for name in ("rank", "encoder_dims", "encoder_scale", "names"):
                values[name] = tuple(json.loads(metadata[name]))
            return cls(
                **values,
                fingerprint=metadata["fingerprint"],
                model=metadata["model"],
                word_marks=metadata.get("word_marks", ""),
            )
        except (KeyError, ValueError, TypeError, RecursionError) as error:
            raise BasisError(f"{path} is not a whole celeb basis (metadata: {error})") from error
        except BasisError as error:
            raise BasisError(f"{path}: {error}") from None


def _per_column(scale: Sequence[float], dims: Sequence[int]) -> Tensor:
    return torch.cat([torch.full((dim,), s) for s, dim in zip(scale, dims, strict=True)])


class _Position(NamedTuple):
    """The principal components of the rows at one token position, most variance first."""

    mean: Tensor  # (dim,)
    components: Tensor  # (n, dim), orthonormal
    variance: Tensor  # (n,)
    rank: int


def _principal_components(rows: Tensor) -> _Position:
    """Return the PCA of rows (n, dim)."""
    mean = rows.mean(dim=0)
    _, singular, directions = torch.linalg.svd(rows - mean, full_matrices=False)
    # Signs as in sklearn: the entry of largest magnitude is positive.
    largest = directions.gather(-1, directions.abs().argmax(-1, keepdim=True))
    return _Position(mean, directions * largest.sign(), singular**2 / (len(rows) - 1), _rank(rows, singular))


def _rank(rows: Tensor, singular: Tensor) -> int:
    """Return how many directions rows (n, dim) span around their mean: d distinct rows span d - 1 at most."""
    tolerance = singular.max() * max(rows.shape) * torch.finfo(singular.dtype).eps
    return min(int((singular > tolerance).sum()), len(rows.unique(dim=0)) - 1)


def celebrity_names() -> list[str]:
    """Return the shipped names, the famous first.

    Each is exactly two tokens in the vocabulary of CLIP, T5 or Qwen: the file says in which.
    """
    return read_names(Path(__file__).with_name("celebrities.txt"))


def read_names(path: str | Path) -> list[str]:
    """Read names, one a line, each kept once and in order; what follows a # is a comment.

    Raises BasisError where the file cannot be read or has no name in it.
    """
    lines = (" ".join(line.split("#")[0].split()) for line in read_text(path, BasisError).splitlines())
    names = list(dict.fromkeys(line for line in lines if line))
    if not names:
        raise BasisError(f"{path} has no name in it; write one a line")
    return names

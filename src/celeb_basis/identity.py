"""Identity: a person as two token vectors; the file is an ordinary textual-inversion embedding."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .backend.families import embedding_keys
from .backend.known_models import shared_name
from .backend.pipeline import Pipeline, model_name
from .backend.sharing import IDENTITY, About, fetch, push
from .backend.text_encoders import TOKENS, embedding_dims, is_made_for, same_model
from .basis import CelebBasis
from .directions import Direction
from .embedding_io import load_token, read_embedding, unload_token
from .errors import IdentityError
from .io import save_safetensors
from .limits import MAX_AMOUNT, MAX_FEATURE, MAX_STRENGTH, MAX_VECTOR_LENGTH, MIN_VECTOR_LENGTH
from .notation import check_token, slugify

FORMAT = "celeb-basis identity 1"
FEATURE = "face_feature"  # in the provenance: base64 of float32


@dataclass(frozen=True, eq=False)
class Identity:
    """Two vectors that stand for a first and a last name wherever `placeholder_token` is written.

    A file of another program may bring one vector or many: they can be drawn with, but have no place in a basis.
    Its coefficients need not be stored: the components are orthonormal, so projecting gives them back.
    """

    placeholder_token: str  # like <annika>
    vectors: Tensor  # (2, dim) float32, or (n, dim) of another program, dim concatenated over text encoders
    encoder_dims: tuple[int, ...]
    fingerprint: str = ""  # of the text encoders; empty in files of other programs
    model: str = ""
    word_marks: str = ""  # by which a fine-tune with another fingerprint is known; empty in older files
    provenance: Mapping[str, str] = field(default_factory=dict)  # how it was made

    def __post_init__(self) -> None:
        check_token(self.placeholder_token)
        shape = tuple(self.vectors.shape)
        if len(shape) != 2 or not shape[0] or shape[1] != sum(self.encoder_dims):
            raise IdentityError(
                f"{self.placeholder_token}: vectors of shape {shape}, an identity has ({TOKENS}, "
                f"{sum(self.encoder_dims)}), or another number of them"
            )
        if self.vectors.dtype != torch.float32 or not self.vectors.isfinite().all():
            raise IdentityError(
                f"{self.placeholder_token}: the vectors hold values that are not numbers, or are not float32"
            )
        lengths = torch.stack([part.norm(dim=-1) for part in self.vectors.detach().split(self.encoder_dims, dim=-1)])
        # A row of zeros alone is a word that a model never met; a name of nothing else is nobody.
        if not (MIN_VECTOR_LENGTH < lengths.max() < MAX_VECTOR_LENGTH):
            raise IdentityError(
                f"{self.placeholder_token}: vectors of length {lengths.min():.3g} to {lengths.max():.3g} stand for "
                "nobody in any model: fit the person again"
            )

    @classmethod
    def from_coefficients(
        cls,
        basis: CelebBasis,
        coefficients: Tensor,
        placeholder_token: str,
        provenance: Mapping[str, str] | None = None,
    ) -> Identity:
        """Return the person at coefficients (2, k) of a basis."""
        vectors = basis.inverse_transform(coefficients.detach().float().cpu())
        return cls.from_vectors(basis, vectors, placeholder_token, provenance)

    @classmethod
    def from_vectors(
        cls,
        basis: CelebBasis,
        vectors: Tensor,
        placeholder_token: str,
        provenance: Mapping[str, str] | None = None,
    ) -> Identity:
        """Return the person with these vectors (2, dim), for the text encoders of a basis."""
        return cls(
            placeholder_token=placeholder_token,
            vectors=vectors,
            encoder_dims=basis.encoder_dims,
            fingerprint=basis.fingerprint,
            model=basis.model,
            word_marks=basis.word_marks,
            provenance=dict(provenance or {}),
        )

    @classmethod
    def sample(cls, basis: CelebBasis, placeholder_token: str, generator: torch.Generator | None = None) -> Identity:
        """Make up a person, the same in every picture: a draw from the celebrities' distribution."""
        coefficients = torch.randn(basis.sigma.shape, generator=generator) * basis.sigma
        return cls.from_coefficients(basis, coefficients, placeholder_token, {"made_by": "sample"})

    def coefficients(self, basis: CelebBasis) -> Tensor:
        """Return where the identity stands in a basis, (2, k)."""
        fits = not self.fingerprint or self._is_of(basis)
        if self.encoder_dims != basis.encoder_dims or not fits:
            raise IdentityError(
                f"{self.placeholder_token} was made for {self.model or 'another model'}, the basis for {basis.model}: "
                "name a basis of the identity's own model",
                argument="basis",
            )
        self._check_two("place it in a basis")
        return basis.transform(self.vectors)

    def scaled(self, basis: CelebBasis, strength: float) -> Identity:
        """Return the same person, less or more pronounced: 0 is the mean person, 1 this one, 1.5 the most.

        Raises IdentityError for another strength, or an identity of another model than the basis.
        """
        if not 0 <= strength <= MAX_STRENGTH:
            raise IdentityError(
                f"a strength of {strength:g} must be from 0, the mean person, to {MAX_STRENGTH}", argument="strength"
            )
        mean = basis.inverse_transform(torch.zeros_like(self.coefficients(basis)))
        how = {**self.provenance, "strength": f"{strength:g}"}
        return replace(self, vectors=torch.lerp(mean, self.vectors, strength), provenance=how)

    def moved(self, direction: Direction, amount: float) -> Identity:
        """Return the same person with more of a trait, or less: `amount` in the celebrities' standard deviations.

        Raises IdentityError for an amount beyond MAX_AMOUNT, or an identity of another model than the direction.
        """
        if not -MAX_AMOUNT <= amount <= MAX_AMOUNT:
            raise IdentityError(
                f"{direction.trait}={amount:g} must be from -{MAX_AMOUNT} to {MAX_AMOUNT} standard deviations of the "
                "celebrities",
                argument="more",
            )
        place = self.coefficients(direction.basis)
        here, there = (direction.basis.inverse_transform(p) for p in (place, place + amount * direction.coefficients))
        moves = f"{self.provenance.get('more', '')} {direction.trait}={amount:g}".strip()
        return replace(self, vectors=self.vectors + (there - here), provenance={**self.provenance, "more": moves})

    def blend(self, other: Identity, weight: float, placeholder_token: str) -> Identity:
        """Return the person a share `weight` of the way to another: 0 is this one, 1 the other."""
        if not 0 <= weight <= 1:
            raise IdentityError(
                f"a weight of {weight:g} must be from 0, this person, to 1, the other", argument="weight"
            )
        if self.encoder_dims != other.encoder_dims or not self._is_of(other):
            raise IdentityError(
                f"{self.placeholder_token} and {other.placeholder_token} were made for different models "
                f"({self.model or 'unknown'}, {other.model or 'unknown'})"
            )
        self._check_two("blend it")
        other._check_two("blend it")
        return Identity(
            placeholder_token=placeholder_token,
            vectors=torch.lerp(self.vectors, other.vectors, weight),
            encoder_dims=self.encoder_dims,
            fingerprint=self.fingerprint,
            model=self.model,
            word_marks=self.word_marks,
            provenance={
                "made_by": f"blend of {self.placeholder_token} and {other.placeholder_token}",
                "weight": str(weight),
            },
        )

    def with_feature(self, feature: Tensor, face_reader: str) -> Identity:
        """Return the same person with their face feature (d,), by which pictures are compared with them.

        It is biometric data: it tells the person from others in any photograph. face_reader: who described the face.
        """
        kept = base64.b64encode(feature.detach().float().cpu().numpy().astype("<f4").tobytes()).decode()
        return replace(self, provenance={**self.provenance, FEATURE: kept, "face_reader": face_reader})

    @property
    def feature(self) -> Tensor | None:
        """Return the face feature that the identity keeps, (d,) of length one; None where it keeps none.

        Raises IdentityError for a file that holds something else in its place.
        """
        if FEATURE not in self.provenance:
            return None
        try:
            kept = base64.b64decode(self.provenance[FEATURE], validate=True)
            feature = torch.from_numpy(np.frombuffer(kept, "<f4").astype(np.float32))
        except ValueError:
            feature = torch.empty(0)
        if not 0 < len(feature) <= MAX_FEATURE or not abs(feature.norm() - 1) < 1e-3:
            raise IdentityError(
                f"{self.placeholder_token} keeps something that is no face feature: fit the person again"
            )
        return feature

    def _is_of(self, other: CelebBasis | Identity) -> bool:
        """Return whether this person and another, or a basis, are of the same text encoders, or of nearly those."""
        own, others = (self.fingerprint, self.word_marks), (other.fingerprint, other.word_marks)
        return same_model(own, others, self.placeholder_token, other.model or "another model")

    @property
    def digest(self) -> str:
        """Return a hash of the vectors, which names the person in metadata."""
        return hashlib.sha256(self.vectors.contiguous().numpy().tobytes()).hexdigest()

    def check(self, pipe: Pipeline) -> None:
        """Raise IdentityError unless the identity was made for the pipeline's text encoders.

        A file of another program names no text encoder: then the widths decide.
        """
        fits = not self.fingerprint or is_made_for(pipe, (self.fingerprint, self.word_marks), self.placeholder_token)
        if self.encoder_dims != embedding_dims(pipe) or not fits:
            raise IdentityError(
                f"{self.placeholder_token} was made for {self.model or 'another model'} and means nothing to "
                f"{model_name(pipe)}: name its own model, or fit it again with this one",
                argument="model",
            )

    def load_into(self, pipe: Any) -> None:
        """Let `placeholder_token` name this person in every prompt of a stock pipeline of diffusers.

        All text encoders get their vectors, and pooling is mended where the model's configuration is an old one.
        Raises IdentityError for another model's pipeline, PromptError for a token that has a meaning there already.
        """
        self.check(pipe)
        load_token(pipe, self.placeholder_token, self.vectors)

    def unload(self, pipe: Any) -> None:
        """Take the person out of a stock pipeline again. Raises IdentityError if they are not in it."""
        unload_token(pipe, self.placeholder_token)

    def _check_two(self, what: str) -> None:
        if len(self.vectors) != TOKENS:
            raise IdentityError(
                f"{self.placeholder_token} has {len(self.vectors)} vectors: it can be drawn with, but to {what} "
                f"takes {TOKENS}"
            )

    def save(self, path: str | Path) -> None:
        """Write a .safetensors file that other programs read as a textual-inversion embedding."""
        parts = self.vectors.float().split(self.encoder_dims, dim=-1)
        metadata = {
            **{key: str(value) for key, value in self.provenance.items()},
            "format": FORMAT,
            "placeholder_token": self.placeholder_token,
            "fingerprint": self.fingerprint,
            "word_marks": self.word_marks,
            "model": shared_name(self.model),
        }
        save_safetensors(path, dict(zip(embedding_keys(self.encoder_dims), parts, strict=True)), metadata)

    @classmethod
    def from_pretrained(
        cls,
        repository: str | Path,
        placeholder_token: str | None = None,
        *,
        revision: str | None = None,
        token: str | None = None,
    ) -> Identity:
        """Read the person of a repository of the model hub, like owner/name, or of a folder.

        Raises ModelError for a repository that is not to be had, IdentityError for a file that holds something else.
        """
        return cls.load(fetch(repository, IDENTITY, revision=revision, token=token), placeholder_token)

    def push_to_hub(self, repository: str, *, consent: str, license: str | None = None, **how: Any) -> str:
        """Upload the person with a card to a repository of the model hub; return its address.

        The face feature, where the identity keeps one, stays here.

        consent: who agreed to this, or that nobody is shown; it stands in the card.
        license: of the hub's list, by default that of the model.
        how: private, token and commit_message of `sharing.push`. Raises ModelError where the hub refuses.
        """
        if not consent.strip():
            raise IdentityError("say in a sentence who agreed to be shared", argument="consent")
        shared = replace(self, provenance={k: v for k, v in self.provenance.items() if k != FEATURE})
        model, name = shared_name(self.model), self.placeholder_token
        about = About(
            title=f"{name}, a person for {model}",
            model=model,
            made=shared.provenance,
            use=f'import celeb_basis as cb\n\nperson = cb.Identity.from_pretrained("{{}}")\n'
            f'[image] = cb.Model.load("{model}").generate("a photo of {name}", [person])',
            consent=consent,
            license=license,
        )
        return push(repository, {IDENTITY: shared.save}, about, **how)

    @classmethod
    def load(cls, path: str | Path, placeholder_token: str | None = None) -> Identity:
        """Read an identity, or another program's embedding of one vector or many: see `embedding_io.read_embedding`.

        placeholder_token: replaces the one in the file, which otherwise falls back on the file's name.
        """
        path = Path(path)
        found = read_embedding(path, placeholder_token)
        metadata = found.metadata
        own = ("format", "placeholder_token", "fingerprint", "model", "word_marks")
        return cls(
            placeholder_token=placeholder_token
            or metadata.get("placeholder_token")
            or found.token
            or f"<{slugify(path.stem)}>",
            vectors=torch.cat(found.parts, dim=-1),
            encoder_dims=tuple(part.shape[1] for part in found.parts),
            fingerprint=metadata.get("fingerprint", ""),
            model=metadata.get("model", ""),
            word_marks=metadata.get("word_marks", ""),
            provenance={key: value for key, value in metadata.items() if key not in own},
        )

"""Identity: a person as two token vectors; the file is an ordinary textual-inversion embedding."""

from __future__ import annotations

import re
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from .basis.basis import CelebBasis
from .errors import IdentityError
from .files import check_regular, load_safetensors, save_safetensors
from .models.encoders import TOKENS, embedding_dims, fingerprint
from .models.pipeline import Pipeline, model_name
from .notation import check_spelling

# What other programs look for: one tensor for one text encoder, these two for SDXL.
KEYS = {1: ("emb_params",), 2: ("clip_l", "clip_g")}
MOST_PICKLED = 2**26  # bytes
WIDEST = 2**16  # numbers in a vector
FORMAT = "celeb-basis identity 1"
LENGTHS = (1e-3, 1e3)  # of a vector; the rows of CLIP's tables have about .4, embeddings learnt far away some 10


@dataclass(frozen=True, eq=False)
class Identity:
    """Two vectors that stand for a first and a last name wherever `placeholder_token` is written.

    Its coefficients need not be stored: the components are orthonormal, so projecting gives them back.
    """

    placeholder_token: str  # like <ada>
    vectors: Tensor  # (2, dim) float32, dim concatenated over text encoders
    encoder_dims: tuple[int, ...]
    fingerprint: str = ""  # of the text encoders; empty in files of other programs
    model: str = ""
    provenance: Mapping[str, str] = field(default_factory=dict)  # how it was made

    def __post_init__(self) -> None:
        check_spelling(self.placeholder_token)
        if tuple(self.vectors.shape) != (TOKENS, sum(self.encoder_dims)):
            raise IdentityError(
                f"{self.placeholder_token}: vectors of shape {tuple(self.vectors.shape)}, an identity has "
                f"({TOKENS}, {sum(self.encoder_dims)})"
            )
        if self.vectors.dtype != torch.float32 or not self.vectors.isfinite().all():
            raise IdentityError(
                f"{self.placeholder_token}: the vectors hold values that are not numbers, or are not float32"
            )
        lengths = torch.stack([part.norm(dim=-1) for part in self.vectors.detach().split(self.encoder_dims, dim=-1)])
        if not ((lengths > LENGTHS[0]) & (lengths < LENGTHS[1])).all():
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
        """The person at coefficients (2, k) of a basis."""
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
        """The person with these vectors (2, dim), for the text encoders of a basis."""
        return cls(
            placeholder_token=placeholder_token,
            vectors=vectors,
            encoder_dims=basis.encoder_dims,
            fingerprint=basis.fingerprint,
            model=basis.model,
            provenance=dict(provenance or {}),
        )

    @classmethod
    def sample(cls, basis: CelebBasis, placeholder_token: str, generator: torch.Generator | None = None) -> Identity:
        """A fictional person, the same in every picture: a draw from the celebrities' distribution."""
        coefficients = torch.randn(basis.sigma.shape, generator=generator) * basis.sigma
        return cls.from_coefficients(basis, coefficients, placeholder_token, {"made_by": "sample"})

    def coefficients(self, basis: CelebBasis) -> Tensor:
        """Where the identity stands in a basis, (2, k)."""
        if self.encoder_dims != basis.encoder_dims or self.fingerprint not in ("", basis.fingerprint):
            raise IdentityError(
                f"{self.placeholder_token} was made for {self.model or 'another model'}, the basis for {basis.model}"
            )
        return basis.transform(self.vectors)

    def blend(self, other: Identity, weight: float, placeholder_token: str) -> Identity:
        """The person a share `weight` of the way to another: 0 is this one, 1 the other."""
        if self.encoder_dims != other.encoder_dims or self.fingerprint != other.fingerprint:
            raise IdentityError(
                f"{self.placeholder_token} and {other.placeholder_token} were made for different models "
                f"({self.model or 'unknown'}, {other.model or 'unknown'})"
            )
        return Identity(
            placeholder_token=placeholder_token,
            vectors=torch.lerp(self.vectors, other.vectors, weight),
            encoder_dims=self.encoder_dims,
            fingerprint=self.fingerprint,
            model=self.model,
            provenance={
                "made_by": f"blend of {self.placeholder_token} and {other.placeholder_token}",
                "weight": str(weight),
            },
        )

    def check(self, pipe: Pipeline) -> None:
        """Raise IdentityError unless the identity was made for the pipeline's text encoders.

        A file of another program names no text encoder: then the widths decide.
        """
        if self.encoder_dims != embedding_dims(pipe) or self.fingerprint not in ("", fingerprint(pipe)):
            raise IdentityError(
                f"{self.placeholder_token} was made for {self.model or 'another model'} and means nothing to "
                f"{model_name(pipe)}: fit it again with this model"
            )

    def save(self, path: str | Path) -> None:
        """Write a .safetensors file that other programs read as a textual-inversion embedding."""
        parts = self.vectors.float().split(self.encoder_dims, dim=-1)
        metadata = {
            **{key: str(value) for key, value in self.provenance.items()},
            "format": FORMAT,
            "placeholder_token": self.placeholder_token,
            "fingerprint": self.fingerprint,
            "model": self.model,
        }
        save_safetensors(path, dict(zip(KEYS[len(parts)], parts, strict=True)), metadata)

    @classmethod
    def load(cls, path: str | Path, placeholder_token: str | None = None) -> Identity:
        """Read an identity, or another program's embedding of two vectors (.safetensors, .pt, .bin).

        placeholder_token: replaces the one in the file, which otherwise falls back on the file's name.
        """
        path = Path(path)
        is_pickle = path.suffix in {".pt", ".bin"}
        tensors, metadata = _read_pickle(path) if is_pickle else load_safetensors(path, IdentityError)
        parts = [tensors[key] for key in KEYS[2] if key in tensors] if len(tensors) == 2 else list(tensors.values())
        if len(parts) != len(tensors) or not parts or any(t.ndim != 2 or len(t) != TOKENS for t in parts):
            shapes = ", ".join(f"{key} {tuple(t.shape)}" for key, t in list(tensors.items())[:4]) or "nothing"
            more = f" and {len(tensors) - 4} more" if len(tensors) > 4 else ""
            raise IdentityError(f"{path} is not an identity of two vectors: it holds {shapes}{more}")
        for t in parts:
            if not t.is_floating_point() or t.is_meta or t.layout != torch.strided or t.shape[1] > WIDEST:
                raise IdentityError(
                    f"{path} is not an identity: its vectors are {t.dtype}, {t.layout}, {t.shape[1]} wide"
                )
        own = ("format", "placeholder_token", "fingerprint", "model")
        return cls(
            placeholder_token=placeholder_token
            or metadata.get("placeholder_token")
            or f"<{re.sub(r'[^a-z0-9_-]+', '-', path.stem.lower())}>",
            vectors=torch.cat([t.float().contiguous() for t in parts], dim=-1),
            encoder_dims=tuple(t.shape[1] for t in parts),
            fingerprint=metadata.get("fingerprint", ""),
            model=metadata.get("model", ""),
            provenance={key: value for key, value in metadata.items() if key not in own},
        )


def _read_pickle(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors of a foreign embedding, read without running any code in it."""
    check_regular(path, IdentityError, MOST_PICKLED)
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as parts:
                if sum(part.file_size for part in parts.infolist()) > 2 * MOST_PICKLED:
                    raise IdentityError(f"{path} unpacks to more than an embedding can hold")
        with warnings.catch_warnings():  # PyTorch warns of unusual pickles that it refuses a line later
            warnings.simplefilter("ignore")
            content = torch.load(path, map_location="cpu", weights_only=True)
    except IdentityError:
        raise
    except Exception as error:  # a foreign pickle can fail in any way
        raise IdentityError(f"{path} is not an embedding that can be read without running code in it") from error
    content = content.get("string_to_param", content) if isinstance(content, dict) else content
    content = content if isinstance(content, dict) else {"*": content}
    return {key: t.detach() for key, t in content.items() if isinstance(t, Tensor)}, {}

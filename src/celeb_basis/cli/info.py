"""The info command, and the facts that other commands report about the files they write."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import BasisError
from .options import add_command

if TYPE_CHECKING:
    from ..basis import CelebBasis
    from ..directions import Directions
    from ..identity import Identity
    from ..instant_map import InstantMap
    from ..known_names import Portraits

EMBEDDINGS = {".safetensors", ".pt", ".bin"}
FEATURE = "face_feature"  # as in identity, which imports torch
MEASURED = {"file", "identity", "numbers", "radii_from_mean", "vectors", "model", "name", "in_prompts", FEATURE}
MADE_BY = ("prompt", "seed", "strength", "model", "Software")  # what save_image writes


def add_commands(commands: Any) -> None:
    """Add this command to the parser."""
    info = add_command(
        commands,
        "info",
        info_of_file,
        "describe a file: an identity, a basis, an instant map, directions, the faces of names, or a picture",
        """
        info annika.safetensors
        info annika.safetensors --basis sd15.safetensors
        info basis.safetensors --json
        info basis.faces.safetensors
        info a-photo-of-annika-0.png""",
        "Radii from mean are the distances of a person's two tokens from the mean person, in the celebrities' median "
        "distance.",
    )
    info.add_argument("file", type=Path, metavar="FILE", help="a .safetensors file or a picture")
    info.add_argument("--basis", type=Path, metavar="FILE|DIR", help="also say where an identity lies in this basis")


def info_of_file(args: argparse.Namespace) -> dict[str, Any]:
    if args.file.suffix.lower() not in EMBEDDINGS:
        found = describe_image(args.file)
    else:
        found = _describe_tensors(args.file, args.basis)
    if args.basis and "identity" not in found:
        raise BasisError(f"{args.file} is no identity: leave out --basis, which is for identities")
    return {"file": str(args.file)} | found


def _describe_tensors(file: Path, basis: Path | None) -> dict[str, Any]:
    from ..basis import CelebBasis
    from ..directions import Directions
    from ..instant_map import InstantMap
    from ..io import load_safetensors
    from ..known_names import Portraits

    kind = load_safetensors(file)[1].get("format", "") if file.suffix.lower() == ".safetensors" else ""
    if kind.startswith("celeb-basis basis"):
        return describe_basis(CelebBasis.load(file))
    if kind.startswith("celeb-basis instant map"):
        return describe_instant_map(InstantMap.load(file))
    if kind.startswith("celeb-basis directions"):
        return describe_directions(Directions.load(file))
    if kind.startswith("celeb-basis portraits"):
        return _describe_portraits(Portraits.load(file))
    return info_of_identity(file, basis)


def info_of_identity(file: Path, basis: Path | None = None) -> dict[str, Any]:
    """Return a person in a file, and what to type for them in each program."""
    from ..backend.known_models import known_vocabulary
    from ..basis import CelebBasis
    from ..embedding_io import in_prompts, name_advice
    from ..identity import Identity

    identity = Identity.load(file)
    found = describe_identity(identity, CelebBasis.load(basis) if basis else None)
    if advice := name_advice(file.stem, known_vocabulary(identity.model, identity.fingerprint)):
        found["name"] = advice
    return found | {"in_prompts": in_prompts(file, identity.placeholder_token)}


def describe_identity(identity: Identity, basis: CelebBasis | None = None) -> dict[str, Any]:
    """Return a person: the count of numbers, the model, and the distance from the mean person (a celebrity's: 1)."""
    found: dict[str, Any] = {"identity": identity.placeholder_token}
    if basis is not None:
        coefficients = identity.coefficients(basis)
        found["numbers"] = coefficients.numel()
        found["radii_from_mean"] = (coefficients.norm(dim=-1) / basis.median_radius).tolist()
    found["vectors"] = list(identity.vectors.shape)
    found["model"] = identity.model or "unknown"
    if identity.feature is not None:
        found[FEATURE] = f"kept, {len(identity.feature)} numbers: biometric data"
    # A file may say anything of itself; what is measured stands.
    return found | {key: value for key, value in identity.provenance.items() if key not in MEASURED}


def describe_basis(basis: CelebBasis) -> dict[str, Any]:
    """Return a basis: how many names it is made of, how many numbers a person has in it, the variance it explains."""
    return {
        "basis": basis.model,
        "names": len(basis.names),
        "rank": list(basis.rank),
        "n_components": basis.n_components,
        "numbers": 2 * basis.n_components,
        "variance_explained": basis.explained_variance_ratio.sum(-1).tolist(),
        "radius": basis.median_radius.tolist(),
        "vectors": [2, sum(basis.encoder_dims)],
    }


def describe_instant_map(instant_map: InstantMap) -> dict[str, Any]:
    """Return an instant map: the face reader, the size of input and output, and the score on people left out.

    components: how many numbers of a face an inversion asks a name to say.
    """
    return {
        "instant_map": instant_map.face_reader,
        "feature": instant_map.coef.shape[1],
        "numbers": instant_map.coef.shape[0],
        "alpha": instant_map.alpha,
        "leave_one_out_r2": instant_map.loo_r2,
        **({"components": len(instant_map.inversion.of_state)} if instant_map.inversion else {}),
        **({"worth": "no more than the mean person: start from the mean"} if instant_map.is_worthless else {}),
    }


def describe_directions(directions: Directions) -> dict[str, Any]:
    """Return directions: which traits there are, with their scores on people left out, and who saw them."""
    return {
        "traits": dict(zip(directions.traits, directions.r2.tolist(), strict=True)),
        "seen_by": directions.seen_by,
        "numbers": directions.coefficients[0].numel(),
    }


def _describe_portraits(faces: Portraits) -> dict[str, Any]:
    """Return the faces that a model drew for names, from which drawing them goes on."""
    return {
        "faces": faces.face_reader,
        "names": len(faces.names),
        "pictures_per_name": faces.features.shape[1],
        "feature": faces.features.shape[2],
        "without_a_face": int((faces.found == 0).sum()),
    }


def describe_image(path: Path) -> dict[str, Any]:
    """Return a picture: its size, and how it was made if the file says so."""
    from ..faces.photo import opened

    with opened(path) as image:
        size = f"{image.width} x {image.height}"
        texts = {key: str(image.info[key]) for key in MADE_BY if key in image.info}
    return {"picture": size} | {key.lower(): value for key, value in texts.items()}

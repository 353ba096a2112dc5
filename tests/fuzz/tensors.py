"""Artefacts as somebody would send them who means harm: whole, with other tensors or metadata, and without a digest."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from files import Tally, artefacts
from files import attack as attack_file
from mutate import FLOATS, NASTY, NUMBERS, header, numbers
from safetensors.torch import load, save

from celeb_basis import CelebBasis, Identity, InstantMap
from celeb_basis.known_names import Portraits

Tensors = dict[str, torch.Tensor]
LAYOUTS = {
    "AUTOMATIC1111": ["emb_params"],
    "SDXL": ["clip_l", "clip_g"],
    "diffusers": ["<ada>"],
    "bundled": ["bundle_emb.ada.string_to_param.*", "lora_unet_x.alpha"],
}
KEYS = [*NASTY[:4], *(key for keys in LAYOUTS.values() for key in keys), "x_out", "t5xxl", "*", "bundle_emb.*.clip_l"]
TYPES = [torch.float16, torch.bfloat16, torch.float64, torch.int64, torch.uint8, torch.bool, torch.complex64]


def sound(folder: Path) -> dict[str, tuple[Path, Callable[[Path], Any]]]:
    """Return our own artefacts and other programs' embeddings, and what reads and uses each."""
    basis = CelebBasis.load(artefacts(folder)["basis"][0])
    person = Identity.sample(basis, "<bo>", torch.Generator().manual_seed(1))
    uses = {
        "identity": partial(use_identity, basis, person),
        "basis": use_basis,
        "map": use_map,
        "inversion": use_map,
        "portraits": use_portraits,
    }
    found: dict[str, tuple[Path, Callable[[Path], Any]]] = {
        name: (folder / f"{name}.safetensors", use) for name, use in uses.items()
    }
    for name, keys in LAYOUTS.items():
        file = folder / f"{name}.safetensors"
        file.write_bytes(save({key: person.vectors.clone() for key in keys}))
        found[name] = file, keep
    return found


def keep(file: Path) -> Identity:
    """Read a person, write them and read them again."""
    person, again = Identity.load(file), file.with_name("again.safetensors")
    person.save(again)
    assert Identity.load(again).vectors.equal(person.vectors)
    return person


def use_identity(basis: CelebBasis, other: Identity, file: Path) -> None:
    """Place a person in a basis, and blend them with another."""
    person = keep(file)
    assert person.coefficients(basis).isfinite().all()
    assert person.blend(other, 0.5, "<cy>").vectors.isfinite().all()
    assert person.scaled(basis, 1.5).vectors.isfinite().all()


def use_basis(file: Path) -> None:
    """Make somebody up in a basis, and write it."""
    basis = CelebBasis.load(file)
    person = Identity.sample(basis, "<eve>", torch.Generator().manual_seed(0))
    assert person.coefficients(basis).isfinite().all()
    basis.save(file.with_name("again.safetensors"))
    assert CelebBasis.load(file.with_name("again.safetensors")).digest == basis.digest


def use_map(file: Path) -> None:
    """Guess a person from a face, and write the map."""
    instant_map = InstantMap.load(file)
    assert instant_map.predict(torch.ones(instant_map.coef.shape[1])).isfinite().all()
    instant_map.save(file.with_name("again.safetensors"))


def use_portraits(file: Path) -> None:
    """Tell the names that a model knows, and write the faces."""
    faces = Portraits.load(file)
    faces.unknown(faces.names[:3])
    assert faces.silhouettes().isfinite().any()
    faces.save(file.with_name("again.safetensors"))


def change(data: bytes, chance: random.Random) -> bytes:
    """Return a whole file with one to three changes of its tensors or metadata, and no digest."""
    size = int.from_bytes(data[:8], "little")
    metadata = json.loads(data[8 : 8 + size]).get("__metadata__") or {}
    metadata.pop("sha256", None)
    tensors = load(data)
    for _ in range(chance.randint(1, 3)):
        chance.choice([values, shape, dtype, names, facts])(tensors, metadata, chance)
    return save({name: tensor.contiguous() for name, tensor in tensors.items()}, metadata)


def values(tensors: Tensors, _: dict[str, str], chance: random.Random) -> None:
    """Change one value, a row, or all."""
    if tensors and (tensor := tensors[chance.choice(sorted(tensors))]).numel():
        tensor = tensor.reshape(-1)
        count = chance.choice([1, min(16, len(tensor)), len(tensor)])
        value = chance.choice([*FLOATS, -1.0, 1e-3, 50.0])
        if not tensor.is_floating_point():
            value = chance.choice([0, 1, 2**30, -1]) if tensor.dtype in (torch.int32, torch.int64) else 1
        tensor[:count] = value


def shape(tensors: Tensors, _: dict[str, str], chance: random.Random) -> None:
    """Cut, repeat, flatten, or turn a tensor."""
    if tensors:
        name = chance.choice(sorted(tensors))
        tensor = tensors[name]
        shapes = [
            tensor.reshape(-1), tensor[None], tensor.mT if tensor.ndim > 1 else tensor, tensor.reshape(-1)[:0],
            tensor.new_zeros(()), tensor.new_ones(1, 1), tensor.new_zeros(0, 16), tensor.new_ones(70_000),
            torch.cat([tensor[None], tensor[None]])[0] if tensor.ndim < 1 else torch.cat([tensor, tensor]),
            tensor if tensor.ndim < 1 else tensor[:1], tensor if tensor.ndim < 1 else tensor[..., :-1],
        ]  # fmt: skip
        tensors[name] = chance.choice(shapes).clone()


def dtype(tensors: Tensors, _: dict[str, str], chance: random.Random) -> None:
    """Write numbers of another kind."""
    if tensors:
        name = chance.choice(sorted(tensors))
        kind = chance.choice(TYPES)
        if not tensors[name].is_complex():  # which have no other kind
            tensors[name] = tensors[name].to(kind)


def names(tensors: Tensors, _: dict[str, str], chance: random.Random) -> None:
    """Leave a tensor out, add one, or call it otherwise."""
    if tensors:
        name = chance.choice(sorted(tensors))
        tensor = tensors[name] if chance.random() < 0.5 else tensors.pop(name)
        if chance.random() < 0.7:
            tensors[chance.choice(KEYS).encode(errors="replace").decode()] = tensor.clone()


def facts(_: Tensors, metadata: dict[str, str], chance: random.Random) -> None:
    """Say something else in the metadata."""
    key = chance.choice([*metadata, "format", "names", "model", "other"])
    said = metadata.get(key, "")
    found = [
        *NASTY,
        *map(json.dumps, NUMBERS),
        json.dumps(["x"] * 24),
        json.dumps(["\ud800"] * 24),
        said[:-1],
        said * 2,
    ]
    found += [
        "../../etc/passwd", "<ada>", "<" + "a" * 99 + ">", "[[1,2],[3]]", "[NaN]", "celeb-basis identity 1",
        "9" * 5000,
    ]  # fmt: skip
    if chance.random() < 0.2:
        metadata.pop(key, None)
    else:
        metadata[key] = chance.choice(found).encode(errors="replace").decode()


def attack(file: Path, use: Callable[[Path], Any], times: int, seed: str, folder: Path) -> Tally:
    """Read and use so many files that hold something else."""
    return attack_file(file, use, times, f"tensors {seed}", folder, [change, change, change, numbers, header])

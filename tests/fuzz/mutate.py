"""Damage: seeded mutations of files, from a flipped bit to a header that lies."""

from __future__ import annotations

import json
import random
import struct
from collections.abc import Callable

NASTY = ["", "\x1b[2J\x1b]0;owned\x07", "\u202eevil", "0" * 50_000]
NASTY += ["[" * 5_000, "nan", "1e999", "-1", "null", "\ud7ff", "a\0b"]
NUMBERS = [0, -1, 1, 2**31, 2**53, 2**63, 2**64, 10**30, 1e308, None, "x", [], {}, True]
FLOATS = [float("nan"), float("inf"), -float("inf"), 3e38, 1e30, 1e4, 0.0, 1e-45]


def flip(data: bytes, chance: random.Random) -> bytes:
    """One to sixteen bits."""
    changed = bytearray(data)
    for _ in range(2 ** chance.randrange(5)):
        changed[chance.randrange(len(changed))] ^= 1 << chance.randrange(8)
    return bytes(changed)


def flip_early(data: bytes, chance: random.Random) -> bytes:
    """Bits of the first bytes, where headers are."""
    return flip(data[:512], chance) + data[512:]


def cut(data: bytes, chance: random.Random) -> bytes:
    """The end is missing."""
    return data[: chance.randrange(len(data))]


def grow(data: bytes, chance: random.Random) -> bytes:
    """Bytes too many, at the end or in the middle."""
    at = chance.choice([len(data), chance.randrange(len(data))])
    return data[:at] + chance.randbytes(2 ** chance.randrange(12)) + data[at:]


def blank(data: bytes, chance: random.Random) -> bytes:
    """A stretch of zeros or ones."""
    at, length = chance.randrange(len(data)), 2 ** chance.randrange(14)
    return data[:at] + chance.choice([b"\0", b"\xff"]) * min(length, len(data) - at) + data[at + length :]


def noise(data: bytes, chance: random.Random) -> bytes:
    """Nothing but noise, perhaps after the right beginning."""
    return data[: chance.choice([0, 8, 64])] + chance.randbytes(chance.randrange(1, 4096))


def numbers(data: bytes, chance: random.Random) -> bytes:
    """Float32 values of a tensor file that mean nothing, and a header without the digest that would tell."""
    header, body = parts(data)
    header.get("__metadata__", {}).pop("sha256", None)
    body = bytearray(body)
    for _ in range(chance.choice([1, 3, 1000])):
        at = 4 * chance.randrange(len(body) // 4)
        body[at : at + 4] = struct.pack("<f", chance.choice(FLOATS))
    return whole(header, bytes(body))


def header(data: bytes, chance: random.Random) -> bytes:
    """A header that says something else, without the digest that would tell."""
    described, body = parts(data)
    metadata = described.get("__metadata__", {})
    metadata.pop("sha256", None)
    name = chance.choice([key for key in described if key != "__metadata__"])
    what = chance.randrange(8)
    if what == 0 and metadata:
        metadata[chance.choice(list(metadata))] = chance.choice(NASTY)
    elif what == 1 and metadata:
        key = chance.choice(list(metadata))
        metadata[key] = json.dumps(chance.choice(NUMBERS))
    elif what == 2 and metadata:
        del metadata[chance.choice(list(metadata))]
    elif what == 3:
        described[name]["dtype"] = chance.choice(["F64", "F16", "BF16", "I64", "BOOL", "C64", "F8_E4M3", "U8", "X"])
    elif what == 4:
        described[name]["shape"] = [chance.choice(NUMBERS) for _ in range(chance.randrange(4))]
    elif what == 5:
        described[name]["data_offsets"] = [chance.choice(NUMBERS), chance.choice(NUMBERS)]
    elif what == 6:
        described[chance.choice(NASTY[:4])] = described.pop(name)
    else:
        described["__metadata__"] = chance.choice(NUMBERS)
    return whole(described, body)


def parts(data: bytes) -> tuple[dict, bytes]:
    """Header and tensors of a safetensors file."""
    size = int.from_bytes(data[:8], "little")
    return json.loads(data[8 : 8 + size]), data[8 + size :]


def whole(described: dict, body: bytes) -> bytes:
    """A safetensors file of any header."""
    text = json.dumps(described).encode()
    return len(text).to_bytes(8, "little") + text + body


Mutation = Callable[[bytes, random.Random], bytes]
ANY: list[Mutation] = [flip, flip_early, cut, grow, blank, noise]
TENSORS: list[Mutation] = [*ANY, numbers, numbers, header, header, header]

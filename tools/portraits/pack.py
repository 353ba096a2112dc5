"""Packs a folder of portraits into one file of heads to train on; it stays on the machine and never ships."""

from __future__ import annotations

import csv
import io
import zipfile
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from tqdm import tqdm

from celeb_basis.miniature.portraits.heads import Heads
from celeb_basis.miniature.portraits.people import ranks

from . import cutting

FILE = "heads.safetensors"
SMILING = 0.075
"""Teeth that show, or corners of the mouth so high: a smile."""


def rows(portraits: Path) -> list[dict[str, str]]:
    """Return the table of the portraits, a row a picture."""
    with (portraits / "portraits.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def ranked(table: list[dict[str, str]]) -> dict[int, int]:
    """Return the rank of fame of every person to train on, by the person's number."""
    return ranks({int(row["person"]) for row in table if row["role"] == "celebrity"})


def genders(table: list[dict[str, str]]) -> list[str]:
    """Return what is recorded of each celebrity, the most famous first: m, f, or nothing."""
    rank = ranked(table)
    found = {rank[int(row["person"])]: row["gender"] for row in table if row["role"] == "celebrity"}
    return [found[i] for i in range(len(found))]


def run(folder: Path, *, portraits: Path, device: str) -> None:
    """Cut all heads out, once."""
    if (folder / FILE).exists():
        return
    table = rows(portraits)
    rank = ranked(table)
    columns: dict[str, list[np.ndarray]] = {}
    with ProcessPoolExecutor(mp_context=get_context("spawn")) as processes:
        cut = processes.map(partial(_cut, portraits), table, chunksize=16)
        for row, values in zip(table, tqdm(cut, "heads", total=len(table), mininterval=10), strict=True):
            values |= {"person": int(row["person"]), "celebrity": rank.get(int(row["person"]), -1)}
            for key, value in values.items():
                columns.setdefault(key, []).append(np.asarray(value))
    packed = {key: torch.from_numpy(np.stack(value)) for key, value in columns.items()}
    packed = {
        key: (value.float() if value.dtype == torch.float64 else value).contiguous() for key, value in packed.items()
    }
    temporary = folder / "heads.part"
    save_file(packed, temporary)
    temporary.replace(folder / FILE)


def load(folder: Path) -> Heads:
    """Return the heads of a training folder."""
    return Heads(**load_file(folder / FILE))


def _cut(portraits: Path, row: dict[str, str]) -> dict[str, Any]:
    """Cut one head out."""
    cv2.setNumThreads(1)
    name = f"{int(row['person']):04d}_{row['picture']}"
    portrait = np.asarray(opened(portraits / "portraits-cutouts.zip", f"{name}.webp", "RGBA"))
    head, front = cutting.masks(portrait, float(row["chin"]))
    smiling = float(row["mouth_gap"]) > SMILING or float(row["mouth_corners"]) > SMILING
    crop = np.asarray(opened(portraits / "portraits-crops.zip", f"{name}.jpg")).transpose(2, 0, 1)
    return {
        "rgb": portrait[..., :3].transpose(2, 0, 1), "whole": portrait[..., 3], "head": head, "front": front,
        "crops": crop, "skin": cutting.skin(portrait), "breadth": cutting.breadth(portrait), "smiling": smiling,
        "yaw": float(row["yaw"]),
    }  # fmt: skip


def opened(archive: Path, name: str, mode: str = "RGB") -> Image.Image:
    """Return a picture of an archive."""
    with zipfile.ZipFile(archive) as files:
        return Image.open(io.BytesIO(files.read(name))).convert(mode)

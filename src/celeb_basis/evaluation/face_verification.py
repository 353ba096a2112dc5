"""How well a face reader tells people apart, measured on somebody's own photographs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from ..errors import PhotoError
from ..faces.face import FaceReader
from ..faces.photo import open_photo, photos_in
from ..limits import MAX_COUNT
from .scores import interval


def people_in(folder: Path) -> dict[str, list[Path]]:
    """Return the photographs of a folder by person: a folder for each, or files called PERSON__ANYTHING.jpg.

    Raises PhotoError where there is no photograph.
    """
    people: dict[str, list[Path]] = {}
    for path in photos_in(folder, MAX_COUNT):
        name, separator, _ = path.stem.partition("__")
        people.setdefault(name if separator else path.parent.name, []).append(path)
    return people


def measure_reader(
    reader: FaceReader,
    people: Mapping[str, Sequence[Path]],
    progress: Callable[[int, int, str], None] | None = None,
) -> dict[str, Any]:
    """Compare photographs of one person and of two, the largest face of each; return cosines and the equal error rate.

    Raises PhotoError where there are no two photographs of anybody, or no two people.
    """
    if len(people) < 2 or not any(len(paths) > 1 for paths in people.values()):
        raise PhotoError("a reader is checked on two people or more, of whom one has two photos: add some")
    photos = [(name, path) for name, paths in people.items() for path in paths]
    seen: list[tuple[str, Tensor]] = []
    nobody: list[Path] = []
    several: list[Path] = []
    for i, (name, path) in enumerate(photos):
        if progress:
            progress(i, len(photos), "reading")
        [faces] = reader.read([open_photo(path)])
        if faces:
            seen.append((name, faces[0].feature))
        else:
            nobody.append(path)
        if len(faces) > 1:
            several.append(path)
    pairs = [(a == b, float(f @ g)) for (a, f), (b, g) in combinations(seen, 2)]
    same, different = (np.array([cosine for alike, cosine in pairs if alike == wanted]) for wanted in (True, False))
    if not len(same) or not len(different):
        raise PhotoError("no two photos of one person, or of two people, have a face that was found: add some")
    rate, threshold = equal_error_rate(same, different)
    return {
        "face_reader": reader.name,
        "people": len(people),
        "photos": len(photos),
        "without_a_face": [str(path) for path in nobody],
        "with_several_faces": [str(path) for path in several],
        "same_person": _spread(same),
        "different_people": _spread(different),
        "equal_error_rate": rate,
        "threshold": threshold,
    }


def equal_error_rate(same: NDArray[np.float64], different: NDArray[np.float64]) -> tuple[float, float]:
    """Return the rate at which pairs of one person are missed as often as others are confused, and its cosine.

    same, different: cosines (n,) and (m,). Where the rates cross between two cosines, their mean at the nearest one.
    """
    thresholds = np.unique(np.concatenate([same, different, [np.inf]]))
    missed = np.array([(same < t).mean() for t in thresholds])
    confused = np.array([(different >= t).mean() for t in thresholds])
    nearest = int(np.argmin(np.abs(missed - confused)))
    below = thresholds[max(nearest - 1, 0)]
    at = float((below + thresholds[nearest]) / 2) if np.isfinite(thresholds[nearest]) else float(below)
    return float((missed[nearest] + confused[nearest]) / 2), at


def _spread(cosines: NDArray[np.float64]) -> dict[str, Any]:
    low, high = interval(cosines)
    return {
        "pairs": len(cosines),
        "cosine": {"mean": float(cosines.mean()), "interval": (low, high)},
        "least": float(cosines.min()),
        "median": float(np.median(cosines)),
        "largest": float(cosines.max()),
    }

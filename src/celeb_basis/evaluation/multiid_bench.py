"""Folders in which other people's benchmarks keep their pictures: MultiID-Bench's layout."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..errors import PhotoError
from ..faces.face import find_face
from ..faces.photo import open_photo
from ..io import read_text
from .judge import Judge
from .scores import estimate, prompt_scores

EPSILON = 1e-6


@dataclass(frozen=True)
class Sample:
    """One folder: out.jpg is what a model drew of the people in ref_1.jpg to ref_4.jpg, ori.jpg a true picture of them.

    prompt: from meta.json.
    """

    folder: Path
    prompt: str
    references: tuple[Path, ...]

    @classmethod
    def read(cls, folder: Path) -> Sample:
        """Read a sample. Raises PhotoError where a file is missing or meta.json holds no prompt."""
        try:
            prompt = json.loads(read_text(folder / "meta.json", PhotoError))["prompt"]
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise PhotoError(f'{folder / "meta.json"} must be a file like {{"prompt": "..."}} ({error})') from None
        references = tuple(path for i in range(1, 5) if (path := _file(folder, f"ref_{i}")))
        if not references or _file(folder, "out") is None:
            raise PhotoError(f"{folder} must hold out.jpg and ref_1.jpg: that is the layout of MultiID-Bench")
        return cls(folder, str(prompt), references)

    def picture(self, name: str) -> Image.Image | None:
        """Return the picture `out` or `ori`, if it is there."""
        path = _file(self.folder, name)
        return open_photo(path) if path else None


def samples_in(folder: Path) -> list[Sample]:
    """Return the samples of a folder, by name. Raises PhotoError where there are none."""
    folders = sorted(path.parent for path in folder.glob("*/meta.json"))
    if not folders:
        raise PhotoError(f"{folder} holds no folders with out.jpg, ref_1.jpg and meta.json: no MultiID-Bench layout")
    return [Sample.read(each) for each in folders]


def evaluate_samples(
    folder: Path, judge: Judge, progress: Callable[[int, int, str], None] | None = None
) -> dict[str, Any]:
    """Score pictures that lie in MultiID-Bench's layout, whichever program drew them.

    sim_ref, sim_gt: cosine of each person with the face in the picture that is most alike, each face taken once, by
    the reference and by the true picture. copy_paste: how much nearer, as an angle, the picture is to the reference
    than to the true picture, in the angle between the two; 1 is a copy. Source: Xu et al., "WithAnyone" (2025).
    """
    rows: dict[str, list[float]] = {"sim_ref": [], "sim_gt": [], "copy_paste": [], "prompt": [], "detection": []}
    samples = samples_in(folder)
    for done, sample in enumerate(samples):
        if progress:
            progress(done, len(samples), "measuring")
        drawn, true = sample.picture("out"), sample.picture("ori")
        assert drawn is not None
        references = [
            find_face(open_photo(path), judge.reader, largest_face=True).feature for path in sample.references
        ]
        faces = [face.feature for face in judge.reader.read([drawn])[0]]
        rows["detection"].append(float(len(faces) == len(references)))
        rows["prompt"] += prompt_scores([drawn], [sample.prompt], judge).tolist()
        mine = pairs(references, faces)
        theirs = pairs(references, [face.feature for face in judge.reader.read([true])[0]]) if true else {}
        rows["sim_ref"] += [float(mine[i] @ ref) if i in mine else 0.0 for i, ref in enumerate(references)]
        for i in theirs:
            rows["sim_gt"].append(float(mine[i] @ theirs[i]) if i in mine else 0.0)
            if i in mine:
                rows["copy_paste"].append(copy_paste(mine[i], theirs[i], references[i]))
    means = {key: estimate(np.array(values)) for key, values in rows.items() if values and not np.isnan(values).any()}
    return means | {"samples": len(samples), "judge": judge.reader.name, "prompt_measure": judge.measure}


def pairs(people: Sequence[Tensor], faces: Sequence[Tensor]) -> dict[int, Tensor]:
    """Assign faces (d,) to people, by number, so that the sum of the cosines is largest.

    people: four at most; of the faces, the eight that are most like any of them are looked at.
    """
    if not faces:
        return {}
    cosines = torch.stack(list(people)) @ torch.stack(list(faces)).T
    looked_at = cosines.amax(0).argsort(descending=True)[:8].tolist()
    seats = looked_at + [None] * max(0, len(people) - len(looked_at))
    best = max(permutations(seats, len(people)), key=lambda order: _sum(cosines, order))
    return {i: faces[j] for i, j in enumerate(best) if j is not None}


def _sum(cosines: Tensor, order: Sequence[int | None]) -> float:
    return sum(float(cosines[i, j]) for i, j in enumerate(order) if j is not None)


def copy_paste(drawn: Tensor, true: Tensor, reference: Tensor) -> float:
    """Return how much nearer an image is to the reference than to the truth, by angle, from -1 to 1."""

    def angle(a: Tensor, b: Tensor) -> float:
        return float((a @ b).clamp(-1, 1).arccos())

    return (angle(drawn, true) - angle(drawn, reference)) / max(angle(true, reference), EPSILON)


def _file(folder: Path, stem: str) -> Path | None:
    return next((path for end in ("jpg", "png", "jpeg") if (path := folder / f"{stem}.{end}").is_file()), None)

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
# Of Xu et al. (2025).
PUBLISHED = {
    "one person": {
        "InstantID": {"sim_gt": 0.464, "copy_paste": 0.337},
        "PuLID-FLUX": {"sim_gt": 0.452, "copy_paste": 0.315},
        "DreamO": {"sim_gt": 0.454, "copy_paste": 0.303},
        "UMO": {"sim_gt": 0.458, "copy_paste": 0.359},
        "WithAnyone": {"sim_gt": 0.460, "copy_paste": 0.144},
        "a second photograph": {"sim_gt": 0.521},
    },
    "two people": {
        "DreamO": {"sim_gt": 0.359, "blending": 0.105},
        "UMO": {"sim_gt": 0.328, "blending": 0.111},
        "WithAnyone": {"sim_gt": 0.405, "blending": 0.079},
        "GPT-4o": {"sim_gt": 0.332, "blending": 0.092},
    },
}
DIFFERS = (
    "their recognisers are ArcFace, AdaFace and FaceNet, on pictures with a black margin",
    "they leave out samples whose picture has another number of faces than the true one; here a missing face has a "
    "cosine of 0, and no part in copy_paste and blending",
)


@dataclass(frozen=True)
class Sample:
    """One folder: out.jpg is what a model drew of the people in ref_1.jpg to ref_4.jpg, ori.jpg a true picture of them.

    prompt, names: from meta.json; the names of the people, if they are there.
    """

    folder: Path
    prompt: str
    references: tuple[Path, ...]
    names: tuple[str, ...] = ()

    @classmethod
    def read(cls, folder: Path) -> Sample:
        """Read a sample. Raises PhotoError where a file is missing or meta.json holds no prompt."""
        try:
            meta = json.loads(read_text(folder / "meta.json", PhotoError))
            prompt, names = meta["prompt"], meta.get("name") or ()
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise PhotoError(f'{folder / "meta.json"} must be a file like {{"prompt": "..."}} ({error})') from None
        references = tuple(path for i in range(1, 5) if (path := _file(folder, f"ref_{i}")))
        if not references or _file(folder, "out") is None:
            raise PhotoError(f"{folder} must hold out.jpg and ref_1.jpg: that is the layout of MultiID-Bench")
        names = (names,) if isinstance(names, str) else names if isinstance(names, list) else ()
        return cls(folder, str(prompt), references, tuple(map(str, names)))

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
    folder: Path,
    judge: Judge,
    progress: Callable[[int, int, str], None] | None = None,
    *,
    celebrities: Sequence[str] = (),
) -> dict[str, Any]:
    """Score pictures that lie in MultiID-Bench's layout, whichever program drew them.

    sim_ref, sim_gt: cosine of each person with the face in the picture that is most alike, each face taken once, by
    the reference and by the true picture. copy_paste: how much nearer, as an angle, the picture is to the reference
    than to the true picture, in the angle between the two; 1 is a copy. blending: of several people, the cosine of the
    face in one person's place with the others' in the true picture. Source: Xu et al., "WithAnyone" (2025).

    celebrities: whom the model knows by name; samples of them are left out, and the report names them.

    Raises PhotoError where there are no samples, or only of celebrities.
    """
    rows: dict[str, list[float]] = {
        key: [] for key in ("sim_ref", "sim_gt", "copy_paste", "blending", "prompt", "detection")
    }
    known = {name.casefold() for name in celebrities}
    everything = samples_in(folder)
    samples = [each for each in everything if not known & {name.casefold() for name in each.names}]
    left_out = {name for each in everything for name in each.names if name.casefold() in known}
    if not samples:
        raise PhotoError(f"all samples of {folder} show people of the basis: measure people whom it does not name")
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
                rows["blending"] += [float(mine[i] @ other) for j, other in theirs.items() if j != i]
    means = {key: estimate(np.array(values)) for key, values in rows.items() if values and not np.isnan(values).any()}
    return means | {
        "samples": len(samples),
        "left_out": sorted(left_out),
        "judge": judge.reader.name,
        "prompt_measure": judge.measure,
        "published": PUBLISHED,
        "published_by": 'Xu et al. (2025), "WithAnyone"',
        "published_differs": list(DIFFERS),
    }


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

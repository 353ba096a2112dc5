"""Photographs of people for the tests: two come with packages, three are in tests/photos."""

from functools import cache
from pathlib import Path

import matplotlib
import numpy as np
import pytest
import skimage.data
from PIL import Image

from celeb_basis.faces.photo import open_photo

PHOTOS = Path(__file__).parent / "photos"  # their README.md has sources and licences
MORE = Path(__file__).parents[2] / "shared" / "photos"  # other photographs of the same people, not in the repository
years_apart = pytest.mark.skipif(not MORE.is_dir(), reason=f"no second photographs of the same people in {MORE}")
ALWAYS = ("astronaut", "hopper")
EVERYBODY = (*ALWAYS, *sorted(path.stem for path in PHOTOS.glob("*.jpg")))

# Marked by hand: the eye on the picture's left, the other, nose, mouth corners.
LANDMARKS = {
    "astronaut": np.array([(203.7, 101), (246.8, 103.3), (224.5, 127.5), (205, 140.8), (243.7, 142)]),
    "hopper": np.array([(223.7, 189.5), (305, 186.7), (267.5, 242.5), (230.5, 279.5), (306.2, 278)]),
}


@cache
def photograph(name):
    """Return a photograph: "astronaut" is Eileen Collins, "hopper" Grace Hopper, others are called PERSON__WHAT."""
    if name == "astronaut":
        return Image.fromarray(skimage.data.astronaut())
    if name == "hopper":
        return open_photo(Path(matplotlib.get_data_path()) / "sample_data" / "grace_hopper.jpg")
    path = PHOTOS / f"{name}.jpg"
    if not path.exists():
        [path] = MORE.rglob(f"{name}.jpg")
    return open_photo(path)


def more():
    """Return the names of all photographs, with those outside the repository."""
    return sorted({*EVERYBODY, *(path.stem for path in MORE.rglob("*.jpg"))})

"""Photographs of people that tests may look at: two that packages bring, more where they lie beside the project."""

from functools import cache
from pathlib import Path

import matplotlib
import numpy as np
import pytest
import skimage.data
from PIL import Image

from celeb_basis.faces.photo import open_photo

BESIDE = Path(__file__).parents[2] / "shared" / "photos"  # with credits.md; not part of the project
needs_photos = pytest.mark.skipif(not BESIDE.is_dir(), reason=f"no photographs of known licence in {BESIDE}")
ALWAYS = ("astronaut", "hopper")

# Marked by hand: the eye on the picture's left, the other, nose, mouth corners.
LANDMARKS = {
    "astronaut": np.array([(203.7, 101), (246.8, 103.3), (224.5, 127.5), (205, 140.8), (243.7, 142)]),
    "hopper": np.array([(223.7, 189.5), (305, 186.7), (267.5, 242.5), (230.5, 279.5), (306.2, 278)]),
}


@cache
def photograph(name):
    """ "astronaut" is Eileen Collins, by NASA; "hopper" Grace Hopper, by James S. Davis; others are PERSON__WHAT."""
    if name == "astronaut":
        return Image.fromarray(skimage.data.astronaut())
    if name == "hopper":
        return open_photo(Path(matplotlib.get_data_path()) / "sample_data" / "grace_hopper.jpg")
    [path] = BESIDE.rglob(f"{name}.jpg")
    return open_photo(path)


def beside():
    """The names of the photographs beside the project."""
    return sorted(path.stem for path in BESIDE.rglob("*.jpg"))

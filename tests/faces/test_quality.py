"""What makes a photograph of a face a bad one is seen, and a good one is left in peace."""

import numpy as np
import pytest
from photographs import ALWAYS, EVERYBODY, photograph
from PIL import Image, ImageFilter

from celeb_basis.faces.align import TEMPLATE
from celeb_basis.faces.detect import Detection, Detector
from celeb_basis.faces.quality import quality_of


def quality(photo):
    return quality_of(photo, Detector().find(photo)[0])


@pytest.mark.parametrize("name", ALWAYS)
def test_a_good_photograph_has_no_flaws(name):
    assert quality(photograph(name)).flaws == [] and quality(photograph(name)).weight == pytest.approx(1, abs=0.01)


def test_portraits_have_no_flaws():
    for name in EVERYBODY:
        assert quality(photograph(name)).flaws == [], name


@pytest.mark.parametrize("name", ALWAYS)
def test_flaws_are_named(name):
    photo = photograph(name)
    [face] = Detector().find(photo)
    height = face.box[3] - face.box[1]
    worse = {
        "blurred": photo.filter(ImageFilter.GaussianBlur(float(0.025 * height))),
        "small": photo.resize(
            (round(photo.width * 30 / height), round(photo.height * 30 / height)), Image.Resampling.LANCZOS
        ),
        "cut off": photo.crop((round(face.landmarks[0][0]) + 3, 0, photo.width, photo.height)),
    }
    for flaw, picture in worse.items():
        seen = quality(picture)
        assert any(flaw in said for said in seen.flaws), flaw
        assert seen.weight < 0.9 * quality(photo).weight


def test_white_faces_are_over_exposed():
    pixels = (np.asarray(photograph("hopper")).astype(float) * 3).clip(0, 255).astype(np.uint8)
    assert any("over-exposed" in said for said in quality(Image.fromarray(pixels)).flaws)


def test_a_nose_far_to_the_side_is_a_turned_head():
    """A made-up face whose nose lies where that of a head turned by a right angle's half lies."""
    landmarks = TEMPLATE * 3 + 100
    box = np.array([100, 100, 400, 450])
    photo = Image.new("RGB", (600, 600), (128, 128, 128))
    straight = quality_of(photo, Detection(box, landmarks, 0.9))
    landmarks = landmarks.copy()
    landmarks[2, 0] += 0.6 * (landmarks[1, 0] - landmarks[0, 0])
    aside = quality_of(photo, Detection(box, landmarks, 0.9))
    assert straight.turn < 0.05 and aside.turn == pytest.approx(0.6, abs=0.05)
    assert any("turned" in said for said in aside.flaws) and aside.weight < straight.weight

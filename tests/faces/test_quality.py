"""What makes a photograph of a face a bad one is seen, and a good one is left in peace."""

import numpy as np
import pytest
from photographs import ALWAYS, EVERYBODY, photograph
from PIL import Image, ImageDraw, ImageFilter

from celeb_basis.faces.align import TEMPLATE
from celeb_basis.faces.detect import Detection, Detector
from celeb_basis.faces.photo import open_photo
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


def covered(photo, width, height, colour):
    """The photograph with a rectangle over each eye, in distances of the eyes."""
    [face] = Detector().find(photo)
    left, right = face.landmarks[:2]
    between = float(np.hypot(*(right - left)))
    hidden = photo.copy()
    for x, y in (left, right):
        box = (x - width * between, y - height * between, x + width * between, y + height * between)
        ImageDraw.Draw(hidden).rectangle([float(side) for side in box], fill=colour)
    return hidden


@pytest.mark.parametrize("name", EVERYBODY)
@pytest.mark.parametrize(("width", "height", "colour"), [(0.4, 0.28, (10, 10, 10)), (0.3, 0.2, (255, 255, 255))])
def test_hidden_eyes_are_seen(name, width, height, colour):
    seen = quality(covered(photograph(name), width, height, colour))
    assert any("eyes are hidden" in said for said in seen.flaws) and seen.weight <= 0.5


@pytest.mark.parametrize("name", EVERYBODY)
@pytest.mark.parametrize(("jpeg", "is_said"), [(3, True), (30, False), (90, False)])
def test_heavy_compression_is_seen(name, jpeg, is_said, tmp_path):
    photograph(name).save(tmp_path / "a.jpg", quality=jpeg)
    found = Detector().find(open_photo(tmp_path / "a.jpg"))
    if found:  # little is left of some
        seen = quality_of(open_photo(tmp_path / "a.jpg"), found[0])
        assert any("compressed" in said for said in seen.flaws) == is_said


@pytest.mark.parametrize("name", EVERYBODY)
def test_a_face_in_shadow_has_no_hidden_eyes(name):
    assert quality(photograph(name).point([round(0.35 * v) for v in range(256)] * 3)).flaws == []


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

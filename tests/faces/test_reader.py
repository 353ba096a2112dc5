"""Real photographs read with the true weights: who is found, how upright, and whom a face is like."""

from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import skimage
from photographs import ALWAYS, EVERYBODY, LANDMARKS, more, photograph, years_apart
from PIL import Image, ImageDraw
from skimage.feature import Cascade

from celeb_basis import miniature
from celeb_basis.errors import NoFaceError, SeveralFacesError
from celeb_basis.faces.detect import Detector
from celeb_basis.faces.face import find_face
from celeb_basis.faces.photo import open_photo
from celeb_basis.faces.reader import PhotoReader

GREY = (128, 128, 128)


@pytest.fixture(scope="module")
def reader():
    return PhotoReader()


@pytest.fixture(scope="module")
def dlib():
    return PhotoReader("dlib")


@pytest.fixture(scope="module")
def upright(reader):
    """The face of each photograph as it is."""
    return {name: find_face(photograph(name), reader) for name in ALWAYS}


def turned(photo, degrees):
    return photo.rotate(degrees, Image.Resampling.BICUBIC, expand=True, fillcolor=GREY)


def faces_seen(picture):
    """(left, top, width) of the faces that an LBP cascade sees, which is quite another finder."""
    found = Cascade(skimage.data.lbp_frontal_face_cascade_filename()).detect_multi_scale(
        np.asarray(picture), scale_factor=1.1, step_ratio=1, min_size=(150, 150), max_size=(400, 400)
    )
    return [(box["c"], box["r"], box["width"]) for box in found]


def test_the_default_reader_says_what_it_is(reader):
    assert reader.name == "sface-2021dec-int8bq"
    assert find_face(photograph("hopper"), reader).feature.shape == (128,)


@pytest.mark.parametrize("name", ALWAYS)
def test_landmarks_are_where_a_person_marked_them(name):
    [found] = Detector().find(photograph(name))
    between_eyes = np.hypot(*(LANDMARKS[name][1] - LANDMARKS[name][0]))
    assert np.abs(found.landmarks - LANDMARKS[name]).max() < 0.2 * between_eyes


@pytest.mark.parametrize("name", ALWAYS)
def test_the_crop_shows_an_upright_face_in_its_middle(name, reader):
    for degrees in (0, 25, 90):
        face = find_face(turned(photograph(name), degrees), reader)
        assert face.crop.size == (512, 512)
        [(left, top, width)] = faces_seen(face.crop)
        assert left + width / 2 == pytest.approx(256, abs=35) and top + width / 2 == pytest.approx(270, abs=45)
        assert 0.35 < width / 512 < 0.75


@pytest.mark.parametrize("name", ALWAYS)
@pytest.mark.parametrize("degrees", [-35, -20, 15, 30, 45, 90, 180, 225, 270])
def test_a_turned_photograph_is_the_same_person(name, degrees, reader, upright):
    """Turned heads as much as phone pictures that lie on their side and do not say so."""
    face = find_face(turned(photograph(name), degrees), reader)
    assert float(face.feature @ upright[name].feature) > 0.9


@pytest.mark.parametrize("name", ALWAYS)
def test_the_box_of_a_turned_photograph_lies_on_the_face(name, reader, upright):
    photo = photograph(name)
    left, top, right, bottom = find_face(turned(photo, 90), reader).box
    # A quarter turn against the clock: what was at (x, y) is at (y, width - x).
    expected = (upright[name].box[1], photo.width - upright[name].box[2])
    side = upright[name].box[3] - upright[name].box[1]
    assert (left, top) == pytest.approx(expected, abs=0.15 * side)
    assert (right - left, bottom - top) == pytest.approx((side, upright[name].box[2] - upright[name].box[0]), rel=0.2)


@pytest.mark.parametrize("name", ALWAYS)
def test_a_mirrored_photograph_is_the_same_person(name, reader, upright):
    face = find_face(photograph(name).transpose(Image.Transpose.FLIP_LEFT_RIGHT), reader)
    assert float(face.feature @ upright[name].feature) > 0.85


@pytest.mark.parametrize("name", ALWAYS)
@pytest.mark.parametrize(("height", "alike"), [(100, 0.93), (60, 0.88), (42, 0.75), (24, 0.45)])
def test_a_small_face_is_found_in_a_large_picture(name, height, alike, reader, upright):
    box = upright[name].box
    scale = height / (box[3] - box[1])
    photo = photograph(name)
    small = photo.resize((round(photo.width * scale), round(photo.height * scale)), Image.Resampling.LANCZOS)
    wall = Image.new("RGB", (1200, 900), (110, 120, 100))
    wall.paste(small, (300, 200))
    face = find_face(wall, reader)
    assert float(face.feature @ upright[name].feature) > alike
    assert ("small" in " ".join(face.flaws)) == (height < 40)


def on_a_wall(width, height, face, places):
    """A large picture with the astronaut's face, so many pixels tall, at each of the places."""
    photo = photograph("astronaut")
    small = photo.resize([round(photo.width * face / 113)] * 2, Image.Resampling.LANCZOS)
    wall = Image.new("RGB", (width, height), (150, 160, 170))
    for place in places:
        wall.paste(small, place)
    return wall


@pytest.mark.parametrize(
    ("width", "height", "face"),
    [(2048, 1536, 32), (2048, 1536, 48), (4032, 3024, 80), (12_000, 900, 180)],
    ids=["32 in 2048", "48 in 2048", "80 in 12 megapixels", "180 in a panorama"],
)
def test_a_small_face_is_found_in_a_large_file(width, height, face, reader, upright, tmp_path):
    on_a_wall(width, height, face, [(width // 2, height // 4)]).save(tmp_path / "large.jpg", quality=95)
    found = find_face(open_photo(tmp_path / "large.jpg"), reader)
    assert float(found.feature @ upright["astronaut"].feature) > (0.9 if face > 48 else 0.6)


def test_faces_at_the_edges_of_tiles_are_found_once():
    places = [(x, 300 + 40 * (i % 2)) for i, x in enumerate(range(100, 3000, 320))]
    assert len(Detector().find(on_a_wall(3344, 1000, 50, places))) == len(places)


def test_a_close_up_is_found_once(reader, upright):
    left, top, right, bottom = upright["hopper"].box
    close = photograph("hopper").crop((round(left) - 20, round(top) - 20, round(right) + 20, round(bottom) + 20))
    face = find_face(close.resize((1600, round(1600 * close.height / close.width)), Image.Resampling.BICUBIC), reader)
    assert float(face.feature @ upright["hopper"].feature) > 0.85


@pytest.mark.parametrize("name", ALWAYS)
@pytest.mark.parametrize("gain", [0.15, 1.5])
def test_too_dark_and_too_bright(name, gain, reader, upright):
    pixels = (np.asarray(photograph(name)).astype(float) * gain).clip(0, 255).astype(np.uint8)
    assert float(find_face(Image.fromarray(pixels), reader).feature @ upright[name].feature) > 0.6


def test_different_people_are_unlike(upright, dlib):
    assert float(upright["astronaut"].feature @ upright["hopper"].feature) < 0.363


def group():
    """The two of them side by side."""
    astronaut, hopper = photograph("astronaut"), photograph("hopper")
    picture = Image.new("RGB", (1024, 600), GREY)
    picture.paste(astronaut, (0, 0))
    picture.paste(hopper, (512, 0))
    return picture


def test_a_group_is_said_and_the_largest_face_taken_when_asked(reader, upright):
    with pytest.raises(SeveralFacesError, match="2 faces found"):
        find_face(group(), reader)
    assert len(reader.read([group()])[0]) == 2
    face = find_face(group(), reader, largest_face=True)
    assert float(face.feature @ upright["hopper"].feature) > 0.95


def drawing():
    picture = Image.new("RGB", (400, 400), "white")
    pen = ImageDraw.Draw(picture)
    pen.ellipse((80, 60, 320, 340), outline="black", width=4)
    for x in (150, 250):
        pen.ellipse((x - 12, 150, x + 12, 174), fill="black")
    pen.arc((150, 200, 250, 290), 20, 160, fill="black", width=4)
    return picture


@pytest.mark.parametrize("name", ["chelsea.png", "horse.png", "coffee.png", "rocket.jpg", "brick.png", "text.png"])
def test_animals_and_things_are_nobody(name, reader):
    photo = Image.open(Path(skimage.data.__file__).parent / name).convert("RGB")
    with pytest.raises(NoFaceError, match="no face found"):
        find_face(photo, reader)


def test_a_drawn_smile_is_nobody(reader):
    assert reader.read([drawing()]) == [[]]


def test_a_huge_photograph(reader, upright, tmp_path):
    photograph("hopper").resize((4096, 4800), Image.Resampling.BICUBIC).save(tmp_path / "huge.jpg")
    face = find_face(open_photo(tmp_path / "huge.jpg"), reader)
    assert float(face.feature @ upright["hopper"].feature) > 0.95


def test_a_phone_picture_on_its_side(reader, upright, tmp_path):
    """With the note of how the phone was held it is turned by that; without it by looking."""
    on_its_side = photograph("hopper").transpose(Image.Transpose.ROTATE_90)
    exif = Image.Exif()
    exif[0x0112] = 6
    on_its_side.save(tmp_path / "noted.jpg", exif=exif, quality=95)
    on_its_side.save(tmp_path / "silent.jpg", quality=95)
    noted, silent = (find_face(open_photo(tmp_path / f"{name}.jpg"), reader) for name in ("noted", "silent"))
    assert noted.box == pytest.approx(upright["hopper"].box, abs=5)
    for face in (noted, silent):
        assert float(face.feature @ upright["hopper"].feature) > 0.95


@pytest.mark.parametrize("which", ["reader", "dlib"])
def test_everybody_is_told_apart(which, request):
    reads = request.getfixturevalue(which)
    features = [find_face(photograph(name), reads).feature for name in EVERYBODY]
    assert len(features) == 5 and reads.same_person > max(float(a @ b) for a, b in combinations(features, 2))


@years_apart
@pytest.mark.parametrize("which", ["reader", "dlib"])
def test_one_person_is_more_alike_than_two(which, request):
    reads = request.getfixturevalue(which)
    names = more()
    feature = {name: find_face(photograph(name), reads).feature for name in names}
    same, different = [], []
    for a, b in combinations(names, 2):
        one = a.split("__")[0] == b.split("__")[0]
        (same if one else different).append(float(feature[a] @ feature[b]))
    assert len(same) >= 2 and min(same) > reads.same_person > max(different)
    assert min(same) - max(different) > (0.2 if which == "reader" else 0.03)


@pytest.mark.parametrize("degrees", [20, 90, 180])
def test_everybody_is_found_however_turned(degrees, reader):
    for name in EVERYBODY:
        face, again = (find_face(turned(photograph(name), turn), reader) for turn in (0, degrees))
        assert float(face.feature @ again.feature) > 0.9, name


def test_the_miniatures_people_are_not_photographs(reader):
    """Drawn people are found or not, but none of them is taken for a real one."""
    for faces in reader.read([miniature.person(7)]):
        for face in faces:
            assert abs(float(face.feature @ find_face(photograph("hopper"), reader).feature)) < 0.363

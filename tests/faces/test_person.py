"""Several photographs of one person: whose face counts, who is left out, what is said."""

import pytest
import torch
from photographs import photograph, years_apart
from PIL import Image

from celeb_basis.errors import NoFaceError, PhotoError, SeveralFacesError
from celeb_basis.faces.face import Face, find_person
from celeb_basis.faces.photo import open_photos
from celeb_basis.faces.reader import PhotoReader


@pytest.fixture(scope="module")
def reader():
    return PhotoReader()


def named(name):
    photo = photograph(name).copy()
    photo.info["path"] = f"{name}.jpg"
    return photo


def side_by_side(left, right):
    picture = Image.new("RGB", (left.width + right.width, max(left.height, right.height)), "grey")
    picture.paste(left, (0, 0))
    picture.paste(right, (left.width, 0))
    picture.info["path"] = "group.jpg"
    return picture


def versions(name):
    """Three photographs of one person, as far as one photograph gives them."""
    photo = named(name)
    mirrored = photo.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    smaller = photo.resize((photo.width // 2, photo.height // 2))
    for i, each in enumerate((mirrored, smaller)):
        each.info["path"] = f"{name}-{i}.jpg"
    return [photo, mirrored, smaller]


def test_somebody_else_is_left_out_and_said_so(reader, caplog):
    faces = find_person([*versions("hopper"), named("astronaut")], reader)
    assert len(faces) == 3
    assert caplog.messages == ["astronaut.jpg: looks like somebody else than the other photos; this photo is left out"]


def test_two_people_given_as_one_are_refused_unless_a_mix_is_meant(reader, caplog):
    two = [named("hopper"), named("astronaut")]
    with pytest.raises(PhotoError, match=r"different people.*hopper\.jpg, astronaut\.jpg.*mix") as refused:
        find_person(two, reader)
    assert refused.value.argument == "mixed"
    with pytest.raises(PhotoError, match="different people"):
        find_person([*two, named("hopper"), named("astronaut")], reader)
    assert len(find_person(two, reader, mixed=True)) == 2 and not caplog.messages
    assert len(find_person([*versions("hopper"), named("astronaut")], reader, mixed=True)) == 4


def test_of_a_group_the_face_in_the_other_photos_counts(reader):
    group = side_by_side(photograph("hopper"), photograph("astronaut"))
    for name in ("hopper", "astronaut"):
        alone, in_group = find_person([named(name), group], reader)
        assert float(alone.feature @ in_group.feature) > 0.9


def test_a_group_alone_is_refused(reader):
    group = side_by_side(photograph("hopper"), photograph("astronaut"))
    with pytest.raises(SeveralFacesError, match="2 faces found"):
        find_person([group], reader)
    with pytest.raises(SeveralFacesError):
        find_person([group, group], reader)
    assert len(find_person([group], reader, largest_face=True)) == 1


def test_photos_without_a_face_are_left_out_unless_all_are(reader, caplog):
    wall = Image.new("RGB", (300, 300), "white")
    wall.info["path"] = "wall.jpg"
    assert len(find_person([wall, named("hopper")], reader)) == 1
    assert caplog.messages == ["wall.jpg: no face found; this photo is left out"]
    with pytest.raises(NoFaceError, match=r"wall\.jpg"):
        find_person([wall, wall], reader)


def test_the_best_photo_is_named(reader, caplog):
    tiny = photograph("hopper").resize((512 // 7, 600 // 7), Image.Resampling.LANCZOS)
    tiny.info["path"] = "tiny.jpg"
    tiny_face, good = find_person([tiny, named("hopper")], reader)
    assert tiny_face.weight < 0.5 < good.weight
    assert "tiny.jpg: likeness will suffer, as the face is small" in caplog.messages[0]
    assert caplog.messages[-1] == "the best of these photos is hopper.jpg"


def test_more_photos_than_memory_may_hold_are_refused():
    with pytest.raises(PhotoError, match="101 photos of one person"):
        open_photos(["photo.jpg"] * 101)


@years_apart
def test_photos_years_apart_are_one_person(reader, caplog):
    photos = [named(name) for name in ("ardern__2018", "ardern__2022", "obama__senate")]
    faces = find_person(photos, reader)
    assert len(faces) == 2 and "obama__senate.jpg" in caplog.messages[0]


def test_better_photos_count_more():
    from celeb_basis.fit.methods.method import FitContext

    good, bad = (
        Face(Image.new("RGB", (8, 8)), (0, 0, 8, 8), torch.eye(2)[i], "test", weight=weight)
        for i, weight in enumerate((1.0, 0.25))
    )
    [feature] = FitContext(None, None, [[good, bad]], []).features()
    assert feature.tolist() == pytest.approx([4 / 17**0.5, 1 / 17**0.5])

"""Photographs as people have them, and which face is taken."""

import os
import struct

import numpy as np
import pytest
import torch
from PIL import Image, features

from celeb_basis.errors import NoFaceError, PhotoError, SeveralFacesError
from celeb_basis.faces.align import align_ffhq, inside_photo
from celeb_basis.faces.face import Face, find_face
from celeb_basis.faces.photo import GREY, open_photo
from celeb_basis.limits import MAX_KEPT_PIXELS

AVIF = pytest.mark.skipif(not features.check("avif"), reason="this Pillow reads no AVIF")
RED, BLUE = (220, 30, 30), (30, 30, 220)


def two_halves(width=96, height=64):
    """Red above blue."""
    picture = Image.new("RGB", (width, height), RED)
    picture.paste(BLUE, (0, height // 2, width, height))
    return picture


def colour(photo, x, y):
    """The pixel at a relative place."""
    return np.array(photo.getpixel((int(x * (photo.width - 1)), int(y * (photo.height - 1)))))


def close(pixel, expected, tolerance=30):
    return np.abs(np.asarray(pixel, dtype=int) - expected).max() <= tolerance


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_undone(tmp_path, orientation):
    stored = {  # how a camera held that way stores the upright picture
        1: [],
        2: [Image.Transpose.FLIP_LEFT_RIGHT],
        3: [Image.Transpose.ROTATE_180],
        4: [Image.Transpose.FLIP_TOP_BOTTOM],
        5: [Image.Transpose.TRANSPOSE],
        6: [Image.Transpose.ROTATE_90],
        7: [Image.Transpose.TRANSVERSE],
        8: [Image.Transpose.ROTATE_270],
    }[orientation]
    picture = two_halves()
    picture.paste((30, 220, 30), (0, 0, 20, 20))  # a green corner tells mirrored from rotated
    for turn in stored:
        picture = picture.transpose(turn)
    exif = Image.Exif()
    exif[0x0112] = orientation
    picture.save(tmp_path / "turned.jpg", exif=exif, quality=95)
    photo = open_photo(tmp_path / "turned.jpg")
    assert photo.size == (96, 64)
    assert close(colour(photo, 0.08, 0.1), (30, 220, 30))
    assert close(colour(photo, 0.9, 0.1), RED) and close(colour(photo, 0.5, 0.9), BLUE)


@pytest.mark.parametrize(
    ("name", "mode"),
    [
        ("a.jpg", "RGB"),
        ("a.jpg", "L"),
        ("a.jpg", "CMYK"),
        ("a.png", "RGB"),
        ("a.png", "L"),
        ("a.png", "1"),
        ("a.png", "P"),
        ("a.png", "RGBA"),
        ("a.png", "LA"),
        ("a.webp", "RGB"),
        ("a.tiff", "CMYK"),
        ("a.bmp", "RGB"),
        ("a.gif", "P"),
    ],
)
def test_every_usual_mode_becomes_rgb(tmp_path, name, mode):
    picture = two_halves().convert(mode)
    picture.save(tmp_path / name)
    photo = open_photo(tmp_path / name)
    assert photo.mode == "RGB" and photo.size == (96, 64)
    if mode not in ("L", "LA", "1"):
        assert close(colour(photo, 0.5, 0.1), RED, 60) and close(colour(photo, 0.5, 0.9), BLUE, 60)


def test_sixteen_bit_grey_is_scaled_not_clipped(tmp_path):
    ramp = np.linspace(0, 65535, 64).astype(np.uint16)[None].repeat(48, 0)
    Image.fromarray(ramp).save(tmp_path / "deep.png")
    row = np.asarray(open_photo(tmp_path / "deep.png"))[0, :, 0].astype(int)
    assert row[0] == 0 and row[-1] == 255 and abs(row[32] - 130) < 3


def test_transparency_lies_over_grey(tmp_path):
    picture = two_halves().convert("RGBA")
    picture.putpixel((0, 0), (0, 0, 0, 0))
    picture.save(tmp_path / "cut-out.png")
    assert open_photo(tmp_path / "cut-out.png").getpixel((0, 0)) == GREY
    palette = two_halves().convert("P")
    palette.save(tmp_path / "palette.png", transparency=palette.getpixel((0, 0)))
    assert close(colour(open_photo(tmp_path / "palette.png"), 0.5, 0.1), GREY, 0)


def test_first_frame_of_an_animation(tmp_path):
    frames = [Image.new("RGB", (40, 40), shade) for shade in (RED, BLUE)]
    frames[0].save(tmp_path / "moving.gif", save_all=True, append_images=frames[1:])
    assert close(colour(open_photo(tmp_path / "moving.gif"), 0.5, 0.5), RED)


@pytest.mark.parametrize("name", ["big.jpg", "big.png"])
def test_fifty_megapixels_come_out_small(tmp_path, name):
    two_halves(8660, 5774).save(tmp_path / name)
    photo = open_photo(tmp_path / name)
    assert photo.width * photo.height == pytest.approx(MAX_KEPT_PIXELS, rel=1e-3)
    assert photo.width / photo.height == pytest.approx(8660 / 5774, rel=1e-3)
    assert close(colour(photo, 0.5, 0.1), RED) and close(colour(photo, 0.5, 0.9), BLUE)


def test_private_metadata_stays_behind(tmp_path):
    exif = Image.Exif()
    exif[0x010F] = "a camera"
    two_halves().save(tmp_path / "a.jpg", exif=exif)
    photo = open_photo(tmp_path / "a.jpg")
    assert photo.info == {"path": str(tmp_path / "a.jpg")} and not photo.getexif()


def test_broken_metadata_is_not_the_users_business(tmp_path, recwarn):
    exif = Image.Exif()
    exif[0x010F] = "a camera"
    two_halves().save(tmp_path / "a.jpg", exif=exif)
    content = bytearray((tmp_path / "a.jpg").read_bytes())
    start = content.find(b"Exif\0\0") + 6
    content[start + 8 : start + 10] = b"\xff\xff"  # how many entries there are
    (tmp_path / "a.jpg").write_bytes(content)
    assert open_photo(tmp_path / "a.jpg").size == (96, 64) and not recwarn.list


def truncated(name):
    def make(path):
        noise = np.random.default_rng(0).integers(0, 255, (200, 200, 3), dtype=np.uint8)
        Image.fromarray(noise).save(path / name)
        whole = (path / name).read_bytes()
        (path / name).write_bytes(whole[: len(whole) // 2])
        return path / name

    return make


def scrambled(name):
    def make(path):
        two_halves().save(path / name)
        content = bytearray((path / name).read_bytes())
        content[-20:] = bytes(20)
        (path / name).write_bytes(content)
        return path / name

    return make


def containing(name, content):
    def make(path):
        (path / name).write_bytes(content)
        return path / name

    return make


def huge_header(path):
    """A PNG that claims 40,000 x 40,000 pixels in a few bytes."""
    import zlib

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 40_000, 40_000, 8, 2, 0, 0, 0)
    chunks = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
    (path / "bomb.png").write_bytes(b"\x89PNG\r\n\x1a\n" + chunks)
    return path / "bomb.png"


def postscript(path):
    two_halves().save(path / "drawing.eps")
    return path / "drawing.eps"


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda path: path / "nowhere.jpg", "no such file"),
        (lambda path: path, "is a folder"),
        (containing("empty.jpg", b""), "is empty"),
        (containing("letter.jpg", b"Dear Sir or Madam,\n" * 20), "not a picture"),
        (containing("phone.heic", b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + b"\0" * 64), "damaged or cut short"),
        (containing("film.mp4", b"\0\0\0\x18ftypisom\0\0\0\0isomavc1" + b"\0" * 64), "is a film"),
        pytest.param(truncated("half.avif"), "damaged or cut short", marks=AVIF),
        pytest.param(scrambled("bad.avif"), "damaged or cut short", marks=AVIF),
        (truncated("half.jpg"), "damaged or cut short"),
        (truncated("half.png"), "damaged or cut short"),
        (huge_header, "megapixels"),
        (postscript, "is not a picture that can be read"),
    ],
)
def test_a_bad_file_is_one_clear_line(tmp_path, make, says):
    path = make(tmp_path)
    with pytest.raises(PhotoError) as caught:
        open_photo(path)
    assert says in str(caught.value) and str(path) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_file_that_may_not_be_read(tmp_path):
    two_halves().save(tmp_path / "a.png")
    (tmp_path / "a.png").chmod(0)
    with pytest.raises(PhotoError, match="cannot be read"):
        open_photo(tmp_path / "a.png")


class Squares:
    """A reader that finds as many faces as it was told, each a little smaller than the one before."""

    name = "squares"

    def __init__(self, count):
        self.count = count

    def read(self, images):
        return [
            [Face(image, (0.0, 0.0, 90.0 / (i + 1), 90.0), torch.eye(8)[i]) for i in range(self.count)]
            for image in images
        ]


def test_one_face_is_taken_and_none_is_an_error():
    photo = two_halves()
    assert find_face(photo, Squares(1)).box == (0.0, 0.0, 90.0, 90.0)
    with pytest.raises(NoFaceError, match="no face found"):
        find_face(photo, Squares(0))


def test_a_reader_may_say_what_it_can_read():
    reader = Squares(0)
    reader.hint = "this reader knows squares only"
    with pytest.raises(NoFaceError, match="no face found; this reader knows squares only"):
        find_face(two_halves(), reader)


def test_of_several_faces_the_largest_only_when_asked(tmp_path):
    two_halves().save(tmp_path / "family.png")
    photo = open_photo(tmp_path / "family.png")
    with pytest.raises(SeveralFacesError, match=r"family\.png: 3 faces found.*largest_face"):
        find_face(photo, Squares(3))
    assert find_face(photo, Squares(3), largest_face=True).box[2] == 90.0


@pytest.mark.parametrize("angle", [0, 35, -120])
def test_the_cut_is_upright_however_the_face_is_turned(angle):
    """Coloured dots at the landmarks land where the FFHQ frame puts them, for any turn of the head."""
    upright = np.array([(170, 180), (230, 180), (200, 210), (180, 250), (220, 250)], dtype=float)
    turn = np.deg2rad(angle)
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    landmarks = (upright - 200) @ rotation.T + 200
    photo = Image.new("RGB", (400, 400))
    for (x, y), shade in zip(landmarks, [RED, BLUE, (0, 220, 0), (220, 220, 0), (0, 220, 220)], strict=True):
        photo.paste(shade, (round(x) - 6, round(y) - 6, round(x) + 6, round(y) + 6))
    crop = align_ffhq(photo, landmarks, size=252)
    half = max(2 * 60, 1.8 * 70)  # of the square, in the photograph's pixels
    centre = np.array([200, 180 + 7])
    for (x, y), shade in zip(upright, [RED, BLUE, (0, 220, 0), (220, 220, 0), (0, 220, 220)], strict=True):
        place = ((np.array([x, y]) - centre + half) / (2 * half) * 252).round().astype(int)
        assert close(crop.getpixel(tuple(map(int, place))), shade)


def test_what_lies_outside_the_photograph_is_grey():
    landmarks = [(2, 2), (10, 2), (6, 6), (4, 10), (9, 10)]
    assert align_ffhq(Image.new("RGB", (30, 30)), landmarks).getpixel((0, 0)) == GREY


def test_the_part_of_a_crop_inside_the_photograph_is_known():
    landmarks = np.array([(10.0, 40.0), (40.0, 40.0), (25.0, 55.0), (14.0, 70.0), (36.0, 70.0)])
    photo = Image.new("RGB", (200, 200), "white")
    crop, inside = align_ffhq(photo, landmarks, size=128), inside_photo(photo, landmarks)
    outside = np.asarray(crop.convert("L")) < 250
    assert 0.1 < outside.mean() < 0.6
    assert (outside != (np.asarray(inside) < 128)).mean() < 0.03  # but for the border
    assert inside_photo(photo, landmarks + 80) is None

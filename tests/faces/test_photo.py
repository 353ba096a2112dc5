"""Photo files as cameras, phones, browsers and editors write them."""

import io
import logging
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import skimage.data
import tifffile
from PIL import Image, features

from celeb_basis.errors import PhotoError
from celeb_basis.faces.photo import open_photo, photos_in
from celeb_basis.limits import MAX_KEPT_PIXELS

HEIC = Path(__file__).parents[1] / "photos" / "astronaut.heic"  # Eileen Collins, by NASA, public domain
BIG = b"x" * (2**20 + 5)


@pytest.fixture(scope="module")
def astronaut():
    return Image.fromarray(skimage.data.astronaut()).crop((110, 0, 350, 240))


def encoded(image, kind, **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def chunk(kind, content):
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def itxt(text, compressed):
    return chunk(b"iTXt", b"XML:com.adobe.xmp\0" + bytes([compressed, 0]) + b"\0\0" + text)


@pytest.mark.parametrize(
    "chunks",
    [
        chunk(b"zTXt", b"Comment\0\0" + zlib.compress(BIG)),
        chunk(b"tEXt", b"Comment\0" + BIG),
        itxt(zlib.compress(BIG), compressed=True),
        itxt(BIG, compressed=False),
        chunk(b"iCCP", b"icc\0\0" + zlib.compress(bytes(1_500_000))),
        chunk(b"iCCP", b"icc\0\0" + b"no zlib stream"),
        b"".join(chunk(b"tEXt", b"k%d\0" % i + b"x" * 900_000) for i in range(72)),
        chunk(b"eXIf", b"II*\0\x08\0\0\0\xff\xff" + bytes(range(50))),
        chunk(b"eXIf", b"nonsense"),
    ],
    ids=["zTXt", "tEXt", "XMP compressed", "XMP", "ICC", "broken ICC", "64 MB", "cut EXIF", "broken EXIF"],
)
@pytest.mark.parametrize("late", [False, True], ids=["before", "after"])
def test_a_sound_png_is_read_whatever_metadata_it_has(astronaut, tmp_path, chunks, late):
    content = encoded(astronaut, "PNG")
    at = content.rindex(b"IEND") - 4 if late else 33
    (tmp_path / "a.png").write_bytes(content[:at] + chunks + content[at:])
    assert np.array_equal(np.asarray(open_photo(tmp_path / "a.png")), np.asarray(astronaut))


@pytest.mark.parametrize("kind", ["WEBP", "AVIF", "JPEG", "PNG", "TIFF"])
@pytest.mark.parametrize(
    "exif", [b"Exif\0\0II*\0\x08\0\0\0\xff\xff" + bytes(range(50)), b"Exif\0\0nonsense", b"Exif\0\0"]
)
def test_broken_exif_is_no_damage(astronaut, tmp_path, kind, exif):
    if kind == "AVIF" and not features.check("avif"):
        pytest.skip("this Pillow reads no AVIF")
    sound = Image.Exif()
    sound[0x010F] = "m" * (len(exif) + 100)  # room for the broken one
    content = encoded(astronaut, kind, **({} if kind == "TIFF" else {"exif": sound.tobytes()}))
    at = content.find(b"II*\0" if kind != "TIFF" else b"no such thing")
    body = exif[6:].ljust(8, b"\0")
    if at > 0:
        content = content[:at] + body + content[at + len(body) :]
    if kind == "PNG":  # whose checksum has to stay right
        start = content.index(b"eXIf")
        length = int.from_bytes(content[start - 4 : start])
        content = (
            content[: start - 4]
            + chunk(b"eXIf", content[start + 4 : start + 4 + length])
            + content[start + 8 + length :]
        )
    file = tmp_path / f"a.{kind.lower()}"
    file.write_bytes(content)
    photo = np.asarray(open_photo(file)).astype(float)
    assert np.abs(photo - np.asarray(astronaut)).mean() < 8


def test_a_turned_png_is_read_upright(astronaut, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    astronaut.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "a.png", exif=exif)
    assert np.array_equal(np.asarray(open_photo(tmp_path / "a.png")), np.asarray(astronaut))


@pytest.mark.parametrize(
    ("kind", "white"),
    [
        (np.float32, 1.0),
        (np.float32, 255.0),
        (np.float32, 65535.0),
        (np.uint16, 65535),
        (np.int32, 255),
        (np.int32, 65535),
        (np.int32, 2**31 - 1),
        (np.uint32, 2**32 - 1),
    ],
)
def test_numbers_that_are_no_bytes_are_scaled(astronaut, tmp_path, kind, white):
    """A TIFF of such numbers looks as the same picture in bytes does."""
    grey = np.asarray(astronaut.convert("L"))
    tifffile.imwrite(tmp_path / "a.tif", (grey / 255.0 * white).astype(kind))
    assert np.abs(np.asarray(open_photo(tmp_path / "a.tif"))[..., 0].astype(int) - grey).max() <= 1


def test_a_few_values_that_are_none_or_too_bright_do_not_count(astronaut, tmp_path):
    grey = np.asarray(astronaut.convert("L")) / np.float32(255)
    strange = grey.astype(np.float32).copy()
    strange[0, :4] = (np.nan, np.inf, -np.inf, 1e30)
    tifffile.imwrite(tmp_path / "a.tif", strange)
    photo = np.asarray(open_photo(tmp_path / "a.tif"))[..., 0].astype(int)
    assert photo[0, :4].tolist() == [0, 255, 0, 255] and np.abs(photo[1:] - 255 * grey[1:]).max() <= 1


def test_every_kind_of_photo_in_a_folder_is_taken_and_the_rest_is_named(astronaut, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    astronaut.save(tmp_path / "1.jfif", "JPEG")
    astronaut.save(tmp_path / "2.mpo", "MPO", save_all=True, append_images=[astronaut])
    astronaut.save(tmp_path / "3.jp2")
    for name in ("4.heif", "5.HIF", "6.heic"):
        (tmp_path / name).write_bytes(HEIC.read_bytes())
    astronaut.save(tmp_path / "7.JPE", "JPEG")
    assert len(photos_in(tmp_path)) == 7 and not caplog.messages
    (tmp_path / "notes.txt").write_text("summer")
    assert len(photos_in(tmp_path)) == 7
    assert "left out: notes.txt" in caplog.messages[0]
    for file in photos_in(tmp_path):
        assert np.abs(np.asarray(open_photo(file)).astype(float) - np.asarray(astronaut)).mean() < 8, file


def test_a_folder_with_too_much_in_it_is_not_looked_through(astronaut, tmp_path):
    (tmp_path / "of-annika" / ".cache").mkdir(parents=True)
    astronaut.save(tmp_path / "of-annika" / "1.jpg")
    for i in range(20):
        (tmp_path / "of-annika" / ".cache" / f"{i}.jpg").touch()
    assert photos_in(tmp_path, 5) == [tmp_path / "of-annika" / "1.jpg"]
    with pytest.raises(PhotoError, match="holds more than 2 files and folders: name a smaller one"):
        photos_in(tmp_path, 2)
    with pytest.raises(PhotoError, match=r"^/ holds more than 10,000 files and folders"):  # devices that never end, too
        photos_in("/")


def test_a_photo_of_an_iphone_is_read_upright(astronaut):
    """The file holds the picture turned, and the property that says so."""
    assert np.abs(np.asarray(open_photo(HEIC)).astype(float) - np.asarray(astronaut)).mean() < 8


def test_without_its_library_heic_says_what_to_install(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pi_heif", None)
    with pytest.raises(PhotoError, match=r"save it as JPEG, or install .*\[photo\]"):
        open_photo(HEIC)


def test_heic_cut_short_is_damaged(tmp_path):
    (tmp_path / "a.heic").write_bytes(HEIC.read_bytes()[:6000])
    with pytest.raises(PhotoError, match="damaged or cut short"):
        open_photo(tmp_path / "a.heic")


def test_panoramas_keep_their_small_faces(tmp_path):
    """What is kept is a number of pixels, not a length."""
    Image.new("RGB", (12_000, 900), "grey").save(tmp_path / "pano.jpg")
    wide = open_photo(tmp_path / "pano.jpg")
    assert wide.width > 10_000 and wide.width * wide.height <= 1.01 * MAX_KEPT_PIXELS

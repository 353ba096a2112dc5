import zipfile

import fsspec
import pytest

from celeb_basis import OutputError, PhotoError
from celeb_basis.fleet import places


@pytest.fixture(params=["local", "file", "memory"])
def folder(request, tmp_path):
    """A folder of each kind."""
    if request.param == "memory":
        yield "memory://places"
        fsspec.filesystem("memory").rm("/places", recursive=True)
    else:
        yield f"file://{tmp_path}" if request.param == "file" else str(tmp_path)


def write(file, content):
    with places.written(file) as temporary:
        temporary.write_bytes(content)


def test_what_is_written_is_there(folder):
    file = places.join(folder, "people/ada.txt")
    assert not places.exists(file)
    write(file, b"first")
    write(file, b"second")
    write(places.join(folder, ".hidden/x.txt"), b"")
    with places.opened(file) as content:
        assert content.read() == b"second"
    with places.fetched([file, file]) as copies:
        assert [copy.read_bytes() for copy in copies] == [b"second"] * 2
        assert {copy.name for copy in copies} == {"ada.txt"}
    assert places.names_in(folder) == ["people/ada.txt"]
    assert places.names_in(folder, folders=True) == ["people"] and places.is_folder(folder)
    places.remove(places.join(folder, "people"))
    assert not places.exists(file) and places.names_in(places.join(folder, "people")) == []


def test_a_file_that_fails_is_not_written(folder):
    file = places.join(folder, "ada.txt")
    write(file, b"first")
    with pytest.raises(OutputError, match="disk full"), places.written(file) as temporary:
        temporary.write_bytes(b"sec")
        raise OSError("disk full")
    with places.opened(file) as content:
        assert content.read() == b"first"


def test_files_in_an_archive(tmp_path):
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        for name in ("people.csv", "photos/ada/1.txt", "photos/ada/2.txt", "photos/bo/1.txt"):
            archive.writestr(name, name)
    table = f"zip://people.csv::{tmp_path}/all.zip"
    photos = places.join(places.parent(table), "photos")
    assert places.names_in(photos, folders=True) == ["ada", "bo"]
    files = [places.join(photos, name) for name in places.names_in(photos)]
    with places.fetched(files) as copies:
        assert [copy.read_text() for copy in copies] == ["photos/ada/1.txt", "photos/ada/2.txt", "photos/bo/1.txt"]
    assert (places.suffix(table), places.stem(table)) == (".csv", "people")
    with pytest.raises(PhotoError, match="there is no such file"), places.fetched([places.join(photos, "nobody")]):
        pass


def test_errors_name_the_file_that_was_asked_for(folder):
    file = places.join(folder, "ada.jpg")
    write(file, b"no photo")
    with pytest.raises(PhotoError) as error, places.fetched([file]) as [copy]:
        raise PhotoError(f"{copy} is damaged")
    assert str(error.value).removeprefix("file://") == f"{file.removeprefix('file://')} is damaged"


def test_places_that_cannot_be_had(tmp_path):
    for file in (f"{tmp_path}/nowhere.jpg", "memory://nowhere.jpg", "nonsense://a.jpg", str(tmp_path)):
        with pytest.raises(PhotoError), places.fetched([file]):
            pass
    (tmp_path / "file").touch()
    for file in (f"{tmp_path}/file/ada.txt", "nonsense://a.txt", f"zip://a.txt::{tmp_path}/file"):
        with pytest.raises(OutputError):
            write(file, b"")

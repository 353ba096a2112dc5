import zipfile

import fsspec
import pytest

from celeb_basis import OutputError, PhotoError
from celeb_basis.fleet import storage as storage


@pytest.fixture(params=["local", "file", "memory"])
def folder(request, tmp_path):
    """A folder of each kind."""
    if request.param == "memory":
        yield "memory://places"
        fsspec.filesystem("memory").rm("/places", recursive=True)
    else:
        yield f"file://{tmp_path}" if request.param == "file" else str(tmp_path)


def write(file, content):
    with storage.written(file) as temporary:
        temporary.write_bytes(content)


def test_what_is_written_is_there(folder):
    file = storage.join(folder, "people/ada.txt")
    assert not storage.exists(file)
    write(file, b"first")
    write(file, b"second")
    write(storage.join(folder, ".hidden/x.txt"), b"")
    with storage.opened(file) as content:
        assert content.read() == b"second"
    with storage.fetched([file, file]) as copies:
        assert [copy.read_bytes() for copy in copies] == [b"second"] * 2
        assert {copy.name for copy in copies} == {"ada.txt"}
    assert storage.names_in(folder) == ["people/ada.txt"]
    assert storage.names_in(folder, folders=True) == ["people"] and storage.is_folder(folder)
    storage.remove(storage.join(folder, "people"))
    assert not storage.exists(file) and storage.names_in(storage.join(folder, "people")) == []


def test_a_file_that_fails_is_not_written(folder):
    file = storage.join(folder, "ada.txt")
    write(file, b"first")
    with pytest.raises(OutputError, match="disk full"), storage.written(file) as temporary:
        temporary.write_bytes(b"sec")
        raise OSError("disk full")
    with storage.opened(file) as content:
        assert content.read() == b"first"


def test_files_in_an_archive(tmp_path):
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        for name in ("people.csv", "photos/ada/1.txt", "photos/ada/2.txt", "photos/bo/1.txt"):
            archive.writestr(name, name)
    table = f"zip://people.csv::{tmp_path}/all.zip"
    photos = storage.join(storage.parent(table), "photos")
    assert storage.names_in(photos, folders=True) == ["ada", "bo"]
    files = [storage.join(photos, name) for name in storage.names_in(photos)]
    with storage.fetched(files) as copies:
        assert [copy.read_text() for copy in copies] == ["photos/ada/1.txt", "photos/ada/2.txt", "photos/bo/1.txt"]
    assert (storage.suffix(table), storage.stem(table)) == (".csv", "people")
    with pytest.raises(PhotoError, match="there is no such file"), storage.fetched([storage.join(photos, "nobody")]):
        pass


def test_errors_name_the_file_that_was_asked_for(folder):
    file = storage.join(folder, "ada.jpg")
    write(file, b"no photo")
    with pytest.raises(PhotoError) as error, storage.fetched([file]) as [copy]:
        raise PhotoError(f"{copy} is damaged")
    assert str(error.value).removeprefix("file://") == f"{file.removeprefix('file://')} is damaged"


def test_places_that_cannot_be_had(tmp_path):
    for file in (f"{tmp_path}/nowhere.jpg", "memory://nowhere.jpg", "nonsense://a.jpg", str(tmp_path)):
        with pytest.raises(PhotoError), storage.fetched([file]):
            pass
    (tmp_path / "file").touch()
    for file in (f"{tmp_path}/file/ada.txt", "nonsense://a.txt", f"zip://a.txt::{tmp_path}/file"):
        with pytest.raises(OutputError):
            write(file, b"")

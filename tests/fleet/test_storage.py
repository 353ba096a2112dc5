import os
import socket
import threading
import zipfile

import fsspec
import pytest
from loopback import Handler, serving

from celeb_basis import OutputError, PhotoError
from celeb_basis.fleet import storage


@pytest.fixture(params=["local", "file", "memory"])
def folder(request, tmp_path):
    """A folder of each kind."""
    if request.param == "memory":
        yield "memory://storage"
        fsspec.filesystem("memory").store.clear()
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
    assert storage.files_in(folder) == ["people/ada.txt"]
    assert storage.folders_in(folder) == ["people"] and storage.is_folder(folder)
    storage.remove(storage.join(folder, "people"))
    assert not storage.exists(file) and storage.files_in(storage.join(folder, "people")) == []


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
    assert storage.folders_in(photos) == ["ada", "bo"]
    files = [storage.join(photos, name) for name in storage.files_in(photos)]
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


def test_files_that_cannot_be_had(tmp_path):
    for file in (f"{tmp_path}/nowhere.jpg", "memory://nowhere.jpg", "nonsense://a.jpg", str(tmp_path)):
        with pytest.raises(PhotoError), storage.fetched([file]):
            pass
    (tmp_path / "file").touch()
    for file in (f"{tmp_path}/file/ada.txt", "nonsense://a.txt", f"zip://a.txt::{tmp_path}/file"):
        with pytest.raises(OutputError):
            write(file, b"")


class Web(Handler):
    """One photo, one that is promised and never comes, and nothing else."""

    silent = threading.Event()

    def do_GET(self):
        if self.path not in ("/ada.jpg", "/silent.jpg"):
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", "5")
        self.end_headers()
        if self.path == "/ada.jpg":
            self.wfile.write(b"photo" if self.command == "GET" else b"")
        elif self.command == "GET":
            self.silent.wait(60)

    do_HEAD = do_GET


def cannot_be_had(file, why):
    with pytest.raises(PhotoError, match=f"{file} cannot be read: {why}"), storage.fetched([file]):
        pass


def test_files_of_a_web_server(monkeypatch):
    monkeypatch.setattr(storage, "SILENCE", 0.5)
    with serving(Web) as address:
        with storage.fetched([f"{address}/ada.jpg"]) as [copy]:
            assert copy.read_bytes() == b"photo"
        cannot_be_had(f"{address}/nowhere.jpg", "404")
        cannot_be_had(f"{address}/silent.jpg", "no answer in time")
        Web.silent.set()
    cannot_be_had(f"{address}/ada.jpg", "Cannot connect")


def test_an_archive_on_a_web_server_that_says_nothing(monkeypatch):
    """It takes the connection, and never answers."""
    monkeypatch.setattr(storage, "SILENCE", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as server:
        cannot_be_had(f"zip://ada.jpg::http://127.0.0.1:{server.getsockname()[1]}/all.zip", "no answer in time")


def test_pipes_and_devices_are_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "zero").symlink_to("/dev/zero")
    for file in ("pipe", "zero"):
        for path in (f"{tmp_path}/{file}", f"file://{tmp_path}/{file}", f"zip://a.txt::{tmp_path}/{file}"):
            with pytest.raises(PhotoError, match="is a pipe or a device"), storage.opened(path):
                pass


def test_lines_are_whole_whatever_their_length(tmp_path):
    lines = [b"x" * length + b"\n" for length in (0, 1, 2**16 - 1, 2**16, 3 * 2**16)] + [b"the end"]
    (tmp_path / "file").write_bytes(b"".join(lines))
    assert list(storage.read_lines(f"{tmp_path}/file")) == lines
    (tmp_path / "file").write_bytes(bytes(2**22 + 2**17))
    with pytest.raises(PhotoError, match="has a line of more than 4 MB"):
        list(storage.read_lines(f"{tmp_path}/file"))


def test_text_is_added_where_files_can_grow(folder):
    file = storage.join(folder, "parts/1.txt")
    grows = not folder.startswith("memory")
    assert storage.append(file, "one\n") is grows and storage.append(file, "two\n") is grows
    if grows:
        assert list(storage.read_lines(file)) == [b"one\n", b"two\n"]


def test_an_archive_means_the_same_in_every_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert storage.absolute("zip://people.csv::all.zip") == f"zip://people.csv::{tmp_path}/all.zip"
    assert storage.absolute("people.csv") == f"{tmp_path}/people.csv"
    assert storage.absolute("s3://bucket/people.csv") == "s3://bucket/people.csv"

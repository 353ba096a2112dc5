import os
import struct
import subprocess
import sys

import pytest
import torch
from PIL import Image

from celeb_basis import CelebBasisError, OutputError
from celeb_basis.io import load_safetensors, remove_abandoned, save_safetensors, temporary_folder, write_atomically


def test_round_trip(tmp_path):
    path = tmp_path / "x.safetensors"
    tensor = torch.arange(6.0).reshape(2, 3).T  # not contiguous
    save_safetensors(path, {"a": tensor}, {"k": "v"})
    tensors, metadata = load_safetensors(path)
    assert torch.equal(tensors["a"], tensor) and metadata == {"k": "v"}
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_failure_leaves_the_old_file(tmp_path, error):
    path = tmp_path / "x.txt"
    path.write_text("old")
    with pytest.raises(error), write_atomically(path) as temporary:
        temporary.write_text("half")
        assert temporary.suffix == ".txt"
        raise error
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_places_that_cannot_be_written(tmp_path):
    with pytest.raises(OutputError, match=r"cannot write .*No such file"):
        save_safetensors(tmp_path / "nowhere" / "x.safetensors", {}, {})
    (tmp_path / "folder").mkdir()
    with pytest.raises(OutputError, match="cannot write"), write_atomically(tmp_path / "folder") as temporary:
        temporary.write_text("x")
    with pytest.raises(OutputError, match="No space"), write_atomically(tmp_path / "full"):
        raise OSError(28, "No space left on device")
    assert [p.name for p in tmp_path.iterdir()] == ["folder"]
    (tmp_path / "file").touch()
    for path in (tmp_path / ("x" * 300) / "y", tmp_path / "file" / "y", tmp_path / ("x" * 300)):
        with pytest.raises(OutputError, match="cannot write"):
            save_safetensors(path, {}, {})


def test_the_longest_names_can_be_written(tmp_path):
    path = tmp_path / ("x" * 243 + ".safetensors")
    save_safetensors(path, {"a": torch.zeros(1)}, {})
    assert list(tmp_path.iterdir()) == [path]


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(CelebBasisError, match="no such file"):
        load_safetensors(tmp_path / "x")
    (tmp_path / "x").write_text("not tensors")
    with pytest.raises(CelebBasisError, match="not a readable safetensors"):
        load_safetensors(tmp_path / "x")


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF"])
def test_a_picture_is_told_from_tensors(tmp_path, kind):
    Image.new("RGB", (8, 8)).save(tmp_path / "me", kind)
    with pytest.raises(CelebBasisError, match=r"me is a picture: name a \.safetensors file"):
        load_safetensors(tmp_path / "me")


def test_a_header_longer_than_the_file_is_no_number_for_people(tmp_path):
    (tmp_path / "x").write_bytes(b"\x7f" * 100)
    with pytest.raises(CelebBasisError, match=r"not a readable safetensors file \(it does not begin as one does\)"):
        load_safetensors(tmp_path / "x")


def test_the_same_content_is_the_same_bytes(tmp_path):
    metadata = {f"key {i}": str(i) for i in range(20)}
    files = []
    for i, items in enumerate((metadata.items(), reversed(metadata.items()))):
        save_safetensors(tmp_path / f"{i}", {"b": torch.ones(3), "a": torch.zeros(2)}, dict(items))
        files.append((tmp_path / f"{i}").read_bytes())
    assert files[0] == files[1]


def test_a_changed_number_is_found(tmp_path):
    save_safetensors(tmp_path / "x", {"a": torch.ones(4)}, {"k": "v"})
    content = bytearray((tmp_path / "x").read_bytes())
    content[-4:] = struct.pack("<f", 1.5)
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(CelebBasisError, match="changed or damaged"):
        load_safetensors(tmp_path / "x")


def test_what_is_no_ordinary_file_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with (tmp_path / "large").open("wb") as file:
        file.truncate(6 * 2**30)  # takes no room on the disk
    for place, says in {
        tmp_path / "pipe": "a pipe or a device",
        "/dev/zero": "a pipe or a device",
        tmp_path: "is a folder",
        tmp_path / "large": "MB",
        "a\0b": "is no name of a file",
    }.items():
        with pytest.raises(CelebBasisError, match=says):
            load_safetensors(place)


def test_what_a_killed_process_left_is_removed_and_what_a_living_one_writes_is_not(tmp_path):
    code = """
import os, signal, sys
from celeb_basis.io import write_atomically
with write_atomically(sys.argv[1]) as temporary:
    temporary.write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "x.txt")], env={"PYTHONPATH": os.pathsep.join(sys.path)})
    [left] = tmp_path.iterdir()
    with write_atomically(tmp_path / "y.txt") as temporary:
        temporary.write_text("whole")
        assert not left.exists()
        with write_atomically(tmp_path / "z.txt") as other:
            other.write_text("whole")
            assert temporary.exists()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["y.txt", "z.txt"]


def test_a_temporary_folder_is_gone_in_the_end_or_at_the_next_start(tmp_path):
    code = f"""
import os, pathlib
from celeb_basis.io import temporary_folder
with temporary_folder(pathlib.Path({str(tmp_path)!r})) as folder:
    (folder / "photo.jpg").write_bytes(b"x")
    os.kill(os.getpid(), 9)
"""
    subprocess.run([sys.executable, "-c", code], env={"PYTHONPATH": os.pathsep.join(sys.path)})
    [left] = tmp_path.iterdir()
    assert (left / "photo.jpg").exists()
    (tmp_path / ".celeb-basis-own").mkdir()
    remove_abandoned.cache_clear()
    with temporary_folder(tmp_path) as folder:
        assert {path.name for path in tmp_path.iterdir()} == {folder.name, ".celeb-basis-own"}
    assert [path.name for path in tmp_path.iterdir()] == [".celeb-basis-own"]

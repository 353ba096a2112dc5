import json
import os
import resource

import pytest

from celeb_basis import OutputError, PhotoError
from celeb_basis.fleet import manifest as module
from celeb_basis.fleet import storage
from celeb_basis.fleet.manifest import Manifest


def lines(folder):
    return [json.loads(line) for line in (folder / "manifest.jsonl").read_text().splitlines()]


def test_the_latest_line_about_a_person_counts(tmp_path):
    first = Manifest(str(tmp_path))
    first.begin()
    first.add([{"name": "ada", "error": "no face"}, {"name": "bo", "error": None}])
    first.close()
    second = Manifest(str(tmp_path))
    second.begin()
    assert second.get("ada") == {"name": "ada", "error": "no face"} and second.get("cy") == {}
    second.add([{"name": "ada", "error": None}])
    second.close()
    assert sorted(map(str, lines(tmp_path))) == sorted(map(str, [{"name": n, "error": None} for n in ("ada", "bo")]))


def test_a_stopped_run_leaves_parts_that_the_next_one_reads(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "EVERY", 0)
    stopped = Manifest(str(tmp_path))
    for name in ("ada", "bo"):
        stopped.add([{"name": name, "error": None}])
    assert not (tmp_path / "manifest.jsonl").exists()
    after = Manifest(str(tmp_path))
    after.begin()
    assert after.get("ada") and after.get("bo")
    after.close()
    assert [line["name"] for line in lines(tmp_path)] == ["ada", "bo"]
    assert [file.name for file in tmp_path.iterdir()] == ["manifest.jsonl"]
    stopped.close()  # of which nothing is left to say
    assert [line["name"] for line in lines(tmp_path)] == ["ada", "bo"]


def test_a_run_in_which_nothing_came_about_leaves_nothing(tmp_path):
    manifest = Manifest(str(tmp_path))
    manifest.begin()
    manifest.close()
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_found_out_first(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OutputError):
        Manifest(str(tmp_path / "file" / "people")).begin()


def test_a_name_is_expected_once(tmp_path):
    manifest = Manifest(str(tmp_path))
    manifest.expect("ada")
    with pytest.raises(PhotoError, match="two rows are called ada"):
        manifest.expect("ada")


DAMAGED = {
    "cut": b'{"name": "ada"',
    "a list": b"[]",
    "without a name": b'{"error": null}',
    "a number": b"3",
    "a name that is a list": b'{"name": ["ada"]}',
    "a name that is a huge number": b'{"name": 1180591620717411303424}',
    "a number of 5,000 digits": b'{"name": ' + b"9" * 5000 + b"}",
    "a name without text": b'{"name": null}',
    "a lone surrogate": b'{"name": "\\ud800"}',
    "a zero byte": b'{"name": "a\\u0000b"}',
    "nested deeply": b'{"name": "ada", "x": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "no UTF-8": b'{"name": "ad\xff"}',
    "an error that is a number": b'{"name": "ada", "error": 3}',
    "figures that are none": b'{"name": "ada", "figures": null}',
}


@pytest.mark.parametrize("content", DAMAGED.values(), ids=DAMAGED)
@pytest.mark.parametrize("file", ["manifest.jsonl", "manifest.parts/1.jsonl"])
def test_a_damaged_manifest_is_refused(tmp_path, file, content):
    (tmp_path / file).parent.mkdir(exist_ok=True)
    (tmp_path / file).write_bytes(content + b"\n")
    with pytest.raises(PhotoError, match="is damaged: move it away"):
        Manifest(str(tmp_path))


def test_a_manifest_that_was_touched_by_hand_is_read(tmp_path):
    (tmp_path / "manifest.jsonl").write_bytes(b'\xef\xbb\xbf{"name": "ada"}\n\n{"name": "bo", "inputs": [1]}')
    manifest = Manifest(str(tmp_path))
    assert manifest.get("ada") == {"name": "ada", "error": None} and manifest.get("bo")["inputs"] == [1]


def test_a_manifest_that_never_ends_is_refused(tmp_path):
    os.mkfifo(tmp_path / "manifest.jsonl")
    with pytest.raises(PhotoError, match="is a pipe or a device"):
        Manifest(str(tmp_path))


def added(folder, *names):
    """A run that has added a line about each of these people."""
    manifest = Manifest(str(folder))
    manifest.begin()
    manifest.add([{"name": name, "error": None} for name in names])
    return manifest


@pytest.mark.parametrize("order", ["first in, first out", "first in, last out"])
@pytest.mark.parametrize("every", [0.0, 10.0])
@pytest.mark.parametrize("kind", ["local", "memory"])
def test_two_runs_in_one_folder_keep_each_others_lines(tmp_path, monkeypatch, order, every, kind):
    monkeypatch.setattr(module, "EVERY", every)
    folder = tmp_path if kind == "local" else f"memory://{tmp_path.name}"
    first, second = added(folder, "ada", "both"), added(folder, "bo", "both")
    earlier, later = (first, second) if order == "first in, first out" else (second, first)
    earlier.close()
    later.add([{"name": "cy", "error": "no face"}])
    later.close()
    third = Manifest(str(folder))
    assert all(third.get(name) for name in ("ada", "bo", "both")) and third.get("cy")["error"] == "no face"
    assert storage.files_in(str(folder)) == ["manifest.jsonl"]


def test_what_was_said_last_counts_after_another_run_has_written(tmp_path):
    added(tmp_path, "ada", "bo").close()
    manifest = added(tmp_path)
    manifest.add([{"name": "ada", "error": "no face"}])
    other = Manifest(str(tmp_path))
    other.add([{"name": "bo", "error": "gone"}])
    other.close()
    manifest.close()
    assert {line["name"]: line["error"] for line in lines(tmp_path)} == {"ada": "no face", "bo": "gone"}


def test_a_full_disk_ends_a_run_and_loses_nothing_that_was_noted(tmp_path):
    """The limit on the length of a file stands for the full disk."""
    manifest = added(tmp_path, *(f"p{i}" for i in range(10)))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    [part] = (tmp_path / "manifest.parts").iterdir()
    resource.setrlimit(resource.RLIMIT_FSIZE, (part.stat().st_size + 100, before[1]))
    try:
        with pytest.raises(OutputError, match=r"cannot be written: .*File too large"):
            manifest.add([{"name": f"q{i}", "error": None} for i in range(10)])
        with pytest.raises(OutputError):
            manifest.close()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    Manifest(str(tmp_path)).close()
    assert [line["name"] for line in lines(tmp_path)] == [*(f"p{i}" for i in range(10)), "q0", "q1", "q2"]

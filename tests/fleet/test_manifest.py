import json

import pytest

from celeb_basis import OutputError, PhotoError
from celeb_basis.fleet import manifest as module
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


@pytest.mark.parametrize("content", ['{"name": "ada"', "[]", '{"error": null}', "3"])
def test_a_damaged_manifest_is_refused(tmp_path, content):
    (tmp_path / "manifest.jsonl").write_text(content + "\n")
    with pytest.raises(PhotoError, match="is damaged: move it away"):
        Manifest(str(tmp_path))

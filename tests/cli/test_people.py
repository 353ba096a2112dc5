"""The user's people: kept by name, found by name, renamed and removed."""

import pytest
from called import answer, complaint

from celeb_basis import CelebBasis, Identity, IdentityError, ModelCard, PromptError, library
from celeb_basis.cli import main


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """An empty library, and this folder, in which annika is."""
    monkeypatch.setenv("CELEB_BASIS_PEOPLE", str(tmp_path / "library"))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    basis = CelebBasis.load(ModelCard.of("miniature").basis)
    Identity.sample(basis, "<annika>").save("annika.safetensors")
    return tmp_path / "library"


def test_people_are_listed_renamed_and_removed(folder, capsys):
    assert answer(capsys, "people", "list") == {"folder": str(folder), "people": []}
    kept = answer(capsys, "people", "add", "annika.safetensors")
    assert kept["file"] == str(folder / "annika.safetensors") and kept["next"].endswith("--identity annika")
    answer(capsys, "people", "add", "annika.safetensors", "--name", "tovik")
    assert [each["name"] for each in answer(capsys, "people", "list")["people"]] == ["annika", "tovik"]
    shown = answer(capsys, "people", "show", "annika")
    assert shown["identity"] == "<annika>" and shown["vectors"] == [2, 128]
    answer(capsys, "people", "rename", "annika", "bodil")
    bodil = Identity.load(folder / "bodil.safetensors")
    assert bodil.placeholder_token == "<bodil>"
    assert bodil.digest == Identity.load("annika.safetensors").digest
    answer(capsys, "people", "remove", "tovik")
    assert answer(capsys, "people", "list")["people"] == [{"name": "bodil", "model": "miniature"}]


def test_nobody_loses_their_name_to_another(folder, capsys):
    for name in ("annika", "tovik"):
        answer(capsys, "people", "add", "annika.safetensors", "--name", name)
    assert "<annika> is in the library already" in complaint(capsys, "people", "add", "annika.safetensors")
    assert "<tovik> is in the library already" in complaint(capsys, "people", "rename", "annika", "tovik")
    assert sorted(library.people()) == ["annika", "tovik"]
    for command in (("show", "bodil"), ("rename", "bodil", "annika"), ("remove", "bodil")):
        assert "nobody is called bodil: there is no bodil.safetensors" in complaint(capsys, "people", *command)


def test_a_name_is_looked_for_here_and_then_in_the_library(folder, capsys):
    answer(capsys, "people", "add", "annika.safetensors", "--name", "tovik")
    assert library.find_identity("annika").resolve().parent != folder
    assert library.find_identity("tovik") == folder / "tovik.safetensors"
    assert library.find_identity("other/annika.safetensors").name == "annika.safetensors"  # a file, there or not
    with pytest.raises(IdentityError, match="nobody is called bodil"):
        library.find_identity("bodil")
    drawn = answer(capsys, "generate", "<annika> and <bodil>", "--steps", 1, "--identity", "annika", "--identity",
                   "bodil=tovik", "-o", "pair.png")  # fmt: skip
    assert drawn["pictures"] == ["pair.png"]
    assert answer(capsys, "blend", "annika", "tovik", "--name", "mirelle")["file"] == "mirelle.safetensors"
    assert "nobody is called bodil" in complaint(capsys, "generate", "<bodil>", "--identity", "bodil")


@pytest.mark.parametrize("name", ["../here/annika", "/etc/passwd", "", ".", "Annika", "a" * 200])
def test_a_name_is_no_path(name, folder, capsys):
    for find in (library.person_file, library.remove):
        with pytest.raises(PromptError, match="cannot be a placeholder token"):
            find(name)
    assert main(["people", "show", name]) == 2 and capsys.readouterr().err.count("\n") == 1


def test_a_damaged_file_is_named_among_the_others(folder, capsys):
    answer(capsys, "people", "add", "annika.safetensors")
    (folder / "zed.safetensors").write_bytes(b"nothing")
    annika, zed = answer(capsys, "people", "list")["people"]
    assert annika["model"] == "miniature" and "is not a readable safetensors file" in zed["error"]
    assert main(["people", "remove", "zed"]) == 0 and sorted(library.people()) == ["annika"]

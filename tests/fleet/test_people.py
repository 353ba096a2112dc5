"""What is wrong with a command is said before any worker is started."""

import pytest
from called import complaint

from celeb_basis import BasisError, PhotoError, Recipe, fleet


@pytest.fixture
def table(tmp_path):
    (tmp_path / "people.csv").write_text("name,photo\nada,ada.png\nbo,bo.png\n")
    return tmp_path / "people.csv"


def test_tables_that_nobody_can_work_with(table, tmp_path, capsys):
    out = ("-o", tmp_path / "out")
    assert complaint(capsys, "fleet", "fit", tmp_path / "nowhere.csv", *out).endswith("there is no such file\n")
    assert "a column identity is needed" in complaint(capsys, "fleet", "generate", table, "{}", *out)
    table.write_text("name,photo\nada,ada.png\nAda,bo.png\n")
    assert "two rows are called ada" in complaint(capsys, "fleet", "fit", table, *out)
    table.write_text("name,photo\n")
    assert complaint(capsys, "fleet", "fit", table, *out) == f"celeb-basis: error: {table} names nobody\n"
    assert not (tmp_path / "out").exists()


def test_a_folder_that_cannot_be_written(table, capsys):
    assert "cannot" in complaint(capsys, "fleet", "fit", table, "-o", table / "people")


def test_an_address_where_nobody_answers(table, tmp_path, capsys):
    pytest.importorskip("ray", reason="the extra fleet is not installed")
    for address in ("127.0.0.1:1", "127.0.0.1:99999", "nonsense"):
        message = complaint(capsys, "fleet", "fit", table, "-o", tmp_path / "out", "--address", address)
        assert message.startswith(f"celeb-basis: error: there is no cluster at --address {address}: ")


def test_prompts_without_a_name(table, tmp_path, capsys):
    table.write_text("identity\nada.safetensors\n")
    assert "needs {}" in complaint(capsys, "fleet", "generate", table, "a photo", "-o", tmp_path / "out")
    long = "a photo of {} " + "very " * 20
    message = complaint(capsys, "fleet", "generate", table, long + "old", long + "young", "-o", tmp_path / "out")
    assert "their files would have one name" in message


def test_models_without_a_basis_or_a_map(table, tmp_path):
    with pytest.raises(BasisError, match="brings no basis"):
        next(fleet.fit(str(table), str(tmp_path), model="owner/model"))
    from celeb_basis import CelebBasis
    from celeb_basis.backend.card import ModelCard

    basis = CelebBasis.load(ModelCard.of("miniature").basis)
    with pytest.raises(BasisError, match="give an instant map"):
        next(fleet.fit(str(table), str(tmp_path), basis=basis, recipe=Recipe(max_train_steps=0)))


def test_a_manifest_without_anybody_left(tmp_path):
    (tmp_path / "manifest.jsonl").write_text('{"name": "ada", "error": "no face", "photos": ["a.png"]}\n')
    with pytest.raises(PhotoError, match="names nobody"):
        next(fleet.fit(str(tmp_path / "manifest.jsonl"), str(tmp_path)))

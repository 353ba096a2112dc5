"""What is wrong with a command is said before any worker is started."""

import socket
import threading

import pytest
from called import complaint

from celeb_basis import BasisError, CelebBasis, PhotoError, Recipe, fleet
from celeb_basis.backend.card import ModelCard
from celeb_basis.fleet import pool


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
        assert message.startswith(f"celeb-basis: error: there is no cluster at {address}: ")
        assert message.endswith(" (--address)\n")


def test_an_address_that_says_nothing(table, tmp_path, capsys, monkeypatch):
    pytest.importorskip("ray", reason="the extra fleet is not installed")
    monkeypatch.setattr(pool, "CONNECT", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        monkeypatch.setenv("RAY_ADDRESS", address)
        for asked in (address, f"ray://{address}", "auto"):
            message = complaint(capsys, "fleet", "fit", table, "-o", tmp_path / "out", "--address", asked)
            assert message == f"celeb-basis: error: there is no cluster at {asked}: timed out (--address)\n"


@pytest.mark.parametrize("said", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\0\0"])
def test_what_listens_at_an_address_is_no_cluster(table, tmp_path, capsys, monkeypatch, said):
    pytest.importorskip("ray", reason="the extra fleet is not installed")
    monkeypatch.setattr(pool, "CONNECT", 5)
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer():
            connection, _ = server.accept()
            connection.recv(1000)
            connection.sendall(said)
            connection.close()

        threading.Thread(target=answer, daemon=True).start()
        address = f"127.0.0.1:{server.getsockname()[1]}"
        message = complaint(capsys, "fleet", "fit", table, "-o", tmp_path / "out", "--address", address)
    assert message == (
        f"celeb-basis: error: there is no cluster at {address}: what listens there is no Ray (--address)\n"
    )


def test_a_name_that_nobody_looks_up(table, tmp_path, capsys, monkeypatch):
    """Name servers take longer than a connection may."""
    pytest.importorskip("ray", reason="the extra fleet is not installed")
    looked_up = threading.Event()
    monkeypatch.setattr(pool, "CONNECT", 0.2)
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: looked_up.wait(60) and [])
    message = complaint(capsys, "fleet", "fit", table, "-o", tmp_path / "out", "--address", "head:6379")
    looked_up.set()
    assert message == "celeb-basis: error: there is no cluster at head:6379: timed out (--address)\n"


def test_prompts_without_a_name(table, tmp_path, capsys):
    table.write_text("identity\nada.safetensors\n")
    assert "needs {}" in complaint(capsys, "fleet", "generate", table, "a photo", "-o", tmp_path / "out")


def test_people_without_training_need_a_map(table, tmp_path):
    with pytest.raises(BasisError, match="give an instant map"):
        next(fleet.fit(str(table), str(tmp_path), model="owner/model", recipe=Recipe(max_train_steps=0)))
    basis = ModelCard.of("miniature").basis
    with pytest.raises(BasisError, match="give an instant map"):
        next(fleet.fit(str(table), str(tmp_path), basis=CelebBasis.load(basis), recipe=Recipe(max_train_steps=0)))


def test_a_manifest_without_anybody_left(tmp_path):
    (tmp_path / "manifest.jsonl").write_text('{"name": "ada", "error": "no face", "photos": ["a.png"]}\n')
    with pytest.raises(PhotoError, match="names nobody"):
        next(fleet.fit(str(tmp_path / "manifest.jsonl"), str(tmp_path)))

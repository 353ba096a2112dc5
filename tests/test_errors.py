"""Messages are one short line, whatever they quote of files and arguments."""

import pytest

from celeb_basis.errors import CelebBasisError, SeveralFacesError
from celeb_basis.io import load_safetensors
from celeb_basis.limits import MAX_MESSAGE_LENGTH


@pytest.mark.parametrize(
    ("quoted", "told"),
    [
        ("\x1b[2J\x1b]0;owned\x07", r"\x1b[2J\x1b]0;owned\x07"),
        ("\u202egpj.exe", r"\u202egpj.exe"),
        ("two\nlines\r\tmore", "two lines more"),
        ("a\0b", r"a\x00b"),
        ("\ud7ff\udfff", r"\ud7ff\udfff"),
        ("Zoë 李", "Zoë 李"),
    ],
)
def test_what_a_message_quotes_cannot_steer_a_terminal(quoted, told):
    error = SeveralFacesError(f"{quoted}: no such thing", argument="largest_face")
    assert error.message == f"{told}: no such thing" and error.message.isprintable()
    assert str(error) == f"{told}: no such thing (argument: largest_face)"


def test_a_long_message_keeps_its_beginning_and_its_end():
    error = CelebBasisError(f"the name {'x' * 10**6} is too long: take another")
    assert len(error.message) == MAX_MESSAGE_LENGTH
    assert error.message.startswith("the name xxx") and error.message.endswith("is too long: take another")


def test_names_of_files_are_no_exception(tmp_path):
    with pytest.raises(CelebBasisError, match="no such file") as error:
        load_safetensors(tmp_path / "a\x1b[31m\nb")
    assert str(error.value).isprintable()

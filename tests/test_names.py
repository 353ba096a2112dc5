"""Lists of names."""

import pytest

from celeb_basis import names
from celeb_basis.errors import BasisError


def test_one_name_a_line_with_comments(tmp_path):
    path = tmp_path / "names.txt"
    text = "\ufeff# people\nAda  Lovelace\n\nAlan Turing # logician\nAda Lovelace\r\nJosé Ñandú\n"
    path.write_text(text, encoding="utf-8")
    assert names.read(path) == ["Ada Lovelace", "Alan Turing", "José Ñandú"]


@pytest.mark.parametrize(
    ("content", "says"),
    [(None, "cannot be read"), (b"# nobody\n\n", "no name in it"), (b"\xff\xfe\x00J\x00o", "not UTF-8")],
)
def test_a_bad_list_is_one_clear_line(tmp_path, content, says):
    path = tmp_path / "names.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(BasisError, match=says):
        names.read(path)

"""Lists of names, and the list of celebrities against the true vocabulary of CLIP."""

import re
from pathlib import Path

import architectures
import pytest

from celeb_basis.basis import celebrities as names
from celeb_basis.errors import BasisError


def test_one_name_a_line_with_comments(tmp_path):
    path = tmp_path / "names.txt"
    text = "\ufeff# people\nAda  Lovelace\n\nAlan Turing # logician\nAda Lovelace\r\nJosé Ñandú\n"
    path.write_text(text, encoding="utf-8")
    assert names.read(path) == ["Ada Lovelace", "Alan Turing", "José Ñandú"]


@pytest.mark.parametrize(
    ("content", "says"),
    [(None, "there is no such file"), (b"# nobody\n\n", "no name in it"), (b"\xff\xfe\x00J\x00o", "not UTF-8")],
)
def test_a_bad_list_is_one_clear_line(tmp_path, content, says):
    path = tmp_path / "names.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(BasisError, match=says):
        names.read(path)


@pytest.fixture(scope="module")
def clip():
    """The tokenizer of SD 1, SD 2 and SDXL."""
    try:
        return architectures.clip_tokenizer()
    except FileNotFoundError as error:
        pytest.skip(str(error))


def header() -> list[int]:
    """Names, first tokens and last tokens, as the head of the file counts them."""
    text = (Path(names.__file__).with_name("celebrities.txt")).read_text(encoding="utf-8")
    return [int(n) for n in re.search(r"# Names: (\d+); .* first tokens: (\d+); .* last tokens: (\d+)", text).groups()]


def test_celebrities_are_first_and_last_names_the_famous_first():
    people = names.celebrities()
    assert {"Albert Einstein", "Tom Cruise", "Taylor Swift"} <= set(people[:404])
    initials = [person[0] for person in people]
    assert len(set(initials[:100])) > 12  # no alphabet: the first names are a fair sample
    assert len({person.casefold() for person in people}) == len(people) == header()[0] >= 1500
    assert all(re.fullmatch(r"[A-Z][A-Za-z]* [A-Z][A-Za-z]*", person) for person in people)
    assert {"Nelson Mandela", "Serena Williams", "Aishwarya Rai", "Jackie Chan"} <= set(people)


def test_celebrities_are_two_tokens_of_the_true_vocabulary(clip):
    assert clip("Elon Musk sks").input_ids == [49406, 20406, 19063, 48136, 49407]
    people = clip(names.celebrities(), add_special_tokens=False).input_ids
    assert all(len(tokens) == 2 for tokens in people)
    assert len(set(map(tuple, people))) == len(people)
    first, last = (len(set(tokens)) for tokens in zip(*people, strict=True))
    assert [len(people), first, last] == header()
    assert min(first, last) >= 513  # so that 512 components of each are real

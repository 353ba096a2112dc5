"""Lists of names, and the list of celebrities against the true vocabulary of CLIP."""

import re
from pathlib import Path

import architectures
import pytest

from celeb_basis import basis as names
from celeb_basis.errors import BasisError

LIST = (Path(names.__file__).with_name("celebrities.txt")).read_text(encoding="utf-8")


def test_one_name_a_line_with_comments(tmp_path):
    path = tmp_path / "names.txt"
    text = "\ufeff# people\nAda  Lovelace\n\nAlan Turing # logician\nAda Lovelace\r\nJosé Ñandú\n"
    path.write_text(text, encoding="utf-8")
    assert names.read_names(path) == ["Ada Lovelace", "Alan Turing", "José Ñandú"]


@pytest.mark.parametrize(
    ("content", "says"),
    [(None, "there is no such file"), (b"# nobody\n\n", "no name in it"), (b"\xff\xfe\x00J\x00o", "not UTF-8")],
)
def test_a_bad_list_is_one_clear_line(tmp_path, content, says):
    path = tmp_path / "names.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(BasisError, match=says):
        names.read_names(path)


@pytest.fixture(scope="module")
def clip():
    """The tokenizer of SD 1, SD 2 and SDXL."""
    try:
        return architectures.clip_tokenizer()
    except FileNotFoundError as error:
        pytest.skip(str(error))


def header() -> dict[str, list[int]]:
    """Names, first tokens and last tokens in each vocabulary, as the head of the file counts them."""
    found = re.findall(r"# (\w+): (\d+) names; .* first tokens: (\d+); .* last tokens: (\d+)", LIST)
    return {label: [int(n) for n in numbers] for label, *numbers in found}


def marked(label: str) -> list[str]:
    """The names that the file says are two tokens in a vocabulary."""
    lines = (line.split(" # ") for line in LIST.splitlines() if not line.startswith("#"))
    return [name for name, marks in lines if label in marks.split()]


def test_celebrities_are_first_and_last_names_the_famous_first():
    people = names.celebrity_names()
    assert {"Albert Einstein", "Tom Cruise", "Taylor Swift"} <= set(people[:404])
    initials = [person[0] for person in people]
    assert len(set(initials[:100])) > 12  # no alphabet: the first names are a fair sample
    assert len({person.casefold() for person in people}) == len(people) >= 1500
    assert all(re.fullmatch(r"[A-Z][A-Za-z]* [A-Z][A-Za-z]*", person) for person in people)
    assert {"Nelson Mandela", "Serena Williams", "Aishwarya Rai", "Jackie Chan"} <= set(people)


def test_every_vocabulary_has_as_many_names_as_the_file_says():
    """And so many that 512 components of each position are real."""
    assert header().keys() == {"clip", "t5", "qwen"}
    for label, (count, first, last) in header().items():
        assert len(marked(label)) == count and min(first, last) >= 513
    assert set(names.celebrity_names()) == {name for label in header() for name in marked(label)}
    assert header()["qwen"][0] >= 2500 and header()["t5"][0] >= 1500


def test_celebrities_are_two_tokens_of_the_true_vocabulary(clip):
    assert clip("Elon Musk sks").input_ids == [49406, 20406, 19063, 48136, 49407]
    people = clip(marked("clip"), add_special_tokens=False).input_ids
    assert all(len(tokens) == 2 for tokens in people)
    assert len(set(map(tuple, people))) == len(people)
    first, last = (len(set(tokens)) for tokens in zip(*people, strict=True))
    assert [len(people), first, last] == header()["clip"]
    assert min(first, last) >= 513  # so that 512 components of each are real

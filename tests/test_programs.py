"""Names that work in every program that reads identity files."""

import gzip
from importlib.util import find_spec
from pathlib import Path

import pytest

from celeb_basis.embedding_io import free_name, in_prompts, name_problems


@pytest.fixture(scope="module")
def clip():
    """The vocabulary of CLIP."""
    folder = Path(find_spec("open_clip").origin).parent
    merges = gzip.open(folder / "bpe_simple_vocab_16e6.txt.gz", "rt", encoding="utf-8").read().split("\n")
    pieces = {"".join(line.split()) for line in merges[1 : 49152 - 256 - 2 + 1]}
    return pieces


@pytest.mark.parametrize("name", ["ada", "eve", "bo", "me", "cy"])
def test_pieces_of_the_vocabulary_break_a_program(clip, name):
    assert any("SD.Next" in problem for problem in name_problems(name, clip))


@pytest.mark.parametrize("name", ["annika", "bodil", "mirelle", "tovik"])
def test_the_names_of_our_examples_work_everywhere(clip, name):
    if f"{name}</w>" in clip:
        pytest.fail(f"{name} is a word of CLIP's vocabulary")
    assert name_problems(name, clip) == []


def test_spellings_that_break_a_program():
    assert "stable-diffusion.cpp" in name_problems("my-cat2")[0]
    assert "ComfyUI" in name_problems("My Cat")[0]
    assert "AUTOMATIC1111" in name_problems("<annika>")[0]
    assert name_problems("annika") == []


@pytest.mark.parametrize("wish", ["ada", "me", "anna", "tom2", "Zoë", "陈", "bo", "eve", "harry-potter"])
def test_a_name_that_works_is_proposed(clip, wish):
    name = free_name(wish, clip)
    assert name_problems(name, clip) == []
    assert free_name(name, clip) == name


def test_what_to_type_follows_the_file(tmp_path):
    typed = in_prompts(tmp_path / "mirelle.safetensors", "<annika>")
    assert typed["celeb-basis"] == "<annika>"
    assert typed["ComfyUI"] == "embedding:mirelle"
    assert typed["InvokeAI"] == "<mirelle>"


def test_the_vocabulary_of_a_model_on_this_machine():
    from celeb_basis.backend.hub import local_vocabulary
    from celeb_basis.backend.load import load_pipeline
    from celeb_basis.backend.text_encoders import vocabulary

    assert local_vocabulary("miniature") == vocabulary(load_pipeline("miniature"))
    assert local_vocabulary("nobody/nothing") == local_vocabulary("/no/such/folder") == frozenset()

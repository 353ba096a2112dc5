"""The README's commands and its example run as written, each in an empty folder; what the documents name is there."""

import gzip
import os
import re
import shlex
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path

import pytest

from celeb_basis.cli import main
from celeb_basis.cli.command import make_parser

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(language, text=README):
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def commands(language, text=README):
    lines = [line for block in blocks(language, text) for line in block.splitlines()]
    return [shlex.split(line, comments=True) for line in lines if line.startswith("celeb-basis")]


def test_commands_do_what_the_readme_says(tmp_path, monkeypatch, capsys):
    """The first as a program of its own, the others in this process, which saves the seconds of their imports."""
    first, *others = commands("sh")
    assert len(others) >= 7
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    done = subprocess.run(first, cwd=tmp_path, env=os.environ | {"PATH": path}, capture_output=True, text=True)
    assert done.returncode == 0, (first, done.stderr)
    monkeypatch.chdir(tmp_path)
    for _, *command in others:
        assert main(command) == 0, (command, capsys.readouterr().err)
    people = {f"{name}.safetensors" for name in ("annika", "tovik", "mirelle", "bodil")}
    assert {"annika.jpg", "tovik.jpg", "pair.png"} | people <= set(os.listdir())
    assert len(list(Path("pictures").glob("*.png"))) == 2


def test_the_example_in_python_runs_alone(tmp_path):
    [code] = blocks("python")
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True, capture_output=True)
    assert (tmp_path / "annika.png").stat().st_size > 1000


@pytest.mark.parametrize("document", [d for d in DOCUMENTS if d.name != "commands.md"], ids=lambda path: path.name)
def test_every_command_in_the_documents_parses(document):
    for _, *command in commands("(?:sh|text)", document.read_text()):
        assert make_parser().parse_args(command).run is not None, command


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_file_the_documents_name_is_there(document):
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", document.read_text()):
        assert (document.parent / target).exists(), target


def test_the_readme_fits_in_150_lines():
    assert len(README.splitlines()) <= 150


def test_the_example_in_python_is_short():
    [code] = blocks("python")
    lines = [line for line in code.splitlines() if line]
    assert len(lines) <= 8 and sum("import" in line for line in lines) == 1


@pytest.mark.parametrize("place", ["README.md", "docs", "examples", "integrations"])
def test_nobody_is_told_to_install_from_a_name_that_is_not_ours(place):
    """The package is not on PyPI, where anybody could take its name."""
    path = ROOT / place
    files = [path] if path.is_file() else [*path.rglob("*.md"), *path.rglob("*.ipynb"), *path.rglob("*.py")]
    for file in files:
        assert not re.search(r"pip install[^\n]*\bceleb-basis\b(?![/.])", file.read_text()), file


def test_names_in_examples_are_no_words_of_clip():
    """Programs that keep names as whole words would mistake a word of the vocabulary for the person."""
    try:
        [vocabulary] = [file for file in files("open_clip_torch") or [] if file.name == "bpe_simple_vocab_16e6.txt.gz"]
    except PackageNotFoundError:
        pytest.skip("needs the vocabulary in open_clip_torch")
    merges = gzip.decompress(vocabulary.read_binary()).decode().splitlines()[1 : 49152 - 256 - 1]
    words = {"".join(merge.split()).removesuffix("</w>") for merge in merges if merge.endswith("</w>")}
    shown = [README, (ROOT / "docs/commands.md").read_text(), *map(Path.read_text, (ROOT / "examples").glob("*.py"))]
    names = set(re.findall(r"<([a-z]+)>", " ".join(shown))) - {"name"}
    assert names >= {"annika", "tovik", "bodil"} and not names & words

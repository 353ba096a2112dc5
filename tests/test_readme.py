"""The README's own commands, run as written, in order, in an empty folder."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

README = (Path(__file__).parent.parent / "README.md").read_text()


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("readme")


def test_commands_do_what_the_readme_says(folder):
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    lines = [line for block in blocks("sh") for line in block.splitlines() if line.startswith("celeb-basis")]
    assert len(lines) >= 8
    for line in lines:
        command, env = shlex.split(line, comments=True), os.environ | {"PATH": path}
        done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True)
        assert done.returncode == 0, (line, done.stderr)
    assert {"person.jpg", "ada.safetensors", "eve.safetensors", "cy.safetensors", "pair.png"} <= set(os.listdir(folder))
    assert len(list((folder / "pictures").glob("*.png"))) == 2


def test_the_example_in_python_runs(folder):
    [code] = blocks("python")
    subprocess.run([sys.executable, "-c", code], cwd=folder, check=True, capture_output=True)
    assert (folder / "ada.png").stat().st_size > 1000


def test_every_file_the_readme_names_is_there():
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", README):
        assert (Path(__file__).parent.parent / target).exists(), target

"""CONTRIBUTING.md: its tree and its list of wings are those of the code."""

import re
import runpy
from pathlib import Path

from test_architecture import LAYERS

ROOT = Path(__file__).parents[1]
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text()


def test_the_tree_is_that_of_the_files():
    document = runpy.run_path(str(ROOT / "tools/document.py"))
    assert document["contributing"](CONTRIBUTING) == CONTRIBUTING, "run: python tools/document.py"


def test_the_wings_are_those_that_the_imports_keep():
    assert tuple(re.findall(r"^\d+\. `(\w+)`:", CONTRIBUTING, re.MULTILINE)) == LAYERS


def test_every_file_it_names_is_there():
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", CONTRIBUTING):
        assert (ROOT / target).exists(), target

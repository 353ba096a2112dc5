"""CONTRIBUTING.md: its map is that of the code, in the order that the imports keep."""

import re
from pathlib import Path

from test_architecture import LAYERS

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src/celeb_basis"
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text()


def mapped():
    """Return the names that the map gives to files and folders: the package's own, and those beside it."""
    [text] = re.findall(r"<!-- map -->\n```text\n(.*?)```", CONTRIBUTING, re.DOTALL)
    inside = re.findall(r"^  (\w+)(?:\.py|/) ", text, re.MULTILINE)
    return inside, re.findall(r"^(\w+)(?:/\w+)*/ ", text, re.MULTILINE)


def test_the_map_names_every_module_of_the_package():
    there = {path.stem for path in PACKAGE.iterdir() if path.suffix == ".py" or any(path.glob("*.py"))}
    assert sorted(mapped()[0]) == sorted(there - {"__init__", "__main__"})


def test_the_map_is_in_the_order_that_the_imports_keep():
    assert tuple(mapped()[0]) == LAYERS


def test_folders_beside_the_package_are_there():
    assert {"benchmarks", "docs", "tests", "tools"} <= set(mapped()[1])
    for folder in mapped()[1]:
        assert (ROOT / folder).is_dir(), folder


def test_every_file_it_names_is_there():
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", CONTRIBUTING):
        assert (ROOT / target).exists(), target


def test_it_is_short():
    assert len(CONTRIBUTING.splitlines()) <= 120

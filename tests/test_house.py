"""The import graph stays a house: data flows one way, no circle, nothing imports the command line."""

import ast
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import celeb_basis

ROOT = Path(celeb_basis.__file__).parent
LEAVES = {"errors", "names", "tokens", "artefact", "quiet", "regions"}
SHIPPED = {"miniature"}  # a model and its data: whoever offers it by name loads it when asked to
COMMANDS = {"cli", "web", "fleet"}
FORBIDDEN = {"utils", "helpers", "common", "constants", "types", "base", "manager", "trainer"}


def rooms():
    return {p.relative_to(ROOT).parts[0].removesuffix(".py") for p in ROOT.rglob("*.py")} - {"__init__"}


def imports_of(room):
    """Rooms that a room imports, type checking and late imports included."""
    found = set()
    files = [ROOT / f"{room}.py"] if (ROOT / f"{room}.py").exists() else list((ROOT / room).rglob("*.py"))
    for file in files:
        depth = len(file.relative_to(ROOT).parts)
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.ImportFrom) and node.level == depth:
                found |= {node.module.split(".")[0]} if node.module else {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("celeb_basis."):
                found.add(node.module.split(".")[1])
    return found & rooms() - {room}


def test_no_room_is_a_lumber_room():
    assert not rooms() & FORBIDDEN


def test_commands_are_imported_by_nobody():
    for room in rooms() - COMMANDS - {"__main__"}:
        assert not imports_of(room) & COMMANDS, room


def test_leaves_import_nothing_but_errors():
    for room in LEAVES:
        assert imports_of(room) - SHIPPED <= {"errors"}, room


def test_no_circle():
    # The pipeline loads the miniature when asked to, which imports no room that needs a pipeline.
    graph = {room: imports_of(room) - ({"miniature"} if room == "pipeline" else set()) for room in rooms()}
    list(TopologicalSorter(graph).static_order())


def test_the_page_calls_the_public_api_only():
    for file in (ROOT / "web").glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.ImportFrom) and node.level > 1:
                assert node.module is None, file
                assert {alias.name for alias in node.names} <= {*celeb_basis.__all__, *SHIPPED}, file


def test_no_file_is_a_tower():
    for file in ROOT.rglob("*.py"):
        assert len(file.read_text().splitlines()) <= 360, file


def test_the_library_does_not_print():
    for room in rooms() - COMMANDS - {"__main__", "miniature"}:
        for node in ast.walk(ast.parse((ROOT / f"{room}.py").read_text())):
            assert not (isinstance(node, ast.Call) and getattr(node.func, "id", "") == "print"), room


@pytest.mark.parametrize("name", [n for n in celeb_basis.__all__])
def test_public_names_exist(name):
    assert getattr(celeb_basis, name) is not None


def test_importing_the_package_is_free():
    code = "import sys, celeb_basis; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, env={"PYTHONPATH": str(ROOT.parent)})


def test_generate_stays_a_function():
    code = "import celeb_basis.generate, celeb_basis; assert callable(celeb_basis.generate)"
    subprocess.run([sys.executable, "-c", code], check=True, env={"PYTHONPATH": str(ROOT.parent)})

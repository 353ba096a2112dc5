"""The import graph keeps its shape: each layer knows only the layers above it, and no import runs in a circle."""

import ast
import re
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import celeb_basis

ROOT = Path(celeb_basis.__file__).parent
# From the top down: a layer imports from the layers before it, never from those after it.
LAYERS = (
    "limits",
    "errors",
    "notation",
    "io",
    "backend",
    "basis",
    "faces",
    "inversion",
    "instant_map",
    "directions",
    "embedding_io",
    "identity",
    "library",
    "regions",
    "generate",
    "fit",
    "signing",
    "image_files",
    "known_names",
    "casting",
    "milestones",
    "evaluation",
    "model",
    "check",
    "miniature",
    "fleet",
    "web",
    "cli",
)
FORBIDDEN = {"utils", "helpers", "common", "constants", "types", "base", "manager", "trainer", "registry"}


def modules():
    """Every module but the package's own front door, as path parts: ("basis", "basis")."""
    found = [p.relative_to(ROOT).with_suffix("").parts for p in ROOT.rglob("*.py")]
    return [parts for parts in found if parts not in (("__init__",), ("__main__",))]


def imports_of(parts):
    """Modules that a module imports, imports for type checking and inside functions included."""
    file = ROOT.joinpath(*parts).with_suffix(".py")
    package = ("celeb_basis", *parts[:-1])
    known = {m[:-1] if m[-1] == "__init__" else m for m in modules()}
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if not isinstance(node, ast.ImportFrom):
            continue
        base = package[: len(package) - node.level + 1] if node.level else ()
        target = (*base, *(node.module.split(".") if node.module else ()))
        if target[:1] != ("celeb_basis",):
            continue
        for alias in node.names:
            whole = (*target, alias.name)[1:]
            if whole in known:
                found.add(whole)
            elif target[1:] in known:
                found.add(target[1:])
            else:  # a public name of the package
                found.add(("__init__",))
    return found - {parts}


def layer(parts):
    return parts[0]


def test_every_layer_has_its_place():
    assert {layer(parts) for parts in modules()} == set(LAYERS)


def test_layers_know_only_layers_above_them():
    for parts in modules():
        for other in imports_of(parts) - {("__init__",)}:
            assert LAYERS.index(layer(other)) <= LAYERS.index(layer(parts)), (parts, other)


def test_no_circle():
    list(TopologicalSorter({parts: imports_of(parts) for parts in modules()}).static_order())


def test_names_of_modules_say_what_is_in_them():
    assert not {part for parts in modules() for part in parts} & FORBIDDEN


def test_programs_use_models_through_the_one_noun():
    """Which basis, which map, which reader, which judge: only `Model` answers."""
    answers = {"load_pipeline", "get_face_reader", "get_judge", "fit_steps", "basis_of_celebrities"}
    for parts in modules():
        if layer(parts) in ("miniature", "fleet", "web", "cli"):
            tree = ast.parse(ROOT.joinpath(*parts).with_suffix(".py").read_text())
            named = {a.name for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) for a in node.names}
            assert not named & answers, parts


def test_no_public_name_is_also_a_module():
    assert set(celeb_basis.__all__) & {parts[0] for parts in modules()} == {"miniature"}


def test_there_are_about_twenty_public_names():
    assert len(celeb_basis.__all__) <= 22


def test_no_file_is_long():
    for file in ROOT.rglob("*.py"):
        assert len(file.read_text().splitlines()) <= 500, file


def test_docstrings_of_functions_begin_with_a_verb():
    """A first word that is an article, a question or a noun says what something is, not what it does."""
    verbless = re.compile(r"(The|A|An|What|Where|Whether|How|Who|Which|One|Whose|Why|When|It|This)\b")
    for parts in modules():
        for node in ast.walk(ast.parse(ROOT.joinpath(*parts).with_suffix(".py").read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and (said := ast.get_docstring(node)):
                assert not verbless.match(said), (parts, node.name, said)


def test_the_library_does_not_print():
    for parts in modules():
        if layer(parts) in ("cli", "web"):
            continue
        for node in ast.walk(ast.parse(ROOT.joinpath(*parts).with_suffix(".py").read_text())):
            assert not (isinstance(node, ast.Call) and getattr(node.func, "id", "") == "print"), parts


@pytest.mark.parametrize("name", [n for n in celeb_basis.__all__])
def test_public_names_exist(name):
    assert getattr(celeb_basis, name) is not None


def test_importing_the_package_is_free():
    code = "import sys, celeb_basis; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, env={"PYTHONPATH": str(ROOT.parent)})

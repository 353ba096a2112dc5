"""The notebook's cells, run in order with the miniature in the place of Stable Diffusion."""

import json
from pathlib import Path

import pytest

from celeb_basis import Identity, miniature
from celeb_basis.miniature.drawn.world import SIZE

NOTEBOOK = Path(__file__).parents[2] / "examples" / "colab.ipynb"
# What a trial on a CPU replaces.
REPLACED = {'MODEL = "stable-diffusion-v1-5/stable-diffusion-v1-5"': 'MODEL = "miniature"', "STEPS = None": "STEPS = 3"}


@pytest.fixture(scope="module")
def notebook():
    return json.loads(NOTEBOOK.read_text(encoding="utf-8"))


def code_of(notebook):
    """The notebook as one program, without the lines that only a notebook understands."""
    cells = ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]
    return "\n".join(line for cell in cells for line in cell.splitlines() if not line.startswith(("%", "!")))


def test_from_photo_to_pictures_and_a_file(notebook, tmp_path, monkeypatch, capsys):
    code = code_of(notebook)
    for text, other in REPLACED.items():
        assert code.count(text) == 1
        code = code.replace(text, other)
    monkeypatch.chdir(tmp_path)
    miniature.person(7).save("me.jpg")
    shown = []
    exec(compile(code, str(NOTEBOOK), "exec"), {"display": shown.append})
    assert [picture.size for picture in shown] == [(256, 256), *[(SIZE, SIZE)] * 9]
    assert Identity.load("annika.safetensors").provenance["max_train_steps"] == "3"
    assert "embedding:annika" in capsys.readouterr().out


def test_it_is_stored_without_results(notebook):
    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
    assert len({cell["id"] for cell in notebook["cells"]}) == len(notebook["cells"])
    for cell in notebook["cells"]:
        assert cell["cell_type"] == "markdown" or (cell["outputs"] == [] and cell["execution_count"] is None)

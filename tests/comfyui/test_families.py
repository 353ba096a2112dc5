"""The pack against ComfyUI's own encoding and denoising, on small random models of each family."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif("COMFYUI_PATH" not in os.environ, reason="COMFYUI_PATH names no checkout of ComfyUI")


@pytest.fixture(scope="module")
def found():
    python = os.environ.get("COMFYUI_PYTHON", sys.executable)
    command = [python, Path(__file__).with_name("families.py")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("family", ["SD15", "SD21", "SDXL"])
def test_a_family_is_what_comfyui_computes(found, family):
    own = found[family]
    assert own["states"] < 1e-5 and own["network"] < 1e-5
    assert family != "SDXL" or own["pooled"] < 1e-5


@pytest.mark.parametrize("family", ["SD15", "SD21", "SDXL"])
def test_a_fit_moves_the_person_and_no_weight(found, family):
    assert found[family]["moved"] > 0.01
    assert found[family]["changed"] == 0


@pytest.mark.parametrize("family", ["klein", "z-image"])
def test_a_language_model_reads_people_as_the_library_lets_it(found, family):
    assert found[family]["states"] < 1e-5 and found[family]["two"] < 1e-5
    assert found[family]["changed"] == 0


@pytest.mark.parametrize("family", ["klein", "z-image"])
def test_a_fit_with_a_language_model_is_refused(found, family):
    assert "SD 1, SD 2 and SDXL" in found[family]["fit"]

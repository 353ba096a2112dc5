"""The examples run as they are, with few steps."""

import os
import subprocess
import sys
from pathlib import Path

EXAMPLES = Path(__file__).parents[1] / "examples"


def test_the_whole_method(tmp_path):
    command = [sys.executable, EXAMPLES / "whole_method.py", "out", "2"]
    env = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        *("photo.png", "basis.safetensors", "annika-instant.safetensors", "annika.safetensors"),
        *("scene-0.png", "scene-1.png", "scene-2.png"),
    }
    assert "step 2: loss 0." in done.stdout and "celebrities identity" in done.stdout


def test_one_page():
    assert len((EXAMPLES / "whole_method.py").read_text().splitlines()) <= 100

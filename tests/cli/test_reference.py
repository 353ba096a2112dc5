"""docs/commands.md is what the commands' own help says."""

import runpy
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.skipif(sys.version_info >= (3, 13), reason="later versions of Python lay out help differently")
def test_the_reference_is_the_help():
    document = runpy.run_path(str(ROOT / "tools/document.py"))
    assert (ROOT / "docs/commands.md").read_text() == document["commands"](), "run: python tools/document.py"

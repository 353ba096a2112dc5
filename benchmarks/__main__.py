"""Runs one of the benchmarks, or lists them.

    python benchmarks                    # the list
    python benchmarks compare --people 4

The folders comparison, cost and studies share modules: what is run here finds all three.
"""

from __future__ import annotations

import ast
import runpy
import sys
from pathlib import Path

HERE = Path(__file__).parent
FOLDERS = [HERE / name for name in ("comparison", "cost", "studies")]


def scripts() -> dict[str, Path]:
    """Return the files that can be run, by name."""
    files = [path for folder in FOLDERS for path in sorted(folder.glob("*.py"))]
    return {path.stem: path for path in files if '__name__ == "__main__"' in path.read_text(encoding="utf-8")}


def main() -> None:
    """Run the script that the first argument names, with the others; list all without one."""
    known = scripts()
    if len(sys.argv) < 2 or sys.argv[1] not in known:
        for name, path in known.items():
            line = (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "").partition("\n")[0]
            print(f"{path.parent.name + '/' + name:28} {line}")
        raise SystemExit(f"no benchmark is called {sys.argv[1]}" if len(sys.argv) > 1 else 0)
    path = known[sys.argv[1]]
    sys.path[:0] = map(str, FOLDERS)
    sys.argv = [str(path), *sys.argv[2:]]
    runpy.run_path(str(path), run_name="__main__")


if __name__ == "__main__":
    main()

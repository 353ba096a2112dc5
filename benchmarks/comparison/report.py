"""Writes what a comparison found: its tables and plots, and the tables of docs/results.md and README.md.

    python benchmarks report                                        # drawn people, and all documents
    python benchmarks report benchmarks/comparison/results/portraits    # photographed people

In the documents a table is replaced where it stands between <!-- table: NAME --> and <!-- /table -->. Tables of
photographed people are named portraits_NAME there.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping
from pathlib import Path

from plots import courses, scatter, until
from record import STORED, Result
from tables import load, made
from worlds import PORTRAITS

from celeb_basis.io import write_atomically

REPOSITORY = Path(__file__).parents[2]
DOCUMENTS = (REPOSITORY / "docs/results.md", REPOSITORY / "README.md")
MARKED = re.compile(r"(<!-- table: (\w+) -->\n).*?(<!-- /table -->)", re.DOTALL)


def filled(document: str, tables: Mapping[str, str]) -> str:
    """A document with its marked tables replaced. Raises KeyError for a marker that names no table."""
    return MARKED.sub(lambda match: f"{match[1]}{tables[match[2]]}\n{match[3]}", document)


def documented(drawn: Mapping[str, str], photographed: Mapping[str, str]) -> dict[str, str]:
    """Every table that documents may show, by the name in its marker."""
    return {**drawn, **{f"{PORTRAITS}_{name}": text for name, text in photographed.items()}}


def overview(results: Mapping[str, Result], tables: Mapping[str, str]) -> str:
    """All tables in one document."""
    note = f"95% bootstrap intervals over people; {until(results)}. Written by `python benchmarks report`."
    shown = [text for name, text in tables.items() if name != "readme" and text.count("\n") > 1]
    return "\n\n".join(["# The comparison", *shown, note]) + "\n"


def main() -> None:
    """Write tables and plots."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", default=STORED, help="of compare.py's results")
    folder = parser.parse_args().folder
    results = load(folder)
    tables = made(results)
    texts = {folder.with_suffix(".md"): overview(results, tables)}
    if folder.resolve() == STORED.resolve():  # the documents speak of the stored results alone
        shown = documented(tables, made(load(STORED / PORTRAITS)))
        texts |= {path: filled(path.read_text(), shown) for path in DOCUMENTS}
    for path, text in texts.items():
        with write_atomically(path) as temporary:
            temporary.write_text(text)
    scatter(results, folder.with_name(f"{folder.name}-scatter.png"))
    if any(r.courses for r in results.values()):
        courses(results, folder.with_name(f"{folder.name}-courses.png"))
    print(texts[folder.with_suffix(".md")])


if __name__ == "__main__":
    main()

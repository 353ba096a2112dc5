"""Likeness by groups of photographed people: of whom are the pictures worse?

    python benchmarks groups --portraits DIR      # reads results/portraits, as compare wrote it

Gender is as recorded in portraits.csv. Glasses and beards were seen by eye in the photographs that are fitted, of the
first hundred people for reports; a moustache counts as a beard. Faces of one group may look more alike to a judge than
those of another, so compare a group's identity with that of the mean person, or look at rank-1. Celebrities are left
out, as they are other people.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path

from contenders import CONTENDERS, Celebrities
from record import STORED, Result
from tables import MEASURES, cell, load, table
from worlds import PORTRAITS, Photographed

MARKED = range(3337, 3536)
"""People of the folder, of whom those with odd numbers are for reports."""
GLASSES = frozenset(
    (3353, 3367, 3369, 3377, 3379, 3391, 3401, 3405, 3407, 3431, 3433, 3435, 3455, 3457, 3463, 3467, 3469, 3479, 3483,
     3489, 3493, 3495, 3501, 3503, 3511, 3513, 3527, 3533)
)  # fmt: skip
BEARD = frozenset((3345, 3389, 3397, 3399, 3413, 3431, 3445, 3449, 3463, 3479, 3481, 3495, 3507, 3515))


def groups(genders: Mapping[int, str]) -> dict[str, set[int]]:
    """Return who is in each group; genders: m or f, by the folder's number of a person."""
    marked = {person: gender for person, gender in genders.items() if person in MARKED}
    men = {person for person, gender in marked.items() if gender == "m"}
    return {
        "women": {person for person, gender in genders.items() if gender == "f"},
        "men": {person for person, gender in genders.items() if gender == "m"},
        "with glasses": marked.keys() & GLASSES,
        "without": marked.keys() - GLASSES,
        "men with a beard": men & BEARD,
        "men without": men - BEARD,
    }


def by_group(results: Mapping[str, Result], members: Mapping[str, set[int]], who: Callable[[int], int]) -> str:
    """Return a table in markdown of people alone: means with 95% intervals over the people of a group.

    who: the folder's number of a person, from that in the results.
    """
    measures = {name: MEASURES[name] for name in ("identity", "rank-1", "faces found")}
    rows = []
    for name, result in results.items():
        if isinstance(CONTENDERS.get(name), Celebrities):
            continue
        values = [measure(result) for measure in measures.values()]
        for group, those in members.items():
            own = [{n: value for n, value in each.items() if who(int(n)) in those} for each in values]
            if own[0]:
                rows.append([name, group, str(len(own[0])), *map(cell, own)])
    return table(["one new person", "group", "people", *measures], rows) + "\n"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", default=STORED / PORTRAITS, help="of compare's results")
    parser.add_argument("--portraits", type=Path, metavar="DIR", required=True, help="with the photographs")
    args = parser.parse_args()
    results, world = load(args.folder), Photographed(args.portraits)
    print(by_group(results, groups(world.genders), world.who))


if __name__ == "__main__":
    main()

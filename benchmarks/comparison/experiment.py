"""What experiments share: contenders side by side on a few people, and their table."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from compare import Comparison
from contenders import Contender, Fitted, as_by_default
from model import Model
from record import STORED, Result, read
from tables import ALONE, MEASURES, PAIR, THREE, by_person, cell, identity, prompt, table
from work import Work
from worlds import REPORTED, world_of

from celeb_basis.io import write_atomically

OF_ONE = {key: measure for key, measure in MEASURES.items() if key != "rank-1"}
OF_SEVERAL = {
    "identity": identity,
    "faces found": lambda row: row["found"],
    "prompt": prompt,
    "told apart": lambda row: row["apart"],
    "on their sides": lambda row: row["sides"],
    "cosine with the others": lambda row: row["bleeding"],
    "that of their photographs": lambda row: row["photographs"],
}


def run(
    name: str,
    contenders: Mapping[str, Contender],
    sizes: Sequence[int],
    description: str | None,
    *,
    people: int = 6,
    together: Mapping[str, int] | None = None,
) -> None:
    """Read the command line, draw what is not there yet, and write and print the experiment's table.

    sizes: how many people there are in a picture, 1, 2 or 3.
    people: how many by default. together: how many of them are learnt in one fit, where it is not all of them.
    """
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--people", type=int, default=people, help="%(default)s by default")
    parser.add_argument("--seeds", type=int, default=1, help="pictures of a prompt, %(default)s by default")
    parser.add_argument("--steps", type=int, help="of every fit, to see that it works; by default each row's own")
    parser.add_argument("--first", type=int, default=REPORTED, help="number of the first, %(default)s by default")
    parser.add_argument("--only", action="append", choices=contenders, metavar="ROW")
    parser.add_argument("--portraits", type=Path, metavar="DIR", help="with photographs: measure the model portraits")
    parser.add_argument("--batch-size", type=int, default=20, help="pictures drawn at once")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--out", type=Path, help="the folder of its rows")
    args = parser.parse_args()
    world = world_of(args.portraits)
    model, work = Model(args.device, world=world), Work(args.people, args.first, crowded=False, world=world)
    out = args.out or STORED / (f"{world.model}-{name}" if args.portraits else name)
    for row in args.only or contenders:
        contender = as_by_default(contenders[row], model)
        if args.steps and isinstance(contender, Fitted):
            contender = replace(contender, steps=args.steps)
        comparison = Comparison(row, contender, model, work, out, seeds=args.seeds, batch_size=args.batch_size)
        step = (together or {}).get(row, args.people)
        for first in range(0, args.people - step + 1, step):
            comparison.run(range(first, first + step), sizes)
    results = {path.stem: read(path) for path in sorted(out.glob("*.jsonl"))}
    text = tables({found.header["name"]: found for found in results.values()}, list(contenders))
    with write_atomically(out.with_suffix(".md")) as temporary:
        temporary.write_text(text)
    print(text)


def tables(results: Mapping[str, Result], order: Sequence[str]) -> str:
    """Tables in markdown, of pictures of one person, of two and of three: means with 95% intervals over people."""
    known = {name: results[name] for name in order if name in results}
    parts = []
    for title, kinds in (("one new person", ALONE), ("two new people", PAIR), ("three new people", THREE)):
        rows = []
        for name, result in known.items():
            values = {
                key: measure(result) if kinds == ALONE else by_person(result, measure, kinds)
                for key, measure in (OF_ONE if kinds == ALONE else OF_SEVERAL).items()
            }
            if values["identity"]:
                rows.append([name, str(len(values["identity"])), *map(cell, values.values())])
        if rows:
            parts.append(table([title, "groups" if kinds != ALONE else "people", *values], rows))
    headers = [result.header for result in known.values()]
    if headers:
        first, seeds = headers[0]["first"], headers[0]["seeds"]
        parts.append(
            f"People from {first} on, pictures of a prompt: {seeds}; 95% bootstrap intervals over people or groups."
        )
    return "\n\n".join(parts) + "\n"

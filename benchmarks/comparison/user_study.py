"""A user study: pairs of pictures on a page, two questions each; answers as CSV files; Bradley-Terry scores.

    python benchmarks user_study draw --people 4 -o study         # the miniature's pictures by some contenders
    python benchmarks user_study make study/drawn -o study/page   # the page, for people in a browser
    python benchmarks user_study score study/page answers*.csv    # what they said

`make` takes any pictures: METHOD/PERSON/PROMPT.png for each method, and PERSON.png in a folder `photos` beside them.
The page lies in one folder and needs no server; key.csv, which says who drew what, is to stay with whoever asks.
"""

from __future__ import annotations

import argparse
import csv
import html
import json
import random
import shutil
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

QUESTIONS = {
    "identity": "In which picture does the person look more like the one in the photograph?",
    "prompt": "Which picture shows more of what the text says?",
}
ANSWERS = ("left", "right", "neither")
KEY, FIELDS = ("pair", "left", "right"), ("rater", "pair", "question", "answer")
PRIOR = 0.5  # wins of either over the other that every two methods have before anybody answers
DRAWN = ("Celeb Basis, refined", "the paper's recipe")


class Pair(NamedTuple):
    """Two pictures of one person in one prompt, and the methods that drew them."""

    person: str
    prompt: str
    left: str
    right: str


def pairs_in(folder: Path, number: int, seed: int) -> list[Pair]:
    """So many pairs of pictures of the same, spread evenly over the methods, in random order and on random sides."""
    methods = sorted(path.name for path in folder.iterdir() if path.is_dir() and path.name != "photos")
    files = {name: {str(p.relative_to(folder / name)) for p in (folder / name).glob("*/*.png")} for name in methods}
    if len(methods) < 2:
        raise SystemExit(f"{folder} holds pictures of {len(methods)} methods: two or more are compared")
    chance = random.Random(seed)
    pools = []
    for a, b in combinations(methods, 2):
        both = sorted(files[a] & files[b])
        chance.shuffle(both)
        pools.append([(a, b, name) for name in both])
    if not any(pools):
        raise SystemExit(f"no two methods in {folder} drew the same person in the same prompt")
    chosen: list[Pair] = []
    for k in range(max(map(len, pools))):
        for pool in pools:
            if k < len(pool) and len(chosen) < number:
                *sides, name = pool[k]
                chance.shuffle(sides)
                chosen.append(Pair(Path(name).parent.name, Path(name).stem, *sides))
    chance.shuffle(chosen)
    return chosen


def make(folder: Path, out: Path, number: int, seed: int) -> None:
    """Write the page, its pictures and its key."""
    chosen = pairs_in(folder, number, seed)
    (out / "pictures").mkdir(parents=True, exist_ok=True)
    shown = []
    for i, pair in enumerate(chosen):
        photo = folder / "photos" / f"{pair.person}.png"
        if not photo.is_file():
            raise SystemExit(f"{photo} is missing: the page shows a photograph beside the pictures")
        shutil.copyfile(photo, out / "pictures" / f"{i}-photo.png")
        for side in ("left", "right"):
            source = folder / getattr(pair, side) / pair.person / f"{pair.prompt}.png"
            shutil.copyfile(source, out / "pictures" / f"{i}-{side}.png")
        shown.append(pair.prompt.replace("-", " "))
    with (out / "key.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([KEY, *((i, pair.left, pair.right) for i, pair in enumerate(chosen))])
    data = json.dumps({"prompts": shown, "questions": QUESTIONS, "fields": FIELDS}).replace("<", "\\u003c")
    (out / "index.html").write_text(PAGE.replace("DATA", data).replace("TITLE", html.escape("Which picture?")))
    print(f"{len(chosen)} pairs: open {out / 'index.html'}, and keep {out / 'key.csv'} to yourself")


def read_answers(page: Path, files: Sequence[Path]) -> list[tuple[str, str, str, str, float]]:
    """What raters said: (rater, question, two methods, how far the first won: 1, 0 or .5)."""
    with (page / "key.csv").open(newline="", encoding="utf-8") as file:
        key = {row["pair"]: row for row in csv.DictReader(file)}
    answers: dict[tuple[str, str, str], str] = {}  # of a pair that is answered twice, the last counts
    for path in files:
        with path.open(newline="", encoding="utf-8") as file:
            for number, row in enumerate(csv.DictReader(file), start=2):
                if (
                    any(row.get(field) is None for field in FIELDS)
                    or row["pair"] not in key
                    or row["question"] not in QUESTIONS
                    or row["answer"] not in ANSWERS
                ):
                    raise SystemExit(f"{path}, line {number}, is no answer to this page")
                answers[row["rater"], row["pair"], row["question"]] = row["answer"]
    if not answers:
        raise SystemExit("nobody has answered yet")
    won = {"left": 1.0, "right": 0.0, "neither": 0.5}
    return [
        (rater, question, key[pair]["left"], key[pair]["right"], won[answer])
        for (rater, pair, question), answer in answers.items()
    ]


def bradley_terry(wins: NDArray[np.float64], rounds: int = 2000) -> NDArray[np.float64]:
    """Scores (n,) whose mean is 0, of a table of wins (n, n): P(i beats j) = 1 / (1 + exp(s_j - s_i)).

    Source: Hunter, "MM algorithms for generalized Bradley-Terry models" (2004).
    """
    games, strength = wins + wins.T, np.ones(len(wins))
    for _ in range(rounds):
        strength = wins.sum(1) / (games / (strength[:, None] + strength)).sum(1)
        strength /= np.exp(np.log(strength).mean())
    return np.log(strength)


def score(page: Path, files: Sequence[Path], resamples: int = 200) -> str:
    """A table in markdown of each method's score in each question, with 95% intervals over raters, or over answers."""
    answers = read_answers(page, files)
    methods = sorted({name for _, _, *two, _ in answers for name in two})
    raters = sorted({rater for rater, *_ in answers})
    lines = [f"| {' | '.join(['method', *QUESTIONS])} |", "|" + "---|" * (1 + len(QUESTIONS))]
    columns = []
    for question in QUESTIONS:
        own = [each for each in answers if each[1] == question]
        units = [[each for each in own if each[0] == rater] for rater in raters]
        if len(raters) == 1:
            units = [[each] for each in own]
        chance = np.random.default_rng(0)
        found = bradley_terry(table_of(own, methods))
        drawn = []
        for _ in range(resamples):
            again = [each for k in chance.integers(len(units), size=len(units)) for each in units[k]]
            drawn.append(bradley_terry(table_of(again, methods), 200))
        low, high = np.quantile(drawn, [0.025, 0.975], axis=0)
        columns.append([f"{s:+.2f} ({a:+.2f} to {b:+.2f})" for s, a, b in zip(found, low, high, strict=True)])
    lines += [f"| {' | '.join([name, *cells])} |" for name, *cells in zip(methods, *columns, strict=True)]
    over = "raters" if len(raters) > 1 else "answers of the only rater"
    note = (
        f"{len(answers)} answers of {len(raters)} raters; Bradley-Terry scores, mean 0, with 95% intervals over {over}."
    )
    return "\n".join([*lines, "", note]) + "\n"


def table_of(answers: Sequence[tuple[str, str, str, str, float]], methods: Sequence[str]) -> NDArray[np.float64]:
    """How often each method won over each other (n, n), with half a win either way to begin with."""
    wins = PRIOR * (1 - np.eye(len(methods)))
    for _, _, left, right, won in answers:
        i, j = methods.index(left), methods.index(right)
        wins[i, j] += won
        wins[j, i] += 1 - won
    return wins


def draw(out: Path, people: int, rows: Sequence[str]) -> None:
    """Draw the scenes of the comparison by some contenders, and the photographs."""
    from contenders import CONTENDERS
    from model import Model, worn
    from work import SHORT, Work
    from worlds import REPORTED

    from celeb_basis.image_files import file_stem

    if unknown := sorted(set(rows) - CONTENDERS.keys()):
        raise SystemExit(f"there is no contender {unknown[0]!r}: choose from {', '.join(CONTENDERS)}")
    model, work = Model(), Work(people, REPORTED, crowded=False)
    for person in work.people:
        save_to(person.photo, out / "drawn" / "photos" / f"{person.number}.png")
        for row in rows:
            folder = out / "drawn" / row / str(person.number)
            if len(list(folder.glob("*.png"))) == len(SHORT):
                continue
            for step in CONTENDERS[row].learn(model, [person]):
                learnt = step
            with worn(model.pipe, learnt.unet):
                pictures, _ = work.draw(model.pipe, learnt.vectors, [person], SHORT, 1, len(SHORT))
            for picture, (_, text) in zip(pictures, SHORT, strict=True):
                save_to(picture, folder / f"{file_stem(text.replace('{0}', 'the person'))}.png")
    print(f"the pictures are in {out / 'drawn'}")


def save_to(picture: object, path: Path) -> None:
    """Save a picture alone: what made it would tell raters whose it is."""
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.convert("RGB").resize((384, 384)).save(path)  # type: ignore[attr-defined]


PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>TITLE</title>
<style>
  body { font: 1.1rem system-ui, sans-serif; margin: 2rem auto; max-width: 60rem; padding: 0 1rem; }
  .row { display: flex; gap: 1rem; flex-wrap: wrap; } figure { margin: 0; flex: 1 1 12rem; } img { width: 100%; }
  fieldset { margin: 1rem 0; border: 1px solid #888; } button { font: inherit; padding: .5rem 1rem; }
</style>
<h1>TITLE</h1>
<p id="count" aria-live="polite"></p>
<form id="form"><div class="row">
  <figure><img id="photo" alt="photograph of the person"><figcaption>the photograph</figcaption></figure>
  <figure><img id="left" alt="left picture"><figcaption>left</figcaption></figure>
  <figure><img id="right" alt="right picture"><figcaption>right</figcaption></figure>
</div><p>Text: <q id="prompt"></q></p><div id="questions"></div><button>Next</button></form>
<p id="end" hidden>That was the last pair. Thank you! <a id="save" download="answers.csv">Save the answers</a> and send
them to whoever asked you.</p>
<script>
const data = DATA, store = "answers " + location.pathname, get = id => document.getElementById(id)
const rater = Math.random().toString(36).slice(2, 10)
const kept = JSON.parse(localStorage.getItem(store) || "null") || {rater, rows: []}
const choices = {left: "left", right: "right", neither: "no difference"}
const seen = () => kept.rows.length / Object.keys(data.questions).length
function show() {
  const i = seen(), n = data.prompts.length
  get("count").textContent = i < n ? `pair ${i + 1} of ${n}` : ""
  get("form").hidden = i >= n
  get("end").hidden = i < n
  if (i >= n) {
    const text = [data.fields, ...kept.rows].map(row => row.join(",")).join("\\n") + "\\n"
    get("save").href = URL.createObjectURL(new Blob([text], {type: "text/csv"}))
    return
  }
  for (const side of ["photo", "left", "right"]) get(side).src = `pictures/${i}-${side}.png`
  get("prompt").textContent = data.prompts[i]
  get("questions").innerHTML = Object.entries(data.questions).map(([key, text]) => {
    const options = Object.entries(choices).map(([value, label]) =>
      `<label><input type="radio" required name="${key}" value="${value}"> ${label}</label>`)
    return `<fieldset><legend>${text}</legend>${options.join(" ")}</fieldset>`
  }).join("")
}
get("form").addEventListener("submit", event => {
  event.preventDefault()
  const i = seen(), said = new FormData(get("form"))
  for (const key of Object.keys(data.questions)) kept.rows.push([kept.rater, i, key, said.get(key)])
  localStorage.setItem(store, JSON.stringify(kept))
  show()
})
show()
</script></html>
"""


def main() -> None:
    """Draw pictures, make the page, or score the answers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    drawing = commands.add_parser("draw", help="draw the miniature's pictures by some contenders")
    drawing.add_argument("--people", type=int, default=4)
    drawing.add_argument("--row", action="append", metavar="CONTENDER", help=f"by default {' and '.join(DRAWN)}")
    drawing.add_argument("-o", "--out", type=Path, default=Path("study"))
    making = commands.add_parser("make", help="make the page from pictures")
    making.add_argument("folder", type=Path)
    making.add_argument("--pairs", type=int, default=40, help="%(default)s by default")
    making.add_argument("--seed", type=int, default=0, help="of the order and the sides")
    making.add_argument("-o", "--out", type=Path, default=Path("study/page"))
    scoring = commands.add_parser("score", help="score the answers")
    scoring.add_argument("page", type=Path)
    scoring.add_argument("answers", type=Path, nargs="+")
    args = parser.parse_args()
    if args.command == "draw":
        draw(args.out, args.people, args.row or DRAWN)
    elif args.command == "make":
        make(args.folder, args.out, args.pairs, args.seed)
    else:
        print(score(args.page, args.answers))


if __name__ == "__main__":
    main()

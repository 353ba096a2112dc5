"""The user study: pairs that hide who drew them, answers of raters, Bradley-Terry scores."""

import csv
from pathlib import Path

import numpy as np
import pytest
import user_study
from PIL import Image

CHROMIUM = Path("/usr/bin/chromium")
COLOURS = {"ours": "red", "theirs": "blue", "third": "green"}


@pytest.fixture
def page(tmp_path):
    for method, colour in COLOURS.items():
        for person in ("1", "2"):
            for prompt in ("a-photo-of-the-person", "the-person-in-snow"):
                path = tmp_path / "drawn" / method / person / f"{prompt}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.new("RGB", (4, 4), colour).save(path)
    (tmp_path / "drawn" / "photos").mkdir()
    for person in ("1", "2"):
        Image.new("RGB", (4, 4), "white").save(tmp_path / "drawn" / "photos" / f"{person}.png")
    user_study.make(tmp_path / "drawn", tmp_path / "page", 100, 0)
    return tmp_path / "page"


def answers(page, path, rater, says):
    """Write what a rater says of each pair: of the method on the left and that on the right."""
    with (page / "key.csv").open(newline="") as file:
        key = list(csv.DictReader(file))
    rows = [[rater, row["pair"], q, says(row["left"], row["right"], q)] for row in key for q in user_study.QUESTIONS]
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([user_study.FIELDS, *rows])
    return path


def test_the_page_shows_every_pair_and_hides_who_drew_it(page):
    with (page / "key.csv").open(newline="") as file:
        key = list(csv.DictReader(file))
    assert len(key) == 3 * 4 and len({frozenset((row["left"], row["right"])) for row in key}) == 3
    for row in key:
        for side in ("left", "right"):
            with Image.open(page / "pictures" / f"{row['pair']}-{side}.png") as picture:
                assert picture.getpixel((0, 0)) == Image.new("RGB", (1, 1), COLOURS[row[side]]).getpixel((0, 0))
    text = (page / "index.html").read_text()
    assert "the person in snow" in text and not any(method in text for method in COLOURS)


def test_scores_are_those_of_two_methods_in_closed_form():
    wins = np.array([[0.0, 3.0], [1.0, 0.0]])
    assert user_study.bradley_terry(wins) == pytest.approx([np.log(3) / 2, -np.log(3) / 2], abs=1e-6)


def test_scores_find_the_strengths_again():
    chance, strengths = np.random.default_rng(0), np.array([1.0, 0.0, -1.0])
    wins = np.zeros((3, 3))
    for i in range(3):
        for j in range(i):
            won = chance.binomial(4000, 1 / (1 + np.exp(strengths[j] - strengths[i])))
            wins[i, j], wins[j, i] = won, 4000 - won
    assert user_study.bradley_terry(wins) == pytest.approx(strengths, abs=0.06)


def test_answers_become_a_table(page, tmp_path):
    order = ["ours", "third", "theirs"]

    def likes(left, right, question):
        if question == "prompt":
            return "neither"
        return "left" if order.index(left) < order.index(right) else "right"

    files = [answers(page, tmp_path / f"{rater}.csv", rater, likes) for rater in ("a", "b")]
    text = user_study.score(page, files)
    assert text.index("| ours | +") > 0 and "| theirs | -" in text and "| third | +0.00" in text
    assert text.count("+0.00 (+0.00 to +0.00)") >= 3, "nobody saw a difference in prompts"
    assert "48 answers of 2 raters" in text


def test_what_cannot_be_compared_or_scored_is_one_line(page, tmp_path):
    for rows, says in (([], "nobody has answered"), ([["a", "99", "identity", "left"]], "line 2, is no answer")):
        with (tmp_path / "answers.csv").open("w", newline="") as file:
            csv.writer(file).writerows([user_study.FIELDS, *rows])
        with pytest.raises(SystemExit, match=says):
            user_study.score(page, [tmp_path / "answers.csv"])
    (tmp_path / "one" / "ours" / "1").mkdir(parents=True)
    with pytest.raises(SystemExit, match="two or more are compared"):
        user_study.pairs_in(tmp_path / "one", 1, 0)


@pytest.mark.skipif(not CHROMIUM.exists(), reason=f"no browser at {CHROMIUM}")
def test_a_rater_answers_in_the_browser_and_saves(page, tmp_path):
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as session:
        browser = session.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        shown = browser.new_page()
        shown.goto((page / "index.html").as_uri())
        for k in range(12):
            assert shown.inner_text("#count") == f"pair {k + 1} of 12"
            shown.wait_for_function("[...document.images].every(image => image.complete && image.naturalWidth > 0)")
            shown.check("input[name=identity][value=left]")
            shown.check("input[name=prompt][value=neither]")
            shown.click("button")
            if k == 5:  # what was answered is still there, once the browser has written it down
                shown.wait_for_timeout(1000)
                shown.reload()
        with shown.expect_download() as download:
            shown.click("#save")
        download.value.save_as(tmp_path / "answers.csv")
        browser.close()
    assert "24 answers of 1 raters" in user_study.score(page, [tmp_path / "answers.csv"])

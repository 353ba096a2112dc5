"""Takes the pictures of the page in docs/: a photo is learnt and drawn, on a desktop and on a phone.

    python tools/page_pictures.py

Needs the extras web and dev, and Chromium.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

from celeb_basis import miniature
from celeb_basis.web import Studio, serve

DOCS = Path(__file__).parents[1] / "docs"
CHROMIUM = "/usr/bin/chromium"
SIZES = {"desktop": (1280, 860), "phone": (390, 844)}
PERSON = 7
PROMPT = "a photo of <annika> in the snow with a crown"


def learn(page: Page, photo: Path) -> None:
    """Learn a person from a photo."""
    page.locator("input[type=file]").first.set_input_files(photo)
    page.get_by_text("Found the face").wait_for()
    page.get_by_label("Name").first.fill("Annika")
    page.get_by_role("button", name="Fit", exact=True).click()
    page.get_by_text("can be named in prompts now").wait_for()


def draw(page: Page) -> None:
    """Draw the person who was learnt."""
    page.get_by_role("tab", name="Draw").click()
    page.get_by_role("textbox", name="Prompt", exact=True).fill(PROMPT)
    page.get_by_role("button", name="Draw", exact=True).click()
    page.get_by_text("2 of 2 pictures").wait_for()


def shoot(page: Page, name: str) -> None:
    """Save a picture of the whole page, with nothing left that moves."""
    page.wait_for_timeout(2000)
    page.mouse.move(0, 0)
    page.screenshot(path=DOCS / f"page-{name}.png", full_page=True)


def main() -> None:
    """Take four pictures: learning in the light, drawing in the dark, each on two screens."""
    with tempfile.TemporaryDirectory() as folder, serve(Studio(Path(folder) / "pictures")) as address:
        photo = Path(folder) / "annika.jpg"
        miniature.person(PERSON).save(photo)
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
            for screen, (width, height) in SIZES.items():
                page = browser.new_page(viewport={"width": width, "height": height}, color_scheme="light")
                page.set_default_timeout(300_000)
                page.goto(address)
                learn(page, photo)
                shoot(page, f"{screen}-light")
                page.emulate_media(color_scheme="dark")
                draw(page)
                shoot(page, f"{screen}-dark")
                page.close()
            browser.close()


if __name__ == "__main__":
    main()

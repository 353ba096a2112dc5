"""The page's theme, its style sheet, and the small pieces of HTML in it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from html import escape
from typing import Any

import gradio as gr

# Fonts of the visitor's own machine: Gradio's default fonts would be downloaded.
THEME = gr.themes.Default(
    primary_hue="teal",
    neutral_hue="stone",
    font=("system-ui", "sans-serif"),
    font_mono=("ui-monospace", "monospace"),
).set(  # white letters are hard to read on the default, which is lighter
    button_primary_background_fill="*primary_700",
    button_primary_background_fill_hover="*primary_800",
    button_primary_background_fill_dark="*primary_700",
    button_primary_background_fill_hover_dark="*primary_800",
)
ACCENT = (20, 184, 166)

CSS = """
.gradio-container { width: 100%; max-width: 1120px !important; margin: 0 auto; }
#title h1 { margin: 0; font-size: 1.5rem; }
#title p { margin: .15rem 0 0; color: var(--body-text-color-subdued); }
.status { min-height: 3rem; }
.status p { margin: 0 0 .4rem; overflow-wrap: anywhere; }
.status .done { font-weight: 600; }
.status progress { appearance: none; display: block; width: 100%; height: .5rem; border: 0; border-radius: 1rem;
  overflow: hidden; background: var(--border-color-primary); }
.status progress::-webkit-progress-bar { background: var(--border-color-primary); }
.status progress::-webkit-progress-value { background: var(--color-accent); transition: width .3s; }
.status progress::-moz-progress-bar { background: var(--color-accent); }
.chips { display: flex; flex-wrap: wrap; gap: .4rem; align-items: center; }
.chips button { margin: 0; border: 1px solid var(--border-color-primary); border-radius: 1rem; padding: .2rem .75rem;
  background: transparent; color: var(--body-text-color); font-size: .9rem; font-weight: 400; cursor: pointer; }
.chips button:hover, .chips button:focus-visible { border-color: var(--color-accent); }
.chips button.person { border-color: var(--color-accent); font-family: var(--font-mono); }
.chips .hint { color: var(--body-text-color-subdued); }
.pictures .grid-wrap { min-height: 7rem; height: auto !important; max-height: none !important; padding-top: 2rem; }
.pictures .grid-container { grid-template-columns: repeat(auto-fill, minmax(min(7.5rem, 28%), 1fr)) !important; }
.large .grid-container { grid-template-columns: repeat(auto-fill, minmax(min(14rem, 45%), 1fr)) !important; }
@media (min-width: 640px) { .five .grid-container { grid-template-columns: repeat(5, 1fr) !important; } }
.tiny .grid-container { grid-template-columns: repeat(6, minmax(0, 1fr)) !important; }
.faces .grid-container { grid-template-columns: repeat(auto-fit, minmax(4rem, 1fr)) !important; }
.faces .grid-wrap { max-height: 100% !important; }
.tiny .grid-container, .faces .grid-container { grid-template-rows: auto !important; grid-auto-rows: auto !important; }
.tiny .thumbnail-lg, .faces .thumbnail-lg { width: 100%; min-width: 0; height: auto; aspect-ratio: 1; }
.tiny .grid-wrap { min-height: 4rem; }
/* What comes out stands beside what goes in; on a phone below it, and the settings below both. */
.sides { display: grid !important; grid-template: "what" "out" "how" / minmax(0, 1fr); align-items: start; }
.sides > .what { grid-area: what; } .sides > .out { grid-area: out; } .sides > .how { grid-area: how; }
@media (min-width: 900px) { .sides { grid-template: "what out" auto "how out" 1fr / minmax(0, 5fr) minmax(0, 6fr); } }
@media (max-width: 640px) {
  .gradio-container main { padding: .75rem !important; }
  #title p { font-size: .85rem; line-height: 1.3; }
  #title p + p { margin-top: .3rem; }
  .chips { flex-wrap: nowrap; overflow-x: auto; padding-bottom: .3rem; }
  .chips > * { flex-shrink: 0; }
  .photo, .faces { height: 190px !important; }
  .status { min-height: 2rem; }
}
.pictures .empty { min-height: 7rem !important; height: 7rem !important; }
.pictures .caption-label { white-space: normal; overflow: visible; max-width: 100%; }
.programs td { padding: .1rem .75rem .1rem 0; overflow-wrap: anywhere; }
.files .label-clear-button { display: none; }
"""

PHRASES = ("on the beach", "in the snow with a crown", "in space wearing a spacesuit", "as a pencil sketch")

# A click puts the text at the caret in the prompt.
INSERT = """
element.addEventListener('click', (event) => {
  const text = event.target.closest('button')?.dataset.text;
  const box = document.querySelector('#prompt textarea');
  if (!text || !box) return;
  const before = box.value.slice(0, box.selectionStart);
  const after = box.value.slice(box.selectionEnd);
  const left = before && !before.endsWith(' ') ? ' ' : '';
  const right = after && !after.startsWith(' ') ? ' ' : '';
  box.setRangeText(left + text + right, box.selectionStart, box.selectionEnd, 'end');
  box.dispatchEvent(new Event('input', { bubbles: true }));
  box.focus();
});
"""


def title(model: str, what: str) -> str:
    """Return the head of the page, with the model that is in use and what it draws."""
    return (
        '<div id="title"><h1>celeb-basis</h1>'
        "<p>One photograph in, pictures of that person out. Fit only people who agreed to it.</p>"
        f"<p><b>{escape(model)}</b> draws here: {escape(what)}</p></div>"
    )


def chips(tokens: Iterable[str]) -> str:
    """Return buttons that insert a person, or a phrase, in the prompt."""

    def button(text: str, kind: str) -> str:
        return f'<button type="button" class="{kind}" data-text="{escape(text)}">{escape(text)}</button>'

    people = "".join(button(token, "person") for token in tokens)
    people = people or '<span class="hint">Nobody yet: fit a photo, or make somebody up.</span>'
    return f'<div class="chips">{people}{"".join(button(phrase, "phrase") for phrase in PHRASES)}</div>'


def in_programs(people: Mapping[str, Mapping[str, str]]) -> str:
    """Return a folded table of what to write for each person in prompts of each program."""
    rows = "".join(
        f"<tr><td>{escape(token)}</td><td>{escape(program)}</td><td><code>{escape(text)}</code></td></tr>"
        for token, texts in people.items()
        for program, text in texts.items()
    )
    if not rows:
        return ""
    return (
        f'<details class="programs"><summary>What other programs\' prompts say</summary><table>{rows}</table></details>'
    )


def status(text: str, share: float | None = None, *, done: bool = False) -> str:
    """Return a line that says what is happening, with a progress bar below it if there is a share to show."""
    bar = f'<progress value="{share:.3f}" max="1"></progress>' if share is not None else ""
    kind = ' class="done"' if done else ""
    return f'<div class="status" role="status"><p{kind}>{escape(text)}</p>{bar}</div>'


def pictures(label: str, size: str, **more: Any) -> gr.Gallery:
    """Return a frame for pictures side by side, as high as they are; the style sheet defines each `size`."""
    more = {"allow_preview": False, "buttons": []} | more
    return gr.Gallery(
        label=label, interactive=False, fit_columns=False, object_fit="cover", elem_classes=["pictures", size], **more
    )


def duration(seconds: float) -> str:
    """Return a time as 12 s or 3 min."""
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"

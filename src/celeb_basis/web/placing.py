"""Where people stand: boxes that a visitor draws by clicking two corners, and their written form."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gradio as gr
from PIL import Image, ImageDraw, ImageFont

from ..errors import PromptError
from ..notation import Box, check_box, excerpt, placeholder_token
from . import theme
from .jobs import PRIVATE, errors_in_one_line, pixel_of
from .session import Session

SIDE = 384  # pixels of the longer side of what is clicked on
MAX_BOXES = 16
GROUND, INK = (231, 229, 228), (41, 37, 36)  # readable on the light page and on the dark one
FIRST, OPPOSITE = "Choose a person, then click two opposite corners.", "Now click the opposite corner."


def written(boxes: Mapping[str, Box]) -> str:
    """Return boxes as text, a line for each: <annika>=0,0,0.5,1."""
    return "\n".join(f"{name}={','.join(f'{side:.3g}' for side in box)}" for name, box in boxes.items())


def read_boxes(text: str) -> dict[str, Box]:
    """Read what `written` returns; visitors may write it too, and then leave out the brackets of a person's name.

    Raises PromptError for a line that is none.
    """
    boxes: dict[str, Box] = {}
    for line in filter(None, map(str.strip, text.splitlines())):
        name, _, numbers = line.rpartition("=")
        try:
            left, top, right, bottom = map(float, numbers.split(","))
        except ValueError:
            raise PromptError(f"{excerpt(line)!r} is no box: write <annika>=0,0,.5,1 for the left half") from None
        boxes[name.strip()] = box = (left, top, right, bottom)
        check_box(excerpt(name), box)
    if len(boxes) > MAX_BOXES:
        raise PromptError(f"a picture may have {MAX_BOXES} boxes, not {len(boxes)}")
    return boxes


def _size(width: float | None, height: float | None) -> tuple[int, int]:
    """Return the size of what is clicked on, which has the shape of the picture to come."""
    ratio = (width or 1) / (height or 1)
    return (SIDE, max(SIDE // 4, round(SIDE / ratio))) if ratio >= 1 else (max(SIDE // 4, round(SIDE * ratio)), SIDE)


def _drawn(
    boxes: Mapping[str, Box], width: float | None, height: float | None, corner: tuple[float, float] | None = None
) -> Image.Image:
    """Return an empty picture with the boxes in it, each with its name, and a dot on a corner."""
    size = across, down = _size(width, height)
    image = Image.new("RGB", size, GROUND)
    draw = ImageDraw.Draw(image)
    font = ImageFont.load_default(size=18)
    for name, (left, top, right, bottom) in boxes.items():
        place = (left * (across - 1), top * (down - 1), right * (across - 1), bottom * (down - 1))
        draw.rectangle(place, outline=theme.ACCENT, width=4)
        draw.text((place[0] + 10, place[1] + 8), name, fill=INK, font=font)
    if corner:
        x, y = corner[0] * (across - 1), corner[1] * (down - 1)
        draw.ellipse((x - 6, y - 6, x + 6, y + 6), fill=theme.ACCENT)
    return image


def lay_out_boxes(session: gr.State, width: gr.Number, height: gr.Number) -> tuple[gr.Textbox, gr.Dropdown, Any]:
    """Lay out the boxes of people; return their text, the choice of a person, and a function that shows the boxes."""
    with gr.Row(equal_height=False):
        preview = gr.Image(
            _drawn({}, 1, 1), label="Click two corners", interactive=False, buttons=[], format="png", min_width=240
        )
        with gr.Column(min_width=240):
            who = gr.Dropdown(label="Person", choices=[], allow_custom_value=True)
            line = gr.HTML(theme.status(FIRST))
            boxes = gr.Textbox("", label="Boxes", lines=2, info="left, top, right, bottom, as shares of the picture")
            clear = gr.Button("Clear the boxes")

    def click(
        event: gr.SelectData, who: str | None, text: str, width: float | None, height: float | None, session: Session
    ) -> tuple[Any, ...]:
        with errors_in_one_line():
            across, down = _size(width, height)
            x, y = (min(max(at / of, 0.0), 1.0) for at, of in zip(pixel_of(event), (across, down), strict=True))
            placed = read_boxes(text)
            if not who:
                raise PromptError("choose a person first")
            if session.corner is None:
                session.corner = (x, y)
                return _drawn(placed, width, height, session.corner), text, who, theme.status(OPPOSITE)
            (a, b), session.corner = session.corner, None
            name = placeholder_token(who)
            box = (min(a, x), min(b, y), max(a, x), max(b, y))
            check_box(name, box)
            placed[name] = box
            after = next((token for token in session.people if token not in placed), who)
            return _drawn(placed, width, height), written(placed), after, theme.status(FIRST)

    def show(text: str, width: float | None, height: float | None, session: Session) -> tuple[Any, str]:
        session.corner = None
        with errors_in_one_line():
            return _drawn(read_boxes(text), width, height), theme.status(FIRST)

    queued = PRIVATE | {"queue": True}  # whose errors are shown
    preview.select(click, [who, boxes, width, height, session], [preview, boxes, who, line], **queued)
    shown = {"fn": show, "inputs": [boxes, width, height, session], "outputs": [preview, line]}
    gr.on([boxes.blur, width.change, height.change], **shown, **queued)
    clear.click(lambda: "", None, boxes, **PRIVATE).then(**shown, **PRIVATE)
    return boxes, who, shown

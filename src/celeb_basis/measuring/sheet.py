"""Contact sheets: a photograph and what came of it, on one picture."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont


def contact_sheet(
    photo: Image.Image, pictures: Sequence[Image.Image], titles: Sequence[str], heading: str, side: int = 224
) -> Image.Image:
    """One picture: the photograph on the left, what came of it on the right, a title under each."""
    columns, gap, text = 4 if len(pictures) <= 24 else 8, 16, 30
    rows = -(-len(pictures) // columns)
    large = 2 * side + gap
    width = gap + large + gap + columns * (side + gap) + gap
    top = 76
    sheet = Image.new("RGB", (width, top + rows * (side + text + gap) + gap), "white")
    canvas = ImageDraw.Draw(sheet)
    canvas.text((gap, 22), heading, font=ImageFont.load_default(30), fill="#222222")

    def place(image: Image.Image, x: int, y: int, size: int, title: str) -> None:
        sheet.paste(image.convert("RGB").resize((size, size), Image.Resampling.BICUBIC), (x, y))
        canvas.text((x, y + size + 5), title, font=ImageFont.load_default(17), fill="#555555")

    photo = photo.copy()
    photo.thumbnail((large, large))
    sheet.paste(photo, (gap, top))
    canvas.text((gap, top + photo.height + 5), "the photograph", font=ImageFont.load_default(17), fill="#555555")
    for i, (image, title) in enumerate(zip(pictures, titles, strict=True)):
        row, column = divmod(i, columns)
        place(image, 2 * gap + large + column * (side + gap) + gap, top + row * (side + text + gap), side, title)
    return sheet

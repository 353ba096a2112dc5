"""Contact sheets: a photograph and what came of it, on one picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from ..basis import CelebBasis
from ..errors import OutputError, how_to_install
from ..io import write_buffered


def contact_sheet(
    photo: Image.Image, pictures: Sequence[Image.Image], titles: Sequence[str], heading: str, side: int = 224
) -> Image.Image:
    """Draw a sheet: the photograph on the left, the images made of it on the right, a title under each."""
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


def plot_spectrum(basis: CelebBasis, path: str | Path) -> None:
    """Plot each component's standard deviation and the share of variance explained so far, for both tokens (PNG).

    Raises OutputError where Matplotlib is missing or the file cannot be written.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise OutputError(f"plotting needs Matplotlib: {how_to_install('plot')}") from None

    figure = Figure(figsize=(9, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    components = range(1, basis.n_components + 1)
    for token, sigma, share in zip(("first", "last"), basis.sigma, basis.explained_variance_ratio, strict=True):
        left.plot(components, sigma, label=f"{token} token")
        right.plot(components, share.cumsum(0), label=f"{token} token: {share.sum():.0%}")
    left.set(title="standard deviation", xlabel="component", yscale="log")
    right.set(title="share of variance explained", xlabel="components", ylim=(0, 1.02))
    for axes in (left, right):
        axes.grid(alpha=0.3)
        axes.legend(frameon=False)
    figure.suptitle(f"{basis.model}: {len(basis.names)} names, rank {basis.rank[0]} and {basis.rank[1]}", fontsize=10)
    with write_buffered(path) as buffer:
        figure.savefig(buffer, format="png", dpi=130)

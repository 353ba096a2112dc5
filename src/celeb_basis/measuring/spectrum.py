"""The spectrum of a basis as a picture: how the celebrities spread over its components."""

from __future__ import annotations

from pathlib import Path

from ..basis.basis import CelebBasis
from ..errors import OutputError
from ..files import write_buffered


def plot_spectrum(basis: CelebBasis, path: str | Path) -> None:
    """Plot each component's standard deviation and the share of variance explained so far, for both tokens (PNG).

    Raises OutputError where Matplotlib is missing or the file cannot be written.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise OutputError("plotting needs Matplotlib: pip install 'celeb-basis[plot]'") from None

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

"""Serve the page of celeb-basis with one model, as a Space of the Hugging Face Hub."""

import os
import tempfile
import threading
from pathlib import Path

from celeb_basis.web import Studio, serve

HUB = "https://huggingface.co"  # which shows the page in a frame


def main() -> None:
    """Serve the page until the Space is stopped; nothing that visitors make is kept."""
    model = os.environ.get("CELEB_BASIS_MODEL") or "miniature"
    own = os.environ.get("SPACE_HOST")  # such as owner-celeb-basis.hf.space
    with tempfile.TemporaryDirectory() as folder:
        studio = Studio(Path(folder), first=model, models=[], keep=False)
        with serve(
            studio,
            host="0.0.0.0",
            port=int(os.environ.get("GRADIO_SERVER_PORT") or 7860),
            password=os.environ.get("CELEB_BASIS_PASSWORD") or None,
            domains=[own] if own else [],
            framed_by=[HUB],
        ) as address:
            print(f"{model} draws at {address}", flush=True)
            threading.Event().wait()


if __name__ == "__main__":
    main()

"""What all parts of the page share: jobs that wait for one another, errors in one line, how uploads come in."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from html import escape
from typing import Any

import gradio as gr
import torch
from gradio.data_classes import ListFiles

from .. import CelebBasisError, SeveralFacesError
from ..limits import MAX_MESSAGE_LENGTH
from ..notation import excerpt
from . import theme
from .visitors import Stopped

# Long jobs wait in one queue, as two at once would each take twice as long. The page says so.
WAITING = "Starting when no other job is running ..."
STOPPED = "Stopped."
JOB: dict[str, Any] = {"concurrency_id": "job", "concurrency_limit": 1}
PRIVATE: dict[str, Any] = {"api_visibility": "private", "queue": False, "show_progress": "hidden"}


def where(uploaded: Any) -> Any:
    """Return where one or several uploaded files lie.

    Gradio itself would open pictures and compare endings; what it says of a wrong file, also in the log, helps nobody.
    """
    if uploaded is None:
        return None
    return [file.path for file in uploaded] if isinstance(uploaded, ListFiles) else uploaded.path


def picture_of(event: gr.SelectData) -> int:
    """Return which picture of a gallery was clicked, counted from 0; -1 where the event says no such thing."""
    return event.index if isinstance(event.index, int) else -1


def pixel_of(event: gr.SelectData) -> tuple[int, int]:
    """Return at which pixel a picture was clicked, from its left and top; the first where the event does not say."""
    x, y = event.index if isinstance(event.index, list | tuple) else (0, 0)
    return x, y


def spelling(name: str, token: str) -> str:
    """Return how prompts write a name, where that is not how the visitor wrote it."""
    written = name.strip()
    return "" if written.lower() in ("", token, token[1:-1]) else f"Prompts write {excerpt(written)} as {token}."


def run_as_job(
    triggers: list[Any],
    stop: gr.Button,
    line: gr.HTML,
    work: Any,
    inputs: list[Any],
    outputs: list[Any],
    *,
    api_name: str,
    seed: gr.Number | None = None,
    keep_seed: gr.Checkbox | None = None,
) -> Any:
    """Let a job wait for others, run, and stop when told to; `line` says which. Return its event.

    seed: a number that each run in a browser takes anew, unless `keep_seed` is ticked.
    """
    # In the browser itself, so that the notice appears at once.
    begun = f"[{json.dumps(theme.status(WAITING))}, {{__type__: 'update', interactive: true}}"
    if seed is None:
        start = gr.on(triggers, None, None, [line, stop], js=f"() => {begun}]", **PRIVATE)
    else:
        js = f"(seed, keep) => {begun}, keep ? seed : Math.floor(Math.random() * 1e6)]"
        start = gr.on(triggers, None, [seed, keep_seed], [line, stop, seed], js=js, **PRIVATE)
    running = start.then(work, inputs, outputs, api_name=api_name, show_progress="hidden", **JOB)
    running.success(lambda: gr.Button(interactive=False), None, stop, **PRIVATE)

    def after_failure(said: str) -> tuple[str, gr.Button]:
        # A job that was stopped counts as a failed one. Its last step may be shown after the click on Cancel.
        return theme.status(STOPPED if STOPPED in said or "<progress" in said else ""), gr.Button(interactive=False)

    running.failure(after_failure, line, [line, stop], **PRIVATE)
    stopped = theme.status(STOPPED)
    stop.click(lambda: (stopped, gr.Button(interactive=False)), None, [line, stop], cancels=[running], **PRIVATE)
    return running


@contextmanager
def errors_in_one_line() -> Iterator[None]:
    """Show errors that a visitor can fix, in one line."""
    try:
        yield
    except SeveralFacesError as error:
        raise as_shown(f"{error.count} faces were found: click the person, or cut the photo to one") from None
    except Stopped:
        raise as_shown(STOPPED) from None
    except CelebBasisError as error:
        raise as_shown(error.message) from None
    except OSError as error:  # without the path, which is the server's
        raise as_shown(error.strerror or "a file cannot be read or written") from None
    except torch.OutOfMemoryError:
        raise as_shown("there is not enough GPU memory: draw fewer pictures, or choose a smaller model") from None


UPLOAD = re.compile(r"/[0-9a-f]{64}/")  # uploads lie in folders named by their hash
FOLDERS = re.compile(r"(?<![\w.:/<'\"])/(?:[^\s/'\"]++/)++")  # possessive: a text of any form takes linear time


def as_shown(message: str) -> gr.Error:
    """Return an error as visitors see it: one short line without folders of the server, and no HTML."""
    *before, last = UPLOAD.split(" ".join(excerpt(message, MAX_MESSAGE_LENGTH).split()))
    line = "".join(part[: part.rfind(" ") + 1] for part in before) + last
    return gr.Error(escape(FOLDERS.sub("", line), quote=False), duration=20, print_exception=False)

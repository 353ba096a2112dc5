"""A job on the page: it waits its turn, stops when told to, and fails in one line."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from html import escape
from typing import Any

import gradio as gr
import torch

from .. import CelebBasisError, SeveralFacesError
from ..limits import MAX_MESSAGE_LENGTH
from . import theme as theme
from .visitors import Stopped

# Long jobs wait in one queue, as two at once would each take twice as long. The page says so.
WAITING = "Starting when no other job is running ..."
STOPPED = "Stopped."
SHOWN: dict[str, Any] = {"duration": 20, "print_exception": False}
JOB: dict[str, Any] = {"concurrency_id": "job", "concurrency_limit": 1}
PRIVATE: dict[str, Any] = {"api_visibility": "private", "queue": False, "show_progress": "hidden"}


@contextmanager
def in_one_line() -> Iterator[None]:
    """Show errors that a visitor can fix, in one line."""
    try:
        yield
    except SeveralFacesError as error:
        raise _as_error(
            f"{error.count} faces were found: cut the photo to one person, or tick “take the largest of several faces”"
        ) from None
    except Stopped:
        raise _as_error(STOPPED) from None
    except CelebBasisError as error:
        raise _as_error(str(error)) from None
    except OSError as error:  # without the path, which is the server's
        raise _as_error(error.strerror or "a file cannot be read or written") from None
    except torch.OutOfMemoryError:
        raise _as_error("there is not enough GPU memory: draw fewer pictures, or choose a smaller model") from None


def _as_error(message: str) -> gr.Error:
    # Uploads lie in folders named by their hash, which mean nothing to a visitor.
    line = " ".join(re.sub(r"\S*/[0-9a-f]{64}/", "", message).split())
    line = re.sub(r"(?<![\w.:/<'\"])/(?:[^\s/'\"]+/)+", "", line)  # the server's own folders mean nothing either
    # The browser takes it for HTML.
    return gr.Error(
        escape(line if len(line) <= MAX_MESSAGE_LENGTH else f"{line[:MAX_MESSAGE_LENGTH]} ...", quote=False), **SHOWN
    )


def wire(
    triggers: list[Any],
    stop: gr.Button,
    line: gr.HTML,
    work: Any,
    inputs: list[Any],
    outputs: list[Any],
    *,
    api_name: str,
) -> Any:
    """Let a job wait its turn, run, and stop when told to; `line` says which."""
    # In the browser itself, so that the notice appears at once.
    begun = f"() => [{json.dumps(theme.status(WAITING))}, {{__type__: 'update', interactive: true}}]"
    gr.on(triggers, None, None, [line, stop], js=begun, **PRIVATE)
    running = gr.on(triggers, work, inputs, outputs, api_name=api_name, show_progress="hidden", **JOB)
    running.success(lambda: gr.Button(interactive=False), None, stop, **PRIVATE)
    # A job that was stopped counts as a failed one. Its last step may be shown after the click on Cancel.
    running.failure(
        lambda now: (
            theme.status(STOPPED if STOPPED in now or "<progress" in now else ""),
            gr.Button(interactive=False),
        ),
        line,
        [line, stop],
        **PRIVATE,
    )
    stop.click(
        lambda: (theme.status(STOPPED), gr.Button(interactive=False)),
        None,
        [line, stop],
        cancels=[running],
        **PRIVATE,
    )
    return running

"""What a request may hold: JSON of the page's own form, checked against the inputs of what it calls."""

from __future__ import annotations

import json
import math
import re
from typing import Any

MOST_BYTES = 2**20  # of a request that is no upload
LONGEST_TEXT = 20_000  # letters
SESSION = re.compile(r"[A-Za-z0-9_-]{1,64}")
ADDRESS = re.compile(r"\s*([A-Za-z][A-Za-z0-9+.-]*:|//|\\\\)")


class Wrong(Exception):
    """A request that is answered with one line."""


def read(body: bytes) -> dict[str, Any]:
    """The object in the body of a request. Raises Wrong for anything else, numbers that are none included."""
    try:
        content = json.loads(body, parse_constant=_no_number)
    except (ValueError, RecursionError):
        raise Wrong("the request is no JSON that can be read") from None
    if not isinstance(content, dict):
        raise Wrong("the request must be one JSON object")
    if not isinstance(content.get("session_hash"), str) or not SESSION.fullmatch(content["session_hash"]):
        raise Wrong("the request needs a session_hash of letters and digits")
    return content


def _no_number(text: str) -> float:
    raise ValueError(text)


def check_call(content: dict[str, Any], functions: dict[int, Any], *, queued: bool) -> None:
    """Raise Wrong unless a request calls one of the page's functions with values of the kinds of its inputs."""
    number, data = content.get("fn_index"), content.get("data")
    if type(number) is not int or number not in functions:
        raise Wrong("the page has no such function: fn_index is out of range")
    function = functions[number]
    if not queued and function.queue:
        raise Wrong("this function waits its turn: call it through the queue")
    if not isinstance(data, list) or len(data) != len(function.inputs):
        raise Wrong(f"data must be a list of {len(function.inputs)} values")
    for component, value in zip(function.inputs, data, strict=True):
        kind = type(component).__name__
        if value is not None and not _fits(kind, value):
            raise Wrong(f"{getattr(component, 'label', None) or kind}: {type(value).__name__} is no value for it")


def _fits(kind: str, value: Any) -> bool:
    if kind in {"Textbox", "Dropdown", "HTML", "Markdown"}:
        return isinstance(value, str) and len(value) <= LONGEST_TEXT
    if kind in {"Number", "Slider"}:
        return type(value) in (int, float) and abs(value) < 2**63 and math.isfinite(value)
    if kind == "Checkbox":
        return isinstance(value, bool)
    if kind in {"Image", "File", "UploadButton", "DownloadButton"}:
        return isinstance(value, dict) and _is_upload(value)
    return False  # a session's own state never comes from outside


def _is_upload(value: dict[str, Any]) -> bool:
    """Whether this names a file that was uploaded; an address would be looked up and fetched."""
    path = value.get("path")
    return isinstance(path, str) and 0 < len(path) < 4096 and "\0" not in path and not ADDRESS.match(path)

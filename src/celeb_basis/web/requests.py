"""What a request may hold: JSON of the page's own form, checked against the inputs of what it calls."""

from __future__ import annotations

import json
import math
import operator
import re
from collections.abc import Callable
from typing import Any, BinaryIO

from python_multipart.exceptions import MultipartParseError
from python_multipart.multipart import MultipartParser, parse_options_header

from ..limits import MAX_PHOTOS, MAX_REQUEST_TEXT, MAX_UPLOADED_FILES

CHUNK = 2**16  # bytes
SESSION = re.compile(r"[A-Za-z0-9_-]{1,64}")


class Wrong(Exception):
    """A request that is answered with one line."""


def read(body: bytes) -> dict[str, Any]:
    """Return the object in the body of a request. Raises Wrong for anything else, and for numbers like NaN."""
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


def check_call(
    content: dict[str, Any], functions: dict[int, Any], is_ours: Callable[[str], bool], *, queued: bool
) -> dict[str, Any]:
    """Return what a request may say to one of the page's functions: values of the kinds of its inputs.

    is_ours: whether a path names a file that visitors uploaded, or that the page made for them.

    Raises Wrong for any other request. Files elsewhere on the disk all get the same line, whether they exist or not.
    """
    number, data = content.get("fn_index"), content.get("data")
    # What the browser does by itself has a number too, and nothing to call.
    if type(number) is not int or number not in functions or functions[number].fn is None:
        raise Wrong("the page has no such function: fn_index is out of range")
    function = functions[number]
    if not queued and function.queue:
        raise Wrong("this function has to wait for others: call it through the queue")
    if not isinstance(data, list) or len(data) != len(function.inputs):
        raise Wrong(f"data must be a list of {len(function.inputs)} values")
    for component, value in zip(function.inputs, data, strict=True):
        if not _fits(component, value):
            given = "null" if value is None else type(value).__name__
            raise Wrong(f"{getattr(component, 'label', None) or type(component).__name__}: {given} is no value for it")
        for bound, word, beyond in (("minimum", "below", operator.lt), ("maximum", "above", operator.gt)):
            limit: Any = getattr(component, bound, None)
            if None not in (value, limit) and beyond(value, limit):
                raise Wrong(f"{component.label}: {value:g} is {word} {limit:g}")
        files = value if isinstance(value, list) else [value] if isinstance(value, dict) else []
        if not all(is_ours(file["path"]) for file in files):
            raise Wrong("the page does not have this file, or not any more: upload it again")
    call = {"fn_index": number, "data": list(map(_checked, data)), "session_hash": content["session_hash"]}
    event = content.get("event_data")
    index = event.get("index") if isinstance(event, dict) else None
    return call | {"event_data": {"index": index if _is_index(index) else -1, "value": None}}


FILES = {"Image", "File", "UploadButton", "DownloadButton"}
OPTIONAL = {*FILES, "Number", "Dropdown", "State", "BrowserState"}
FILE_MARK = {"_type": "gradio.FileData"}


def _is_index(value: Any) -> bool:
    """Return whether this says which picture of a gallery was clicked, or at which pixel a picture was."""
    places = value if isinstance(value, list) and len(value) == 2 else [value]
    return all(type(place) is int and abs(place) < 2**31 for place in places)


def _fits(component: Any, value: Any) -> bool:
    """Return whether a component of the page can have the value."""
    kind = type(component).__name__
    if value is None:
        return kind in OPTIONAL
    if kind in {"Textbox", "Dropdown", "HTML", "Markdown", "BrowserState"}:
        return isinstance(value, str) and len(value) <= MAX_REQUEST_TEXT
    if kind in {"Number", "Slider"}:
        return type(value) in (int, float) and abs(value) < 2**63 and math.isfinite(value)
    if kind == "Checkbox":
        return isinstance(value, bool)
    if kind not in FILES:  # a session's own state comes from the page
        return False
    if getattr(component, "file_count", "single") == "multiple":
        return isinstance(value, list) and len(value) <= MAX_PHOTOS and all(map(_is_file, value))
    return _is_file(value)


def _checked(value: Any) -> Any:
    """Return a value without what was not looked at: of a file its path alone."""
    if isinstance(value, list):
        return list(map(_checked, value))
    return {"path": value["path"], "meta": FILE_MARK} if isinstance(value, dict) else value


def _is_file(value: Any) -> bool:
    """Return whether this is a path with facts about it, and holds no other file, which nobody would check."""
    path = value.get("path") if isinstance(value, dict) else None
    return (
        isinstance(path, str)
        and 0 < len(path) < 4096
        and value.get("meta", FILE_MARK) == FILE_MARK
        and all(item is None or isinstance(item, str | int | float) for key, item in value.items() if key != "meta")
    )


def check_upload(content_type: str, body: BinaryIO) -> None:
    """Raise Wrong unless a form holds a few files with names, under the name `files`, and nothing else."""
    kind, options = parse_options_header(content_type)
    if kind != b"multipart/form-data" or not options.get(b"boundary"):
        raise Wrong("an upload is a form with files")
    found = _Parts()
    try:
        parser = MultipartParser(options[b"boundary"], found.callbacks())  # type: ignore[arg-type]
        while chunk := body.read(CHUNK):
            parser.write(chunk)
        parser.finalize()
    except MultipartParseError:
        raise Wrong("the upload cannot be read: it is no form with files") from None
    if not found.whole:
        raise Wrong("the upload ends before its last file does")


class _Parts:
    """Check the headers of a form's parts, one after the other."""

    def __init__(self) -> None:
        self.whole = False
        self._count = 0
        self._field = self._value = self._disposition = b""

    def callbacks(self) -> dict[str, Any]:
        return {
            "on_part_begin": self._begin,
            "on_header_field": self._add_field,
            "on_header_value": self._add_value,
            "on_header_end": self._end_header,
            "on_headers_finished": self._check,
            "on_end": self._end,
        }

    def _begin(self) -> None:
        self._count += 1
        self._disposition = b""
        if self._count > MAX_UPLOADED_FILES:
            raise Wrong(413, f"an upload may have {MAX_UPLOADED_FILES} files")

    def _add_field(self, data: bytes, start: int, end: int) -> None:
        self._field += data[start:end]

    def _add_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _end_header(self) -> None:
        if self._field.lower() == b"content-disposition":
            self._disposition = self._value
        self._field = self._value = b""

    def _check(self) -> None:
        _, options = parse_options_header(self._disposition)
        name = options.get(b"filename", b"").decode(errors="replace")
        if options.get(b"name") != b"files" or not any(letter.isalnum() for letter in name):
            raise Wrong("an upload holds files with names, and nothing else")

    def _end(self) -> None:
        self.whole = True

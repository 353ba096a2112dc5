"""The command that serves the page: web."""

from __future__ import annotations

import argparse
import getpass
import json
import os
import sys
import threading
import webbrowser
from pathlib import Path
from typing import Any

from ..errors import CelebBasisError
from .options import add_command, check_folder, count, hide_loading_bars

LOCAL = {"127.0.0.1", "localhost", "::1"}
PASSWORD = "CELEB_BASIS_PASSWORD"


def add_commands(commands: Any) -> None:
    """Add this command to the parser."""
    web = add_command(
        commands,
        "web",
        show_page,
        "open a page in the browser, where all of this is done by looking and clicking",
        """
        web
        web -o pictures --port 8000
        web --host 0.0.0.0""",
        f"With --host a password is asked for, or taken from the environment variable {PASSWORD}: as an option it "
        "would stand in the shell's history and in the list of processes.",
    )
    web.add_argument(
        "-o", "--out", type=Path, default=Path("pictures"), metavar="DIR", help="for what is made (default: pictures)"
    )
    web.add_argument(
        "--host", default="127.0.0.1", help="let others in, under this address (default: this machine only)"
    )
    web.add_argument("--port", type=count, metavar="N", help="(default: the first free one from 7860 on)")
    web.add_argument("--device", help="cpu, cuda, mps (default: the best there is)")


def show_page(args: argparse.Namespace) -> dict[str, Any]:
    check_folder(args.out)
    password = _password(args.host)
    try:
        from ..web import Studio, serve
    except ModuleNotFoundError as error:
        if error.name != "gradio":
            raise
        raise CelebBasisError("the page needs Gradio: pip install 'celeb-basis[web]'") from None
    hide_loading_bars()
    with serve(Studio(args.out, args.device), host=args.host, port=args.port, password=password) as address:
        if args.json:
            print(json.dumps({"address": address, "out": str(args.out)}), flush=True)
        else:
            print(f"the page is at {address} (Ctrl-C stops it); what is made goes to {args.out}", flush=True)
            if args.host in LOCAL and _sees_a_screen():
                webbrowser.open(address)
        threading.Event().wait()
    return {}


def _sees_a_screen() -> bool:
    """Whether a browser would open beside this terminal, rather than in it or nowhere."""
    screen = sys.platform in {"darwin", "win32"} or {"DISPLAY", "WAYLAND_DISPLAY"} & os.environ.keys()
    return sys.stdout.isatty() and bool(screen)


def _password(host: str) -> str | None:
    """What others have to know; nothing where nobody else gets in."""
    password = os.environ.get(PASSWORD)
    if not password and host not in LOCAL:
        if not sys.stdin.isatty():
            raise CelebBasisError(f"--host {host} lets others in: set a password in {PASSWORD}")
        password = getpass.getpass("a password for the page: ")
        if not password:
            raise CelebBasisError(f"--host {host} lets others in: that needs a password")
    return password or None

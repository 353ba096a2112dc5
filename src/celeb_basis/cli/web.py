"""The command that serves the page: web."""

from __future__ import annotations

import argparse
import getpass
import json
import os
import sys
import tempfile
import time
import webbrowser
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from ..errors import CelebBasisError, how_to_install
from .options import add_command, check_folder, hide_loading_bars, make_folder, port

if TYPE_CHECKING:
    from ..web import Studio

LOCAL = {"127.0.0.1", "localhost", "::1"}
INTERVAL = 0.5  # seconds in which the page hears that it is to stop
PASSWORD = "CELEB_BASIS_PASSWORD"


def add_commands(commands: Any) -> None:
    """Add this command to the parser."""
    web = add_command(
        commands,
        "web",
        show_page,
        "do all of this on a page in the browser",
        """
        web
        web -o pictures --port 8000
        web --host 0.0.0.0""",
        f"With --host the command asks for a password, or takes it from the environment variable {PASSWORD}. There is "
        "no option for it, because the shell's history and the list of processes would show it.",
    )
    web.add_argument(
        "-o",
        "--out",
        type=Path,
        default=Path("pictures"),
        metavar="DIR",
        help="folder in which pictures and identities are kept; with --host or --domain they are removed when their "
        "visitor leaves (default: pictures)",
    )
    web.add_argument(
        "--host", default="127.0.0.1", help="address to listen on; 0.0.0.0 lets other machines in (default: 127.0.0.1)"
    )
    web.add_argument("--port", type=port, metavar="N", help="(default: the first free port from 7860)")
    web.add_argument(
        "--model",
        action="append",
        default=[],
        metavar="MODEL",
        help="a model that visitors may choose beside those that ship, and no other; repeat for each (default: any; "
        "with --host or --domain those that ship)",
    )
    web.add_argument(
        "--domain",
        action="append",
        default=[],
        metavar="NAME",
        help="a name under which the page may be opened, such as that of a proxy before it, which then lets others in; "
        "repeat for each",
    )
    web.add_argument("--device", help="cpu, cuda or mps (default: a GPU if there is one)")


def show_page(args: argparse.Namespace) -> NoReturn:
    """Serve the page until a signal comes."""
    from ..io import temporary_folder

    check_folder(args.out)
    password = _password(args.host)
    try:
        from ..web import Studio
    except ModuleNotFoundError as error:
        if error.name != "gradio":
            raise
        raise CelebBasisError(f"the page needs Gradio: {how_to_install('web')}") from None
    hide_loading_bars()
    local = args.host in LOCAL and not args.domain  # through a proxy others come in
    models = args.model if args.model or not local else None
    with ExitStack() as folders:
        uploads = folders.enter_context(temporary_folder(Path(tempfile.gettempdir())))
        out = args.out
        if not local:  # others' pictures are theirs
            make_folder(out)
            out = folders.enter_context(temporary_folder(out))
        studio = Studio(out, args.device, models=models, keep=local)
        _serve(args, studio, uploads, password)


def _serve(args: argparse.Namespace, studio: Studio, uploads: Path, password: str | None) -> NoReturn:
    """Say where the page is, and wait for a signal."""
    from ..web import serve

    names = {"host": args.host, "port": args.port, "domains": args.domain}
    with serve(studio, uploads=uploads, password=password, **names) as address:
        kept = f"what is made is kept in {args.out}" if studio.keep else "what visitors make goes when they leave"
        if args.json:
            print(json.dumps({"address": address, "out": str(args.out)}), flush=True)
        else:
            print(f"the page is at {address} (Ctrl-C stops it); {kept}", flush=True)
            if studio.keep and _has_screen():
                webbrowser.open(address)
        while not args.stop.signal:  # Gradio swallows an interrupt that comes while the page is built
            time.sleep(INTERVAL)
        raise KeyboardInterrupt


def _has_screen() -> bool:
    """Return whether a browser can open in a window of its own."""
    screen = sys.platform in {"darwin", "win32"} or {"DISPLAY", "WAYLAND_DISPLAY"} & os.environ.keys()
    return sys.stdout.isatty() and bool(screen)


def _password(host: str) -> str | None:
    """Return the password of the page; None where nobody has to know one."""
    password = os.environ.get(PASSWORD)
    if not password and host not in LOCAL:
        if sys.stdin is None or sys.stdin.closed or not sys.stdin.isatty():
            raise CelebBasisError(f"--host {host} lets others in: set a password in {PASSWORD}")
        password = getpass.getpass("a password for the page: ")
        if not password:
            raise CelebBasisError(f"--host {host} lets others in: that needs a password")
    return password or None

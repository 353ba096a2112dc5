"""What the commands share: how options read, where output may go, how progress is drawn.

Nothing here imports torch, so that --help is fast.
"""

from __future__ import annotations

import argparse
import logging
import os
import re
import shlex
import sys
import tempfile
import textwrap
from collections.abc import Callable, Container
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from ..backend.card import DEFAULT_MODEL, SAMPLERS, SHIPPED
from ..errors import OutputError, PromptError, one_line
from ..limits import MAX_COUNT, MAX_GUIDANCE, MAX_PROMPTS
from ..notation import Box, check_box, check_token
from .signals import at_once

if TYPE_CHECKING:
    from ..model import Model

Run = Callable[[argparse.Namespace], dict[str, Any]]  # a command's answer, printed as text or as JSON


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"celeb-basis: error: {one_line(message)}{self._meant(message)} (see {self.prog} --help)\n")

    def _meant(self, message: str) -> str:
        """Return the options that words of a message may be meant for."""
        known = sorted(self._words())
        words = re.findall(r"--?[a-z][a-z-]*|(?<=invalid choice: ')[a-z-]+", message[:1000])
        close = [match for word in words if word not in known for match in get_close_matches(word, known, 1)]
        return f"; did you mean {' and '.join(dict.fromkeys(close))}?" if close else ""

    def commands(self) -> dict[str, Parser]:
        """Return the parsers of the commands below this one, by name."""
        [below] = [action.choices for action in self._actions if isinstance(action, argparse._SubParsersAction)] or [{}]
        return dict(below)

    def _words(self) -> set[str]:
        """Return the options and commands of this parser and of those below it."""
        found = {option for action in self._actions for option in action.option_strings}
        for name, parser in self.commands().items():
            found |= {name, *parser._words()}
        return found


def add_command(commands: Any, name: str, run: Run, what: str, examples: str, more: str = "") -> Parser:
    """Add a command with one sentence, examples of its use, and --json."""
    lines = "\n".join(f"  celeb-basis {line.strip()}" for line in examples.strip().splitlines())
    parser: Parser = commands.add_parser(
        name,
        help=what,
        description=textwrap.fill(f"{what[0].upper()}{what[1:]}. {more}", 98),
        epilog=f"examples:\n{lines}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run, parser=parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of text")
    loudness = parser.add_mutually_exclusive_group()
    loudness.add_argument("-q", "--quiet", action="store_true", help="no notices and no progress, warnings alone")
    loudness.add_argument(
        "-v", "--verbose", action="store_true", help="say what is loaded and done, with which settings, and when"
    )
    return parser


def add_model(
    parser: argparse.ArgumentParser, default: str | None = DEFAULT_MODEL, described: str = DEFAULT_MODEL
) -> None:
    """Add --model and how it is loaded."""
    parser.add_argument(
        "--model",
        default=default,
        help=f"{' or '.join(SHIPPED)}, which ship; a hub id, a folder in diffusers' format, or a .safetensors "
        f"checkpoint (default: {described})",
    )
    loading = parser.add_argument_group("loading the model")
    loading.add_argument("--device", help="cpu, cuda or mps (default: a GPU if there is one)")
    loading.add_argument("--dtype", choices=("float32", "float16", "bfloat16"), help="precision (default: by device)")
    loading.add_argument("--revision", metavar="NAME", help="branch, tag or commit of a hub model")
    loading.add_argument("--variant", metavar="NAME", help="variant of the weights, such as fp16")
    loading.add_argument("--config", metavar="MODEL", help="folder or hub id that a .safetensors file is based on")
    loading.add_argument("--no-safety-checker", action="store_true", help="switch off the model's own safety checker")


def add_sampling(parser: argparse._ActionsContainer, default: str = "the model's") -> None:
    """Add --steps, --guidance and --sampler."""
    parser.add_argument(
        "--steps",
        dest="num_inference_steps",
        type=positive_int,
        metavar="N",
        help=f"sampler steps (default: {default})",
    )
    parser.add_argument(
        "--guidance",
        dest="guidance_scale",
        type=nonnegative_float,
        metavar="SCALE",
        help=f"guidance scale (default: {default})",
    )
    parser.add_argument("--sampler", choices=SAMPLERS, help=f"how steps are taken (default: {default})")


FACE_READERS = ("sface-int8", "sface", "auraface", "insightface", "dlib")


def add_face_reader(parser: argparse._ActionsContainer) -> None:
    """Add --face-reader."""
    parser.add_argument(
        "--face-reader",
        choices=FACE_READERS,
        help="for photographs: sface-int8 (default; installed with the extra photo), sface or auraface (from the hub, "
        "39 and 261 MB), insightface (non-commercial use only) or dlib (extra judge)",
    )


def add_largest_face(parser: argparse._ActionsContainer) -> None:
    """Add --largest-face."""
    parser.add_argument("--largest-face", action="store_true", help="if a photo shows several faces, take the largest")


def add_basis(parser: argparse.ArgumentParser) -> None:
    """Add --basis."""
    parser.add_argument("--basis", type=Path, metavar="FILE|DIR", help="celeb basis (default: the model's own)")


def load_model(args: argparse.Namespace, **given: Any) -> Model:
    """Load the model asked for; loading bars are shown only for a large one in a terminal.

    given: the basis, the instant map and the face reader, as `Model.load` takes them.
    """
    with at_once():
        from ..model import Model

    if args.model in SHIPPED or args.quiet or not sys.stderr.isatty():
        hide_loading_bars()
    # `generate` reports black images itself, with their seeds.
    logging.getLogger("diffusers.pipelines.stable_diffusion.safety_checker").setLevel(logging.ERROR)
    given.setdefault("face_reader", getattr(args, "face_reader", None))
    with at_once():
        options = loading(args)
        return Model.load(options.pop("model"), **given, **options)


def loading(args: argparse.Namespace) -> dict[str, Any]:
    """Return the arguments of `load_pipeline`."""
    import torch

    return {
        "model": args.model,
        "device": args.device,
        "dtype": getattr(torch, args.dtype) if args.dtype else None,
        "revision": args.revision,
        "variant": args.variant,
        "config": args.config,
        "safety_checker": not args.no_safety_checker,
    }


def model_again(args: argparse.Namespace, known: Container[str] = SHIPPED) -> str:
    """Return the options that name the same model in another command, which takes the `known` ones by itself."""
    given = {key: getattr(args, key) for key in ("model", "revision", "variant", "config")}
    words = [
        f" --{key} {shlex.quote(value)}" for key, value in given.items() if value is not None and value not in known
    ]
    return "".join(words)


def hide_loading_bars() -> None:
    """Hide the loading bars of diffusers and transformers."""
    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging as transformers_logging

    diffusers_logging.disable_progress_bar()
    transformers_logging.disable_progress_bar()


def nonnegative_int(text: str) -> int:
    """Read 0, 1, 2, ..."""
    if not (text.isascii() and text.isdigit()) or len(text) > 19 or int(text) >= 2**63 - MAX_COUNT:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 0, below 2**63")
    return int(text)


def positive_int(text: str) -> int:
    """Read 1, 2, 3, ..."""
    if not (text.isascii() and text.isdigit()) or len(text) > 10 or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of 1 or more")
    if int(text) > MAX_COUNT:
        raise argparse.ArgumentTypeError(f"{text} is more than {MAX_COUNT}")
    return int(text)


def port(text: str) -> int:
    """Read a port, 1 to 65535."""
    if not (text.isascii() and text.isdigit()) or len(text) > 5 or not 0 < int(text) < 2**16:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port: 1 to 65535")
    return int(text)


def positive_float(text: str) -> float:
    """Read a number above zero."""
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < MAX_GUIDANCE:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0 and below {MAX_GUIDANCE}")
    return number


def nonnegative_float(text: str) -> float:
    """Read zero, or a number above it."""
    return 0.0 if text.strip() in ("0", "0.0") else positive_float(text)


def fraction(text: str) -> float:
    """Read a number from zero to one."""
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not 0 <= number <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0 to 1")
    return number


def placeholder(name: str) -> str:
    """Read annika or <annika> as <annika>."""
    token = f"<{name.removeprefix('<').removesuffix('>')}>"
    try:
        check_token(token)
    except PromptError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return token


def person(text: str) -> tuple[str, list[Path]]:
    """Read annika=1.jpg,2.jpg as <annika> and two photos; a comma does not split the name of an existing file."""
    name, _, files = text.partition("=")
    photos = [files] if os.path.exists(files) else files.split(",")
    if not name or not all(photos):
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=PHOTO or NAME=PHOTO,PHOTO, like annika=me.jpg")
    return placeholder(name), [Path(photo) for photo in photos]


def named_file(text: str) -> tuple[Path, str | None]:
    """Read bodil=annika.safetensors as the file and <bodil>; annika.safetensors is the file and no other name."""
    name, separator, file = text.partition("=")
    if separator and not os.path.exists(text):
        return Path(file), placeholder(name)
    return Path(text), None


def region(text: str) -> tuple[str, Box]:
    """Read annika=0,0,.5,1 as the name and its box: left, top, right, bottom."""
    name, _, numbers = text.rpartition("=")
    try:
        left, top, right, bottom = map(float, numbers.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=LEFT,TOP,RIGHT,BOTTOM, like annika=0,0,.5,1") from None
    try:
        check_box(name, (left, top, right, bottom))
    except PromptError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return name, (left, top, right, bottom)


def read_prompts(path: Path) -> list[str]:
    """Return the prompts of a file, one a line; empty lines do not count. Raises PromptError for none or too many."""
    from ..io import read_text

    prompts = [line.strip() for line in read_text(path, PromptError).splitlines() if line.strip()]
    if not prompts:
        raise PromptError(f"{path} holds no prompt: write one on each line")
    if len(prompts) > MAX_PROMPTS:
        raise PromptError(f"{path} holds {len(prompts)} prompts: at most {MAX_PROMPTS} are drawn")
    return prompts


def check_file(path: Path, *suffixes: str) -> Path:
    """Raise OutputError unless this file can be written. Called before the work starts, not after it."""
    if path.is_dir():
        raise OutputError(f"cannot write {path}: it is a folder; name a file in it")
    if path.suffix.lower() not in suffixes:
        raise OutputError(f"cannot write {path}: end the name in {' or '.join(suffixes)}")
    if not path.parent.is_dir():
        raise OutputError(f"cannot write {path}: there is no folder {path.parent}")
    check_folder(path.parent)
    return path


def check_folder(path: Path) -> None:
    """Raise OutputError unless files can be written in a folder, which need not exist yet."""
    standing = next(place for place in (path, *path.absolute().parents) if place.exists())
    try:
        tempfile.TemporaryFile(dir=standing).close()
    except OSError as error:
        raise OutputError(f"cannot write in {path}: {error.strerror}") from None


def make_folder(path: Path) -> None:
    """Make a folder and those above it. Raises OutputError."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot make the folder {path}: {error.strerror}") from None


class Progress:
    """Bars with the time left, on stderr where that is a terminal: `progress(done, total, what)`.

    A note, if there is one, stands at the end of the bar.
    """

    def __init__(self, *, quiet: bool = False) -> None:
        self._bar: Any = None
        self._what = ""
        self._hidden = True if quiet else None  # None shows it on a terminal

    def __call__(self, done: int, total: int, what: str, note: str = "") -> None:
        from tqdm import tqdm

        if self._bar is None or what != self._what:
            self.__exit__()
            self._bar, self._what = tqdm(total=total, desc=what, disable=self._hidden), what
        self._bar.total = total
        self._bar.set_postfix_str(note, refresh=False)
        self._bar.update(done - self._bar.n)

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *error: object) -> None:
        if self._bar is not None:
            self._bar.close()

"""Arguments, files, terminals and signals of every kind: one clear line, and nothing half-written."""

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from called import answer, complaint
from PIL import Image

from celeb_basis import Identity
from celeb_basis.cli import main
from celeb_basis.errors import one_line
from celeb_basis.limits import MAX_MESSAGE_LENGTH


def run(*args, **more):
    return subprocess.run([sys.executable, "-m", "celeb_basis", *args], capture_output=True, text=True, **more)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("web --port 99999", "is not a port"),
        ("web --port 0", "is not a port"),
        ("web --host no.such.host.invalid --port 8000", "set a password"),
        ("generate hello -n 2147483647", "is more than 100000"),
        ("generate hello --guidance 1e308", "above 0 and below 1000"),
        ("generate hello --guidance nan", "above 0 and below 1000"),
        ("generate hello --seed 9223372036854775807", "is not a whole number"),
        (f"generate hello --steps {'9' * 5000}", "is not a whole number"),
        (f"generate {'word ' * 20000!r}", "letters long"),
        ("generate '<zorvik>_1'", "is no name"),
        ("generate hello --device meta", "there is no device"),
        (f"info {'x' * 5000}", "x"),
        (f"--{'x' * 5000}", "x"),
        ("basis --names /dev/zero", "a pipe or a device"),
        ("info /dev/zero", "a pipe or a device"),
        ("fit /dev/urandom --name ada", "a pipe or a device"),
        (f"sample --name {'x' * 500}", "cannot be a placeholder token"),
    ],
)
def test_what_cannot_be_is_one_line(line, says, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CELEB_BASIS_PASSWORD", raising=False)
    assert says in complaint(capsys, *shlex.split(line))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("option", ["--lr 1e300", "--lr 11", "--resolution 100000", "--steps 1000000"])
def test_a_recipe_has_limits(option, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["miniature", "person", "-o", "me.jpg"]) == 0
    capsys.readouterr()
    said = complaint(capsys, "fit", "me.jpg", "--name", "ada", *option.split())
    assert "--" in said and [file.name for file in tmp_path.iterdir()] == ["me.jpg"]


def test_bytes_that_are_no_text_are_one_line(tmp_path):
    for args in ([b"generate", b"caf\xe9"], [b"info", b"\xff.png"], [b"generate", b"x", b"--identity", b"\xfe.pt"]):
        command = [sys.executable.encode(), b"-m", b"celeb_basis", *args]
        done = subprocess.run(command, capture_output=True, env=os.environ | {"LC_ALL": "POSIX"}, cwd=tmp_path)
        assert done.returncode == 2 and b"is not UTF-8 text" in done.stderr and done.stderr.count(b"\n") == 1


def test_a_terminal_that_knows_ascii_alone_gets_escapes(tmp_path):
    env = os.environ | {"PYTHONIOENCODING": "ascii"}
    done = run("info", "café.png", env=env, cwd=tmp_path)
    assert done.returncode == 2 and "caf\\xe9.png" in done.stderr


def test_metadata_cannot_steer_the_terminal(tmp_path, capsys):
    torch.manual_seed(0)
    how = {"made_by": "\x1b]0;owned\x07\x1b[2J", "\u202egpj": "x\ny"}
    Identity("<ada>", torch.randn(2, 6), (6,), provenance=how, model="\x9b31m").save(tmp_path / "x.safetensors")
    assert main(["info", str(tmp_path / "x.safetensors")]) == 0
    said = capsys.readouterr().out
    assert said.replace("\n", "").isprintable() and "\\x1b]0;owned" in said and "x\\ny" in said


def test_a_line_is_cut_in_its_middle():
    line = one_line(f"{'x' * 5000}\n: do this")
    assert len(line) == MAX_MESSAGE_LENGTH and line.endswith(": do this") and "\n" not in line


def test_in_a_folder_that_is_gone(tmp_path):
    gone = tmp_path / "gone"
    gone.mkdir()
    code = "import os; os.rmdir(os.getcwd()); from celeb_basis.cli import main; exit(main(['sample', '--name', 'e']))"
    done = subprocess.run([sys.executable, "-c", code], cwd=gone, capture_output=True, text=True)
    assert done.returncode == 2 and "is gone" in done.stderr and done.stderr.count("\n") == 1


def test_without_assertions_it_does_the_same(tmp_path):
    for flag in ([], ["-O"]):
        command = [
            sys.executable,
            *flag,
            "-m",
            "celeb_basis",
            "sample",
            "--name",
            "eve",
            "-o",
            f"{len(flag)}.safetensors",
        ]
        assert subprocess.run(command, cwd=tmp_path, capture_output=True).returncode == 0
    assert (tmp_path / "0.safetensors").read_bytes() == (tmp_path / "1.safetensors").read_bytes()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_pictures_that_are_done_are_kept_when_the_rest_is_stopped(number, tmp_path):
    command = [sys.executable, "-m", "celeb_basis", "generate", "a photo", "-n", "1000", "--steps", "2", "-o", "drawn"]
    process = subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    try:
        while process.poll() is None and len(list(tmp_path.glob("drawn/*.png"))) < 5:
            time.sleep(0.05)
        process.send_signal(number)
        _, said = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 128 + number and said.endswith("celeb-basis: stopped\n")
    files = list((tmp_path / "drawn").iterdir())
    assert 5 <= len(files) < 1000
    for file in files:
        with Image.open(file) as picture:
            picture.load()


FALLS = """
import signal, time, weakref
from celeb_basis.cli.signals import Stop, stoppable

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background would be deaf to it

class Thing:
    pass

def falls(*_):
    signal.raise_signal({number})
    pass  # where the handler runs

stop = Stop()
with stoppable(stop):
    try:
        thing = Thing()
        {where}
        del thing
        time.sleep(60)
    except KeyboardInterrupt:
        print(stop.code)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("where", ["Thing.__del__ = falls", "watched = weakref.ref(thing, falls)"])
def test_a_signal_that_comes_in_a_destructor_is_not_lost(where, number):
    code = FALLS.format(number=int(number), where=where)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=50)
    assert (done.stdout, done.stderr) == (f"{128 + number}\n", "")


ENDS = """
import signal, sys
from celeb_basis.cli import main

signal.signal(signal.SIGINT, signal.default_int_handler)
calls = 0

def at_the_end(frame, event, _):
    global calls
    calls += event == "call" and frame.f_code.co_name == {where!r}
    if calls == 2:  # a generator goes on where its block has ended
        signal.raise_signal({number})

sys.setprofile(at_the_end)
sys.exit(main(["--version"]))
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("where", ["stoppable", "_not_lost"])
def test_a_signal_that_comes_when_all_is_done_is_one_line(where, number):
    code = ENDS.format(number=int(number), where=where)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=50)
    assert (done.returncode, done.stderr) == (128 + number, "celeb-basis: stopped\n")


def test_a_picture_in_json_says_what_its_file_says(tmp_path, capsys):
    assert main(["generate", "a photo", "-n", "6", "--steps", "1", "-o", str(tmp_path), "--json"]) == 0
    files = json.loads(capsys.readouterr().out)["pictures"]
    assert [Image.open(file).info["seed"] for file in files] == [str(i) for i in range(6)]


def test_prompts_come_from_a_file(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for seed, name in enumerate(("annika", "tovik")):
        answer(capsys, "sample", "--name", name, "--seed", seed)
    lines = ["a photo of <annika> in the snow", "", "  <Annika> and <tovik> on the beach", "tom hanks"]
    Path("prompts.txt").write_text("\n".join(lines))
    people = ["--identity", "annika", "--identity", "tovik"]
    draw = ["generate", "--prompts", "prompts.txt", *people, "--steps", "1", "-o", "drawn"]
    report = answer(capsys, *draw, "-n", 2, "--seed", 7, "--region", "annika=0,0,.5,1")
    infos = [Image.open(file).info for file in report["pictures"]]
    prompts = ["a photo of <annika> in the snow", "<annika> and <tovik> on the beach", "tom hanks"]
    assert [info["prompt"] for info in infos] == [prompt for prompt in prompts for _ in range(2)]
    assert [info["seed"] for info in infos] == ["7", "8"] * 3
    assert [info.get("identities", "").count("<") for info in infos] == [1, 1, 2, 2, 0, 0]
    assert ["regions" in info for info in infos] == [True, True, True, True, False, False]
    alone = answer(capsys, "generate", prompts[1], *people, "--steps", 1, "--seed", 8, "--region", "annika=0,0,.5,1")
    one, of_many = (np.asarray(Image.open(file), int) for file in (*alone["pictures"], report["pictures"][3]))
    assert np.abs(one - of_many).max() <= 2  # batches of another size round otherwise
    assert complaint(capsys, *draw, "--region", "bodil=0,0,.5,1").endswith("a region's name as the prompt does\n")
    assert "6 pictures do not fit in one.png" in complaint(capsys, *draw, "-n", 2, "-o", "one.png")
    for given in ([], ["a photo", "--prompts", "prompts.txt"]):
        assert "give one PROMPT, or --prompts FILE" in complaint(capsys, "generate", *given)
    Path("prompts.txt").write_text("\n \n")
    assert complaint(capsys, *draw).endswith("prompts.txt holds no prompt: write one on each line\n")


def test_how_much_is_said(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    said = {}
    for how in ((), ("--quiet",), ("-v",)):
        assert main(["sample", "--name", "bo2", *how]) == 0
        assert main(["generate", "<bo2>", "--identity", "bo2", "--steps", "1", "--guidance", "0", *how]) == 0
        assert main(["generate", "<bo2>", "--identity", "bo2", "--steps", "1", "--guidance", "0",
                     "--negative-prompt", "rain", *how]) == 0  # fmt: skip
        said[how] = capsys.readouterr().err.splitlines()
    assert ["reads names of letters only" in line for line in said[()]] == [True, False]
    [warning] = said[("--quiet",)]
    assert "the negative prompt has no effect" in warning and warning in said[()]
    details = "\n".join(said[("-v",)])
    assert re.search(r"celeb-basis: \d+\.\d s: loaded miniature, a StableDiffusionPipeline, from .* as torch", details)
    assert re.search(r"\d s: drawing with negative_prompt rain, steps 1, guidance 0", details)
    assert "not allowed with argument -q/--quiet" in complaint(capsys, "sample", "--name", "bo2", "-q", "-v")


COMPLETE = """
eval "$({python} -m celeb_basis --print-completion bash)"
complete_with() {{
    COMP_WORDS=(celeb-basis "$@") COMP_CWORD=$# COMPREPLY=()
    _shtab_celeb_basis
    echo "${{COMPREPLY[@]}}"
}}
complete_with gen
complete_with people re
complete_with fit --keep
complete_with fit ann
complete_with fit --method pap
"""


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_a_shell_completes_commands_options_and_files(tmp_path):
    (tmp_path / "annika.jpg").touch()
    script = COMPLETE.format(python=sys.executable)
    done = subprocess.run(["bash", "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[:5] == ["generate", "rename remove", "--keep-feature", "annika.jpg", "paper"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish", "tcsh", "powershell"])
def test_every_shell_has_its_script(shell, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["--print-completion", shell])
    assert stop.value.code == 0 and "celeb-basis" in capsys.readouterr().out

"""Face readers and judges of other packages: what is wrong with one is said in one line, wherever it shows."""

import json
import shutil
import sys

import pytest
import torch
from conftest import make_pipeline
from PIL import Image

from celeb_basis import ModelError
from celeb_basis.backend.card import FILE
from celeb_basis.backend.load import load_pipeline
from celeb_basis.backend.plugins import load_plugin
from celeb_basis.cli import main
from celeb_basis.evaluation.judge import get_judge
from celeb_basis.faces.face import find_face
from celeb_basis.faces.reader import get_face_reader

NAME = "theirs"
SOUND = """
import torch
from PIL import Image
from celeb_basis import Face

def face(feature=(1.0, 0.0), crop=None):
    return Face(crop or Image.new("RGB", (8, 8)), (0, 0, 8, 8), torch.tensor(feature), "theirs-v1")

class Reader:
    name = "theirs-v1"
    def read(self, images):
        return [[face()] for _ in images]

class Judge:
    reader, measure = Reader(), "theirs"
    def prompt_scores(self, images, prompts):
        return [1.0 for _ in images]
    def features(self, images):
        return torch.ones(len(images), 3)
    def photograph(self, name):
        return None
"""


@pytest.fixture
def install(tmp_path, monkeypatch):
    """A function that installs a package of so much code, which offers its Reader and its Judge under a name."""

    def done(code, package="theirs_package", name=NAME):
        folder = tmp_path / package
        (folder / f"{package}-1.0.dist-info").mkdir(parents=True)
        (folder / f"{package}-1.0.dist-info" / "METADATA").write_text(f"Name: {package}\nVersion: 1.0\n")
        (folder / f"{package}-1.0.dist-info" / "entry_points.txt").write_text(
            f"[celeb_basis.face_readers]\n{name} = {package}:Reader\n[celeb_basis.judges]\n{name} = {package}:Judge\n"
        )
        (folder / f"{package}.py").write_text(code)
        monkeypatch.syspath_prepend(folder)

    yield done
    for module in [module for module in sys.modules if module.startswith("theirs_package")]:
        del sys.modules[module]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A model whose card names the face reader and the judge."""
    folder = tmp_path_factory.mktemp("model")
    make_pipeline("sd1").save_pretrained(folder)
    (folder / FILE).write_text(json.dumps({"face_reader": NAME, "judge": NAME}))
    return folder


@pytest.fixture(scope="module")
def pipe(folder):
    return load_pipeline(folder, device="cpu")


def one_line(error, *says):
    """Whether an error says this, in one line."""
    text = str(error.value)
    return "\n" not in text and len(text) < 600 and all(each in text for each in says)


def test_what_is_not_installed_is_named():
    with pytest.raises(ModelError, match="the face reader 'nobody', which is not installed"):
        load_plugin("face_readers", "nobody", {})


def test_a_sound_package_is_used(install, pipe):
    install(SOUND)
    photo = Image.new("RGB", (32, 32))
    face = find_face(photo, get_face_reader(pipe))
    assert face.face_reader == "theirs-v1" and face.feature.tolist() == [1, 0]
    judge = get_judge(pipe, [])
    assert judge.reader.read([photo])[0][0].feature.tolist() == [1, 0]
    assert judge.prompt_scores([photo], ["a photo"]) == [1]
    assert judge.features([photo]).shape == (1, 3) and judge.photograph("somebody") is None


@pytest.mark.parametrize(
    ("code", "says"),
    [
        ("1 / 0", "ZeroDivisionError"),
        ("class Reader:\n  def", "SyntaxError"),
        ("import no_such_module", "no_such_module"),
        ("import sys; sys.exit('bye')", "bye"),
        ("", "Reader"),
        ("Reader = 7", "not callable"),
        ("class Reader: pass", "name"),
        ("Reader = lambda: None", "name"),
        ("class Reader:\n  name = 7\n  def read(self, images): return []", "its name is a int"),
        ("class Reader:\n  name, read = 'n', 'r'", "its read is a str"),
        ("class Reader:\n  @property\n  def name(self): 1 / 0", "ZeroDivisionError"),
        ("class Reader:\n  def __init__(self): raise ValueError('x\\n' * 1000 + '\\x1b[2J')", "ValueError"),
        ("class Odd(Exception):\n  def __str__(self): 1 / 0\nraise Odd", "Odd"),
    ],
)
def test_what_cannot_be_loaded_or_is_none_is_one_line(install, pipe, code, says):
    install(code)
    with pytest.raises(ModelError) as error:
        get_face_reader(pipe)
    assert one_line(error, "the face reader 'theirs'", "theirs_package:Reader", says)


def test_two_packages_may_not_offer_one_name(install):
    install(SOUND, "theirs_package_a")
    install(SOUND, "theirs_package_b")
    with pytest.raises(ModelError, match="uninstall all but one") as error:
        load_plugin("face_readers", NAME, {})
    assert one_line(error, "theirs_package_a:Reader", "theirs_package_b:Reader")


@pytest.mark.parametrize(
    "answer",
    [
        "None", "7", "[]", "[[], []]", "[None]", "[7]", "[[None]]", "['face']",
        "[[face((2.0, 0.0))]]", "[[face((float('nan'), 0.0))]]", "[[face((1, 0))]]", "[[face(((1.0, 0.0),))]]",
        "[[face(()), face()]]", "[[face(), face((1.0,))]]", "[[face(crop='a crop')]]", "1 / 0",
    ],
)  # fmt: skip
def test_answers_of_a_reader_that_are_none_are_one_line(install, pipe, answer):
    install(SOUND.replace("[[face()] for _ in images]", answer))
    with pytest.raises(ModelError) as error:
        find_face(Image.new("RGB", (32, 32)), get_face_reader(pipe), largest_face=True)
    assert one_line(error, "the face reader 'theirs-v1' does not work")
    with pytest.raises(ModelError):
        get_judge(pipe, []).reader.read([Image.new("RGB", (32, 32))])


@pytest.mark.parametrize("answer", ["[]", "[1.0, 1.0]", "['good']", "None", "[float('inf')]", "1 / 0"])
def test_answers_of_a_judge_that_are_none_are_one_line(install, pipe, answer):
    code = SOUND.replace("[1.0 for _ in images]", answer).replace("torch.ones(len(images), 3)", answer)
    install(code.replace("return None", f"return {answer}"))
    judge, photo = get_judge(pipe, []), Image.new("RGB", (32, 32))
    calls = [
        *([] if answer == "[]" else [lambda: judge.prompt_scores([photo], ["a photo"])]),  # "nothing can tell"
        *([] if answer == "None" else [lambda: judge.features([photo]), lambda: judge.photograph("somebody")]),
    ]
    for call in calls:
        with pytest.raises(ModelError) as error:
            call()
        assert one_line(error, "the judge 'theirs' does not work")


@pytest.mark.parametrize("reader", ["None", "7", "object()"])
def test_a_judge_needs_a_reader(install, pipe, reader):
    install(SOUND.replace("reader, measure = Reader()", f"reader, measure = {reader}"))
    with pytest.raises(ModelError) as error:
        get_judge(pipe, [])
    assert one_line(error, "the reader of the judge 'theirs' does not work")


def test_want_of_memory_stays_what_it_is(install, pipe):
    install(SOUND.replace("[[face()] for _ in images]", "exec('raise torch.OutOfMemoryError(1)')"))
    with pytest.raises(torch.OutOfMemoryError):
        find_face(Image.new("RGB", (32, 32)), get_face_reader(pipe))


@pytest.mark.parametrize("name", ["\x1b[2J\x1b]0;mine\x07", "two\nlines", "../..", "x" * 5000, "", "a:b [c]"])
def test_whatever_a_card_calls_a_reader_the_command_says_one_line(folder, tmp_path, name, capsys):
    shutil.copytree(folder, tmp_path / "model")
    (tmp_path / "model" / FILE).write_text(json.dumps({"face_reader": name}))
    Image.new("RGB", (64, 64)).save(tmp_path / "photo.png")
    argv = ["fit", str(tmp_path / "photo.png"), "--name", "ada", "--model", str(tmp_path / "model"), "--device", "cpu"]
    assert main([*argv, "-o", str(tmp_path / "ada.safetensors")]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and said.strip().isprintable() and "celeb-basis: error: " in said

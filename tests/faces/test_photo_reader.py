"""Real photographs: detection, alignment, crop and feature, with face models of the same signature made here.

The detector made here finds faces of five coloured dots, for which its weights are written by hand: everything
around it (sizes, decoding, alignment, crops) is what runs with the real one. The real files did not run here.
"""

import hashlib
from dataclasses import replace
from pathlib import Path

import matplotlib
import numpy as np
import onnx
import pytest
import skimage.data
import torch
from conftest import NAMES, make_pipeline
from onnx import TensorProto, helper, numpy_helper
from PIL import Image
from skimage.feature import Cascade

from celeb_basis import CelebBasis, InstantMap
from celeb_basis.cli import main
from celeb_basis.errors import ModelError, NoFaceError, SeveralFacesError
from celeb_basis.faces import photo_reader as readers
from celeb_basis.faces.crop import upright_square
from celeb_basis.faces.face import find_face
from celeb_basis.faces.photo import open_photo
from celeb_basis.faces.photo_reader import RECOGNISERS, TEMPLATE, YUNET, PhotoReader, aligned

# The eye on the picture's left, the other, nose, mouth corners: a face as wide apart as 1 between the eyes.
FACE = np.array([(-0.5, -0.5), (0.5, -0.5), (0, 0.05), (-0.4, 0.6), (0.4, 0.6)])
DOTS = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0), (0, 255, 255)]
WINDOW, STRIDE = 64, 8  # pixels that a cell of the detector sees, and between two cells


def photo_of(*faces, size=(640, 480)):
    """A grey photograph of dotted faces: (x, y), distance between the eyes, turn in degrees of each."""
    picture = Image.new("RGB", size, (128, 128, 128))
    for place, scale, turn in faces:
        draw_dots(picture, landmarks_of(place, scale, turn), scale / 6)
    return picture


def landmarks_of(place, scale, turn=0.0):
    turned = np.deg2rad(turn)
    rotation = np.array([[np.cos(turned), -np.sin(turned)], [np.sin(turned), np.cos(turned)]])
    return FACE * scale @ rotation.T + place


def draw_dots(picture, landmarks, radius):
    pixels = np.array(picture)
    y, x = np.mgrid[: picture.height, : picture.width]
    for (left, top), colour in zip(landmarks, DOTS, strict=True):
        pixels[np.hypot(x - left, y - top) <= radius] = colour
    picture.paste(Image.fromarray(pixels))


class Graph:
    """A little of ONNX's own notation: `graph.Op(inputs, attribute=...)` is the name of the output."""

    def __init__(self):
        self.nodes, self.weights = [], []

    def __getattr__(self, op):
        def add(*inputs, **attributes):
            names = [each if isinstance(each, str) else self.weight(each) for each in inputs]
            name = attributes.pop("name", f"n{len(self.nodes)}")
            self.nodes.append(helper.make_node(op, names, [name], **attributes))
            return name

        return add

    def weight(self, values):
        values = np.asarray(values)
        values = values.astype(np.int64 if values.dtype.kind == "i" else np.float32)
        self.weights.append(numpy_helper.from_array(values, f"w{len(self.weights)}"))
        return self.weights[-1].name

    def save(self, path, inputs, outputs):
        def info(items):
            return [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in items]

        graph = helper.make_graph(self.nodes, "faces", info(inputs), info(outputs), self.weights)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
        onnx.checker.check_model(model)
        onnx.save(model, path)


def make_detector(path):
    """A network with YuNet's input (BGR, 0 to 255) and its twelve outputs, which knows dotted faces."""
    g = Graph()
    blue, green, red = (g.Conv("input", np.eye(3)[i].reshape(1, 3, 1, 1) / 255) for i in range(3))
    dots = [
        g.Sub(red, g.Add(green, blue)),
        g.Sub(green, g.Add(red, blue)),
        g.Sub(blue, g.Add(red, green)),
        g.Sub(g.Min(red, green), blue),
        g.Sub(g.Min(green, blue), red),
    ]
    dots = g.Relu(g.Sub(g.Concat(*dots, axis=1), [0.6]))  # (1, 5, H, W): how much of each colour
    # Each cell: how much there is in its window, and where its middle is, in strides from the cell's corner.
    ramp = (np.arange(WINDOW) - (WINDOW - STRIDE) / 2 + 0.5) / STRIDE
    ramp = np.broadcast_to(ramp, (WINDOW, WINDOW))
    pads = [(WINDOW - STRIDE) // 2] * 4

    def over_window(kernel):
        kernels = np.broadcast_to(kernel, (5, 1, WINDOW, WINDOW))
        return g.Conv(dots, kernels, strides=[STRIDE, STRIDE], pads=pads, group=5)

    mass = over_window(np.ones((WINDOW, WINDOW)))
    x, y = (g.Div(over_window(each), g.Add(mass, [1e-3])) for each in (ramp, ramp.T))
    points = g.Concat(x, y, axis=1)  # (1, 10, h, w): five x, five y

    def combine(weights):
        return g.Conv(points, np.asarray(weights, dtype=float).reshape(-1, 10, 1, 1))

    centre = combine(np.kron(np.eye(2), np.full(5, 0.2)))
    across = combine([[-1, 1, 0, 0, 0] + [0] * 5, [0] * 5 + [-1, 1, 0, 0, 0]])
    width = g.Log(g.Mul(g.Sqrt(g.ReduceSum(g.Mul(across, across), [1], keepdims=1)), [3.0]))
    # Surest is the cell in the middle of a face whose every dot it sees whole.
    off = g.Sub(centre, [0.5])
    objectness = g.Sub([1.0], g.Mul(g.ReduceSum(g.Mul(off, off), [1], keepdims=1), [0.05]))
    furthest = g.ReduceMax(g.Abs(g.Sub(points, [0.5])), axes=[1], keepdims=1)
    least = g.ReduceMin(mass, axes=[1], keepdims=1)
    whole = g.Mul(g.Sub([3.2], furthest), [10.0])
    seen = g.Clip(g.Min(whole, g.Sub(least, [2.0])), np.float32(0), np.float32(1))
    interleaved = np.eye(10)[[i + 5 * j for i in range(5) for j in range(2)]]
    box = g.Concat(centre, width, width, axis=1)
    found = {"cls": seen, "obj": objectness, "bbox": box, "kps": combine(interleaved)}
    outputs = []
    for name, channels in {"cls": 1, "obj": 1, "bbox": 4, "kps": 10}.items():
        for stride in (8, 16, 32):
            nothing = np.zeros((channels, 3, stride, stride))
            each = found[name] if stride == STRIDE else g.Conv("input", nothing, strides=[stride, stride])
            g.Reshape(g.Transpose(each, perm=[0, 2, 3, 1]), [1, -1, channels], name=f"{name}_{stride}")
            outputs.append((f"{name}_{stride}", [1, None, channels]))
    g.save(path, [("input", [1, 3, 640, 640])], outputs)


def make_recogniser(path, input_name, width):
    """A network of 1 x 3 x 112 x 112 pixels to `width` numbers: a fixed mixture of the picture's coarse colours."""
    g = Graph()
    pooled = g.Flatten(g.AveragePool(input_name, kernel_shape=[16, 16], strides=[16, 16]))
    mixture = np.random.default_rng(0).standard_normal((3 * 49, width))
    g.MatMul(pooled, mixture, name="feature")
    g.save(path, [(input_name, [1, 3, 112, 112])], [("feature", [1, width])])
    return mixture


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    """The hub's cache, as a download leaves it behind, with models made here."""
    cache = tmp_path_factory.mktemp("hub")
    files = [YUNET, *(each.file for each in RECOGNISERS.values())]
    made = []
    for file in files:
        folder = cache / f"models--{file.repository.replace('/', '--')}"
        path = folder / "snapshots" / ("0" * 40) / file.path
        path.parent.mkdir(parents=True)
        (folder / "refs").mkdir()
        (folder / "refs" / "main").write_text("0" * 40)
        if file is YUNET:
            make_detector(path)
        elif "sface" in file.path:
            make_recogniser(path, "data", 128)
        else:
            make_recogniser(path, "input.1", 512)
        made.append(replace(file, sha256=hashlib.sha256(path.read_bytes()).hexdigest()))
    return cache, made


@pytest.fixture
def cached(hub, monkeypatch):
    cache, [detector, *recognisers] = hub
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(readers, "YUNET", detector)
    for name, file in zip(RECOGNISERS, recognisers, strict=True):
        monkeypatch.setitem(RECOGNISERS, name, replace(RECOGNISERS[name], file=file))


@pytest.fixture
def reader(cached):
    return PhotoReader()


def place_in_crop(face, size):
    """Where the FFHQ frame has the landmarks of an upright face, in pixels of a crop."""
    eyes, mouth = (FACE[0] + FACE[1]) / 2, (FACE[3] + FACE[4]) / 2
    half = max(2.0, 1.8 * (mouth - eyes)[1])
    return (FACE - (eyes + 0.1 * (mouth - eyes)) + half) / (2 * half) * size


@pytest.mark.parametrize("scale", [20, 33, 50, 90, 160, 260])
def test_a_face_of_any_size_is_found_once(reader, scale):
    """From 2% of the picture's width to a close-up, which only the smallest copy of the picture shows."""
    place = (500, 420)
    [[face]] = reader.read([photo_of((place, scale, 0), size=(1000, 800))])
    left, top, right, bottom = face.box
    assert right - left == pytest.approx(3 * scale, rel=0.1) and bottom - top == pytest.approx(3 * scale, rel=0.1)
    middle = landmarks_of(place, scale).mean(0)
    assert ((left + right) / 2, (top + bottom) / 2) == pytest.approx(tuple(middle), abs=0.1 * scale)
    for (x, y), colour in zip(place_in_crop(face, 512), DOTS, strict=True):
        assert np.abs(np.subtract(face.crop.getpixel((round(x), round(y))), colour)).max() < 90
    assert face.crop.size == (512, 512) and face.face_reader == "sface-2021dec"
    assert face.feature.shape == (128,) and face.feature.norm().item() == pytest.approx(1)


def test_a_close_up_is_found_beside_somebody_far_away(reader):
    """The two are seen at different sizes of the picture, and neither hides the other."""
    [faces] = reader.read([photo_of(((220, 240), 120, 0), ((580, 60), 14, 0))])
    assert [round((face.box[2] - face.box[0]) / 3) for face in faces] == pytest.approx([120, 14], rel=0.1)


def test_three_people_and_nobody(reader):
    group = photo_of(((100, 100), 20, 0), ((300, 200), 24, 0), ((500, 300), 30, 0))
    with pytest.raises(SeveralFacesError, match="3 faces found"):
        find_face(group, reader)
    assert find_face(group, reader, largest=True).box[0] > 400
    with pytest.raises(NoFaceError, match="large, upright and in front"):
        find_face(photo_of(), reader)


@pytest.mark.parametrize("turn", [-40, 17, 35])
def test_a_tilted_head_gives_the_upright_one(reader, turn):
    [straight], [tilted] = reader.read([photo_of(((300, 240), 30, angle)) for angle in (0, turn)])
    difference = np.abs(np.asarray(straight.crop, dtype=int) - np.asarray(tilted.crop))
    assert difference.mean() < 4
    assert straight.feature @ tilted.feature > 0.995


def test_a_photograph_held_sideways(reader, tmp_path):
    """A camera turned by 90 degrees stores pixels and says so; the face is the same one."""
    upright = photo_of(((300, 240), 30, 0))
    exif = Image.Exif()
    exif[0x0112] = 6
    upright.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "turned.jpg", exif=exif, quality=98, subsampling=0)
    turned = find_face(open_photo(tmp_path / "turned.jpg"), reader)
    straight = find_face(upright, reader)
    assert turned.box == pytest.approx(straight.box, abs=2) and turned.feature @ straight.feature > 0.995


def test_a_huge_photograph(reader, tmp_path):
    photo_of(((300, 240), 60, 0)).resize((6400, 4800), Image.Resampling.NEAREST).save(tmp_path / "huge.png")
    face = find_face(open_photo(tmp_path / "huge.png"), reader)
    assert face.box[2] - face.box[0] == pytest.approx(3 * 60 * 2048 / 640, rel=0.1)


# The recognisers


@pytest.mark.parametrize("name", list(RECOGNISERS))
def test_each_recogniser_is_fed_as_it_was_trained(cached, hub, name):
    """All take RGB; SFace as bytes, the others from -1 to 1. What the network is given is worked out by hand."""
    reader = PhotoReader(name)
    photo = photo_of(((300, 240), 40, 0))
    [[face]] = reader.read([photo])
    pixels = np.asarray(aligned(photo, landmarks_of((300, 240), 40)), dtype=np.float64)
    mixture = np.random.default_rng(0).standard_normal((3 * 49, 128 if name == "sface" else 512))

    def cosine_with(pixels):
        expected = pixels.reshape(7, 16, 7, 16, 3).mean((1, 3)).transpose(2, 0, 1).ravel() @ mixture
        return float(face.feature @ torch.from_numpy(expected / np.linalg.norm(expected)).float())

    as_bytes, as_signed = pixels, (pixels - 127.5) / 127.5
    right, wrong = (as_bytes, as_signed) if name == "sface" else (as_signed, as_bytes)
    assert cosine_with(right) > 0.998
    assert cosine_with(right[:, :, ::-1]) < 0.99 and cosine_with(wrong) < 0.9
    assert face.face_reader == RECOGNISERS[name].name and len({each.name for each in RECOGNISERS.values()}) == 3


def test_alignment_is_that_of_opencv(cached):
    """SFace comes with a cut of its own: ours is the same but for antialiasing."""
    import cv2

    photo, landmarks = real_photos()["astronaut"]
    row = np.concatenate([[0, 0, 1, 1], landmarks.ravel(), [1]]).astype(np.float32)
    recogniser = cv2.FaceRecognizerSF.create(RECOGNISERS["sface"].file.fetch(), "")
    theirs = recogniser.alignCrop(np.ascontiguousarray(np.asarray(photo)[:, :, ::-1]), row)[:, :, ::-1]
    ours = np.asarray(aligned(photo, landmarks), dtype=int)
    assert np.abs(ours - theirs).mean() < 3  # two pixels aside it would be 15
    assert np.abs(np.roll(ours, 2, axis=1) - theirs).mean() > 15


def test_alignment_undoes_turn_and_scale():
    picture = Image.new("RGB", (400, 400))
    landmarks = TEMPLATE @ (2.4 * np.array([[0.8, 0.6], [-0.6, 0.8]])) + (180, 20)
    draw_dots(picture, landmarks, 8)
    face = aligned(picture, landmarks)
    for (x, y), colour in zip(TEMPLATE, DOTS, strict=True):
        assert np.abs(np.subtract(face.getpixel((round(x), round(y))), colour)).max() < 40


def test_only_the_non_commercial_one_has_a_notice(cached, caplog):
    for name in ("sface", "auraface"):
        PhotoReader(name)
    assert not caplog.messages
    PhotoReader("insightface")
    [notice] = caplog.messages
    assert "non-commercial" in notice


def test_what_is_missing_is_one_line(cached, hub, monkeypatch, tmp_path):
    with pytest.raises(ModelError, match="no face reader 'abacus': there are sface, auraface, insightface"):
        PhotoReader("abacus")
    changed = replace(RECOGNISERS["auraface"], file=replace(RECOGNISERS["auraface"].file, sha256="0" * 64))
    monkeypatch.setitem(RECOGNISERS, "auraface", changed)
    with pytest.raises(ModelError, match=r"glintr100\.onnx is not the file expected .* delete it"):
        PhotoReader("auraface")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(ModelError, match="face_detection_yunet has to be downloaded once") as caught:
        PhotoReader()
    assert "\n" not in str(caught.value)


# Two real photographs, with landmarks marked by hand; scikit-image's cascade is the independent finder


def real_photos():
    hopper = Image.open(Path(matplotlib.get_data_path()) / "sample_data" / "grace_hopper.jpg").convert("RGB")
    return {
        "astronaut": (
            Image.fromarray(skimage.data.astronaut()),
            np.array([(203.7, 101), (246.8, 103.3), (224.5, 127.5), (205, 140.8), (243.7, 142)]),
        ),
        "hopper": (
            hopper,
            np.array([(223.7, 189.5), (305, 186.7), (267.5, 242.5), (230.5, 279.5), (306.2, 278)]),
        ),
    }


def faces_seen(picture):
    """(left, top, width) of the faces that an LBP cascade sees."""
    found = Cascade(skimage.data.lbp_frontal_face_cascade_filename()).detect_multi_scale(
        np.asarray(picture), scale_factor=1.1, step_ratio=1, min_size=(150, 150), max_size=(400, 400)
    )
    return [(box["c"], box["r"], box["width"]) for box in found]


@pytest.mark.parametrize("name", ["astronaut", "hopper"])
def test_a_real_face_is_framed_as_in_ffhq(name):
    photo, landmarks = real_photos()[name]
    crop = upright_square(photo, landmarks)
    [(left, top, width)] = faces_seen(crop)
    assert left + width / 2 == pytest.approx(256, abs=30) and top + width / 2 == pytest.approx(270, abs=40)
    assert 0.35 < width / 512 < 0.75


@pytest.mark.parametrize("name", ["astronaut", "hopper"])
@pytest.mark.parametrize("turn", [-30, 12])
def test_a_turned_photograph_gives_the_same_crop(name, turn):
    photo, landmarks = real_photos()[name]
    turned = photo.rotate(turn, Image.Resampling.BICUBIC)
    angle = np.deg2rad(-turn)  # Pillow turns against the clock, about the middle
    rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    middle = np.array(photo.size) / 2
    again = upright_square(turned, (landmarks - middle) @ rotation.T + middle)
    head = (slice(120, 420), slice(120, 400))  # inside both photographs
    before, after = (np.asarray(crop, dtype=int)[head] for crop in (upright_square(photo, landmarks), again))
    assert np.abs(before - after).mean() < 4
    assert np.abs(before - before[:, ::-1]).mean() > 15  # what a wrong crop would be like


@pytest.mark.parametrize("name", ["astronaut", "hopper"])
def test_a_real_photograph_is_read_from_file_to_feature(name, reader, tmp_path):
    """The landmarks are painted on the photograph, so that the detector made here finds that face."""
    photo, landmarks = real_photos()[name]
    painted = photo.copy()
    draw_dots(painted, landmarks, np.hypot(*(landmarks[1] - landmarks[0])) / 7)
    painted.save(tmp_path / "photo.jpg", quality=97, subsampling=0)
    face = find_face(open_photo(tmp_path / "photo.jpg"), reader)
    expected = upright_square(painted, landmarks)
    assert np.abs(np.asarray(face.crop, dtype=int) - np.asarray(expected)).mean() < 8


def test_a_photograph_is_fitted_from_the_command_line(cached, tmp_path, monkeypatch, capsys):
    """With the face reader asked for; an instant map that was learnt from another one's features is refused."""
    monkeypatch.chdir(tmp_path)
    pipe = make_pipeline("sd1")
    pipe.save_pretrained("sd")
    basis = CelebBasis.from_pipeline(pipe, NAMES)
    basis.save("basis.safetensors")
    features = torch.nn.functional.normalize(torch.randn(20, 512), dim=-1)
    instant = InstantMap.fit(features, torch.randn(20, 2, 7), basis=basis, face_reader="auraface-v1")
    instant.save("map.safetensors")
    photo_of(((300, 240), 40, 10)).save("me.jpg", quality=95)
    photo_of(*(((x, 200), 30, 0) for x in (100, 300, 500))).save("three.png")

    def fit(photo, *more):
        capsys.readouterr()
        code = main(["fit", photo, "--name", "me", "--model", "sd", "--device", "cpu", *more])
        out, err = capsys.readouterr()
        return code, out, err.splitlines()

    given = ("--basis", "basis.safetensors", "--instant", "map.safetensors", "--steps", "0", "--face-reader")
    code, out, said = fit("me.jpg", *given, "auraface")
    assert code == 0 and "me.safetensors" in out and not said
    assert fit("me.jpg", *given, "sface")[0] == 2
    code, _, said = fit("me.jpg", *given, "insightface")
    assert code == 2 and "non-commercial" in said[0] and "takes faces from auraface-v1" in said[1] and len(said) == 2
    code, _, [said] = fit("three.png", *given, "auraface")
    assert code == 2 and "3 faces found" in said

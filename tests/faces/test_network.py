"""Recognisers as modules of torch: they say what OpenCV and ONNX Runtime say, and gradients flow through them."""

import copy
from dataclasses import replace

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from photographs import EVERYBODY, LANDMARKS, photograph
from PIL import Image

from celeb_basis import ModelError, miniature
from celeb_basis.faces.align import ALIGNED, align_arcface, alignment
from celeb_basis.faces.network import cut_squares
from celeb_basis.faces.onnx_network import OnnxNetwork
from celeb_basis.faces.reader import PhotoReader
from celeb_basis.miniature.drawn.readers import evaluation_reader, fitting_reader


def pixels_of(image):
    return torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1)[None].float() / 127.5 - 1


@pytest.fixture(scope="module")
def reader():
    return PhotoReader()


@pytest.mark.parametrize("name", EVERYBODY)
def test_sface_is_opencvs(reader, name):
    """The same cut-out, to a thousandth of the numbers; and the differentiable cut-out shows the same person."""
    photo = photograph(name).convert("RGB")
    face = reader.read([photo])[0][0]
    [landmarks] = [each.landmarks for each in reader._detector.find(photo)][:1]
    with torch.no_grad():
        ours = reader.network.module(pixels_of(align_arcface(photo, landmarks)))[0]
        theirs = torch.from_numpy(reader._describe(photo, landmarks)).ravel()
        assert (ours - theirs).abs().max() < 1e-3 and theirs.abs().max() > 1
        assert reader.network.features(pixels_of(photo), [face.square])[0] @ face.feature > 0.99
        assert reader.network.features(pixels_of(face.crop), [face.crop_square])[0] @ face.feature > 0.97


@pytest.mark.parametrize("of", [fitting_reader, evaluation_reader])
@pytest.mark.parametrize("size", [128, 400])
def test_the_miniatures_recognisers_are_their_own(of, size):
    picture = miniature.person(3000, size)
    [face] = of().read([picture])[0]
    with torch.no_grad():
        assert of().network.features(pixels_of(picture), [face.square])[0] @ face.feature > 0.98
        assert of().network.features(pixels_of(face.crop), [face.crop_square])[0] @ face.feature > 0.98


def residual_network(path, width=8):
    """A network of the operators of ArcFace's residual networks, with random weights."""
    rng, nodes, weights = np.random.default_rng(0), [], {}

    def of(name, *shape, positive=False):
        values = rng.standard_normal(shape) * 0.3
        weights[name] = (np.abs(values) + 0.5 if positive else values).astype(np.float32)
        return name

    def add(kind, inputs, output, **options):
        nodes.append(helper.make_node(kind, inputs, [output], **options))
        return output

    def norm(x, name, size):
        own = [of(f"{name}{part}", size, positive=part == "v") for part in "wbmv"]
        return add("BatchNormalization", [x, *own], f"{name}-out", epsilon=2e-5)

    square = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}
    x = add("Conv", ["input.1", of("w0", width, 3, 3, 3), of("b0", width)], "c0", strides=[4, 4], **square)
    x = add("PRelu", [x, of("slope", width, 1, 1)], "p0")
    y = add("Conv", [norm(x, "n1", width), of("w1", width, width, 3, 3)], "c1", strides=[2, 2], **square)
    shortcut = add("Conv", [x, of("w2", width, width, 1, 1)], "c2", kernel_shape=[1, 1], strides=[2, 2])
    x = add("Flatten", [norm(add("Add", [y, shortcut], "sum"), "n2", width)], "flat", axis=1)
    x = norm(add("Gemm", [x, of("w3", 16, width * 14 * 14), of("b3", 16)], "g", transB=1), "n3", 16)
    graph = helper.make_graph(
        nodes,
        "face",
        [helper.make_tensor_value_info("input.1", TensorProto.FLOAT, ["n", 3, ALIGNED, ALIGNED])],
        [helper.make_tensor_value_info(x, TensorProto.FLOAT, ["n", 16])],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)


def test_residual_networks_are_those_of_onnx_runtime(tmp_path):
    """AuraFace and insightface are such; their weights are not here."""
    residual_network(tmp_path / "face.onnx")
    faces = [align_arcface(photograph(name), LANDMARKS[name]) for name in LANDMARKS]
    pixels = torch.cat([pixels_of(face) for face in faces])
    session = onnxruntime.InferenceSession(str(tmp_path / "face.onnx"), providers=["CPUExecutionProvider"])
    [expected] = session.run(None, {"input.1": pixels.numpy()})
    ours = OnnxNetwork(str(tmp_path / "face.onnx"))(pixels)
    assert np.abs(ours.numpy() - expected).max() < 1e-3 * np.abs(expected).max()
    assert not list(OnnxNetwork(str(tmp_path / "face.onnx")).parameters())


def test_an_unknown_operator_is_one_line(tmp_path):
    node = helper.make_node("Softmax", ["x"], ["y"])
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 4]) for name in "xy"]
    onnx.save(helper.make_model(helper.make_graph([node], "g", ends[:1], ends[1:])), tmp_path / "other.onnx")
    with pytest.raises(ModelError, match="operator Softmax"):
        OnnxNetwork(str(tmp_path / "other.onnx"))


def test_a_reader_without_gradients_is_one_line():
    with pytest.raises(ModelError, match="no gradients"):
        PhotoReader("dlib").network  # noqa: B018


@pytest.mark.parametrize("turn", [0, 25])
def test_a_cut_is_that_of_the_reader(turn):
    """Also of a face that lies askew."""
    photo, landmarks = photograph("hopper"), LANDMARKS["hopper"]
    angle, middle = np.deg2rad(-turn), np.array(photo.size) / 2
    rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    photo = photo.rotate(turn, Image.Resampling.BICUBIC)
    landmarks = (landmarks - middle) @ rotation.T + middle
    corner, across = alignment(landmarks)
    ours = cut_squares(pixels_of(photo), [(*corner, *across)], ALIGNED)
    theirs = pixels_of(align_arcface(photo, landmarks))
    assert (ours - theirs).abs().mean() * 127.5 < 3
    assert (ours.roll(2, -1) - theirs).abs().mean() * 127.5 > 8


def test_gradients_agree_with_finite_differences(reader):
    """In double precision, as the cosine is curved and a step has to be small."""
    photo = photograph("hopper")
    [face] = reader.read([photo])[0]
    network = replace(reader.network, module=copy.deepcopy(reader.network.module).double())
    picture = pixels_of(photo).double().requires_grad_()
    direction = torch.nn.functional.interpolate(
        torch.randn(1, 3, 20, 20, generator=torch.Generator().manual_seed(0)), picture.shape[-2:], mode="bilinear"
    )
    target = torch.roll(face.feature, 1).double()

    def loss(picture):
        return 1 - network.features(picture, [face.square])[0] @ target

    (slope,) = torch.autograd.grad(loss(picture), picture)
    with torch.no_grad():
        secant = (loss(picture + 1e-5 * direction) - loss(picture - 1e-5 * direction)) / 2e-5
    assert (slope * direction).sum().item() == pytest.approx(secant.item(), rel=0.05)

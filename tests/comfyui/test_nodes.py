"""Wrong files and inputs in the pack's nodes: what ComfyUI shows and logs of each is one short line."""

import os
import random

import pytest
import torch
from conftest import NAMES, make_pipeline
from host import call, start
from mutate import ANY, TENSORS

from celeb_basis import CelebBasis, Identity, InstantMap

LONGEST = 900  # letters


@pytest.fixture(scope="module")
def pipe():
    return make_pipeline("sd1")


@pytest.fixture
def models(tmp_path, pipe):
    """ComfyUI's folder of models, with a person, a basis and its map."""
    for kind in ("embeddings", "celeb_basis"):
        (tmp_path / kind).mkdir()
    torch.manual_seed(0)
    basis = CelebBasis.from_pipeline(pipe, NAMES, 6)
    basis.save(tmp_path / "celeb_basis" / "tiny.safetensors")
    features = torch.nn.functional.normalize(torch.randn(24, 8), dim=-1)
    instant_map = InstantMap.fit(features, torch.randn(24, 2, 6), basis=basis, face_reader="r")
    instant_map.save(tmp_path / "celeb_basis" / "tiny.instant.safetensors")
    Identity.sample(basis, "<ada>").save(tmp_path / "embeddings" / "ada.safetensors")
    return tmp_path


@pytest.fixture
def nodes(models, monkeypatch):
    return start(models, monkeypatch)


def is_one_line(answer, *says):
    return (
        isinstance(answer, str)
        and answer.isprintable()
        and 0 < len(answer) < LONGEST
        and all(s in answer for s in says)
    )


def test_a_person_is_loaded_blended_and_saved(nodes, models, pipe):
    [ada] = call(nodes.LoadIdentity, file="ada.safetensors").values
    [bodil] = call(nodes.BlendIdentities, a=ada, b=ada, weight=0.5, name="Bodil").values
    assert "embedding:bodil" in call(nodes.SaveIdentity, identity=bodil, overwrite=False).ui
    assert torch.equal(Identity.load(models / "embeddings" / "bodil.safetensors").vectors, ada.vectors)
    assert nodes.bases() == [nodes.MADE, "tiny.safetensors"]
    model = nodes.model_with(pipe, "tiny.safetensors")
    assert model.basis.names[0] == NAMES[0] and model.instant_map.face_reader == "r"


@pytest.mark.parametrize("seed", range(3))
def test_damaged_files_are_one_line_or_what_they_should_be(nodes, models, pipe, seed):
    chance = random.Random(seed)
    person, basis, instant_map = (
        models / place
        for place in (
            "embeddings/ada.safetensors",
            "celeb_basis/tiny.safetensors",
            "celeb_basis/tiny.instant.safetensors",
        )
    )
    sound = {file: file.read_bytes() for file in (person, basis, instant_map)}

    class Bases:  # the part of other nodes that reads them
        execute = staticmethod(
            nodes.in_one_line(lambda cls, basis: nodes.model_with(pipe, basis)).__get__(None, object)
        )

    for file, content in sound.items():
        for mutation in chance.choices(TENSORS, k=25):
            file.write_bytes(mutation(content, chance))
            if file == person:
                answer, digest = call(nodes.LoadIdentity, file="ada.safetensors"), nodes.LoadIdentity.fingerprint_inputs
                assert len(digest("ada.safetensors")) == 64
            else:
                answer = call(Bases, basis="tiny.safetensors")
            assert not isinstance(answer, str) or is_one_line(answer), (mutation.__name__, answer)
        file.write_bytes(content)


@pytest.mark.parametrize("suffix", [".pt", ".bin", ".pkl", ".ckpt", ".txt", ""])
def test_files_of_other_kinds_are_one_line(nodes, models, suffix):
    file = models / "embeddings" / f"other{suffix}"
    for content in (
        b"",
        b"\x80\x04cos\nsystem\n(S'touch pwned'\ntR.",
        *(m(os.urandom(500), random.Random(0)) for m in ANY),
    ):
        file.write_bytes(content)
        assert is_one_line(call(nodes.LoadIdentity, file=file.name), "other")


def test_files_that_are_gone_or_endless_are_one_line(nodes, models):
    for name in ("gone.safetensors", "\x1b[2J\nname.safetensors", "x" * 3000, "../../etc/passwd", "a\0b"):
        assert is_one_line(call(nodes.LoadIdentity, file=name))
    os.mkfifo(models / "embeddings" / "pipe.safetensors")
    (models / "embeddings" / "zero.safetensors").symlink_to("/dev/zero")
    (models / "embeddings" / "folder.safetensors").mkdir()
    for name in ("pipe", "zero", "folder"):
        assert nodes.LoadIdentity.fingerprint_inputs(f"{name}.safetensors") == ""
        assert is_one_line(call(nodes.LoadIdentity, file=f"{name}.safetensors"))
    with open(models / "embeddings" / "huge.safetensors", "wb") as file:
        file.truncate(2**30)
    assert is_one_line(call(nodes.LoadIdentity, file="huge.safetensors"), "more than")


def test_people_of_two_models_and_names_that_are_none_are_one_line(nodes, models):
    [ada] = call(nodes.LoadIdentity, file="ada.safetensors").values
    other = Identity("<eve>", torch.randn(2, 6), (6,))
    assert is_one_line(call(nodes.BlendIdentities, a=ada, b=other, weight=0.5, name="bodil"), "different models")
    for name in ("", "  ", "<>", "../../up", "two words", "\x1b[2J", "x" * 100_000, "a\nb", "<<ada>>"):
        assert is_one_line(call(nodes.BlendIdentities, a=ada, b=ada, weight=0.5, name=name)), name
    for weight in (float("nan"), float("inf")):
        assert is_one_line(call(nodes.BlendIdentities, a=ada, b=ada, weight=weight, name="bodil"))


def test_nobody_is_overwritten_unasked(nodes, models):
    [ada] = call(nodes.LoadIdentity, file="ada.safetensors").values
    file = models / "embeddings" / "ada.safetensors"
    other = Identity("<ada>", -ada.vectors, ada.encoder_dims)
    before = file.read_bytes()
    assert is_one_line(call(nodes.SaveIdentity, identity=other, overwrite=False), "another person")
    file.write_bytes(b"damaged")
    assert is_one_line(call(nodes.SaveIdentity, identity=other, overwrite=False), "ada.safetensors")
    assert file.read_bytes() == b"damaged" and [f.name for f in file.parent.iterdir()] == ["ada.safetensors"]
    file.write_bytes(before)
    (models / "embeddings").rename(models / "away")
    (models / "embeddings").write_bytes(b"a file where the folder should be")
    assert is_one_line(call(nodes.SaveIdentity, identity=ada, overwrite=True))


def test_pictures_that_are_none_are_refused(nodes):
    photos = nodes._photos(torch.rand(2, 8, 9, 4))
    assert [(photo.size, photo.mode) for photo in photos] == [((9, 8), "RGB")] * 2
    for shape in ((0, 8, 8, 3), (1, 0, 8, 3), (8, 8, 3), (1, 8, 8, 1), (1, 8, 8, 2), (1, 3, 8, 8), (101, 1, 1, 3)):
        with pytest.raises(nodes.PhotoError, match="IMAGE"):
            nodes._photos(torch.zeros(shape))
    for value in (float("nan"), float("inf")):
        with pytest.raises(nodes.PhotoError, match="not numbers"):
            nodes._photos(torch.full((1, 8, 8, 3), value))


def test_other_errors_stay_what_they_are(nodes):
    """ComfyUI itself knows the one by which a run is cancelled."""

    class Interrupted(Exception):
        pass

    def execute(cls):
        raise Interrupted

    with pytest.raises(Interrupted):
        nodes.in_one_line(execute)(None)

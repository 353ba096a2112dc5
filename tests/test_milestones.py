"""Milestones of a fit: who is drawn when, and which step is kept."""

import logging

import pytest
import torch
from conftest import NAMES, make_pipeline, state_of
from PIL import Image

from celeb_basis import CelebBasis, Face, Model
from celeb_basis.backend.card import ModelCard
from celeb_basis.faces.face import mean_features
from celeb_basis.milestones import likeness


class Colours:
    """A reader that finds `faces` faces in every image, described by its colours."""

    name = "colours"

    def __init__(self, faces=1):
        self.faces, self.read_images = faces, 0

    def read(self, images):
        self.read_images += len(images)
        return [[self._face(image)] * self.faces for image in images]

    def _face(self, image):
        pixels = torch.tensor(list(image.convert("RGB").resize((4, 4)).tobytes()), dtype=torch.float32)
        return Face(image, (0, 0, *image.size), torch.nn.functional.normalize(pixels - 127, dim=0), self.name)


def photo(seed):
    pixels = torch.randint(256, (16, 16, 3), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)
    return Image.fromarray(pixels.numpy())


@pytest.fixture(scope="module")
def tiny():
    pipe = make_pipeline("sd1")
    pipe.card = ModelCard(portraits=("a photo of {}", "a photo of the face of {}"))  # it reads 20 tokens
    return pipe


def model_with(pipe, reader):
    return Model(pipe, basis=CelebBasis.from_pipeline(pipe, NAMES), face_reader=reader)


FIT = {"max_train_steps": 60, "num_milestones": 3, "num_train_images": 4, "learning_rate": 0.3}


def test_everybody_ends_as_their_best_milestone(tiny):
    reader, before = Colours(), state_of(tiny)
    model = model_with(tiny, reader)
    photos = {"ada": photo(1), "bo": photo(2)}
    steps = list(model.fit_steps(photos, **FIT))
    assert state_of(tiny) == before
    milestones = [at for at in steps if at.likeness]
    assert [at.step for at in milestones] == [20, 40, 60] and len({at.likeness for at in milestones}) == 3
    features = mean_features([model.find_faces(photos[name]) for name in photos])
    for i, identity in enumerate(steps[-1].identities):
        best = max(milestones, key=lambda at: at.likeness[i])
        told = identity.provenance
        assert told["steps"] == "60" and told["likeness"] == f"{best.likeness[i]:.3f}"
        assert int(told["kept_step"]) == best.step
        # What the best milestone is said to be like is what pictures of the identity that is kept are like.
        again = likeness(tiny, steps[-1].identities, features, reader)[i]
        assert again == pytest.approx(best.likeness[i], abs=1e-4)
        if not best.is_last:
            assert torch.equal(identity.vectors, best.vectors[i])


def test_milestones_change_nothing_of_the_steps_themselves(tiny):
    model = model_with(tiny, Colours())
    with_them, without = (
        [at.vectors for at in model.fit_steps(photo(1), "ada", **FIT | {"num_milestones": count})][:-1]
        for count in (3, 0)
    )
    assert all(torch.equal(one, other) for one, other in zip(with_them, without, strict=True))


@pytest.mark.parametrize("faces", [0, 2])
def test_without_one_face_the_last_step_is_kept(tiny, faces, caplog):
    model = model_with(tiny, Colours(faces))
    [face] = Colours().read([photo(1)])[0]
    steps = list(model.fit_steps(face, "ada", **FIT))
    plain = model.fit(face, "ada", **FIT | {"num_milestones": 0})
    assert torch.equal(steps[-1].identities[0].vectors, plain.vectors)
    assert steps[-1].identities[0].provenance["kept_step"] == "60"
    assert [line for line in caplog.messages if "<ada>: no milestone's pictures show one face" in line]


@pytest.mark.parametrize("recipe", [{"max_train_steps": 19}, {"max_train_steps": 30, "num_milestones": 1}])
def test_nothing_is_drawn_where_there_is_nothing_to_choose(tiny, recipe):
    reader = Colours()
    person = model_with(tiny, reader).fit(photo(1), "ada", **FIT | recipe)
    assert reader.read_images == 1 and "kept_step" not in person.provenance


def test_faces_of_another_reader_cannot_be_compared(tiny, caplog):
    [face] = Colours().read([photo(1)])[0]
    other = Colours()
    other.name = "shapes"
    with caplog.at_level(logging.INFO, logger="celeb_basis"):
        person = model_with(tiny, other).fit(face, "ada", **FIT)
    lines = [line for line in caplog.messages if "no milestones are drawn" in line]
    assert len(lines) == 1 and "read by colours, not by shapes" in lines[0] and "kept_step" not in person.provenance


def test_where_nobody_reads_faces_the_log_says_so_once(tiny, caplog, monkeypatch):
    """The faces were found elsewhere, and what a reader of photographs runs on is not installed."""
    [face] = Colours().read([photo(1)])[0]
    monkeypatch.setitem(__import__("sys").modules, "cv2", None)
    with caplog.at_level(logging.INFO, logger="celeb_basis"):
        model_with(tiny, None).fit(face, "ada", **FIT | {"max_train_steps": 2})
    assert len([line for line in caplog.messages if "no milestones are drawn, and the last step is kept" in line]) == 1

"""The instant map of the model of photographs goes back through its text encoder: real photographs, real weights."""

from dataclasses import replace

import pytest
import torch
from photographs import EVERYBODY, photograph

from celeb_basis import BasisError, IdentityError, InstantMap, Model
from celeb_basis.faces.face import find_face
from celeb_basis.faces.reader import PhotoReader
from celeb_basis.inversion import view


@pytest.fixture(scope="module")
def model():
    return Model.load("portraits")


@pytest.fixture(scope="module")
def faces():
    reader = PhotoReader()
    return [[find_face(photograph(name), reader, largest_face=True)] for name in EVERYBODY]


def untold(inversion, pipe, basis, coefficients, wanted):
    """Return which share of what faces show the names do not say."""
    told = inversion.told(pipe, basis.inverse_transform(coefficients))
    return float((told - wanted).square().sum() / wanted.square().sum())


def test_names_say_what_the_photographs_show(model, faces):
    pipe, basis, instant_map = model.pipe, model.basis, model.instant_map
    before = {key: value.clone() for key, value in pipe.text_encoder.state_dict().items()}
    flags = [p.requires_grad for p in pipe.text_encoder.parameters()]
    wanted = instant_map.inversion.components(faces)
    found = instant_map.coefficients(pipe, basis, faces)
    start = torch.stack([instant_map.predict(own[0].feature) for own in faces])
    assert untold(instant_map.inversion, pipe, basis, found, wanted) < 0.2
    assert untold(instant_map.inversion, pipe, basis, start, wanted) > 0.5
    assert all(torch.equal(value, before[key]) for key, value in pipe.text_encoder.state_dict().items())
    assert [p.requires_grad for p in pipe.text_encoder.parameters()] == flags


def test_nobody_depends_on_who_else_is_asked_for(model, faces):
    together = model.instant_map.coefficients(model.pipe, model.basis, faces[:2])
    alone = model.instant_map.coefficients(model.pipe, model.basis, faces[1:2])
    torch.testing.assert_close(together[1:], alone, rtol=1e-3, atol=1e-4)


def test_several_photographs_count_by_their_weights(model, faces):
    inversion = model.instant_map.inversion
    [one], [other] = faces[:2]
    mixed = inversion.components([[replace(one, weight=0.75), replace(other, weight=0.25)]])
    torch.testing.assert_close(mixed, 0.75 * inversion.components([[one]]) + 0.25 * inversion.components([[other]]))


def test_a_turned_and_smaller_photograph_looks_the_same():
    reader = PhotoReader()
    upright = photograph(EVERYBODY[0]).convert("RGB")
    turned = upright.rotate(20, expand=True).resize((upright.width // 2, upright.height // 2))
    one, other = (view(find_face(photo, reader, largest_face=True)) for photo in (upright, turned))
    stranger = view(find_face(photograph(EVERYBODY[1]), reader, largest_face=True))
    assert (one - other).square().mean() < 0.2 * (one - stranger).square().mean()


def test_a_reader_that_does_not_say_where_eyes_are_is_refused(model, faces):
    blind = replace(faces[0][0], crop_eyes=None)
    with pytest.raises(IdentityError, match="where the eyes are"):
        model.instant_map.coefficients(model.pipe, model.basis, [[blind]])


def test_file_and_checks(model, tmp_path):
    instant_map = model.instant_map
    instant_map.save(tmp_path / "m.safetensors")
    again = InstantMap.load(tmp_path / "m.safetensors")
    assert again.inversion.template == instant_map.inversion.template
    for name in ("of_view", "of_state"):
        assert torch.equal(getattr(again.inversion, name), getattr(instant_map.inversion, name))
    for wrong in (
        {"of_view": again.inversion.of_view[:, 1:]},
        {"of_state": again.inversion.of_state[1:]},
        {"of_state": again.inversion.of_state * torch.nan},
        {"template": "a photo of nobody"},
    ):
        with pytest.raises(BasisError, match="no instant map"):
            replace(again.inversion, **wrong)

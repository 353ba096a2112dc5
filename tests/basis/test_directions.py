"""Directions of traits: what is learnt of them, what a step is, and what a file may hold."""

from dataclasses import replace

import pytest
import torch
from conftest import NAMES, make_pipeline

from celeb_basis import BasisError, CelebBasis, Identity, IdentityError
from celeb_basis.directions import Directions
from celeb_basis.limits import MAX_AMOUNT

N = 400


def celebrities(basis):
    g = torch.Generator().manual_seed(0)
    return torch.randn(N, 2, basis.n_components, generator=g) * basis.sigma


def planted(basis, noise=0.5):
    """Two traits that grow along known directions, and one of pure noise."""
    g = torch.Generator().manual_seed(1)
    people = celebrities(basis)
    ways = torch.randn(2, 2, basis.n_components, generator=g)
    ways /= ways.flatten(1).norm(dim=-1)[:, None, None]
    seen = ((people / basis.sigma).flatten(1)) @ ways.flatten(1).T
    readings = torch.cat([seen + noise * torch.randn(N, 2, generator=g), torch.randn(N, 1, generator=g)], 1)
    return Directions.fit(readings, people, ["glasses", "beard", "luck"], basis=basis, seen_by="test"), ways


def test_finds_the_direction_in_which_a_trait_grows(basis):
    found, ways = planted(basis)
    steps = (found.coefficients / basis.sigma).flatten(1)
    cosines = torch.cosine_similarity(steps[:2], ways.flatten(1))
    assert (cosines > 0.95).all()
    assert found.r2[:2].tolist() == pytest.approx([0.8, 0.8], abs=0.06) and abs(found.r2[2]) < 0.05


def test_a_step_is_one_standard_deviation_of_the_celebrities(basis):
    found, _ = planted(basis)
    way = (found.coefficients[0] / basis.sigma).flatten()
    along = (celebrities(basis) / basis.sigma).flatten(1) @ way / way.norm()
    assert float(way.norm()) == pytest.approx(float(along.std()), rel=1e-4)


def test_only_traits_that_names_hold_are_offered(basis):
    found, _ = planted(basis)
    kept = replace(found, r2=torch.tensor([0.4, 0.2, 0.6])).worthwhile()
    assert kept.traits == ("glasses", "luck") and torch.equal(kept.coefficients, found.coefficients[[0, 2]])
    with pytest.raises(BasisError, match=r"beard, the surest, has an R2 of 0\.01"):
        replace(found, r2=torch.tensor([0.0, 0.01, -0.2])).worthwhile()


def test_what_all_have_alike_is_no_trait(basis):
    readings = torch.ones(N, 1)
    assert Directions.fit(readings, celebrities(basis), ["nose"], basis=basis, seen_by="test").r2.tolist() == [0]


def test_a_file_holds_what_was_learnt(basis, tmp_path):
    found, _ = planted(basis)
    found.save(tmp_path / "d.safetensors")
    again = Directions.load(tmp_path / "d.safetensors")
    assert torch.equal(again.coefficients, found.coefficients) and torch.equal(again.r2, found.r2)
    assert (again.traits, again.seen_by, again.basis_digest) == (found.traits, "test", basis.digest)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"traits": ("glasses", "glasses", "luck")}, "each needs a name of its own"),
        ({"traits": ("glasses", "--model", "luck")}, "'--model' is no name of a trait"),
        ({"traits": ("glasses", "beard")}, "2 traits"),
        ({"r2": torch.tensor([2.0, 0.0, 0.0])}, "above 1"),
        ({"r2": torch.tensor([float("nan"), 0.0, 0.0])}, "not finite"),
        ({"coefficients": torch.zeros(3, 2)}, "shapes"),
    ],
)
def test_a_file_that_holds_something_else_is_refused(basis, change, message):
    with pytest.raises(BasisError, match=message):
        replace(planted(basis)[0], **change)


def test_another_basis_or_a_step_too_long_is_refused(basis):
    found, _ = planted(basis)
    other = CelebBasis.from_pipeline(make_pipeline("sd1"), NAMES[:15])
    with pytest.raises(BasisError, match="another basis"):
        found.of(other, "glasses")
    with pytest.raises(BasisError, match="no standard deviation"):
        replace(found, coefficients=100 * found.coefficients).check(basis)
    with pytest.raises(BasisError, match="no trait 'smile': there are glasses, beard, luck"):
        found.of(basis, "smile")


def test_a_person_moves_along_a_direction_and_back(basis):
    found, _ = planted(basis)
    ada = Identity.sample(basis, "<ada>", torch.Generator().manual_seed(3))
    glasses = found.of(basis, "glasses")
    moved = ada.moved(glasses, 1.5)
    gained = moved.coefficients(basis) - ada.coefficients(basis)
    assert torch.allclose(gained, 1.5 * glasses.coefficients, atol=1e-4)
    assert torch.allclose(moved.moved(glasses, -1.5).vectors, ada.vectors, atol=1e-5)
    assert moved.provenance == {"made_by": "sample", "more": "glasses=1.5"}
    assert moved.moved(found.of(basis, "beard"), -1).provenance["more"] == "glasses=1.5 beard=-1"


def test_nobody_moves_too_far_or_in_another_model(basis):
    glasses = planted(basis)[0].of(basis, "glasses")
    ada = Identity.sample(basis, "<ada>")
    for amount in (MAX_AMOUNT + 0.1, float("nan"), float("-inf")):
        with pytest.raises(IdentityError, match="standard deviations"):
            ada.moved(glasses, amount)
    with pytest.raises(IdentityError, match="made for"):
        replace(ada, fingerprint="another", word_marks="").moved(glasses, 1)

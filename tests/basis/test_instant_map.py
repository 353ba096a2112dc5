from dataclasses import replace

import numpy as np
import pytest
import torch

from celeb_basis import BasisError, InstantMap
from celeb_basis.io import load_safetensors, save_safetensors


def celebrities(basis, n=60, d=8, noise=0.1):
    g = torch.Generator().manual_seed(0)
    features = torch.nn.functional.normalize(torch.randn(n, d, generator=g), dim=-1)
    truth = torch.randn(d, 2 * basis.n_components, generator=g) + 0.5
    coefficients = features @ truth + noise * torch.randn(n, truth.shape[1], generator=g)
    return features, coefficients.unflatten(1, (2, -1))


def test_is_ridge_regression(basis):
    linear_model = pytest.importorskip("sklearn.linear_model")
    features, coefficients = celebrities(basis)
    ours = InstantMap.fit(features, coefficients, basis=basis, face_reader="test", alpha=0.3)
    theirs = linear_model.Ridge(alpha=0.3).fit(features.double(), coefficients.flatten(1).double())
    np.testing.assert_allclose(ours.coef, theirs.coef_, atol=1e-4)
    np.testing.assert_allclose(ours.intercept, theirs.intercept_, atol=1e-4)
    directions = torch.from_numpy(theirs.predict(features.double())).unflatten(1, (2, -1))
    cosine = torch.cosine_similarity(ours.predict(features), directions.float(), -1)
    np.testing.assert_allclose(cosine, 1, atol=1e-4)


def test_closed_form_error_is_that_of_leaving_one_out(basis):
    features, coefficients = celebrities(basis, n=12, noise=1.0)
    ours = InstantMap.fit(features, coefficients, basis=basis, face_reader="test", alpha=0.1)
    left_out = 0.0
    for i in range(12):
        others = [j for j in range(12) if j != i]
        m = InstantMap.fit(features[others], coefficients[others], basis=basis, face_reader="test", alpha=0.1)
        plain = features[i] @ m.coef.T + m.intercept
        left_out += (plain - coefficients[i].flatten()).square().sum().item()
    total = (coefficients - coefficients.mean(0)).square().sum().item()
    assert ours.loo_r2 == pytest.approx(1 - left_out / total, abs=1e-3)


def test_the_penalty_follows_the_noise(basis):
    alphas = [
        InstantMap.fit(*celebrities(basis, noise=noise), basis=basis, face_reader="test").alpha for noise in (0.01, 5.0)
    ]
    assert alphas[0] < alphas[1]


def test_a_face_that_tells_nothing_is_the_mean_person(basis):
    features, coefficients = celebrities(basis)
    m = InstantMap.fit(features, coefficients, basis=basis, face_reader="test")
    assert m.predict(features[0]).shape == (2, basis.n_components)
    assert m.predict(features).shape == (60, 2, basis.n_components)
    assert torch.allclose(m.predict(features.mean(0)), coefficients.mean(0), atol=1e-4)


def test_a_map_says_whether_it_is_worth_anything(basis):
    g = torch.Generator().manual_seed(3)
    features = torch.nn.functional.normalize(torch.randn(80, 6, generator=g), dim=-1)
    seen = (features @ torch.randn(6, basis.sigma.numel(), generator=g)).reshape(80, *basis.sigma.shape)
    noise = torch.randn(80, *basis.sigma.shape, generator=g)
    good, bad = (InstantMap.fit(features, y, basis=basis, face_reader="test") for y in (seen, noise))
    assert good.loo_r2 > 0.9 and not good.is_worthless
    assert bad.loo_r2 < 0.1 and bad.is_worthless


def test_file_and_checks(tmp_path, basis):
    features, coefficients = celebrities(basis)
    m = InstantMap.fit(features, coefficients, basis=basis, face_reader="test")
    m.save(tmp_path / "m.safetensors")
    again = InstantMap.load(tmp_path / "m.safetensors")
    assert torch.equal(again.predict(features), m.predict(features))
    assert (again.alpha, again.loo_r2, again.face_reader) == (m.alpha, m.loo_r2, "test")
    again.check(basis)
    tensors, metadata = load_safetensors(tmp_path / "m.safetensors")
    del metadata["alpha"]
    save_safetensors(tmp_path / "half.safetensors", tensors, metadata)
    with pytest.raises(BasisError, match=r"not a whole instant map .*alpha"):
        InstantMap.load(tmp_path / "half.safetensors")
    with pytest.raises(BasisError, match="8 from test"):
        m.predict(torch.zeros(5))
    with pytest.raises(BasisError, match="at least 3"):
        InstantMap.fit(features, coefficients[:5], basis=basis, face_reader="test")
    basis.save(tmp_path / "b.safetensors")
    with pytest.raises(BasisError, match="not an instant map"):
        InstantMap.load(tmp_path / "b.safetensors")


@pytest.mark.parametrize("how", ["nan", "half", "odd", "flat", "alpha", "loo_r2"])
def test_a_map_checks_itself(basis, how):
    features, coefficients = celebrities(basis)
    m = InstantMap.fit(features, coefficients, basis=basis, face_reader="test")
    values = {
        "nan": {"coef": m.coef * torch.nan},
        "half": {"intercept": m.intercept.half()},
        "odd": {"coef": m.coef[1:], "intercept": m.intercept[1:]},
        "flat": {"coef": m.coef.flatten()},
        "alpha": {"alpha": float("nan")},
        "loo_r2": {"loo_r2": float("inf")},
    }[how]
    with pytest.raises(BasisError, match="no instant map"):
        replace(m, **values)

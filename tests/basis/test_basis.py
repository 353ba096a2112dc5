from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import FIRST, NAMES, make_pipeline

from celeb_basis import BasisError, CelebBasis
from celeb_basis.backend.text_encoders import embedding_dims, name_rows
from celeb_basis.io import load_safetensors, save_safetensors


def scaled_rows(pipe, basis):
    rows, _ = name_rows(pipe, NAMES)
    parts = rows.double().split(basis.encoder_dims, dim=-1)
    return torch.cat([part * s for part, s in zip(parts, basis.encoder_scale, strict=True)], dim=-1)


def test_agrees_with_scikit_learn(pipe):
    decomposition = pytest.importorskip("sklearn.decomposition")
    basis = CelebBasis.from_pipeline(pipe, NAMES, n_components=5)
    rows = scaled_rows(pipe, basis).numpy()
    for j in range(2):
        pca = decomposition.PCA(5, svd_solver="full").fit(rows[:, j])
        np.testing.assert_allclose(basis.mean[j], pca.mean_, atol=1e-6)
        np.testing.assert_allclose(basis.components[j], pca.components_, atol=1e-5)
        np.testing.assert_allclose(basis.explained_variance[j], pca.explained_variance_, rtol=1e-5)
        np.testing.assert_allclose(basis.explained_variance_ratio[j], pca.explained_variance_ratio_, rtol=1e-5)


def test_the_rank_is_that_of_distinct_rows(pipe):
    basis = CelebBasis.from_pipeline(pipe, NAMES)
    assert basis.n_components == len(FIRST) - 1
    assert (basis.explained_variance > 0).all()
    with pytest.raises(BasisError, match=f"between 1 and {len(FIRST) - 1}, the rank"):
        CelebBasis.from_pipeline(pipe, NAMES, n_components=len(FIRST))
    with pytest.raises(BasisError, match="n_components=0"):
        CelebBasis.from_pipeline(pipe, NAMES, n_components=0)


def test_repeated_and_unusable_names_change_nothing(pipe, basis):
    other = CelebBasis.from_pipeline(pipe, [*NAMES, *NAMES[:4], "ada", "nobody known"])
    assert other.names == basis.names == tuple(NAMES)
    assert torch.equal(other.components, basis.components)
    with pytest.raises(BasisError, match="0 of 1 names"):
        CelebBasis.from_pipeline(pipe, ["unheard of"])


def test_components_are_orthonormal_and_signed(basis):
    for rows in basis.components:
        assert torch.allclose(rows @ rows.T, torch.eye(len(rows)), atol=1e-5)
        assert (rows.gather(1, rows.abs().argmax(1, keepdim=True)) > 0).all()
    assert (basis.explained_variance.diff(dim=-1) <= 0).all()


def test_projection_and_its_inverse(pipe, basis):
    coefficients = torch.randn(3, 2, basis.n_components, generator=torch.Generator().manual_seed(0))
    back = basis.transform(basis.inverse_transform(coefficients))
    assert back.shape == coefficients.shape and torch.allclose(back, coefficients, atol=1e-4)
    rows, _ = name_rows(pipe, NAMES)
    # All first names lie within the basis, whose rank is theirs.
    again = basis.inverse_transform(basis.transform(rows))
    assert torch.allclose(again[:, 0], rows[:, 0], atol=1e-4)


def test_spread_is_measured_on_the_celebrities(pipe, basis):
    coefficients = basis.transform(name_rows(pipe, NAMES)[0])
    assert torch.allclose(coefficients.std(dim=0), basis.sigma, rtol=1e-3, atol=1e-6)
    assert torch.allclose(coefficients.norm(dim=-1).median(dim=0).values, basis.median_radius, rtol=1e-4)


def test_every_encoder_brings_the_same_variance(pipe, basis):
    spread = [part.var(dim=0).sum() for part in scaled_rows(pipe, basis).split(basis.encoder_dims, dim=-1)]
    assert torch.allclose(torch.stack(spread), spread[0].expand(len(spread)), rtol=1e-4)
    assert basis.encoder_dims == embedding_dims(pipe)
    assert len(spread) > 1 or basis.encoder_scale == (1.0,)


def test_a_file_holds_all_of_it(tmp_path, basis):
    basis.save(tmp_path / "b.safetensors")
    again = CelebBasis.load(tmp_path / "b.safetensors")
    assert again.digest == basis.digest
    for name in basis.__dataclass_fields__:
        ours, theirs = getattr(basis, name), getattr(again, name)
        assert torch.equal(ours, theirs) if torch.is_tensor(ours) else ours == theirs


@pytest.mark.parametrize("key", ["names", "model"])
def test_half_a_file_is_refused(tmp_path, basis, key):
    basis.save(tmp_path / "b.safetensors")
    tensors, metadata = load_safetensors(tmp_path / "b.safetensors")
    del metadata[key]
    save_safetensors(tmp_path / "b.safetensors", tensors, metadata)
    with pytest.raises(BasisError, match=f"not a whole celeb basis .*{key}"):
        CelebBasis.load(tmp_path / "b.safetensors")


def test_another_model_is_refused(pipe, basis):
    basis.check(pipe)
    with pytest.raises(BasisError, match="does not fit tiny sd1"):
        basis.check(make_pipeline("sd1", seed=4))


def test_rows_alone_make_a_basis(pipe, basis):
    rows, kept = name_rows(pipe, NAMES)
    ours = CelebBasis.fit(rows, kept, encoder_dims=embedding_dims(pipe))
    for name in ("mean", "components", "explained_variance", "median_radius"):
        assert torch.equal(getattr(ours, name), getattr(basis, name))
    with pytest.raises(BasisError, match="at least 3"):
        CelebBasis.fit(rows[:2], kept[:2])
    with pytest.raises(BasisError, match="is needed"):
        CelebBasis.fit(rows[:4], kept[:5])
    for value in (float("nan"), float("inf")):
        spoilt_rows = rows.clone()
        spoilt_rows[2, 1, 0] = value
        with pytest.raises(BasisError, match=f"1 names, such as {kept[2]}, have embeddings that are no finite numbers"):
            CelebBasis.fit(spoilt_rows, kept, encoder_dims=embedding_dims(pipe))


def spoilt(tensor, how):
    if how == "nan":
        return torch.where(torch.arange(tensor.numel()).reshape(tensor.shape) == 0, torch.nan, tensor)
    return {
        "infinite": tensor * torch.inf,
        "half": tensor.half(),
        "short": tensor[:, :-1] if tensor.ndim > 1 else tensor[:-1],
        "flat": tensor.flatten(),
        "negative": -tensor.abs(),
        "scaled": tensor * 3,
    }[how]


@pytest.mark.parametrize(
    ("name", "how"),
    [
        *(
            (name, how)
            for name in ("mean", "components", "median_radius")
            for how in ("nan", "infinite", "half", "short")
        ),
        ("components", "scaled"),
        ("components", "flat"),
        ("explained_variance", "negative"),
        ("median_radius", "negative"),
    ],
)
def test_a_basis_checks_itself(basis, tmp_path, name, how):
    with pytest.raises(BasisError, match="no celeb basis"):
        replace(basis, **{name: spoilt(getattr(basis, name), how)})
    basis.save(tmp_path / "b.safetensors")
    tensors, metadata = load_safetensors(tmp_path / "b.safetensors")
    save_safetensors(tmp_path / "b.safetensors", tensors | {name: spoilt(tensors[name], how)}, metadata)
    with pytest.raises(BasisError, match=r"b\.safetensors: this is no celeb basis"):
        CelebBasis.load(tmp_path / "b.safetensors")


@pytest.mark.parametrize(
    "values",
    [
        {"rank": (1, 1)},
        {"rank": ("7", 7)},
        {"encoder_dims": (3,)},
        {"encoder_scale": (0.0,)},
        {"encoder_scale": (float("nan"),)},
        {"encoder_dims": (-1, 33), "encoder_scale": (1.0, 1.0)},
    ],
)
def test_numbers_beside_the_tensors_are_checked(basis, values):
    with pytest.raises(BasisError, match="no celeb basis"):
        replace(basis, **values)

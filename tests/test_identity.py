import copy
import re
from dataclasses import replace

import pytest
import torch
from conftest import NAMES, make_pipeline
from safetensors.torch import load_file

from celeb_basis import BasisError, CelebBasis, Identity, IdentityError, PromptError
from celeb_basis.backend.text_encoders import fingerprint, placeholders
from celeb_basis.generate import generate


@pytest.fixture
def ada(basis):
    return Identity.sample(basis, "<ada>", torch.Generator().manual_seed(1))


def test_the_file_is_a_textual_inversion_file(tmp_path, ada):
    ada.save(tmp_path / "ada.safetensors")
    tensors = load_file(tmp_path / "ada.safetensors")
    keys = {1: ["emb_params"], 2: ["clip_g", "clip_l"]}[len(ada.encoder_dims)]
    assert sorted(tensors) == keys
    assert all(t.dtype == torch.float32 and t.shape[0] == 2 for t in tensors.values())


@pytest.mark.parametrize("kind", ["sd1", "sd2", "sdxl"])
def test_stock_diffusers_draws_the_same_picture(tmp_path, kind):
    from conftest import NAMES

    from celeb_basis import CelebBasis

    pipe = make_pipeline(kind)
    ada = Identity.sample(CelebBasis.from_pipeline(pipe, NAMES), "<ada>", torch.Generator().manual_seed(1))
    file = tmp_path / "ada.safetensors"
    ada.save(file)

    def draw():
        g = torch.Generator().manual_seed(0)
        return pipe("a photo of <ada> on the beach", num_inference_steps=2, generator=g, output_type="np").images

    with placeholders(pipe, {"<ada>": Identity.load(file).vectors}):
        ours = draw()
    if kind == "sdxl":
        tensors = load_file(file)
        pipe.load_textual_inversion(tensors["clip_l"], token="<ada>")
        pipe.load_textual_inversion(
            tensors["clip_g"], token="<ada>", text_encoder=pipe.text_encoder_2, tokenizer=pipe.tokenizer_2
        )
    else:
        pipe.load_textual_inversion(file, token="<ada>")
    assert (draw() == ours).all()


def test_round_trips(tmp_path, basis, ada):
    ada.save(tmp_path / "ada.safetensors")
    again = Identity.load(tmp_path / "ada.safetensors")
    for name in ada.__dataclass_fields__:
        ours, theirs = getattr(ada, name), getattr(again, name)
        assert torch.equal(ours, theirs) if torch.is_tensor(ours) else ours == theirs
    from_coefficients = Identity.from_coefficients(basis, again.coefficients(basis), "<ada>")
    assert torch.allclose(from_coefficients.vectors, ada.vectors, atol=1e-4)
    assert Identity.load(tmp_path / "ada.safetensors", "<eve>").placeholder_token == "<eve>"


def test_algebra(basis, ada):
    bo = Identity.sample(basis, "<bo>", torch.Generator().manual_seed(2))
    assert torch.equal(ada.blend(bo, 0.0, "<x>").vectors, ada.vectors)
    assert torch.equal(ada.blend(bo, 1.0, "<x>").vectors, bo.vectors)
    assert torch.allclose(ada.blend(ada, 0.3, "<x>").vectors, ada.vectors)
    for weight in (-0.1, 1.1, 1e308, float("inf"), float("nan")):
        with pytest.raises(IdentityError, match="from 0, this person, to 1") as error:
            ada.blend(bo, weight, "<x>")
        assert error.value.argument == "weight"
    half = ada.blend(bo, 0.5, "<x>")
    mean = (ada.coefficients(basis) + bo.coefficients(basis)) / 2
    assert torch.allclose(half.coefficients(basis), mean, atol=1e-4)


def test_samples_are_spread_as_the_celebrities(basis):
    draws = torch.stack(
        [Identity.sample(basis, "<x>", torch.Generator().manual_seed(i)).coefficients(basis) for i in range(400)]
    )
    assert torch.allclose(draws.std(0), basis.sigma, rtol=0.2)
    again = Identity.sample(basis, "<x>", torch.Generator().manual_seed(3))
    assert torch.allclose(again.coefficients(basis), draws[3], atol=1e-5)


def test_other_models_are_refused(pipe, basis, ada):
    ada.check(pipe)
    stranger = Identity("<bo>", ada.vectors, ada.encoder_dims, fingerprint="another", model="another model")
    with pytest.raises(IdentityError, match="made for another model"):
        stranger.check(pipe)
    with pytest.raises(IdentityError, match="different models"):
        ada.blend(stranger, 0.5, "<x>")
    with pytest.raises(IdentityError, match="another model"):
        stranger.coefficients(basis)
    narrow = Identity("<bo>", torch.ones(2, 6), (6,))
    with pytest.raises(IdentityError, match="another model"):
        narrow.coefficients(basis)


def test_strength_goes_from_the_mean_person_to_the_person_and_beyond(basis, ada):
    mean = basis.inverse_transform(torch.zeros_like(basis.sigma))
    assert torch.equal(ada.scaled(basis, 0).vectors, mean)
    assert torch.equal(ada.scaled(basis, 1).vectors, ada.vectors)
    for strength in (0.3, 1.25):
        scaled = ada.scaled(basis, strength)
        assert torch.allclose(scaled.coefficients(basis), strength * ada.coefficients(basis), atol=1e-4)
        assert scaled.provenance["strength"] == str(strength)
    for strength in (-0.1, 2, torch.nan):
        with pytest.raises(IdentityError, match="strength"):
            ada.scaled(basis, strength)


def test_one_vector_or_many_are_drawn_with_and_not_mixed(basis, ada):
    for count in (1, 5):
        thing = Identity("<thing>", torch.ones(count, ada.vectors.shape[1]), ada.encoder_dims, ada.fingerprint)
        with pytest.raises(IdentityError, match=f"has {count} vectors"):
            ada.blend(thing, 0.5, "<x>")
        with pytest.raises(IdentityError, match=f"has {count} vectors"):
            thing.coefficients(basis)
        with pytest.raises(IdentityError, match=f"has {count} vectors"):
            thing.scaled(basis, 0.5)


def test_impossible_identities():
    with pytest.raises(PromptError, match="placeholder token"):
        Identity("Ada", torch.zeros(2, 6), (6,))
    with pytest.raises(IdentityError, match="shape"):
        Identity("<ada>", torch.zeros(2, 5), (6,))
    with pytest.raises(IdentityError, match="not numbers"):
        Identity("<ada>", torch.full((2, 6), torch.nan), (6,))


@pytest.mark.parametrize("value", [0.0, 1e4, 1e38, float("nan")])
def test_vectors_that_stand_for_nobody_are_refused(tmp_path, value):
    vectors = torch.full((2, 6), value)
    with pytest.raises(IdentityError):
        Identity("<ada>", vectors, (6,))
    torch.save({"*": vectors}, tmp_path / "x.pt")
    with pytest.raises(IdentityError):
        Identity.load(tmp_path / "x.pt")


@pytest.mark.filterwarnings("ignore")
def test_exotic_tensors_are_refused(tmp_path):
    ones = torch.ones(2, 6)
    exotic = {
        "complex": ones.to(torch.complex64),
        "sparse": ones.to_sparse(),
        "meta": ones.to("meta"),
        "whole numbers": ones.long(),
        "quantised": torch.quantize_per_tensor(ones, 0.1, 0, torch.qint8),
        "wide": torch.ones(1).expand(2, 10**9),
    }
    for name, tensor in exotic.items():
        torch.save({"*": tensor}, tmp_path / "x.pt")
        with pytest.raises(IdentityError):
            Identity.load(tmp_path / "x.pt")
            raise AssertionError(name)


def fine_tune(pipe, share):
    """The same model, in whose table a share of the rows was trained on."""
    other = copy.deepcopy(pipe)
    with torch.no_grad():
        for suffix in ("", "_2"):
            if encoder := getattr(other, f"text_encoder{suffix}", None):
                table = encoder.get_input_embeddings().weight
                table[-int(share * len(table)) :] *= -1
    other.register_to_config(_name_or_path="a fine-tune")
    return other


def test_a_fine_tune_that_changed_few_rows_draws_the_person_and_says_how_many(tmp_path, caplog):
    pipe = make_pipeline("sdxl")
    words = sorted((i, w) for w, i in pipe.tokenizer.get_vocab().items() if w in ("person</w>", "beach</w>"))
    basis = CelebBasis.from_pipeline(pipe, NAMES)
    Identity.sample(basis, "<ada>", torch.Generator().manual_seed(1)).save(tmp_path / "ada.safetensors")
    basis.save(tmp_path / "basis.safetensors")
    ada, basis = Identity.load(tmp_path / "ada.safetensors"), CelebBasis.load(tmp_path / "basis.safetensors")
    other = copy.deepcopy(pipe)
    other.register_to_config(_name_or_path="a fine-tune")
    with torch.no_grad():
        for i, _ in words:
            other.text_encoder.get_input_embeddings().weight[i] *= -1
    assert fingerprint(other) != fingerprint(pipe)
    for _ in range(2):
        generate(other, "a photo of <ada>", [ada], num_inference_steps=1)
        basis.check(other)
    said = [r.getMessage() for r in caplog.records if "was made for another model, whose" in r.getMessage()]
    assert len(said) == 2, "each once"
    assert re.fullmatch(r"<ada> was made for another model, .* of a fine-tune in 2 of \d+ words compared: .*", said[0])
    theirs = CelebBasis.from_pipeline(other, NAMES)
    assert ada.coefficients(theirs).shape == ada.coefficients(basis).shape
    bo = Identity.sample(theirs, "<bo>")
    assert torch.equal(ada.blend(bo, 0.0, "<both>").vectors, ada.vectors)
    old = replace(ada, word_marks="")  # written before there were any
    with pytest.raises(IdentityError, match="means nothing to a fine-tune"):
        old.check(other)


@pytest.mark.parametrize("share", [0.6, 1.0])
def test_a_model_with_other_rows_is_another_model(share):
    pipe = make_pipeline("sd1")
    basis = CelebBasis.from_pipeline(pipe, NAMES)
    other = fine_tune(pipe, share)
    with pytest.raises(IdentityError, match="means nothing to a fine-tune"):
        Identity.sample(basis, "<ada>").check(other)
    with pytest.raises(BasisError, match="does not fit a fine-tune"):
        basis.check(other)

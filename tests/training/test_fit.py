import math
from dataclasses import dataclass, replace

import pytest
import torch
from conftest import NAMES, TEMPLATES, make_pipeline, state_of
from PIL import Image

from celeb_basis import CelebBasis, IdentityError, InstantMap, PromptError, Recipe
from celeb_basis.errors import BasisError
from celeb_basis.models.denoiser import denoising_loss, noise_scheduler
from celeb_basis.models.encoders import encode, placeholders, token_ids
from celeb_basis.training.fit import fit_identities, fit_identity, fit_steps, minimise, person_latents
from celeb_basis.training.pictures import encode_pictures, training_picture


@dataclass(frozen=True)
class Crop:
    """All that a fit looks at in a face."""

    crop: Image.Image
    feature: torch.Tensor
    reader: str = "test"


def make_face(seed: int) -> Crop:
    g = torch.Generator().manual_seed(seed)
    pixels = (torch.rand(16, 16, 3, generator=g) * 255).byte().numpy()
    return Crop(Image.fromarray(pixels), torch.nn.functional.normalize(torch.randn(8, generator=g), dim=0))


@pytest.fixture(scope="module")
def instant(basis):
    g = torch.Generator().manual_seed(5)
    features = torch.nn.functional.normalize(torch.randn(len(basis.names), 8, generator=g), dim=-1)
    coefficients = torch.randn(len(basis.names), 2, basis.n_components, generator=g) * basis.sigma
    return InstantMap.fit(features, coefficients, basis=basis, reader_name="test")


QUICK = {"max_train_steps": 2, "train_batch_size": 2, "num_pictures": 4, "templates": TEMPLATES}


def test_only_the_coefficients_change(pipe, basis, instant):
    before = state_of(pipe)
    steps = []
    identity = fit_identity(
        pipe,
        basis,
        [make_face(1)],
        placeholder_token="<ada>",
        instant=instant,
        progress=steps.append,
        **QUICK,
    )
    assert state_of(pipe) == before
    assert [step.step for step in steps] == [0, 1, 2]
    assert math.isnan(steps[0].loss) and all(math.isfinite(step.loss) for step in steps[1:])
    assert steps[-1].coefficients.numel() == 2 * basis.n_components
    assert not torch.allclose(steps[0].coefficients, steps[-1].coefficients)
    assert torch.allclose(identity.coefficients(basis), steps[-1].coefficients[0], atol=1e-4)
    assert identity.provenance["photos"] == "1" and identity.provenance["max_train_steps"] == "2"


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
@pytest.mark.parametrize("where", ["progress", "unet", "vae", "text_encoder"])
def test_everything_is_as_before_a_failure(pipe, basis, monkeypatch, error, where):
    before = state_of(pipe)

    def fail(*_, **__):
        raise error

    with monkeypatch.context() as patch:
        if where == "vae":
            patch.setattr(pipe.vae, "encode", fail)
        elif where != "progress":
            patch.setattr(getattr(pipe, where), "forward", fail)
        with pytest.raises(error):
            fit_identity(
                pipe,
                basis,
                [make_face(1)],
                placeholder_token="<ada>",
                init="mean",
                progress=(lambda step: step.step and fail()) if where == "progress" else None,
                **QUICK,
            )
    assert state_of(pipe) == before


def test_flags_and_modes_of_an_unfrozen_model_are_kept():
    pipe = make_pipeline("sd1")
    pipe.unet.requires_grad_(True).train()
    before = state_of(pipe)
    fit_identity(
        pipe,
        CelebBasis.from_pipeline(pipe, NAMES),
        [make_face(1)],
        placeholder_token="<ada>",
        init="mean",
        **QUICK,
    )
    assert state_of(pipe) == before


def test_between_steps_the_pipeline_is_untouched(pipe, basis):
    before = state_of(pipe)
    for _ in fit_steps(pipe, basis, [[make_face(1)]], Recipe(init="mean", **QUICK)):
        assert state_of(pipe) == before


@pytest.mark.parametrize("norm", ["calibrated", "unit"])
def test_people_side_by_side_are_as_if_alone(pipe, basis, norm):
    people = [[make_face(1)], [make_face(2), make_face(3)], [make_face(4)]]
    recipe = Recipe(init="mean", coefficient_norm=norm, seed=7, learning_rate=0.05, **{**QUICK, "max_train_steps": 4})
    together = fit_identities(pipe, basis, people, ["<a>", "<b>", "<a>"], recipe)
    for faces, identity in zip(people, together, strict=True):
        (alone,) = fit_identities(pipe, basis, [faces], ["<a>"], recipe)
        assert torch.allclose(alone.coefficients(basis), identity.coefficients(basis), atol=1e-4)
    assert not torch.allclose(together[0].coefficients(basis), together[2].coefficients(basis), atol=1e-4)


def test_no_steps_return_the_start(pipe, basis, instant):
    face = make_face(1)
    fit = {"placeholder_token": "<ada>", "max_train_steps": 0}
    identity = fit_identity(pipe, basis, [face], instant=instant, **fit)
    assert torch.allclose(identity.coefficients(basis), instant.predict(face.feature), atol=1e-5)
    identity = fit_identity(pipe, basis, [face], init="mean", **fit)
    assert torch.allclose(identity.coefficients(basis), torch.zeros(2, basis.n_components), atol=1e-5)
    identity = fit_identity(pipe, basis, [face], init="mean", coefficient_norm="unit", **fit)
    assert torch.allclose(identity.coefficients(basis).norm(dim=-1), torch.ones(2), atol=1e-5)


def test_calibrated_people_stay_among_the_celebrities(pipe, basis):
    recipe = Recipe(init="mean", learning_rate=100.0, momentum=0.0, max_radius=1.1, **QUICK)
    *_, last = fit_steps(pipe, basis, [[make_face(1)]], recipe)
    assert (last.coefficients.norm(dim=-1) <= 1.1001 * basis.radius).all()
    assert (last.coefficients.norm(dim=-1) > 0.5 * basis.radius).all()


def test_the_loss_is_the_pipelines_own(pipe):
    """The same number as the textbook training step written out for one picture."""
    scheduler = noise_scheduler(pipe)
    latents = torch.randn(1, 1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        states, pooled = encode(pipe, token_ids(pipe, ["a photo of the beach"]))
        loss = denoising_loss(pipe, scheduler, latents, states, pooled, [torch.Generator().manual_seed(1)])
        g = torch.Generator().manual_seed(1)
        t = torch.randint(1000, (1,), generator=g)
        noise = torch.randn(1, 4, 8, 8, generator=g)
        alpha = scheduler.alphas_cumprod[t]
        noisy = alpha.sqrt() * latents[0] + (1 - alpha).sqrt() * noise
        more = {}
        if pooled is not None:
            more["added_cond_kwargs"] = {
                "text_embeds": pooled,
                "time_ids": torch.tensor([[16.0, 16, 0, 0, 16, 16]]),
            }
        predicted = pipe.unet(noisy, t, states, **more).sample
        target = noise
        if pipe.scheduler.config.prediction_type == "v_prediction":
            target = alpha.sqrt() * noise - (1 - alpha).sqrt() * latents[0]
    assert torch.allclose(loss, (predicted - target).square().mean()[None], atol=1e-6)


def test_gradient_agrees_with_finite_differences(pipe, basis):
    scheduler = noise_scheduler(pipe)
    latents = torch.randn(1, 2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    direction = torch.randn(basis.sigma.shape, generator=torch.Generator().manual_seed(2)) * basis.sigma

    def loss(x):
        with placeholders(pipe, {"<x>": basis.inverse_transform(x)}):
            states, pooled = encode(pipe, token_ids(pipe, ["a photo of <x>"]))
        return denoising_loss(pipe, scheduler, latents, states, pooled, [torch.Generator().manual_seed(1)])[0]

    x = torch.zeros_like(basis.sigma, requires_grad=True)
    (slope,) = torch.autograd.grad(loss(x), x)
    with torch.no_grad():
        secant = (loss(direction * 0.05) - loss(direction * -0.05)).item() / 0.1
    assert (slope * direction).sum().item() == pytest.approx(secant, rel=0.05, abs=1e-5)


def test_free_vectors_are_textual_inversion(pipe, basis):
    free = basis.mean[None].clone().requires_grad_()
    start = free.detach().clone()
    g = [torch.Generator().manual_seed(0)]
    latents = [person_latents(pipe, [make_face(1)], Recipe(num_pictures=4), g[0])]
    losses = list(
        minimise(
            pipe,
            latents,
            free,
            lambda v: v,
            g,
            max_train_steps=3,
            learning_rate=5e-3,
            train_batch_size=2,
            templates=TEMPLATES,
        )
    )
    assert len(losses) == 3 and not torch.equal(free, start)


def test_either_kind_of_autoencoder_will_do():
    from diffusers import AutoencoderTiny

    pipe = make_pipeline("sd1")
    pipe.vae = AutoencoderTiny(
        encoder_block_out_channels=(8, 8),
        decoder_block_out_channels=(8, 8),
        num_encoder_blocks=(1, 1),
        num_decoder_blocks=(1, 1),
    ).eval()
    basis = CelebBasis.from_pipeline(pipe, NAMES)
    identities = [
        fit_identity(pipe, basis, [make_face(1)], placeholder_token="<a>", init="mean", **QUICK)
        for _ in range(2)
    ]
    assert torch.equal(identities[0].vectors, identities[1].vectors), "the same seed, the same person"


def test_half_precision_learns_too():
    pipe = make_pipeline("sd1")
    basis = CelebBasis.from_pipeline(pipe, NAMES)
    expected = fit_identity(pipe, basis, [make_face(1)], placeholder_token="<a>", init="mean", **QUICK)
    pipe.to(dtype=torch.float16)
    before = state_of(pipe)
    ours = fit_identity(pipe, basis, [make_face(1)], placeholder_token="<a>", init="mean", **QUICK)
    assert state_of(pipe) == before
    cosine = torch.cosine_similarity(
        ours.coefficients(basis).flatten(), expected.coefficients(basis).flatten(), 0
    )
    assert cosine > 0.9


def test_training_pictures_are_faces_on_black():
    white = Image.new("RGB", (40, 40), "white")
    g = torch.Generator().manual_seed(0)
    seen = set()
    for _ in range(30):
        picture = training_picture([white], size=32, grid=8, scales=(0.25, 0.5, 1.0), generator=g)
        assert picture.shape == (3, 32, 32) and picture.max() <= 1
        lit = (picture[0] > -1).nonzero()
        (top, left), (bottom, right) = lit.min(0).values.tolist(), (lit.max(0).values + 1).tolist()
        assert bottom - top == right - left and len(lit) == (bottom - top) ** 2
        assert top % 8 == left % 8 == 0
        seen.add(bottom - top)
    assert seen == {8, 16, 32}


def test_the_picture_is_learnt_in_its_colours(pipe):
    red = Image.new("RGB", (16, 16), (200, 30, 30))
    picture = training_picture([red], size=16, grid=2, scales=(1.0,), generator=torch.Generator())
    assert picture[0].mean() > 0 > picture[1].mean()
    latents = encode_pictures(pipe, picture[None])
    with torch.no_grad():
        own = pipe.vae.encode(picture[None]).latent_dist.mode() * pipe.vae.config.scaling_factor
    assert torch.equal(latents, own)


def test_a_training_picture_is_the_same_whenever_it_is_needed(pipe):
    once, again = (
        person_latents(pipe, [make_face(1), make_face(2)], Recipe(num_pictures=6), torch.Generator().manual_seed(3))
        for _ in range(2)
    )
    assert len(once) == 6
    first, second = once[torch.tensor([4, 1, 4])], again[torch.tensor([1])]
    assert torch.equal(first[0], first[2]) and not torch.equal(first[0], first[1])
    torch.testing.assert_close(first[1], second[0])
    assert torch.equal(once[torch.tensor([1])][0], first[1])


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        ({"init": "random"}, "init='random'"),
        ({"coefficient_norm": "l2"}, "coefficient_norm='l2'"),
        ({"max_train_steps": -1}, "at least 0"),
        ({"templates": ("a photo",)}, "template"),
        ({"templates": ()}, "template"),
        ({"scales": ()}, "scales"),
        ({"scales": (0.5, 1.5)}, "scales"),
        ({"learning_rate": 0}, "learning_rate=0 must be above 0"),
        ({"learning_rate": -1.0}, "learning_rate"),
        ({"momentum": 2.0}, "momentum"),
        ({"max_radius": -1.0}, "max_radius"),
        ({"resolution": 0}, "resolution"),
        ({"init": "instant"}, "instant map"),
        ({"init": "mean", "resolution": 17}, "multiple of 2"),
    ],
)
def test_recipes_that_cannot_be_followed(pipe, basis, recipe, message):
    with pytest.raises(IdentityError, match=message):
        fit_identity(pipe, basis, [make_face(1)], placeholder_token="<a>", **recipe)


def test_other_misuse_is_refused(pipe, basis, instant):
    fit = {"init": "mean", "placeholder_token": "<a>"}
    with pytest.raises(IdentityError, match="at least one face"):
        fit_identity(pipe, basis, [], **fit)
    with pytest.raises(IdentityError, match="2 people and 1 placeholder tokens"):
        fit_identities(pipe, basis, [[make_face(1)]] * 2, ["<a>"], Recipe(init="mean"))
    with pytest.raises(PromptError, match="angle brackets"):
        fit_identity(pipe, basis, [make_face(1)], init="mean", placeholder_token="Ada")
    with pytest.raises(BasisError):
        fit_identity(make_pipeline("sd1", seed=9), basis, [make_face(1)], **fit)
    smaller = CelebBasis.from_pipeline(pipe, NAMES, n_components=3)
    with pytest.raises(BasisError, match="instant map"):
        fit_identity(pipe, smaller, [make_face(1)], placeholder_token="<a>", instant=instant)
    with pytest.raises(BasisError, match="faces from test, these come from other"):
        faces = [make_face(1), replace(make_face(2), reader="other")]
        fit_identity(pipe, basis, faces, placeholder_token="<a>", instant=instant)

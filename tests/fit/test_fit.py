import itertools
import math
from dataclasses import dataclass, replace
from types import SimpleNamespace

import pytest
import torch
from conftest import NAMES, TEMPLATES, make_pipeline, state_of
from diffusers import DDPMScheduler
from fits import fit_identities, fit_identity
from PIL import Image

from celeb_basis import CelebBasis, IdentityError, InstantMap, ModelError, PromptError, Recipe
from celeb_basis.backend.denoiser import Prediction
from celeb_basis.backend.families import get_denoiser
from celeb_basis.backend.text_encoders import encode, placeholders, token_ids
from celeb_basis.errors import BasisError
from celeb_basis.fit.data import face_weights, training_image
from celeb_basis.fit.loop import first_quantile, fit_steps, golden_ratio_sequence, optimize, person_images
from celeb_basis.fit.methods import METHODS, CelebBasisMethod, Paper, StableIdentity, TextualInversion
from celeb_basis.fit.recipe import DEFAULTS, steps_from_map


@dataclass(frozen=True)
class Crop:
    """All that a fit looks at in a face."""

    crop: Image.Image
    feature: torch.Tensor
    face_reader: str = "test"
    weight: float = 1.0
    inside: Image.Image | None = None


def make_face(seed: int) -> Crop:
    g = torch.Generator().manual_seed(seed)
    pixels = (torch.rand(16, 16, 3, generator=g) * 255).byte().numpy()
    return Crop(Image.fromarray(pixels), torch.nn.functional.normalize(torch.randn(8, generator=g), dim=0))


@pytest.fixture(scope="module")
def instant_map(basis):
    g = torch.Generator().manual_seed(5)
    features = torch.nn.functional.normalize(torch.randn(len(basis.names), 8, generator=g), dim=-1)
    coefficients = torch.randn(8, 2 * basis.n_components, generator=g)
    coefficients = (features @ coefficients).unflatten(1, (2, -1)) * basis.sigma / 3
    return InstantMap.fit(features, coefficients, basis=basis, face_reader="test")


QUICK = {"max_train_steps": 2, "train_batch_size": 2, "num_train_images": 4, "templates": TEMPLATES}


def test_only_the_coefficients_change(pipe, basis, instant_map):
    before = state_of(pipe)
    steps = []
    identity = fit_identity(
        pipe,
        basis,
        [make_face(1)],
        placeholder_token="<ada>",
        instant_map=instant_map,
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
        **QUICK,
    )
    assert state_of(pipe) == before


def test_between_steps_the_pipeline_is_untouched(pipe, basis):
    before = state_of(pipe)
    for _ in fit_steps(pipe, basis, [[make_face(1)]], ["<a>"], Recipe(**QUICK)):
        assert state_of(pipe) == before


@pytest.mark.parametrize("method", METHODS)
def test_people_side_by_side_are_as_if_alone(pipe, basis, method):
    people = [[make_face(1)], [make_face(2), make_face(3)], [make_face(4)]]
    recipe = Recipe(seed=7, learning_rate=0.05, **{**QUICK, "max_train_steps": 4})
    together = fit_identities(pipe, basis, people, ["<a>", "<b>", "<a>"], recipe, method=method)
    for faces, identity in zip(people, together, strict=True):
        (alone,) = fit_identities(pipe, basis, [faces], ["<a>"], recipe, method=method)
        # Free vectors may stand far outside the basis, where rounding is larger.
        near = 1e-4 if method in ("celeb-basis", "paper") else 1e-3
        assert torch.allclose(alone.coefficients(basis), identity.coefficients(basis), atol=near)
        assert identity.provenance["method"] == method and identity.provenance["learning_rate"] == "0.05"
    assert not torch.allclose(together[0].coefficients(basis), together[2].coefficients(basis), atol=1e-4)


def test_no_steps_return_the_start(pipe, basis, instant_map):
    face = make_face(1)
    fit = {"placeholder_token": "<ada>", "max_train_steps": 0}
    identity = fit_identity(pipe, basis, [face], instant_map=instant_map, **fit)
    assert torch.allclose(identity.coefficients(basis), instant_map.predict(face.feature), atol=1e-5)
    identity = fit_identity(pipe, basis, [face], **fit)
    assert torch.allclose(identity.coefficients(basis), torch.zeros(2, basis.n_components), atol=1e-5)
    identity = fit_identity(pipe, basis, [face], method="paper", **fit)
    assert torch.allclose(identity.coefficients(basis).norm(dim=-1), torch.ones(2), atol=1e-5)


def test_a_worthless_map_is_left_alone_unless_it_is_asked_for(pipe, basis, instant_map):
    face, fit = make_face(1), {"placeholder_token": "<ada>", "max_train_steps": 0}
    worthless = replace(instant_map, loo_r2=0.01)
    identity = fit_identity(pipe, basis, [face], instant_map=worthless, **fit)
    assert identity.provenance["init"] == "mean" and identity.coefficients(basis).abs().max() < 1e-5
    asked = fit_identity(pipe, basis, [face], instant_map=worthless, method=CelebBasisMethod(init="instant"), **fit)
    assert torch.allclose(asked.coefficients(basis), instant_map.predict(face.feature), atol=1e-5)


def test_what_stands_on_black_does_not_matter():
    """The loss of our method looks at the face alone."""
    generator = torch.Generator().manual_seed(0)
    shape = (2, 3, 4, 8, 8)
    output, target = torch.randn(2, *shape, generator=generator)
    weights = torch.zeros(2, 3, 1, 8, 8)
    weights[..., 2:5, 3:6] = 1
    elsewhere = output + (weights == 0) * torch.randn(shape, generator=generator)
    both = [
        CelebBasisMethod().loss(
            Prediction(
                out, target, target, target, target, torch.zeros(2, 3), *torch.ones(2, 2, 3, 1, 1, 1), "epsilon"
            ),
            lambda: weights,
        )
        for out in (output, elsewhere)
    ]
    assert both[0].shape == (2,) and both[0].equal(both[1])
    cut = (output - target)[..., 2:5, 3:6].square().flatten(1).mean(1)
    assert torch.allclose(both[0], cut)


def test_calibrated_people_stay_among_the_celebrities(pipe, basis):
    recipe = Recipe(learning_rate=10.0, **QUICK)
    method = CelebBasisMethod(max_radius=1.1)
    *_, last = fit_steps(pipe, basis, [[make_face(1)]], ["<a>"], recipe, method=method)
    assert (last.coefficients.norm(dim=-1) <= 1.1001 * basis.median_radius).all()
    assert (last.coefficients.norm(dim=-1) > 0.5 * basis.median_radius).all()


def test_the_loss_is_the_pipelines_own(pipe):
    """The same number as the textbook training step written out for one picture."""
    denoiser = get_denoiser(pipe)
    latents = torch.randn(1, 1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        states, pooled = encode(pipe, token_ids(pipe, ["a photo of the beach"]))
        seen = denoiser.predict(latents, states, pooled, [torch.Generator().manual_seed(1)])
        loss, t, noise = seen.error(), seen.timesteps[0], seen.noise[0]
        alpha = DDPMScheduler.from_config(pipe.scheduler.config).alphas_cumprod[t]
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


def test_timesteps_of_a_fit_are_spread_evenly_whatever_the_batch():
    first = [first_quantile(torch.Generator().manual_seed(seed)) for seed in range(3)]
    together = golden_ratio_sequence(first, 0, 160)
    assert torch.equal(together[:, 0], torch.tensor(first)) and len(set(first)) == 3
    assert together.shape == (3, 160) and 0 <= together.min() and together.max() < 1
    assert golden_ratio_sequence([1 - 2**-40], 0, 1).item() < 1  # which float32 would round to 1, where no timestep is
    for batch in (1, 4):
        steps = [golden_ratio_sequence(first, start, batch) for start in range(0, 160, batch)]
        assert torch.equal(torch.cat(steps, dim=1), together)
    for start in range(0, 120, 7):  # random numbers would leave a tenth empty in every second stretch of 40
        counts = torch.histc(together[0, start : start + 40], bins=10, min=0, max=1)
        assert 3 <= counts.min() and counts.max() <= 5


def test_a_fit_passes_its_own_quantiles_on(pipe, basis, monkeypatch):
    seen = []
    predict = type(get_denoiser(pipe)).predict
    monkeypatch.setattr(
        type(get_denoiser(pipe)),
        "predict",
        lambda self, *args: seen.append((prediction := predict(self, *args)).timesteps) or prediction,
    )
    list(
        fit_steps(
            pipe,
            basis,
            [[make_face(1)], [make_face(2)]],
            ["<a>", "<b>"],
            Recipe(max_train_steps=20, train_batch_size=1),
        )
    )
    steps = len(DDPMScheduler.from_config(pipe.scheduler.config).alphas_cumprod)
    for person in torch.stack(seen).flatten(2).unbind(1):
        assert torch.histc(person.float(), bins=5, min=0, max=steps).min() >= 3


def test_gradient_agrees_with_finite_differences(pipe, basis):
    denoiser = get_denoiser(pipe)
    latents = torch.randn(1, 2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    direction = torch.randn(basis.sigma.shape, generator=torch.Generator().manual_seed(2)) * basis.sigma

    def loss(x):
        with placeholders(pipe, {"<x>": basis.inverse_transform(x)}):
            states, pooled = encode(pipe, token_ids(pipe, ["a photo of <x>"]))
        return denoiser.predict(latents, states, pooled, [torch.Generator().manual_seed(1)]).error()[0]

    x = torch.zeros_like(basis.sigma, requires_grad=True)
    (slope,) = torch.autograd.grad(loss(x), x)
    with torch.no_grad():
        secant = (loss(direction * 0.05) - loss(direction * -0.05)).item() / 0.1
    assert (slope * direction).sum().item() == pytest.approx(secant, rel=0.05, abs=1e-5)


def test_free_vectors_are_textual_inversion(pipe, basis):
    free = basis.inverse_transform(torch.zeros_like(basis.sigma))[None].clone().requires_grad_()
    start = free.detach().clone()
    g = [torch.Generator().manual_seed(0)]
    of_images = Recipe(num_train_images=4, scales=DEFAULTS["textual-inversion"].scales)
    pictures = [person_images(pipe, [make_face(1)], of_images, g[0], get_denoiser(pipe))]
    losses = list(
        optimize(
            pipe,
            pictures,
            free,
            lambda v: v,
            g,
            max_train_steps=3,
            learning_rate=5e-3,
            share=None,
            train_batch_size=2,
            templates=TEMPLATES,
            loss=TextualInversion().loss,
        )
    )
    assert len(losses) == 3 and not torch.equal(free, start)
    recipe = Recipe(**{**QUICK, "max_train_steps": 3})
    *_, last = fit_steps(pipe, basis, [[make_face(1)]], ["<a>"], recipe, method="textual-inversion")
    assert torch.equal(last.vectors, free.detach())


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
    identities = [fit_identity(pipe, basis, [make_face(1)], placeholder_token="<a>", **QUICK) for _ in range(2)]
    assert torch.equal(identities[0].vectors, identities[1].vectors), "the same seed, the same person"


def test_half_precision_learns_too():
    pipe = make_pipeline("sd1")
    basis = CelebBasis.from_pipeline(pipe, NAMES)
    expected = fit_identity(pipe, basis, [make_face(1)], placeholder_token="<a>", **QUICK)
    pipe.to(dtype=torch.float16)
    before = state_of(pipe)
    ours = fit_identity(pipe, basis, [make_face(1)], placeholder_token="<a>", **QUICK)
    assert state_of(pipe) == before
    cosine = torch.cosine_similarity(ours.coefficients(basis).flatten(), expected.coefficients(basis).flatten(), 0)
    assert cosine > 0.9


class Loud(CelebBasisMethod):
    """Its loss is so large that its gradient overflows in float16 until it is scaled down."""

    factor = 1e4

    def loss(self, prediction, face_weights):
        return self.factor * super().loss(prediction, face_weights)


def test_a_step_that_overflows_in_half_precision_is_repeated():
    pipe = make_pipeline("sd1")
    basis = CelebBasis.from_pipeline(pipe, NAMES)
    pipe.to(dtype=torch.float16)
    fit = {"placeholder_token": "<a>", **QUICK, "max_train_steps": 3}
    expected = fit_identity(pipe, basis, [make_face(1)], **fit)
    losses = []
    loud = fit_identity(
        pipe, basis, [make_face(1)], method=Loud(), progress=lambda step: losses.append(step.loss), **fit
    )
    assert all(math.isfinite(loss) for loss in losses[1:])
    # AdamW does not see how large a loss is, so the same noise teaches the same person.
    cosine = torch.cosine_similarity(loud.coefficients(basis).flatten(), expected.coefficients(basis).flatten(), 0)
    assert cosine > 0.9


def test_a_fit_that_overflows_at_every_scale_is_given_up(monkeypatch):
    pipe = make_pipeline("sd1")
    basis = CelebBasis.from_pipeline(pipe, NAMES)
    monkeypatch.setattr(Loud, "factor", math.inf)
    for dtype in (torch.float16, torch.float32):
        pipe.to(dtype=dtype)
        with pytest.raises(ModelError, match=f"the loss of {dtype} is not a number in this model: load it in float32"):
            fit_identity(pipe, basis, [make_face(1)], placeholder_token="<a>", method=Loud(), **QUICK)


def test_training_images_are_faces_on_black():
    white = Image.new("RGB", (40, 40), "white")
    g = torch.Generator().manual_seed(0)
    seen = set()
    for _ in range(30):
        drawn = training_image(
            [Crop(white, torch.ones(1))], size=32, vae_scale_factor=8, scales=(0.25, 0.5, 1.0), generator=g
        )
        picture = drawn.pixels
        assert picture.shape == (3, 32, 32) and picture.max() <= 1
        lit = (picture[0] > -1).nonzero()
        (top, left), (bottom, right) = lit.min(0).values.tolist(), (lit.max(0).values + 1).tolist()
        assert bottom - top == right - left and len(lit) == (bottom - top) ** 2
        assert top % 8 == left % 8 == 0 and drawn.square == (top, left, bottom - top)
        seen.add(bottom - top)
    assert seen == {8, 16, 32}


def test_what_lies_outside_the_photograph_has_no_weight():
    """A face cut in half, mirrored or not: the weights are nothing where its crop is grey."""
    crop, inside = Image.new("RGB", (64, 64), "black"), Image.new("L", (64, 64), 255)
    crop.paste("white", (0, 0, 32, 64))
    inside.paste(0, (0, 0, 32, 64))
    plain, half = Crop(crop, torch.ones(1)), Crop(crop, torch.ones(1), inside=inside)
    mirrored = set()
    for seed in range(8):
        draw = {"size": 64, "vae_scale_factor": 8, "scales": (0.5, 1.0)}
        whole, cut = (
            training_image([face], **draw, generator=torch.Generator().manual_seed(seed)) for face in (plain, half)
        )
        white = torch.nn.functional.avg_pool2d(cut.pixels[:1], 8) > 0
        assert torch.equal(whole.pixels, cut.pixels) and whole.weights[white].any() and not cut.weights[white].any()
        assert torch.equal(cut.weights[~white], whole.weights[~white]) and cut.weights.any()
        mirrored.add(not white[0, :, cut.square[1] // 8].any())
    assert len(mirrored) == 2


def test_the_picture_is_learnt_in_its_colours(pipe):
    red = Image.new("RGB", (16, 16), (200, 30, 30))
    picture = training_image(
        [Crop(red, torch.ones(1))], size=16, vae_scale_factor=2, scales=(1.0,), generator=torch.Generator()
    ).pixels
    assert picture[0].mean() > 0 > picture[1].mean()
    latents = get_denoiser(pipe).encode(picture[None])
    with torch.no_grad():
        own = pipe.vae.encode(picture[None]).latent_dist.mode() * pipe.vae.config.scaling_factor
    assert torch.equal(latents, own)


def test_a_training_image_is_the_same_whenever_it_is_needed(pipe):
    once, again = (
        person_images(
            pipe,
            [make_face(1), make_face(2)],
            Recipe(num_train_images=6),
            torch.Generator().manual_seed(3),
            get_denoiser(pipe),
        )
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
        ({"method": "dreambooth"}, "no method 'dreambooth': choose one of celeb-basis, paper"),
        ({"max_train_steps": -1}, "at least 0"),
        ({"templates": ("a photo",)}, "template"),
        ({"templates": ()}, "template"),
        ({"templates": ("{} {x}",)}, "template"),
        ({"templates": ("{:>1000000000} {}",)}, "template"),
        ({"templates": ("{} {}",)}, "template"),
        ({"templates": (3,)}, "template"),
        ({"scales": ()}, "scales"),
        ({"scales": (0.5, 1.5)}, "scales"),
        ({"learning_rate": 0}, "learning rate 0 must be above 0"),
        ({"learning_rate": -1.0}, "learning_rate"),
        ({"resolution": 0}, "resolution"),
        ({"method": CelebBasisMethod(init="instant")}, "instant map"),
        ({"resolution": 17}, "multiple of 2"),
    ],
)
def test_recipes_that_cannot_be_followed(pipe, basis, recipe, message):
    with pytest.raises(IdentityError, match=message):
        fit_identity(pipe, basis, [make_face(1)], placeholder_token="<a>", **recipe)


@pytest.mark.parametrize(
    ("method", "settings", "message"),
    [
        (CelebBasisMethod, {"init": "random"}, "'random' must be instant or mean"),
        (CelebBasisMethod, {"max_radius": -1.0}, "max_radius"),
        (Paper, {"momentum": 1.0}, "momentum"),
        (TextualInversion, {"num_vectors": 3}, "num_vectors"),
    ],
)
def test_methods_check_their_settings(method, settings, message):
    with pytest.raises(IdentityError, match=message):
        method(**settings)


def test_identities_come_from_any_step(pipe, basis, instant_map):
    people = [[make_face(1)], [make_face(2)]]
    steps = list(fit_steps(pipe, basis, people, ["<a>", "<b>"], Recipe(**QUICK), instant_map=instant_map))
    finished = fit_identities(pipe, basis, people, ["<a>", "<b>"], Recipe(**QUICK), instant_map=instant_map)
    for one, other in zip(steps[-1].identities, finished, strict=True):
        assert torch.equal(one.vectors, other.vectors) and one.provenance == other.provenance
    [start, _] = steps[0].identities
    assert start.provenance["steps"] == "0" and start.provenance["init"] == "instant"


@pytest.mark.parametrize("method", METHODS)
def test_a_step_stays_what_it_was(pipe, basis, method):
    steps, vectors = [], []
    for step in fit_steps(pipe, basis, [[make_face(1)]], ["<a>"], Recipe(learning_rate=0.05, **QUICK), method=method):
        steps.append(step)
        vectors.append(step.vectors.clone())
    assert all(torch.equal(step.vectors, then) for step, then in zip(steps, vectors, strict=True))


def test_values_in_effect_are_recorded(pipe, basis):
    quick = {key: value for key, value in QUICK.items() if key != "train_batch_size"}
    identity = fit_identity(pipe, basis, [make_face(1)], placeholder_token="<a>", **quick)
    expected = {"method": "celeb-basis", "init": "mean", "learning_rate": "0.03", "train_batch_size": "2"}
    assert expected.items() <= identity.provenance.items()
    assert identity.provenance["lr_scheduler"] == "cosine"


def test_the_start_decides_how_many_steps_are_taken(pipe, basis, instant_map):
    def steps(**given):
        return next(fit_steps(pipe, basis, [[make_face(1)]], ["<a>"], **given)).max_train_steps

    from_mean = DEFAULTS["celeb-basis"].max_train_steps
    assert steps() == steps(instant_map=instant_map, method=CelebBasisMethod(init="mean")) == from_mean
    for r2 in (0.3, 0.9):
        assert steps(instant_map=replace(instant_map, loo_r2=r2)) == steps_from_map(from_mean, r2) < from_mean
    assert steps(method="paper") == DEFAULTS["paper"].max_train_steps
    assert steps(instant_map=instant_map, recipe=Recipe(max_train_steps=7)) == 7


def test_the_rate_falls_to_nothing(pipe, basis):
    """So the last of the steps hardly moves, where the first moves each number by the rate itself."""
    recipe = Recipe(**QUICK | {"max_train_steps": 12, "learning_rate": 0.05})
    points = [at.coefficients for at in fit_steps(pipe, basis, [[make_face(1)]], ["<a>"], recipe)]
    moved = [(b - a).abs().mean() for a, b in itertools.pairwise(points)]
    assert moved[-1] < 0.05 * moved[0]


def test_the_clock_ends_every_kind_of_fit(pipe, basis):
    recipe = Recipe(**QUICK | {"max_train_steps": 10**5, "max_train_minutes": 1e-6})
    assert [step.step for step in fit_steps(pipe, basis, [[make_face(1)]], ["<a>"], recipe)] == [0, 1]


@pytest.mark.parametrize("watching", [0, 12])
def test_the_rate_falls_over_the_time_that_there_is(pipe, basis, monkeypatch, watching):
    """On a clock by which a step takes a second, and whoever watches takes their time, the last time too."""
    now = 0.0

    def tick():
        nonlocal now
        now += 0.25  # it is asked four times a step
        return now

    monkeypatch.setattr("celeb_basis.fit.loop.time", SimpleNamespace(monotonic=tick))
    recipe = Recipe(**QUICK | {"max_train_steps": 10**4, "max_train_minutes": 0.75, "learning_rate": 0.05})
    reached = []
    for at in fit_steps(pipe, basis, [[make_face(1)]], ["<a>"], recipe):
        reached.append(at)
        if at.step % 20 == 10:
            now += watching
    assert 40 < now + watching < 46 and 15 < len(reached) < 48  # the last look is still to come
    assert reached[-1].is_last and reached[-1].share == 1 and reached[-1].max_train_steps == reached[-1].step
    assert all(one.share <= other.share for one, other in itertools.pairwise(reached)) and reached[-2].share > 0.9
    moved = [(b.coefficients - a.coefficients).abs().mean() for a, b in itertools.pairwise(reached)]
    assert moved[-1] < 0.1 * moved[0]


def test_a_cpu_says_how_long_a_fit_will_take(pipe, basis, monkeypatch, caplog):
    clock = itertools.count()
    monkeypatch.setattr("celeb_basis.fit.loop.time", SimpleNamespace(monotonic=lambda: next(clock)))
    for recipe, said in (({}, 1), ({"max_train_minutes": 100}, 0), ({"max_train_steps": 3}, 0)):
        caplog.clear()
        with caplog.at_level("INFO", "celeb_basis"):
            list(itertools.islice(fit_steps(pipe, basis, [[make_face(1)]], ["<a>"], Recipe(**recipe)), 4))
        lines = [line for line in caplog.messages if "minutes on this CPU" in line]
        assert len(lines) == said and all("400 steps will take about" in line for line in lines)


def test_people_go_through_the_denoiser_in_groups_that_fit(pipe, basis, monkeypatch):
    people = [[make_face(i)] for i in range(5)]
    tokens = [f"<p{i}>" for i in range(5)]
    expected = fit_identities(pipe, basis, people, tokens, Recipe(**QUICK))
    sizes = []
    monkeypatch.setattr("celeb_basis.fit.loop.images_at_once", lambda denoiser: 4)
    hook = pipe.unet.register_forward_pre_hook(lambda _, args: sizes.append(len(args[0])))
    try:
        found = fit_identities(pipe, basis, people, tokens, Recipe(**QUICK))
    finally:
        hook.remove()
    assert sizes == [4, 4, 2] * 2  # two people at a time, with two pictures each
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one.vectors, other.vectors, atol=1e-5, rtol=1e-4)


def test_a_face_counts_where_it_is():
    weights = face_weights(16, 0, 0, 16)[0]
    assert weights[9, 8] == 1 and weights[0, 0] == 0 and weights[1, 8].item() == pytest.approx(0.1)
    moved = face_weights(32, 8, 16, 16)[0]
    assert torch.equal(moved[8:24, 16:32], weights) and (moved > 0).sum() == (weights > 0).sum()


def test_stable_identity_looks_at_the_face_alone(pipe, basis):
    """Its loss is the textbook one within the mask: the noise at noisy timesteps, the clean latents at others."""
    method, denoiser = StableIdentity(), get_denoiser(pipe)
    latents = torch.randn(1, 6, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        states, pooled = encode(pipe, token_ids(pipe, ["a photo of the beach"]))
        seen = denoiser.predict(latents, states, pooled, [torch.Generator().manual_seed(1)])
    mask = face_weights(8, 0, 0, 8).expand(1, 6, 1, 8, 8)
    noisy = (seen.timesteps > 600)[0]
    assert 0 < noisy.sum() < 6
    # The two estimates explain the noisy latents together.
    a, s = seen.alpha, seen.sigma
    torch.testing.assert_close(a * seen.estimated_clean + s * seen.estimated_noise, seen.noisy, atol=1e-4, rtol=1e-4)
    errors = (seen.estimated_noise - seen.noise)[0], (seen.estimated_clean - seen.clean)[0]
    squares = torch.where(noisy[:, None, None, None], *errors).square()
    expected = (squares * mask[0]).sum() / (mask[0].expand_as(squares)).sum()
    torch.testing.assert_close(method.loss(seen, lambda: mask)[0], expected)


def test_other_misuse_is_refused(pipe, basis, instant_map):
    fit = {"placeholder_token": "<a>"}
    with pytest.raises(IdentityError, match="at least one face"):
        fit_identity(pipe, basis, [], **fit)
    with pytest.raises(IdentityError, match="2 people and 1 placeholder tokens"):
        fit_identities(pipe, basis, [[make_face(1)]] * 2, ["<a>"], Recipe())
    with pytest.raises(PromptError, match="angle brackets"):
        fit_identity(pipe, basis, [make_face(1)], placeholder_token="Ada")
    with pytest.raises(BasisError):
        fit_identity(make_pipeline("sd1", seed=9), basis, [make_face(1)], **fit)
    smaller = CelebBasis.from_pipeline(pipe, NAMES, n_components=3)
    with pytest.raises(BasisError, match="instant map"):
        fit_identity(pipe, smaller, [make_face(1)], placeholder_token="<a>", instant_map=instant_map)
    with pytest.raises(BasisError, match="faces from test, these come from other"):
        faces = [make_face(1), replace(make_face(2), face_reader="other")]
        fit_identity(pipe, basis, faces, placeholder_token="<a>", instant_map=instant_map)


def test_a_fit_that_ends_far_from_everybody_is_said(pipe, basis, caplog):
    for rate, method, said in ((10, "textual-inversion", 1), (1, "celeb-basis", 0)):
        caplog.clear()
        fit_identity(pipe, basis, [make_face(1)], placeholder_token="<ada>", learning_rate=rate, method=method, **QUICK)
        told = [text for text in caplog.messages if "as far from the mean person" in text]
        assert len(told) == said and all("<ada> ended" in text and "lower learning rate" in text for text in told)

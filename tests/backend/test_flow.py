"""Transformers that predict a flow: the loss agrees with the sampler, pictures with stock code, files with programs."""

import copy
from dataclasses import replace

import pytest
import torch
from conftest import NAMES, make_pipeline, state_of
from diffusers import DDIMScheduler
from diffusers.models.modeling_outputs import Transformer2DModelOutput
from fits import fit_identities, fit_identity
from flows import KINDS, make_flow
from PIL import Image

from celeb_basis import CelebBasis, Face, Identity, IdentityError, InstantMap, ModelError, PromptError, Recipe
from celeb_basis.backend.families import get_denoiser
from celeb_basis.backend.flow import FlowDenoiser
from celeb_basis.backend.load import load_pipeline
from celeb_basis.backend.memory import place
from celeb_basis.backend.text_encoders import encoder_outputs, fingerprint, name_rows, placeholders, text_encoders
from celeb_basis.fit.methods import CelebBasisMethod
from celeb_basis.generate import generate

PROMPT = "a photo of {} on the beach"
SIZE = {"height": 16, "width": 16}
QUICK = {
    "max_train_steps": 2,
    "num_train_images": 3,
    "templates": ("a photo of {}",),
    "scales": (1.0,),
    "resolution": 16,
}


@pytest.fixture(scope="module", params=KINDS)
def pipe(request):
    """One pipeline of each family; no test may leave a mark on it."""
    return make_flow(request.param)


@pytest.fixture(scope="module")
def basis(pipe):
    return CelebBasis.from_pipeline(pipe, NAMES)


def face(seed=1):
    noise = torch.randint(256, (32, 32, 3), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)
    feature = torch.nn.functional.normalize(torch.randn(4, generator=torch.Generator().manual_seed(seed)), dim=0)
    return Face(Image.fromarray(noise.numpy()), (0, 0, 32, 32), feature, "test")


def latents_drawn(pipe, monkeypatch, call):
    """The latents that the autoencoder is given by a call that draws: finer than a picture's eight bits."""
    seen = []
    decode = type(pipe.vae).decode

    def keep(vae, latents, *args, **options):
        seen.append(latents.clone())
        return decode(vae, latents, *args, **options)

    with monkeypatch.context() as patch:
        patch.setattr(type(pipe.vae), "decode", keep)
        call()
    return torch.cat(seen)


def stock(pipe, prompts, seed=0, **options):
    """What other people's code does."""
    generators = [torch.Generator().manual_seed(seed) for _ in prompts]
    return pipe(prompt=list(prompts), generator=generators, num_inference_steps=2, **SIZE, **options).images


# Names


def test_rows_are_those_of_names_among_other_words(pipe):
    rows, kept = name_rows(pipe, [*NAMES, "ada", "zog ashwood"])
    assert kept == NAMES
    parts = rows[0].split([e.get_input_embeddings().weight.shape[1] for _, _, e in text_encoders(pipe)], dim=-1)
    for (_, tokenizer, encoder), part in zip(text_encoders(pipe), parts, strict=True):
        ids = tokenizer(PROMPT.format(NAMES[0])).input_ids
        table = encoder.get_input_embeddings().weight
        assert any(torch.equal(table[ids[i : i + 2]], part) for i in range(len(ids) - 1))


def test_a_prompt_that_nobody_reads_whole_is_refused(pipe):
    denoiser = get_denoiser(pipe)
    denoiser.check_lengths(["a " * 10])
    with pytest.raises(PromptError, match="tokens too long"):
        denoiser.check_lengths(["a " * 600])


# Pictures


def test_same_picture_as_stock_code_with_these_embeddings(pipe, basis, monkeypatch):
    """Stock code is given the same vectors as the rows of a name that its tokenizers know."""
    ada = Identity.sample(basis, "<ada>", torch.Generator().manual_seed(1))
    other = copy.deepcopy(pipe)
    for (_, tokenizer, encoder), part in zip(
        text_encoders(other), ada.vectors.split(ada.encoder_dims, dim=-1), strict=True
    ):
        encoder.get_input_embeddings().weight[tokenizer(f" {NAMES[0]}", add_special_tokens=False).input_ids] = part
    ours = latents_drawn(
        pipe, monkeypatch, lambda: generate(pipe, PROMPT.format("<ada>"), [ada], num_inference_steps=2, **SIZE)
    )
    theirs = latents_drawn(other, monkeypatch, lambda: stock(other, [PROMPT.format(NAMES[0])]))
    plain = latents_drawn(pipe, monkeypatch, lambda: stock(pipe, [PROMPT.format(NAMES[0])]))
    assert torch.equal(ours, theirs)
    assert not torch.allclose(ours, plain, atol=1e-4)


def test_people_together_leave_no_mark(pipe, basis, monkeypatch):
    before = state_of(pipe)
    ada, bo = (Identity.sample(basis, t, torch.Generator().manual_seed(i)) for i, t in enumerate(("<ada>", "<bo>")))

    def both(prompts, **options):
        options = {"num_inference_steps": 2, **SIZE, **options}
        return latents_drawn(pipe, monkeypatch, lambda: generate(pipe, prompts, [ada, bo], **options))

    prompts = ["a photo of <ada> and <bo>", "the face of <bo>"]
    together = both(prompts)
    torch.testing.assert_close(both(prompts, batch_size=1), together, atol=1e-4, rtol=1e-3)
    swapped = both(["a photo of <bo> and <ada>", prompts[1]])
    assert not torch.allclose(swapped[0], together[0], atol=1e-4) and torch.allclose(swapped[1], together[1], atol=1e-4)
    assert state_of(pipe) == before


def test_negative_prompts_where_guidance_reads_them(pipe):
    draw = {"num_inference_steps": 1, "negative_prompt": "the beach", **SIZE}
    if get_denoiser(pipe).takes_negative_prompt:
        [drawn] = generate(pipe, "a photo", **draw)
        assert drawn.tobytes() == stock_with(pipe, negative_prompt=["the beach"]).tobytes()
    else:
        with pytest.raises(PromptError, match="takes no negative prompt"):
            generate(pipe, "a photo", **draw)


def stock_with(pipe, **options):
    return pipe(
        prompt=["a photo"], generator=[torch.Generator().manual_seed(0)], num_inference_steps=1, **SIZE, **options
    ).images[0]


def test_regions_read_their_own_names(pipe, basis, monkeypatch):
    """A box over the whole picture reads its name alone; where attention takes no mask, regions are refused."""
    ada, bo = (Identity.sample(basis, t, torch.Generator().manual_seed(i)) for i, t in enumerate(("<ada>", "<bo>")))
    before = state_of(pipe)
    options = {"num_inference_steps": 2, **SIZE}
    if not get_denoiser(pipe).cross_attention():
        with pytest.raises(PromptError, match="takes no regions"):
            generate(pipe, "<ada> and <bo>", [ada, bo], regions="auto", **options)
        return

    def drawn(prompt, people, regions=None):
        return latents_drawn(pipe, monkeypatch, lambda: generate(pipe, prompt, people, regions=regions, **options))

    whole = (0.0, 0.0, 1.0, 1.0)
    in_box = drawn("<ada> and <bo>", [ada, bo], {"<ada>": whole})
    together = drawn("<ada> and <bo>", [ada, bo])
    assert not torch.allclose(in_box, together, atol=1e-3)
    with placeholders(pipe, {"<ada>": ada.vectors, "<bo>": bo.vectors}), torch.no_grad():
        text = get_denoiser(pipe).embeds(["<ada> and <ada>", "<ada> and <bo>"], None)
        # What is pooled is always of the prompt itself.
        text = {key: values[1:] if "pooled" in key else values[:1] for key, values in text.items()}
        generator = torch.Generator().manual_seed(0)
        alone = latents_drawn(pipe, monkeypatch, lambda: pipe(**text, generator=generator, **options))
    torch.testing.assert_close(in_box, alone, atol=1e-4, rtol=1e-3)
    apart = drawn("<ada> and <bo>", [ada, bo], "auto")
    assert apart.isfinite().all() and not torch.allclose(apart, together, atol=1e-4)
    assert state_of(pipe) == before


# The loss


def oracle(pipe, monkeypatch, picture):
    """Let the network answer, in its family's own terms, the flow to the one picture it knows; gives that picture.

    Written from the pipelines' calls: noisy = (1 - sigma) z + sigma noise, so noise - z = (noisy - z) / sigma.
    """
    vae = pipe.vae
    z = vae.encode(picture).latent_dist.mode()
    kind = type(pipe).__name__
    if kind == "Flux2KleinPipeline":
        n, c, h, w = z.shape
        z = z.reshape(n, c, h // 2, 2, w // 2, 2).permute(0, 1, 3, 5, 2, 4).reshape(n, 4 * c, h // 2, w // 2)
        z = (z - vae.bn.running_mean[:, None, None]) / (vae.bn.running_var[:, None, None] + 1e-4).sqrt()
        known = z.flatten(2).transpose(1, 2)
    else:
        z = (z - vae.config.shift_factor) * vae.config.scaling_factor
        known = z
    if kind == "FluxPipeline":
        n, c, h, w = z.shape
        known = z.reshape(n, c, h // 2, 2, w // 2, 2).permute(0, 2, 4, 1, 3, 5).reshape(n, h * w // 4, 4 * c)

    def of_list(x, t, states, **_):
        sample = [-(one - known[0][:, None]) / (1 - time) for one, time in zip(x, t, strict=True)]
        return Transformer2DModelOutput(sample=sample)

    def of_tensor(hidden_states, *args, timestep=None, **_):
        sigma = args[2] / 1000 if args else timestep / (1000 if kind == "StableDiffusion3Pipeline" else 1)
        sigma = sigma.view(-1, *[1] * (hidden_states.ndim - 1))
        return Transformer2DModelOutput(sample=(hidden_states - known) / sigma)

    monkeypatch.setattr(pipe.transformer, "forward", of_list if kind == "ZImagePipeline" else of_tensor)
    return z


def test_the_loss_knows_the_samplers_time_sign_and_latents(pipe, monkeypatch):
    """With a network that knows one picture, the pipeline's own sampler arrives there and the loss is nothing."""
    picture = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1
    with monkeypatch.context() as patch, torch.no_grad():
        z = oracle(pipe, patch, picture)
        options = {"guidance_scale": 3.0, **SIZE, "output_type": "pt"}
        drawn = pipe(
            prompt="a photo", num_inference_steps=3, generator=torch.Generator().manual_seed(0), **options
        ).images
        encoded = pipe.vae.decode(pipe.vae.encode(picture).latent_dist.mode()).sample
        torch.testing.assert_close(drawn, (encoded / 2 + 0.5).clamp(0, 1), atol=1e-3, rtol=1e-3)
        denoiser = get_denoiser(pipe)
        latents = denoiser.encode(picture)
        torch.testing.assert_close(latents, z)
        generators = [torch.Generator().manual_seed(i) for i in range(2)]
        seen = denoiser.predict(
            latents.expand(2, 3, *z.shape[1:]), *denoiser.encode_prompts(["a photo", "the beach"]), generators
        )
    assert seen.error().max() < 1e-6
    torch.testing.assert_close(seen.estimated_clean, seen.clean, atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(seen.estimated_noise, seen.noise, atol=1e-3, rtol=1e-3)
    assert seen.timesteps.unique().numel() == 6 and 0 < seen.timesteps.min() and seen.timesteps.max() <= 1000


def test_timesteps_are_those_of_the_scheduler(pipe):
    """Logit-normal, then shifted as the scheduler shifts: half of them lie above its own middle."""
    denoiser = get_denoiser(pipe)
    assert isinstance(denoiser, FlowDenoiser)
    pipe.scheduler.set_timesteps(4, mu=1.0)  # as drawing leaves it
    t = get_denoiser(pipe)._timesteps(torch.rand(4000, generator=torch.Generator().manual_seed(0)))
    known = type(pipe.scheduler).from_config(pipe.scheduler.config).timesteps
    assert torch.isin(t, known).all()
    assert (t > known[500]).float().mean().item() == pytest.approx(0.5, abs=0.03)


def test_gradient_agrees_with_finite_differences(pipe, basis):
    denoiser = get_denoiser(pipe)
    latents = denoiser.encode(torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1)[None]
    direction = torch.randn(basis.sigma.shape, generator=torch.Generator().manual_seed(2)) * basis.sigma

    def loss(x):
        with placeholders(pipe, {"<x>": basis.inverse_transform(x)}):
            read = denoiser.encode_prompts(["a photo of <x>"])
        return denoiser.predict(latents, *read, [torch.Generator().manual_seed(1)]).error()[0]

    x = torch.zeros_like(basis.sigma, requires_grad=True)
    (slope,) = torch.autograd.grad(loss(x), x)
    with torch.no_grad():
        secant = (loss(direction * 0.005) - loss(direction * -0.005)).item() / 0.01
    assert (slope * direction).sum().item() == pytest.approx(secant, rel=0.05, abs=5e-5)
    widths = [encoder.get_input_embeddings().weight.shape[1] for _, _, encoder in text_encoders(pipe)]
    with placeholders(pipe, {"<x>": (rows := name_rows(pipe, NAMES[:1])[0][0].requires_grad_())}):
        read = denoiser.encode_prompts(["a photo of <x>"])
    (slope,) = torch.autograd.grad(
        denoiser.predict(latents, *read, [torch.Generator().manual_seed(1)]).error()[0], rows
    )
    assert all((part != 0).any() for part in slope.split(widths, dim=-1)), "every text encoder takes part"


# Fits


def test_people_side_by_side_are_as_if_alone(pipe, basis):
    before = state_of(pipe)
    people = [[face(1)], [face(2), face(3)]]
    recipe = Recipe(seed=7, **QUICK)
    together = fit_identities(pipe, basis, people, ["<a>", "<b>"], recipe)
    assert state_of(pipe) == before
    for faces, identity in zip(people, together, strict=True):
        [alone] = fit_identities(pipe, basis, [faces], ["<a>"], recipe)
        assert torch.allclose(alone.coefficients(basis), identity.coefficients(basis), atol=1e-4)
        assert identity.coefficients(basis).norm() > 1e-3


def test_the_instant_map_is_the_start(pipe, basis):
    features = torch.nn.functional.normalize(torch.randn(25, 4, generator=torch.Generator().manual_seed(0)), dim=-1)
    coefficients = basis.transform(name_rows(pipe, basis.names)[0])
    fitted = InstantMap.fit(features, coefficients, basis=basis, face_reader="test")
    instant_map = replace(fitted, loo_r2=0.5)  # of random features, it is worth nothing
    identity = fit_identity(pipe, basis, [face()], placeholder_token="<a>", instant_map=instant_map, max_train_steps=0)
    assert torch.allclose(identity.coefficients(basis), instant_map.predict(face().feature), atol=1e-4)


def test_a_table_that_is_no_longer_shared_is_replaced_too(monkeypatch):
    pipe = make_flow("flux")
    ada = Identity.sample(CelebBasis.from_pipeline(pipe, NAMES), "<ada>", torch.Generator().manual_seed(1))

    def drawn():
        return latents_drawn(
            pipe, monkeypatch, lambda: generate(pipe, PROMPT.format("<ada>"), [ada], num_inference_steps=1, **SIZE)
        )

    before = drawn()
    own = pipe.text_encoder_2.encoder.embed_tokens
    own.weight = torch.nn.Parameter(own.weight.detach().clone(), requires_grad=False)
    assert torch.equal(drawn(), before)


@pytest.mark.parametrize("method", ["textual-inversion", "cross-initialization", "stable-identity", "paper"])
def test_every_method_learns_in_a_transformer(method):
    pipe = make_flow("z-image")
    basis = CelebBasis.from_pipeline(pipe, NAMES)
    recipe = {key: value for key, value in QUICK.items() if key != "num_train_images"}
    identity = fit_identity(pipe, basis, [face()], placeholder_token="<a>", method=method, **recipe)
    assert identity.vectors.isfinite().all()


def test_states_at_a_name_come_from_every_encoder(pipe, basis):
    mean = basis.inverse_transform(torch.zeros_like(basis.sigma))
    people = torch.stack([mean, 2 * mean]).requires_grad_()
    outputs = encoder_outputs(pipe, "a photo of {}", people)
    assert outputs.shape == people.shape and outputs.isfinite().all()
    alone = encoder_outputs(pipe, "a photo of {}", people[1:])
    torch.testing.assert_close(alone[0], outputs[1], rtol=1e-4, atol=1e-5)
    [gradient] = torch.autograd.grad(outputs[1].square().sum(), [people])
    assert not gradient[0].any() and gradient[1].any()


def test_little_memory_gives_the_same_person(pipe, basis):
    fit = {"placeholder_token": "<a>", "method": CelebBasisMethod(init="mean"), **QUICK}
    person = fit_identity(pipe, basis, [face()], **fit)
    other = copy.deepcopy(pipe)
    place(other, torch.device("cpu"), free=0)
    assert other.transformer.is_gradient_checkpointing and other.vae.use_slicing
    again = fit_identity(other, basis, [face()], **fit)
    torch.testing.assert_close(again.vectors, person.vectors, rtol=1e-4, atol=1e-5)


# Loading and files


def test_a_folder_is_loaded_whole(pipe, basis, tmp_path):
    pipe.save_pretrained(tmp_path / "model")
    again = load_pipeline(tmp_path / "model", device="cpu")
    assert type(again) is type(pipe) and fingerprint(again) == fingerprint(pipe)
    ada = Identity.sample(basis, "<ada>", torch.Generator().manual_seed(1))
    ada.save(tmp_path / "ada.safetensors")
    known = Identity.load(tmp_path / "ada.safetensors")
    assert torch.equal(known.vectors, ada.vectors) and known.encoder_dims == ada.encoder_dims
    options = {"num_inference_steps": 2, **SIZE}
    [a], [b] = (generate(p, PROMPT.format("<ada>"), [i], **options) for p, i in ((pipe, ada), (again, known)))
    assert a.tobytes() == b.tobytes()


def test_a_file_with_a_transformer_alone_replaces_that_of_its_folder(pipe, tmp_path):
    from safetensors.torch import save_file

    pipe.save_pretrained(tmp_path / "model")
    weights = {key: weight + 0.01 for key, weight in pipe.transformer.state_dict().items()}
    save_file(weights, tmp_path / "tuned.safetensors")
    again = load_pipeline(tmp_path / "tuned.safetensors", config=tmp_path / "model", device="cpu")
    assert type(again) is type(pipe) and fingerprint(again) == fingerprint(pipe)
    assert all(torch.equal(weights[key], weight) for key, weight in again.transformer.state_dict().items())


def test_a_scheduler_of_another_kind_is_refused(pipe):
    other = copy.copy(pipe)
    other.scheduler = DDIMScheduler()
    with pytest.raises(ModelError, match=r"DDIMScheduler.*flow matching"):
        get_denoiser(other)


@pytest.mark.parametrize(
    ("dims", "keys"),
    [
        ((768, 1280), ("clip_l", "clip_g")),
        ((768, 1280, 4096), ("clip_l", "clip_g", "t5xxl")),
        ((768, 4096), ("clip_l", "t5xxl")),
        ((2560,), ("qwen3_4b",)),
        ((4096,), ("qwen3_8b",)),
    ],
)
def test_keys_are_those_of_comfyui(tmp_path, dims, keys):
    from safetensors.torch import load_file

    identity = Identity("<ada>", torch.randn(2, sum(dims), generator=torch.Generator().manual_seed(0)), dims)
    identity.save(tmp_path / "ada.safetensors")
    tensors = load_file(tmp_path / "ada.safetensors")
    assert {key: tuple(t.shape) for key, t in tensors.items()} == dict(zip(keys, [(2, d) for d in dims], strict=True))
    again = Identity.load(tmp_path / "ada.safetensors")
    assert torch.equal(again.vectors, identity.vectors) and again.encoder_dims == dims


def test_an_identity_of_sdxl_serves_stable_diffusion_3_with_the_same_tables():
    """Where no T5 takes part; a table that differs is another model's."""
    sdxl, sd3, other = make_pipeline("sdxl"), make_flow("sd3"), make_flow("sd3")
    for suffix in ("", "_2"):
        setattr(sd3, f"tokenizer{suffix}", getattr(sdxl, f"tokenizer{suffix}"))
        table = getattr(sdxl, f"text_encoder{suffix}").get_input_embeddings().weight
        getattr(sd3, f"text_encoder{suffix}").get_input_embeddings().weight.copy_(table)
    basis = CelebBasis.from_pipeline(sdxl, NAMES)
    ada = Identity.sample(basis, "<ada>", torch.Generator().manual_seed(1))
    basis.check(sd3)
    [drawn] = generate(sd3, PROMPT.format("<ada>"), [ada], num_inference_steps=1)
    assert drawn.size == (16, 16)
    for wrong in (other, make_flow("sd3-t5")):
        with pytest.raises(IdentityError, match="fit it again"):
            generate(wrong, PROMPT.format("<ada>"), [ada], num_inference_steps=1)


def test_stock_pipelines_that_take_embeddings(monkeypatch):
    pipe = make_flow("flux")
    basis = CelebBasis.from_pipeline(pipe, NAMES)
    ada = Identity.sample(basis, "<ada>", torch.Generator().manual_seed(1))
    ours = latents_drawn(
        pipe, monkeypatch, lambda: generate(pipe, PROMPT.format("<ada>"), [ada], num_inference_steps=2, **SIZE)
    )
    plain = stock(pipe, ["a photo"])[0].tobytes()
    ada.load_into(pipe)
    assert torch.equal(latents_drawn(pipe, monkeypatch, lambda: stock(pipe, [PROMPT.format("<ada>")])), ours)
    ada.unload(pipe)
    assert stock(pipe, ["a photo"])[0].tobytes() == plain
    klein = make_flow("klein")
    ada = Identity.sample(CelebBasis.from_pipeline(klein, NAMES), "<ada>", torch.Generator().manual_seed(1))
    with pytest.raises(ModelError, match="takes no embeddings"):
        ada.load_into(klein)

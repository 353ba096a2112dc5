"""The small transformer: trained in steps that go on after a stop, packed as a stock pipeline, used as any model."""

import shutil

import numpy as np
import pytest
import states as benchmark
import torch
from diffusers import ZImagePipeline
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from stages import language, pack, transformer
from stages.tokenizer import tokenizer

from celeb_basis import CelebBasis, Identity
from celeb_basis.backend.card import DEFAULT_MODEL, SHIPPED
from celeb_basis.backend.families import get_denoiser
from celeb_basis.backend.load import load_pipeline
from celeb_basis.backend.text_encoders import name_rows, placeholders
from celeb_basis.generate import generate
from celeb_basis.miniature.drawn.people import celebrities

NAME, OTHER = celebrities()[:2]
PROMPTS = [f"a photo of {NAME} on the beach", f"a pencil sketch of {NAME} with a crown in the snow", ""]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A training folder after a few steps of the transformers on latents of noise."""
    folder = tmp_path_factory.mktemp("training")
    for part in ("vae", "tokenizer", "text_encoder"):
        shutil.copytree(SHIPPED[DEFAULT_MODEL] / part, folder / part)
    tokens = tokenizer()
    torch.manual_seed(0)
    language.build(tokens).save_pretrained(folder / "language_model")
    ids = tokens(PROMPTS * 4, padding="max_length", return_tensors="pt").input_ids.short()
    data = {"latents": torch.randn(12, 20, 16, 16).half(), "ids": ids, "faces": torch.rand(12, 1, 16, 16) < 0.3}
    save_file(data, folder / "latents-0-0.safetensors")
    transformer.run(folder, minutes=0.01, cooldown_minutes=0, device="cpu", batch_size=4, compiled=False)
    return folder


@pytest.fixture(scope="module", params=language.WHERE)
def trained(request, folder):
    """The folder, and whose states are read."""
    return folder, request.param


@pytest.fixture(scope="module")
def pipe(trained):
    return load_pipeline(pack.save(*trained), device="cpu")


def steps(folder, name):
    with safe_open(folder / f"{name}.ckpt.safetensors", "pt") as file:
        return int(file.metadata()["step"])


def weights(folder, name):
    return load_file(folder / name / "diffusion_pytorch_model.safetensors")


@pytest.fixture(scope="module")
def cooled(folder, tmp_path_factory):
    """The same folder after a few steps more, at a falling rate."""
    cooled = shutil.copytree(folder, tmp_path_factory.mktemp("cooled"), dirs_exist_ok=True)
    transformer.run(cooled, minutes=0.01, cooldown_minutes=0.01, device="cpu", batch_size=4, compiled=False)
    return cooled


def test_training_goes_on_where_it_stopped(folder, cooled):
    before = steps(folder, "transformer")
    assert before >= 1
    assert steps(cooled, "transformer") == before, "what cools down lies beside"
    assert steps(cooled, "transformer-cooled") > before
    changed = set()
    for name in (f"transformer-{reads}" for reads in language.WHERE):
        was, now = weights(folder, name), weights(cooled, f"{name}-cooled")
        assert was.keys() == now.keys()
        assert any(not torch.equal(was[key], now[key]) for key in was if key.startswith("layers"))
        changed |= {key.split(".")[0] for key in was if not torch.equal(was[key], now[key])}
    assert changed >= {"layers", "noise_refiner", "cap_embedder", "context_refiner"}


def test_what_is_kept_trains_on_elsewhere(cooled, tmp_path):
    kept, other = tmp_path / "kept", tmp_path / "other"
    kept.mkdir()
    transformer.keep(cooled, kept)
    transformer.restore(other, kept)
    for reads in language.WHERE:
        new, old = weights(other, f"transformer-{reads}"), weights(cooled, f"transformer-{reads}-cooled")
        assert new.keys() == old.keys()
        assert all(torch.equal(new[key], old[key].half().float()) for key in new)
    for part in ("vae", "tokenizer", "text_encoder"):
        shutil.copytree(cooled / part, other / part)
    shutil.copy(cooled / "latents-0-0.safetensors", other)
    before = steps(other, "transformer")
    transformer.run(other, minutes=0.01, cooldown_minutes=0, device="cpu", batch_size=4, compiled=False)
    assert steps(other, "transformer") > before == steps(cooled, "transformer-cooled")


def test_both_transformers_draw_alike_and_read_each_their_own_words(folder):
    text, words = (weights(folder, f"transformer-{reads}") for reads in language.WHERE)
    differ = {key.split(".")[0] for key in text if not torch.equal(text[key], words[key])}
    assert differ and differ <= set(transformer.OWN)


def test_the_pipeline_reads_what_the_training_read(trained, pipe):
    folder, reads = trained
    ids = pipe.tokenizer(PROMPTS, padding="max_length", return_tensors="pt").input_ids
    own = language.states(language.encoder_of(folder, reads), ids, pipe.tokenizer.eos_token_id)
    with torch.no_grad():
        read, _ = get_denoiser(pipe).encode_prompts(PROMPTS)
    for a, b in zip(own, read, strict=True):
        torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-4)


def test_stock_code_draws_the_same_picture(trained, pipe):
    folder, reads = trained
    ours = generate(pipe, PROMPTS[0], num_inference_steps=2, seed=3)[0]
    stock = ZImagePipeline.from_pretrained(folder / f"pipeline-{reads}", local_files_only=True)
    stock.set_progress_bar_config(disable=True)
    generator, size = torch.Generator().manual_seed(3), {"height": 128, "width": 128}
    theirs = stock(PROMPTS[0], num_inference_steps=2, guidance_scale=1.5, generator=generator, **size).images[0]
    assert ours.size == (128, 128) and np.array_equal(np.asarray(ours), np.asarray(theirs))


def test_attention_written_out_is_that_of_the_class():
    torch.manual_seed(0)
    model = transformer.build().eval()
    x, captions = list(torch.randn(2, 20, 1, 16, 16)), [torch.randn(9, 128), torch.randn(14, 128)]
    with torch.no_grad():
        stock = model(x, torch.tensor([0.2, 0.7]), captions).sample
        transformer.write_out_attention(model)
        ours = model(x, torch.tensor([0.2, 0.7]), captions).sample
    torch.testing.assert_close(torch.stack(ours), torch.stack(stock), atol=1e-4, rtol=1e-4)


def test_a_name_s_own_states_after_a_layer_are_read_as_the_name(pipe):
    """Put after any layer, a name's own states change nothing that follows, whatever stands at the input."""
    denoiser, prompt = get_denoiser(pipe), "a photo of {} on the beach"
    rows = name_rows(pipe, [NAME, OTHER])[0]
    with torch.no_grad():
        known, _ = denoiser.encode_prompts([prompt.format(NAME)])
        ids = pipe.tokenizer([prompt.format(NAME)], return_tensors="pt").input_ids
        hidden = pipe.text_encoder(ids, output_hidden_states=True).hidden_states
        for number in range(1, len(benchmark.layers(pipe))):
            own = hidden[number][0, 4:6]
            with benchmark.after_layer(pipe, number, rows[1]), placeholders(pipe, {"<x>": own}):
                read, _ = denoiser.encode_prompts([prompt.format("<x>")])
            torch.testing.assert_close(read[0][4:6], known[0][4:6], atol=1e-4, rtol=1e-4)
        # After the first layer, only what the words behind the name took from it there is the other one's.
        with placeholders(pipe, {"<x>": rows[1]}):
            other, _ = denoiser.encode_prompts([prompt.format("<x>")])
    assert not torch.allclose(other[0][4:6], known[0][4:6], atol=1e-3)


def test_people_are_learnt_as_states_and_leave_no_mark(pipe):
    from conftest import state_of

    basis = CelebBasis.from_pipeline(pipe, celebrities()[:40], 4)
    before = state_of(pipe)
    with torch.no_grad():
        of_states = CelebBasis.fit(benchmark.states_after(pipe, 1, basis.names), basis.names, 4)
    rows = basis.inverse_transform(torch.zeros_like(basis.sigma))
    person = Identity.sample(of_states, "<x>", torch.Generator().manual_seed(0))
    with benchmark.after_layer(pipe, 1, rows), placeholders(pipe, {"<x>": person.vectors.requires_grad_()}):
        read, _ = get_denoiser(pipe).encode_prompts(["a photo of <x>"])
        (slope,) = torch.autograd.grad(read[0].square().sum(), person.vectors)
    assert slope.abs().sum(-1).min() > 0, "gradients reach both states"
    assert state_of(pipe) == before

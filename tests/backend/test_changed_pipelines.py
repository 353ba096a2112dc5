"""Pipelines that their owner changed before: offloaded, cast, compiled, adapted. Each works, or one line refuses it."""

import copy
import threading

import numpy as np
import pytest
import torch
from conftest import NAMES, TEMPLATES, make_pipeline, state_of
from fits import fit_identity
from PIL import Image

from celeb_basis import CelebBasis, Face, Identity, ModelError
from celeb_basis.backend.families import get_denoiser
from celeb_basis.backend.pipeline import pipeline_lock, plain
from celeb_basis.backend.text_encoders import fingerprint, name_rows, word_rows
from celeb_basis.generate import generate

PAIR = "<annika> on the left and <bo> on the right"
FACE = Face(Image.radial_gradient("L").convert("RGB"), (0, 0, 256, 256), torch.eye(4)[0])


def cpu_offload(part):
    import accelerate

    accelerate.cpu_offload(part, execution_device="cpu", offload_buffers=True)


def offload_by_layer(pipe):
    """As enable_sequential_cpu_offload does, which takes no CPU for the device that computes."""
    for part in (pipe.text_encoder, pipe.unet, pipe.vae):
        cpu_offload(part)


def offload_in_turn(pipe):
    pipe.enable_model_cpu_offload(device="cpu")


def offload_in_groups(pipe):
    from diffusers.hooks import apply_group_offloading

    for part in (pipe.text_encoder, pipe.unet, pipe.vae):
        apply_group_offloading(part, onload_device=torch.device("cpu"), offload_type="leaf_level")


def cast_by_layer(pipe):
    pipe.unet.enable_layerwise_casting(storage_dtype=torch.float8_e4m3fn, compute_dtype=torch.float32)


def compile_encoder(pipe):
    pipe.text_encoder = torch.compile(pipe.text_encoder, backend="eager")


def compile_encoder_in_place(pipe):
    pipe.text_encoder.compile(backend="eager")


def compile_layers_of_encoder(pipe):
    owner = getattr(pipe.text_encoder, "text_model", pipe.text_encoder)
    owner.embeddings = torch.compile(owner.embeddings, backend="eager")


def compile_unet(pipe):
    pipe.unet = torch.compile(pipe.unet, backend="eager")


def compile_blocks(pipe):
    pipe.unet.compile_repeated_blocks(backend="eager")


def adapt(pipe):
    """Add LoRAs that do nothing yet."""
    from peft import LoraConfig

    pipe.unet.add_adapter(LoraConfig(r=2, target_modules=["to_q", "to_k", "to_v", "conv_in"]))
    pipe.text_encoder.add_adapter(LoraConfig(r=2, target_modules=["q_proj"]))


CHANGES = (
    offload_by_layer, offload_in_turn, offload_in_groups, compile_encoder, compile_encoder_in_place,
    compile_layers_of_encoder, compile_unet, compile_blocks, adapt,
)  # fmt: skip


@pytest.fixture(scope="module")
def base():
    return make_pipeline("sd1")


@pytest.fixture(scope="module")
def own_basis(base):
    return CelebBasis.from_pipeline(base, NAMES)


@pytest.fixture(scope="module")
def people(own_basis):
    seeds = {"<annika>": 1, "<bo>": 2}
    return [Identity.sample(own_basis, token, torch.Generator().manual_seed(n)) for token, n in seeds.items()]


@pytest.fixture
def pipe(base):
    """A copy: what is done to a network cannot be taken back."""
    copied = type(base)(
        **{name: copy.deepcopy(part) for name, part in base.components.items()}, requires_safety_checker=False
    )
    copied.set_progress_bar_config(disable=True)
    copied.register_to_config(_name_or_path="tiny sd1")
    return copied


def fit(pipe, basis, **more):
    recipe = {"max_train_steps": 2, "num_train_images": 2, "templates": TEMPLATES, "scales": (1.0,)} | more
    return fit_identity(pipe, basis, [FACE], placeholder_token="<x>", **recipe).vectors


def drawn(pipe, people, **more):
    return np.asarray(generate(pipe, PAIR, people, num_inference_steps=2, **more)[0], int)


def stock(pipe):
    """As the owner would draw."""
    g = [torch.Generator().manual_seed(0)]
    return np.asarray(pipe("a photo of <annika>", num_inference_steps=2, generator=g).images[0], int)


@pytest.mark.parametrize("change", CHANGES)
def test_people_are_drawn_alike(change, pipe, base, people):
    """With regions too, which hang on the network."""
    change(pipe)
    before = stock_plain(pipe)  # what is to be compiled is compiled now
    assert fingerprint(pipe) == fingerprint(base)
    assert abs(drawn(pipe, people) - drawn(base, people)).max() <= 1
    apart = drawn(pipe, people, regions="auto")
    assert abs(apart - drawn(base, people, regions="auto")).max() <= 1
    assert abs(apart - drawn(base, people)).max() > 1
    assert (stock_plain(pipe) == before).all()


def stock_plain(pipe):
    g = [torch.Generator().manual_seed(0)]
    return np.asarray(pipe("a photo of the person", num_inference_steps=2, generator=g).images[0], int)


def test_weights_that_are_cast_for_each_layer_draw(pipe, base, people):
    cast_by_layer(pipe)
    assert get_denoiser(pipe).dtype == torch.float32
    off = abs(drawn(pipe, people) - drawn(base, people))
    assert 0 < off.max() < 40  # of 255: that is what eight bits cost


@pytest.mark.parametrize("change", [compile_encoder, compile_encoder_in_place, compile_blocks, adapt])
def test_people_are_learnt_alike(change, pipe, base, own_basis):
    expected = fit(base, own_basis)
    change(pipe)
    if change is not compile_blocks:
        stock_plain(pipe)
    asked = [weight.requires_grad for weight in pipe.unet.parameters()]
    torch.testing.assert_close(fit(pipe, own_basis), expected, rtol=1e-4, atol=1e-6)
    assert [weight.requires_grad for weight in pipe.unet.parameters()] == asked


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (offload_by_layer, "without offloading"),
        (offload_in_turn, "without offloading"),
        (offload_in_groups, "without offloading"),
        (cast_by_layer, "without layerwise casting"),
        (lambda pipe: offload_in_turn_alone(pipe.text_encoder), "without offloading"),
    ],
)
@pytest.mark.parametrize("method", ["celeb-basis", "cross-initialization"])  # the other looks at states first
def test_a_fit_whose_gradient_would_miss_the_weights_is_refused(change, says, method, pipe, own_basis):
    change(pipe)
    with pytest.raises(ModelError, match=f"can draw but not be fitted to: .*{says}") as refused:
        fit(pipe, own_basis, method=method, num_train_images=None)
    assert "\n" not in str(refused.value)


def offload_in_turn_alone(part):
    from accelerate import cpu_offload_with_hook

    cpu_offload_with_hook(part, "cpu")


@pytest.mark.parametrize("change", [offload_in_turn, cast_by_layer, compile_encoder, compile_encoder_in_place, adapt])
def test_a_person_is_loaded_and_taken_out_again(change, pipe, people):
    change(pipe)
    with_hooks, before = generated(pipe, people), stock_plain(pipe)
    people[0].load_into(pipe)
    assert abs(stock(pipe) - with_hooks).max() <= 1
    people[0].unload(pipe)
    assert (stock_plain(pipe) == before).all()


def generated(pipe, people):
    return np.asarray(generate(pipe, "a photo of <annika>", people[:1], num_inference_steps=2)[0], int)


@pytest.mark.parametrize(("change", "what"), [(offload_by_layer, "sequential"), (offload_in_groups, "group")])
def test_nobody_is_loaded_into_a_table_that_is_elsewhere(change, what, pipe, people):
    change(pipe)
    with pytest.raises(ModelError, match=rf"not at hand \({what} offload\): load <annika> before .* or use generate"):
        people[0].load_into(pipe)


@pytest.mark.parametrize("change", [offload_by_layer, compile_unet, compile_blocks])
def test_weights_keep_their_name(change, pipe, base):
    change(pipe)
    assert get_denoiser(pipe).digest == get_denoiser(base).digest


def test_signs_survive_eight_bits(pipe, base):
    """But for numbers that eight bits hold no more, of which these networks have none."""
    cast_by_layer(pipe)
    pipe.text_encoder.get_input_embeddings().to(torch.float8_e4m3fn)
    assert get_denoiser(pipe).digest == get_denoiser(base).digest
    assert fingerprint(pipe) == fingerprint(base)


def test_rows_are_fetched_from_wherever_they_are(pipe, base):
    expected, word = name_rows(base, NAMES[:3])[0], word_rows(base, "person")
    offload_by_layer(pipe)
    assert torch.equal(name_rows(pipe, NAMES[:3])[0], expected)
    assert torch.equal(word_rows(pipe, "person"), word)


def test_a_compiled_encoder_that_is_put_aside_keeps_other_threads_out(pipe):
    compile_encoder(pipe)
    inside = threading.Event()

    def enter():
        with pipeline_lock(pipe):
            inside.set()

    other = threading.Thread(target=enter)
    with pipeline_lock(pipe):
        pipe.text_encoder = plain(pipe.text_encoder)
        other.start()
        assert not inside.wait(0.2)
    other.join()
    assert inside.is_set()


def test_compiled_parts_are_put_back(pipe, people):
    compile_unet(pipe)
    compile_encoder_in_place(pipe)
    compile_layers_of_encoder(pipe)
    stock_plain(pipe)
    parts, before = (pipe.unet, pipe.text_encoder, pipe.text_encoder._compiled_call_impl), state_of(pipe)
    drawn(pipe, people, regions="auto")
    assert (pipe.unet, pipe.text_encoder, pipe.text_encoder._compiled_call_impl) == parts and state_of(pipe) == before

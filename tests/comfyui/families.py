"""Compares the pack with ComfyUI and the library, on small models of each family.

    COMFYUI_PATH=... python families.py

Prints, for each family, the largest differences as JSON. Weights are random.
"""

# ruff: noqa: E402
import copy
import importlib.util
import json
import os
import sys
from pathlib import Path
from types import SimpleNamespace

import torch

sys.argv = [sys.argv[0], "--cpu"]
sys.path[:0] = [os.environ["COMFYUI_PATH"], str(Path(__file__).parents[2] / "src")]
for operator in ("nms", "qnms"):
    torch.library.define(f"torchvision::{operator}", "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")

import comfy.options

comfy.options.enable_args_parsing()

import comfy.ldm.models.autoencoder
import comfy.model_management
import comfy.model_patcher
import comfy.sd
import comfy.sdxl_clip
import comfy.supported_models
import comfy.supported_models_base
import comfy.text_encoders.flux
import comfy.text_encoders.sd2_clip
import comfy.text_encoders.z_image
from comfy import sd1_clip
from diffusers import FlowMatchEulerDiscreteScheduler, Flux2KleinPipeline, ZImagePipeline
from PIL import Image
from transformers import Qwen3Config, Qwen3ForCausalLM

from celeb_basis import CelebBasis, Face, Identity, ModelError, Recipe
from celeb_basis.backend.text_encoders import encode, expanded, placeholders, token_ids
from celeb_basis.basis import celebrity_names
from celeb_basis.fit.loop import fit_steps

PACK = Path(__file__).parents[2] / "integrations" / "comfyui"
spec = importlib.util.spec_from_file_location("pack", PACK / "__init__.py", submodule_search_locations=[str(PACK)])
sys.modules["pack"] = importlib.util.module_from_spec(spec)
pipeline = importlib.import_module("pack.pipeline")
text = importlib.import_module("pack.text")

WIDTH = {"clip_l": 32, "clip_g": 48, "clip_h": 40}
FAMILIES = {
    "SD15": (comfy.supported_models.SD15, sd1_clip.SD1Tokenizer, sd1_clip.SD1ClipModel, ("clip_l",)),
    "SD21": (
        comfy.supported_models.SD20, comfy.text_encoders.sd2_clip.SD2Tokenizer,
        comfy.text_encoders.sd2_clip.SD2ClipModel, ("clip_h",),
    ),
    "SDXL": (
        comfy.supported_models.SDXL, comfy.sdxl_clip.SDXLTokenizer, comfy.sdxl_clip.SDXLClipModel, ("clip_l", "clip_g"),
    ),
}  # fmt: skip

# As in the two models' own tokenizers.
THINKING = "{% if enable_thinking is false %}<think>\n\n</think>\n\n{% endif %}"
CHAT = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}<|im_start|>assistant\n"
    + THINKING
)
LANGUAGE_FAMILIES = {
    "klein": (
        Flux2KleinPipeline, {}, comfy.text_encoders.flux.KleinTokenizer, comfy.text_encoders.flux.klein_te(), 28,
        comfy.supported_models.Flux2,
    ),
    "z-image": (
        ZImagePipeline, {"do_classifier_free_guidance": False}, comfy.text_encoders.z_image.ZImageTokenizer,
        comfy.text_encoders.z_image.te(), 3, comfy.supported_models.ZImage,
    ),
}  # fmt: skip


def small(kind):
    """MODEL, CLIP and VAE of a family, shrunk."""
    family, tokenizer, encoder, names = FAMILIES[kind]
    own = {"hidden_size": None, "intermediate_size": 64, "num_attention_heads": 4, "num_hidden_layers": 3}
    options = {f"{name}_model_config": own | {"hidden_size": WIDTH[name]} for name in names}
    target = comfy.supported_models_base.ClipTarget(tokenizer, encoder)
    clip = comfy.sd.CLIP(target, model_options=options | {"dtype": torch.float32})
    config = {
        "image_size": 8, "in_channels": 4, "out_channels": 4, "model_channels": 32, "channel_mult": (1, 2),
        "num_res_blocks": [1, 1], "num_heads": 4, "num_head_channels": -1, "context_dim": sum(WIDTH[n] for n in names),
        "use_spatial_transformer": True, "legacy": False, "transformer_depth": [1, 1], "transformer_depth_middle": 1,
        "transformer_depth_output": [1, 1, 1, 1], "dtype": torch.float32,
    }  # fmt: skip
    if kind == "SDXL":
        config |= {"adm_in_channels": 6 * 256 + WIDTH["clip_g"], "num_classes": "sequential"}
    made = family(config)
    made.unet_config |= {"num_heads": 4, "num_head_channels": -1}
    model = made.get_model({}, "")
    cpu = torch.device("cpu")
    patcher = comfy.model_patcher.ModelPatcher(model.eval(), load_device=cpu, offload_device=cpu)
    ddconfig = {
        "double_z": True, "z_channels": 4, "resolution": 32, "in_channels": 3, "out_ch": 3, "ch": 32,
        "ch_mult": [1, 1, 1, 1], "num_res_blocks": 1, "attn_resolutions": [], "dropout": 0.0,
    }  # fmt: skip
    params = {"ddconfig": ddconfig, "embed_dim": 4}
    autoencoder = comfy.ldm.models.autoencoder.AutoencoderKL(**params)
    for part in (model, clip.cond_stage_model, autoencoder):  # which ComfyUI leaves as memory was
        for weight in part.parameters():
            torch.nn.init.normal_(weight, std=0.1)
    return patcher, clip, comfy.sd.VAE(sd=autoencoder.state_dict(), config={"params": params})


def compare(kind):
    """The largest differences from what ComfyUI computes, and whether a fit moves and leaves everything as it was."""
    with torch.inference_mode():  # as nodes are run
        model, clip, vae = small(kind)
        before = [w.clone() for part in (model.model, clip.cond_stage_model) for w in part.parameters()]
        with torch.inference_mode(False):
            pipe = pipeline.ComfyPipeline(clip)
            basis = CelebBasis.from_pipeline(pipe, celebrity_names()[:200])
            person = Identity.sample(basis, "<annika>", torch.Generator().manual_seed(0))
        prompt = "a photo of <annika>, smiling; <annika>'s hat"
        named = text.with_identity(clip, person)
        theirs, pooled = named.encode_from_tokens(named.tokenize(prompt), return_pooled=True)
        found = {}
        with pipeline.trainable(model, clip, vae) as pipe:
            with torch.no_grad(), placeholders(pipe, {"<annika>": person.vectors}):
                states, own_pooled = encode(pipe, token_ids(pipe, [prompt]))
            found["states"] = float((states - theirs).abs().max() / theirs.abs().max())
            if own_pooled is not None:
                found["pooled"] = float((own_pooled - pooled).abs().max() / pooled.abs().max())
            found["network"] = _network(pipe, model, states, pooled)
            noise = torch.rand(32, 32, 3, generator=torch.Generator().manual_seed(1)) * 255
            face = Face(Image.fromarray(noise.byte().numpy()), (4, 4, 28, 28), torch.ones(8) / 8**0.5)
            fit = fit_steps(
                pipe, basis, [[face]], ["<a>"], Recipe(max_train_steps=3, resolution=64, train_batch_size=1)
            )
            *_, last = fit
        found["moved"] = float((last.coefficients / basis.sigma).abs().max())
        after = [w for part in (model.model, clip.cond_stage_model) for w in part.parameters()]
        found["changed"] = sum(not torch.equal(a, b) for a, b in zip(before, after, strict=True))
    return found


def _network(pipe, model, states, pooled):
    """The difference of the network's output from the one in ComfyUI's own denoising step."""
    sampling = model.model.model_sampling
    g = torch.Generator().manual_seed(2)
    x, t = torch.randn(1, 4, 8, 8, generator=g), torch.tensor([400])
    sigma = sampling.sigma(t)
    more, added = {}, None
    if kind_has_sizes := model.model.adm_channels:
        size = {"width": 64, "height": 64, "target_width": 64, "target_height": 64, "crop_w": 0, "crop_h": 0}
        more["y"] = model.model.encode_adm(pooled_output=pooled, device=x.device, **size)
        assert more["y"].shape[1] == kind_has_sizes
        ids = pipe._get_add_time_ids((64, 64), (0, 0), (64, 64), torch.float32, text_encoder_projection_dim=48)
        added = {"text_embeds": pooled.clone(), "time_ids": ids}
    with torch.no_grad():
        theirs = model.model.apply_model(x, sigma, c_crossattn=states, **more)
        output = pipe.unet(sampling.calculate_input(sigma, x), t, states, added).sample
        ours = sampling.calculate_denoised(sigma, output, x)
    return float((ours - theirs).abs().max() / theirs.abs().max())


def compare_language(kind):
    """The largest difference of a prompt's states from the library's with the same weights, and what a fit answers."""
    pipeline_class, options, tokenizer, encoder, layers, family = LANGUAGE_FAMILIES[kind]
    size = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": layers, "num_attention_heads": 2}
    size |= {"num_key_value_heads": 1}
    target = comfy.supported_models_base.ClipTarget(tokenizer, encoder)
    clip = comfy.sd.CLIP(target, model_options={"qwen3_4b_model_config": size, "dtype": torch.float32})
    rope = {"rope_type": "default", "rope_theta": 1e6}
    config = Qwen3Config(vocab_size=151936, head_dim=128, rope_parameters=rope, initializer_range=0.2, **size)
    own = Qwen3ForCausalLM(config).eval()
    theirs = clip.cond_stage_model.qwen3_4b.transformer
    missing, _ = theirs.load_state_dict(own.state_dict(), strict=False)
    assert not missing, missing
    words = copy.deepcopy(clip.tokenizer.qwen3_4b.tokenizer)
    words.chat_template = CHAT
    parts = {"vae": None, "transformer": None, "text_encoder": own, "tokenizer": words}
    pipe = pipeline_class(scheduler=FlowMatchEulerDiscreteScheduler(), **parts)
    basis = CelebBasis.from_pipeline(pipeline.ComfyPipeline(clip), celebrity_names()[:300])
    person = Identity.sample(basis, "<annika>", torch.Generator().manual_seed(0))
    person.check(pipe)  # which names the same model
    prompt = "a photo of <annika>, smiling; <Annika>'s hat\nin (the) snow"
    with torch.no_grad(), placeholders(pipe, {"<annika>": person.vectors}):
        [states] = pipe.encode_prompt(expanded(pipe, [prompt.lower()]), **options)[0]
    with torch.inference_mode():
        named = text.with_identity(text.with_identity(clip, person), person.blend(person, 0.5, "<bodil>"))
        same = named.encode_from_tokens(named.tokenize(prompt))[0][:, : len(states)]
        again = named.encode_from_tokens(named.tokenize(prompt.replace("<Annika>", "<bodil>")))[0][:, : len(states)]
        plain, still = (clip.encode_from_tokens(clip.tokenize(prompt)) for _ in range(2))
    scale = states.abs().max()
    found = {"states": float((same - states).abs().max() / scale), "two": float((again - states).abs().max() / scale)}
    found["changed"] = int(not torch.equal(plain, still))
    model = SimpleNamespace(model=SimpleNamespace(model_config=family({"hidden_size": 16})))
    try:
        with pipeline.trainable(model, clip, SimpleNamespace(downscale_ratio=8)):
            pass
    except ModelError as error:
        found["fit"] = str(error)
    return found


if __name__ == "__main__":
    found = {kind: compare(kind) for kind in FAMILIES}
    print(json.dumps(found | {kind: compare_language(kind) for kind in LANGUAGE_FAMILIES}))

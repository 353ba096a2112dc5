"""Tiny pipelines of the true architectures with random weights: SD 1, SD 2 (v-prediction) and SDXL."""

from __future__ import annotations

import json
import os
import string
from typing import Any

import pytest
import torch
from diffusers import (
    AutoencoderKL,
    AutoencoderTiny,
    DDIMScheduler,
    EulerDiscreteScheduler,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import (
    CLIPConfig,
    CLIPImageProcessorPil,
    CLIPModel,
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
)

torch.set_num_threads(1)

FIRST = ["ada", "bo", "cy", "dee", "eli", "fay", "gus", "hal"]
LAST = [a + b for a in ("ash", "birch", "cedar", "dale", "elm") for b in ("wood", "field", "stone", "ford", "well")]
NAMES = [f"{FIRST[i % len(FIRST)]} {last}" for i, last in enumerate(LAST)]  # 25 people, 8 first names
WORDS = ["a", "photo", "of", "the", "face", "person", "on", "beach", "and", "left", "right"]
TEMPLATES = ("a photo of {}", "a photo of the face of {}")


def make_tokenizer(pad_token: str = "<|endoftext|>") -> CLIPTokenizer:
    """A byte-pair tokenizer for which each of the words above is one token, everything else letters."""
    bpe = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    trainer = trainers.BpeTrainer(
        vocab_size=10_000,
        initial_alphabet=list(string.printable[:94]),
        end_of_word_suffix="</w>",
        show_progress=False,
    )
    bpe.pre_tokenizer = pre_tokenizers.Whitespace()
    bpe.train_from_iterator([*WORDS, *FIRST, *LAST], trainer)
    learnt = json.loads(bpe.to_str())["model"]
    vocab: dict[str, int] = {}
    for piece in [
        *string.printable[:94],
        *(c + "</w>" for c in string.printable[:94]),
        *learnt["vocab"],
        "<|startoftext|>",
        "<|endoftext|>",
    ]:
        vocab.setdefault(piece, len(vocab))
    merges = [tuple(pair) for pair in learnt["merges"]]
    return CLIPTokenizer(vocab=vocab, merges=merges, model_max_length=20, pad_token=pad_token)


def make_encoder(tokenizer: CLIPTokenizer, dim: int, kind: type, eos_token_id: int | None = None) -> Any:
    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=dim,
        intermediate_size=2 * dim,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=20,
        projection_dim=dim,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id if eos_token_id is None else eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return kind(config)


def make_unet(cross_attention_dim: int, **more: Any) -> UNet2DConditionModel:
    return UNet2DConditionModel(
        sample_size=8,
        in_channels=4,
        out_channels=4,
        block_out_channels=(8, 16),
        norm_num_groups=4,
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        attention_head_dim=2,
        cross_attention_dim=cross_attention_dim,
        **more,
    )


def make_vae() -> AutoencoderKL:
    return AutoencoderKL(
        block_out_channels=(8, 8),
        norm_num_groups=4,
        latent_channels=4,
        sample_size=16,
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
    )


def make_pipeline(kind: str, seed: int = 0) -> Any:
    """kind: "sd1", "sd2" or "sdxl" ("sdxl-eos2": with the old configuration that pools at the highest id)."""
    torch.manual_seed(seed)
    noise = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012, "steps_offset": 1}
    noise["timestep_spacing"] = "trailing"
    if kind.startswith("sdxl"):
        tokenizer, tokenizer_2 = make_tokenizer(), make_tokenizer(pad_token="!")
        pipe: Any = StableDiffusionXLPipeline(
            vae=make_vae(),
            text_encoder=make_encoder(tokenizer, 16, CLIPTextModel),
            text_encoder_2=make_encoder(
                tokenizer_2, 32, CLIPTextModelWithProjection, eos_token_id=2 if kind == "sdxl-eos2" else None
            ),
            tokenizer=tokenizer,
            tokenizer_2=tokenizer_2,
            unet=make_unet(
                48,
                addition_embed_type="text_time",
                addition_time_embed_dim=4,
                projection_class_embeddings_input_dim=6 * 4 + 32,
                transformer_layers_per_block=(1, 2),
            ),
            scheduler=EulerDiscreteScheduler(**noise),
            add_watermarker=False,
        )
    else:
        tokenizer = make_tokenizer()
        pipe = StableDiffusionPipeline(
            vae=make_vae(),
            text_encoder=make_encoder(tokenizer, 32, CLIPTextModel),
            tokenizer=tokenizer,
            unet=make_unet(32),
            scheduler=DDIMScheduler(
                **noise,
                prediction_type="v_prediction" if kind == "sd2" else "epsilon",
                rescale_betas_zero_snr=kind == "sd2",
                clip_sample=False,
                set_alpha_to_one=False,
            ),
            safety_checker=None,
            feature_extractor=None,
            image_encoder=None,
            requires_safety_checker=False,
        )
    for part in pipe.components.values():
        if isinstance(part, torch.nn.Module):
            part.eval().requires_grad_(False)
    pipe.set_progress_bar_config(disable=True)
    pipe.register_to_config(_name_or_path=f"tiny {kind}")
    return pipe


def add_safety_checker(pipe: Any, threshold: float) -> None:
    """Give a pipeline a tiny checker, which objects where a cosine is above `threshold`: -2 always, 2 never."""
    part = {"hidden_size": 8, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = CLIPConfig(
        vision_config=part | {"image_size": 16, "patch_size": 8}, text_config=part | {"vocab_size": 8}, projection_dim=8
    )
    checker = StableDiffusionSafetyChecker(config).eval()
    for weights in (checker.concept_embeds_weights, checker.special_care_embeds_weights):
        weights.data.fill_(threshold)
    size = {"shortest_edge": 16}
    processor = CLIPImageProcessorPil(size=size, crop_size={"height": 16, "width": 16})
    pipe.register_modules(safety_checker=checker, feature_extractor=processor)
    pipe.register_to_config(requires_safety_checker=True)


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Bases that are made go to a folder of the tests, not to the user's cache; commands in processes use it too."""
    os.environ["CELEB_BASIS_CACHE"] = str(tmp_path_factory.mktemp("cache"))
    os.environ["CELEB_BASIS_PEOPLE"] = str(tmp_path_factory.mktemp("people"))


@pytest.fixture(scope="session", params=["sd1", "sd2", "sdxl"])
def pipe(request: pytest.FixtureRequest) -> Any:
    """One pipeline of each family; no test may leave a mark on it."""
    return make_pipeline(request.param)


@pytest.fixture(scope="session")
def basis(pipe: Any) -> Any:
    from celeb_basis import CelebBasis

    return CelebBasis.from_pipeline(pipe, NAMES)


def state_of(pipe: Any) -> dict[str, Any]:
    """Everything of a pipeline that must be as before: weights, flags, vocabularies, hooks, configuration."""
    state: dict[str, Any] = {"config": dict(pipe.config)}
    for name, part in pipe.components.items():
        state[name] = id(part)
        if isinstance(part, torch.nn.Module):
            state[f"{name} weights"] = {key: t.numpy().tobytes() for key, t in part.state_dict().items()}
            state[f"{name} flags"] = [(p.requires_grad, p.grad is None) for p in part.parameters()]
            state[f"{name} modes"] = [(m.training, getattr(m, "eos_token_id", None)) for m in part.modules()]
            # Only ours: transformers itself adds hooks on the first call that asks for hidden states.
            hooks = [h for m in part.modules() for h in [*m._forward_hooks.values(), *m._forward_pre_hooks.values()]]
            state[f"{name} hooks"] = [h for h in hooks if h.__module__.startswith("celeb_basis")]
        elif hasattr(part, "get_vocab"):
            state[f"{name} vocabulary"] = part.get_vocab()
    return state


@pytest.fixture
def ada(basis):
    from celeb_basis import Identity

    return Identity.sample(basis, "<ada>", torch.Generator().manual_seed(1))


@pytest.fixture
def bo(basis):
    from celeb_basis import Identity

    return Identity.sample(basis, "<bo>", torch.Generator().manual_seed(2))


@pytest.fixture(scope="session")
def tiny_clip(tmp_path_factory):
    """A folder with a small CLIP of random weights."""
    folder = tmp_path_factory.mktemp("clip")
    tokenizer = make_tokenizer()
    part = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    ids = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    text = part | ids | {"vocab_size": len(tokenizer), "max_position_embeddings": 20}
    vision = part | {"image_size": 32, "patch_size": 8}
    torch.manual_seed(0)
    CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=8)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    size = {"shortest_edge": 32}
    CLIPImageProcessorPil(size=size, crop_size={"height": 32, "width": 32}).save_pretrained(folder)
    return folder


@pytest.fixture
def tiny_in_cache(tmp_path, monkeypatch):
    """A hub cache with the tiny autoencoder of Stable Diffusion, of random weights."""
    torch.manual_seed(0)
    vae = AutoencoderTiny(
        encoder_block_out_channels=(8, 8), decoder_block_out_channels=(8, 8),
        num_encoder_blocks=(1, 1), num_decoder_blocks=(1, 1),
    )  # fmt: skip
    folder = tmp_path / "models--madebyollin--taesd"
    vae.save_pretrained(folder / "snapshots" / "abc")
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text("abc")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))

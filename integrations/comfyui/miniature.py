"""The small model of celeb-basis on ComfyUI's own UNet, CLIP and sampler, for trials on any machine."""

import json
from pathlib import Path
from types import MappingProxyType

import comfy.latent_formats
import comfy.model_base
import comfy.model_management
import comfy.model_patcher
import comfy.ops
import comfy.sd
import comfy.supported_models_base
import comfy.utils
import torch
from comfy import sd1_clip
from safetensors.torch import load_file

from celeb_basis import ModelCard
from celeb_basis.backend.card import DEFAULT_MODEL, local_path

from .pipeline import KNOWN

FOLDER = Path(local_path(DEFAULT_MODEL))


def load_miniature():
    """MODEL, CLIP and VAE."""
    return _model(), _clip(), Autoencoder()


class _Times(float):
    """A multiple of the first layer's channels that need not be whole, as long as the channels are."""

    def __mul__(self, channels):
        return round(float(self) * channels)

    __rmul__ = __mul__


class _Ops(comfy.ops.disable_weight_init):
    """ComfyUI's layers with groups of the miniature's size."""

    class GroupNorm(comfy.ops.disable_weight_init.GroupNorm):
        def __init__(self, num_groups, *args, **kwargs):
            super().__init__(_config("unet")["norm_num_groups"], *args, **kwargs)


class _LatentFormat(comfy.latent_formats.LatentFormat):
    def __init__(self):
        vae = _config("vae")
        self.scale_factor, self.latent_channels = vae["scaling_factor"], vae["latent_channels"]


class _Model(comfy.supported_models_base.BASE):
    unet_extra_config = MappingProxyType({})
    latent_format = _LatentFormat
    custom_operations = _Ops
    sampling_settings = {"zsnr": True}  # noqa: RUF012 - ComfyUI copies it


def _config(part):
    name = "scheduler_config.json" if part == "scheduler" else "config.json"
    return json.loads((FOLDER / part / name).read_text())


def _model(disable_dynamic=False):
    unet = _config("unet")
    channels = unet["block_out_channels"]
    attends = [int(kind.startswith("CrossAttn")) for kind in unet["down_block_types"]]
    config = {
        "image_size": unet["sample_size"], "in_channels": unet["in_channels"], "out_channels": unet["out_channels"],
        "model_channels": channels[0], "channel_mult": tuple(_Times(c / channels[0]) for c in channels),
        "num_res_blocks": [1] * len(channels), "num_heads": unet["attention_head_dim"], "num_head_channels": -1,
        "context_dim": unet["cross_attention_dim"], "use_spatial_transformer": True, "legacy": False,
        "transformer_depth": attends, "transformer_depth_middle": 1,
        "transformer_depth_output": [depth for depth in attends for _ in range(2)], "dtype": torch.float32,
    }  # fmt: skip
    kind = comfy.model_base.ModelType.V_PREDICTION
    model = comfy.model_base.BaseModel(_Model(dict(config)), model_type=kind)
    weights = load_file(FOLDER / "unet" / "diffusion_pytorch_model.safetensors")
    names = comfy.utils.unet_to_diffusers(config)
    model.diffusion_model.load_state_dict({names[key]: weight for key, weight in weights.items()})
    patcher = comfy.model_patcher.ModelPatcher(
        model.eval(),
        load_device=comfy.model_management.get_torch_device(),
        offload_device=comfy.model_management.unet_offload_device(),
    )
    patcher.cached_patcher_init = (_model, ())
    return patcher


def _clip():
    target = comfy.supported_models_base.ClipTarget(_Tokenizer, _TextModel)
    clip = comfy.sd.CLIP(target, embedding_directory=_embedding_folders())
    clip.patcher.cached_patcher_init = (lambda disable_dynamic=False: _clip().patcher, ())
    known = {"card": ModelCard.of(DEFAULT_MODEL), "name": DEFAULT_MODEL, "sample_size": _config("unet")["sample_size"]}
    clip.patcher.set_attachments(KNOWN, known)
    return clip


def _embedding_folders():
    import folder_paths

    return folder_paths.get_folder_paths("embeddings")


class _PartTokenizer(sd1_clip.SDTokenizer):
    def __init__(self, embedding_directory=None, tokenizer_data={}):  # noqa: B006 - ComfyUI's own signature
        text = _config("text_encoder")
        super().__init__(
            str(FOLDER / "tokenizer"),
            max_length=text["max_position_embeddings"],
            embedding_directory=embedding_directory,
            embedding_size=text["hidden_size"],
            tokenizer_data=tokenizer_data,
        )


class _Tokenizer(sd1_clip.SD1Tokenizer):
    def __init__(self, embedding_directory=None, tokenizer_data={}):  # noqa: B006
        super().__init__(embedding_directory, tokenizer_data, tokenizer=_PartTokenizer)


class _Encoder(sd1_clip.SDClipModel):
    def __init__(self, device="cpu", dtype=None, model_options={}):  # noqa: B006
        text = _config("text_encoder")
        special = {"start": text["bos_token_id"], "end": text["eos_token_id"], "pad": text["pad_token_id"]}
        super().__init__(
            device=device, max_length=text["max_position_embeddings"], textmodel_json_config=text, dtype=torch.float32,
            special_tokens=special, return_projected_pooled=False, model_options=model_options,
        )  # fmt: skip
        table = self.operations.Embedding(text["vocab_size"], text["hidden_size"], dtype=torch.float32, device=device)
        self.transformer.set_input_embeddings(table)
        weights = load_file(FOLDER / "text_encoder" / "model.safetensors")
        weights = {f"text_model.{key.removeprefix('text_model.')}": weight for key, weight in weights.items()}
        missing, unexpected = self.transformer.load_state_dict(weights, strict=False)
        if unexpected or set(missing) != {"text_projection.weight"}:
            raise RuntimeError(f"ComfyUI's CLIP has other weights than the miniature's: {missing}, {unexpected}")
        torch.nn.init.eye_(self.transformer.text_projection.weight)
        self.requires_grad_(False)


class _TextModel(sd1_clip.SD1ClipModel):
    def __init__(self, device="cpu", dtype=None, model_options={}):  # noqa: B006
        super().__init__(device=device, dtype=dtype, model_options=model_options, clip_model=_Encoder)


class Autoencoder:
    """The miniature's autoencoder, called as a VAE of ComfyUI is."""

    downscale_ratio = 8

    def __init__(self):
        from diffusers import AutoencoderTiny

        self.model = AutoencoderTiny.from_pretrained(FOLDER / "vae").eval().requires_grad_(False)

    def encode(self, pixels):
        """Latents (n, channels, h, w) of pixels (n, 8 h, 8 w, 3) in 0..1."""
        return self.model.encode(pixels.movedim(-1, 1)[:, :3] * 2 - 1).latents

    def decode(self, latents):
        """Pixels (n, 8 h, 8 w, 3) in 0..1."""
        return (self.model.decode(latents).sample / 2 + 0.5).clamp(0, 1).movedim(1, -1)

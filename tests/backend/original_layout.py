"""A pipeline's weights under the names that Stable Diffusion's single files give them."""

import re

import torch

RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
OPEN_CLIP = {
    "embeddings.token_embedding": "token_embedding",
    "embeddings.position_embedding.weight": "positional_embedding",
    "final_layer_norm": "ln_final",
    "encoder.layers": "transformer.resblocks",
    "layer_norm": "ln_",
    "fc1": "c_fc",
    "fc2": "c_proj",
    "self_attn": "attn",
}


def original_layout(pipe, text_encoders):
    """Tensors by name; text_encoders: the layout of each, ("clip",) in SD 1, ("open_clip",) in SD 2, both in SDXL."""
    tensors = {f"model.diffusion_model.{key}": value for key, value in _unet(pipe.unet).items()}
    tensors |= {f"first_stage_model.{key}": value for key, value in _vae(pipe.vae).items()}
    single = len(text_encoders) == 1
    for i, layout in enumerate(text_encoders):
        encoder = pipe.text_encoder_2 if i else pipe.text_encoder
        prefix = "cond_stage_model." if single else f"conditioner.embedders.{i}."
        weights = {key.removeprefix("text_model."): value for key, value in encoder.state_dict().items()}
        if layout == "clip":
            tensors |= {f"{prefix}transformer.text_model.{key}": value for key, value in weights.items()}
        else:
            tensors |= {f"{prefix}model.{key}": value for key, value in _open_clip(weights).items()}
    return {key: value.contiguous().clone() for key, value in tensors.items()}


def _renamed(key, names):
    for name, other in names.items():
        key = key.replace(name, other)
    return key


def _unet(unet):
    layers = unet.config.layers_per_block
    plain = {"time_embedding.linear_": "time_embed.", "add_embedding.linear_": "label_emb.0."}
    plain |= {"conv_in": "input_blocks.0.0", "conv_norm_out": "out.0", "conv_out": "out.2"}
    tensors = {}
    for key, value in unet.state_dict().items():
        if match := re.fullmatch(r"(down|up)_blocks\.(\d+)\.(\w+)\.(\d+)\.(.+)", key):
            way, block, kind, layer, rest = match[1], int(match[2]), match[3], int(match[4]), match[5]
            at = 1 + block * (layers + 1) if way == "down" else block * (layers + 1)
            if kind == "downsamplers":
                place = f"{at + layers}.0.{rest.replace('conv', 'op')}"
            elif kind == "upsamplers":
                place = f"{at + layers}.{2 if hasattr(unet.up_blocks[block], 'attentions') else 1}.{rest}"
            elif kind == "resnets":
                place = f"{at + layer}.0.{_renamed(rest, RESNET)}"
            else:
                place = f"{at + layer}.1.{rest}"
            key = f"{'input' if way == 'down' else 'output'}_blocks.{place}"
        elif match := re.fullmatch(r"mid_block\.(\w+)\.(\d)\.(.+)", key):
            resnet = match[1] == "resnets"
            key = f"middle_block.{2 * int(match[2]) if resnet else 1}."
            key += _renamed(match[3], RESNET) if resnet else match[3]
        else:
            key = _renamed(key, plain)
            key = re.sub(r"(time_embed|label_emb\.0)\.(\d)", lambda m: f"{m[1]}.{2 * int(m[2]) - 2}", key)
        tensors[key] = value
    return tensors


def _vae(vae):
    last = len(vae.config.block_out_channels) - 1
    attention = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"}
    tensors = {}
    for key, value in vae.state_dict().items():
        key = _renamed(key, {"conv_norm_out": "norm_out", "conv_shortcut": "nin_shortcut"})
        key = re.sub(r"up_blocks\.(\d)", lambda m: f"up.{last - int(m[1])}", key).replace("down_blocks", "down")
        key = _renamed(key, {"resnets": "block", "downsamplers.0": "downsample", "upsamplers.0": "upsample"})
        key = re.sub(r"mid_block\.block\.(\d)", lambda m: f"mid.block_{int(m[1]) + 1}", key)
        if "mid_block.attentions.0" in key:
            key = _renamed(key.replace("mid_block.attentions.0", "mid.attn_1"), attention)
            value = value[:, :, None, None] if value.ndim == 2 else value  # once a convolution
        tensors[key] = value
    return tensors


def _open_clip(weights):
    tensors = {}
    for key, value in weights.items():
        key = _renamed(key, OPEN_CLIP)
        if match := re.fullmatch(r"(.+\.attn\.)q_proj\.(weight|bias)", key):
            parts = [weights[other] for other in (_like(key, weights, letter) for letter in "qkv")]
            tensors[f"{match[1]}in_proj_{match[2]}"] = torch.cat(parts)
        elif key == "text_projection.weight":
            tensors["text_projection"] = value.T
        elif not re.search(r"[kv]_proj", key):
            tensors[key] = value
    return tensors


def _like(key, weights, letter):
    """The name that query, key or value has in `weights`."""
    return next(k for k in weights if _renamed(k, OPEN_CLIP) == key.replace("q_proj", f"{letter}_proj"))

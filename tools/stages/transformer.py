"""Two small transformers of Z-Image's class, one a text encoder: the UNet's pictures and captions, flow matching."""

from __future__ import annotations

from pathlib import Path

import torch
from diffusers import ZImageTransformer2DModel
from diffusers.models.attention_processor import Attention
from diffusers.models.transformers.transformer_z_image import ZImageTransformerBlock
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import CLIPTokenizer

from .autoencoder import LATENT_CHANNELS
from .language import WHERE, encoder_of, states
from .latents import of_round
from .loop import compile_blocks, is_first, processes, train
from .precision import autocast
from .text import WIDTH
from .unet import EPOCHS, FACE_WEIGHT, PICTURES, UNCONDITIONAL

NAME = "transformer"
DIM, LAYERS, REFINERS, HEADS = 192, 4, 1, 6
CAPTION = 32
"""Tokens to a multiple of which Z-Image's class pads captions: longer ones would need masks, and twice the padding."""
OWN = ("cap_embedder", "cap_pad_token", "context_refiner")
"""What reads the words."""
EVEN = 0.1
"""Share of the noise levels that are spread evenly, as the pure noise that pictures start from is else hardly seen."""


def build() -> ZImageTransformer2DModel:
    """Squares of 2 x 2 latents; one layer for them and one for the words alone, then four for both."""
    head = DIM // HEADS
    return ZImageTransformer2DModel(
        in_channels=LATENT_CHANNELS, dim=DIM, n_layers=LAYERS, n_refiner_layers=REFINERS, n_heads=HEADS,
        n_kv_heads=HEADS, cap_feat_dim=WIDTH, axes_dims=[head // 2, head // 4, head // 4], axes_lens=[128, 32, 32],
    )  # fmt: skip


class PlainAttention:
    """The attention of Z-Image's class, unmasked, written out: on a CPU a quarter of a step faster than PyTorch's."""

    def __call__(self, attn: Attention, hidden_states: Tensor, attention_mask=None, freqs_cis=None, **_) -> Tensor:
        assert attention_mask is None
        read = (layer(hidden_states).unflatten(-1, (attn.heads, -1)) for layer in (attn.to_q, attn.to_k, attn.to_v))
        query, key, value = read
        cos, sin = torch.view_as_real(freqs_cis)[:, :, None].unbind(-1)

        def turned(x: Tensor) -> Tensor:
            a, b = x[..., 0::2], x[..., 1::2]
            return torch.stack([a * cos - b * sin, a * sin + b * cos], -1).flatten(-2).to(value.dtype).transpose(1, 2)

        query, key = turned(attn.norm_q(query)), turned(attn.norm_k(key))
        weights = (query @ key.mT * query.shape[-1] ** -0.5).softmax(-1).to(value.dtype)
        return attn.to_out[0]((weights @ value.transpose(1, 2)).transpose(1, 2).flatten(2))


def write_out_attention(model: ZImageTransformer2DModel) -> None:
    """Let every layer attend by `PlainAttention`; the weights are the same."""
    for module in model.modules():
        if isinstance(module, Attention):
            module.set_processor(PlainAttention())


def is_hidden_matrix(name: str) -> bool:
    """The matrices of the layers, not those that read pictures, captions and time."""
    return name.endswith("weight") and (".attention.to_" in name or ".feed_forward." in name)


def levels(count: int) -> Tensor:
    """Shares of noise `(count,)`: their logit is normal, evenly spread over the batch, but for a tenth."""
    spread = (torch.arange(count) + torch.rand(count)) / count
    normal = torch.special.ndtri(spread.double()).float().sigmoid()
    return torch.where(torch.rand(count) < EVEN, torch.rand(count), normal)


def build_both() -> nn.ModuleDict:
    """A transformer for each text encoder; only what reads the words is each one's own.

    What they draw then differs by the text encoder alone, and both learn to draw from the same steps.
    """
    both = nn.ModuleDict({reads: build() for reads in WHERE})
    first, *others = both.values()
    for other in others:
        for name, part in [*first.named_children(), *first.named_parameters(recurse=False)]:
            if name not in OWN:
                setattr(other, name, part)
    return both


def run(
    folder: Path, *, minutes: float, cooldown_minutes: float, device: str, batch_size: int = 128, compiled: bool = True
) -> None:
    """Train both on what the frozen text encoders read, in turns, until stopped; goes on where it was.

    compiled: takes two minutes once, then a step takes two thirds of the time.
    """
    part, share = 0 if is_first() else 1, batch_size // processes()
    mine = PICTURES // processes()
    data: dict[str, Tensor] = {}
    current = -1
    tokens = CLIPTokenizer.from_pretrained(folder / "tokenizer")
    end = tokens.eos_token_id
    encoders = {reads: encoder_of(folder, reads).to(device) for reads in WHERE}
    empty = tokens("", padding="max_length", return_tensors="pt").input_ids.to(device)
    torch.manual_seed(3)
    both = build_both().to(device)
    if device == "cpu":
        for transformer in both.values():
            write_out_attention(transformer)
    if compiled:
        compile_blocks(both, ZImageTransformerBlock)

    def loss(step: int) -> tuple[Tensor, dict[str, float]]:
        nonlocal data, current
        if (number := step * share // (mine * EPOCHS)) != current:
            data, current = of_round(folder, number, mine, part, device), number
            short = (data["ids"][:, CAPTION - 1] == end).nonzero()[:, 0]
            data = {key: value[short] for key, value in data.items()}
        reads = list(WHERE)[step % len(WHERE)]
        index = torch.randint(len(data["ids"]), (share,))
        x0 = data["latents"][index].to(device).float()
        worth = 1 + (FACE_WEIGHT - 1) * data["faces"][index].to(device).float()
        ids = data["ids"][index].to(device).long()
        ids = torch.where(torch.rand(share, 1, device=device) < UNCONDITIONAL, empty, ids)
        captions = states(encoders[reads], ids, end)
        t = levels(share).to(device)
        noise = torch.randn_like(x0)
        noisy = torch.lerp(x0, noise, t[:, None, None, None])
        with autocast(device):
            # Z-Image's time runs from noise to picture, and so does the flow; the third dimension is of frames.
            guess = torch.stack(both[reads](list(noisy.unsqueeze(2)), 1 - t, captions).sample).squeeze(2)
        error = (guess.float() - (x0 - noise)).square()
        return (error * worth).mean(), {reads: error.mean().item()}

    def write(average: dict[str, Tensor], pictures: int) -> None:
        """The averaged transformers as diffusers reads them, for whoever looks on while they learn."""
        whole = build_both()
        whole.load_state_dict(average)
        for reads, transformer in whole.items():
            transformer.save_pretrained(folder / (f"{NAME}-{reads}" + ("-cooled" if cooldown_minutes else "")))

    train(
        NAME, both, loss, folder, minutes=minutes, cooldown_minutes=cooldown_minutes,
        learning_rate=2e-3, batch_size=batch_size, matrices=is_hidden_matrix, save_every=180, after_saving=write,
    )  # fmt: skip


def keep(folder: Path, target: Path) -> None:
    """Keep what the experiment needs to be repeated or trained on: the language model and both cooled transformers."""
    source = folder / f"{NAME}-cooled.ckpt.safetensors"
    with safe_open(source, "pt") as file:
        metadata = file.metadata()
    both = build_both()
    state = load_file(source)
    both.load_state_dict({k.removeprefix("average."): v for k, v in state.items() if k.startswith("average.")})
    # Every parameter once: what both share has the first one's name.
    save_file({key: value.half() for key, value in both.named_parameters()}, target / f"{NAME}.safetensors", metadata)
    encoder_of(folder, "language").half().save_pretrained(target / WHERE["language"][1])


def restore(folder: Path, source: Path) -> None:
    """Fill a training folder with what `keep` kept."""
    path = source / f"{NAME}.safetensors"
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    both, kept = build_both(), load_file(path)
    with torch.no_grad():
        for key, value in both.named_parameters():
            value.copy_(kept[key])
    for reads, transformer in both.items():
        transformer.save_pretrained(folder / f"{NAME}-{reads}")
    state = {
        f"{part}.{key}": value.clone() for part in ("weights", "average") for key, value in both.state_dict().items()
    }
    save_file(state, folder / f"{NAME}.ckpt.safetensors", metadata)
    encoder_of(source, "language").float().save_pretrained(folder / WHERE["language"][1])

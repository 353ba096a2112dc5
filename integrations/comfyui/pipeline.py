"""ComfyUI's MODEL, CLIP and VAE as the pipeline of diffusers that celeb-basis learns people with."""

import copy
import inspect
from contextlib import ExitStack, contextmanager
from types import SimpleNamespace

import torch
from diffusers import DDPMScheduler
from diffusers.loaders import TextualInversionLoaderMixin
from torch import nn

from celeb_basis import ModelCard, ModelError

from .text import part_names

# Where a loader of a CLIP leaves what ComfyUI does not know of its model: its card, and the side of its latents.
KNOWN = "celeb_basis"


class ComfyPipeline(TextualInversionLoaderMixin):
    """As much of a pipeline as a fit needs.

    model: a MODEL, or None where only prompts matter; vae: a VAE, needed with a model.
    ready: called before each use of the text encoders, which is also before each use of the network.
    """

    def __init__(self, clip, model=None, vae=None, ready=lambda: None):
        self.clip, self.model = clip, model
        known = clip.patcher.get_attachment(KNOWN) or {}
        self.card = known.get("card", ModelCard())
        self.config = {"_name_or_path": known.get("name", "a model in ComfyUI")}
        self.components = {}
        names = part_names(clip)
        clip.cond_stage_model.reset_clip_options()
        if clip.layer_idx is not None:
            clip.cond_stage_model.set_clip_options({"layer": clip.layer_idx})
        for suffix, name in zip(("", "_2"), names, strict=False):
            tokens, encoder = getattr(clip.tokenizer, name), getattr(clip.cond_stage_model, name)
            self._add(f"tokenizer{suffix}", _tokenizer(tokens))
            self._add(f"text_encoder{suffix}", TextEncoder(encoder, tokens.max_length, ready, last=len(names) == 1))
        if model is not None:
            self._add("unet", Network(model, known.get("sample_size")))
            self._add("scheduler", _scheduler(model))
            self._add("vae", Latents(vae, model.model))
            self.vae_scale_factor = vae.downscale_ratio

    def _add(self, name, part):
        self.components[name] = part
        setattr(self, name, part)

    def register_to_config(self, **values):
        self.config |= values

    @property
    def device(self):
        return self.text_encoder.device

    _execution_device = device

    def _get_add_time_ids(self, size, crop, target, dtype, text_encoder_projection_dim):
        return torch.tensor([[*size, *crop, *target]], dtype=dtype)


def _tokenizer(part):
    """ComfyUI's tokenizer, padding as ComfyUI itself does."""
    tokenizer = copy.copy(part.tokenizer)
    tokenizer.pad_token = tokenizer.convert_ids_to_tokens(part.pad_token)
    tokenizer.model_max_length = part.max_length
    return tokenizer


class TextEncoder(nn.Module):
    """One text encoder of a CLIP, called with ids as those of transformers are.

    last: whether its states are all that the network reads, as in SD 1 and 2.
    """

    def __init__(self, encoder, length, ready, *, last):
        super().__init__()
        self.encoder, self.last, self._ready = encoder, last, ready
        transformer = encoder.transformer
        self.config = SimpleNamespace(max_position_embeddings=length)
        if hasattr(transformer, "text_projection"):
            self.config.projection_dim = transformer.text_projection.weight.shape[0]

    @property
    def device(self):
        return self.get_input_embeddings().weight.device

    def get_input_embeddings(self):
        return self.encoder.transformer.get_input_embeddings()

    def forward(self, ids, output_hidden_states=False):
        self._ready()
        states, pooled = self.encoder(ids.tolist())[:2]
        # ComfyUI has chosen the layer already, which diffusers takes to be the last but one.
        return Encoded(states if self.last else pooled, hidden_states=(states, None))


class Encoded(tuple):
    """What a text encoder answers: its first value is the one that diffusers takes first."""

    def __new__(cls, first, hidden_states):
        made = super().__new__(cls, (first,))
        made.hidden_states = hidden_states
        return made


class Network(nn.Module):
    """The network of a MODEL, called as a UNet of diffusers is."""

    def __init__(self, model, sample_size=None):
        super().__init__()
        self.model = model.model
        config = self.model.model_config.unet_config
        if "model_channels" not in config or "context_dim" not in config:
            raise ModelError(f"this MODEL is a {type(self.model).__name__}: people are learnt with SD 1, SD 2 and SDXL")
        self.dtype = self.model.manual_cast_dtype or self.model.get_dtype()
        self.config = SimpleNamespace(
            in_channels=config["in_channels"],
            sample_size=sample_size or (128 if self.model.adm_channels else 64),
            block_out_channels=(config["model_channels"],),
        )

    def forward(self, noisy, t, encoder_hidden_states, added_cond_kwargs=None):
        y = None
        if added_cond_kwargs:
            sizes = self.model.embedder(added_cond_kwargs["time_ids"].flatten()).reshape(len(noisy), -1)
            y = torch.cat([added_cond_kwargs["text_embeds"], sizes.to(noisy)], dim=-1)
        options = {"optimized_attention_override": _attention}
        made = self.model.diffusion_model(noisy, t, context=encoder_hidden_states, y=y, transformer_options=options)
        return SimpleNamespace(sample=made)


def _attention(_, *args, **options):
    """PyTorch's own attention: ComfyUI's for small memory has no gradients."""
    from comfy.ldm.modules.attention import attention_pytorch

    return attention_pytorch(*args, **options)


class Latents:
    """A VAE and the scale that a model wants its latents in; it encodes only."""

    device, dtype = torch.device("cpu"), torch.float32  # ComfyUI moves and rounds by itself
    config = SimpleNamespace(scaling_factor=1.0)

    def __init__(self, vae, model):
        self.vae, self.model = vae, model

    def encode(self, pictures):
        encoded = self.vae.encode((pictures / 2 + 0.5).movedim(1, -1))
        return SimpleNamespace(latents=self.model.process_latent_in(encoded))


def _scheduler(model):
    """The noise that a MODEL was trained with, exactly as ComfyUI samples it."""
    from comfy.model_sampling import CONST, EDM, EPS, V_PREDICTION

    sampling = model.get_model_object("model_sampling")
    kind = "v_prediction" if isinstance(sampling, V_PREDICTION) else "epsilon"
    if isinstance(sampling, CONST | EDM) or not isinstance(sampling, EPS) or not hasattr(sampling, "sigmas"):
        raise ModelError("this MODEL predicts neither noise nor velocity under a schedule of betas")
    kept = 1 / (sampling.sigmas.double().cpu() ** 2 + 1)
    betas = 1 - kept / torch.cat([torch.ones(1, dtype=kept.dtype), kept[:-1]])
    return DDPMScheduler(len(betas), trained_betas=betas.tolist(), prediction_type=kind)


@contextmanager
def trainable(model, clip, vae):
    """A pipeline with gradients, inside the block; ComfyUI's own model stays as it is.

    ComfyUI loads weights in inference mode, through which no gradient goes, so copies are used: with LoRAs and other
    patches applied, and moved to the GPU by ComfyUI itself.
    """
    import comfy.model_management

    with torch.inference_mode(False), torch.enable_grad(), ExitStack() as undo:
        ComfyPipeline(clip, model, vae)  # refuses what cannot be learnt with, before anything large is copied
        network, encoder = _copied(model), _copied(clip.patcher)
        own = clip.clone()
        own.patcher, own.cond_stage_model = encoder, encoder.model
        for patcher in (network, encoder):
            patcher.model.requires_grad_(False)
        # ComfyUI has copied by a loader that is gone, and would collect garbage for its sake at every use of the copy.
        loaded = comfy.model_management.current_loaded_models
        loaded[:] = [each for each in loaded if not each.is_dead()]
        load = comfy.model_management.load_models_gpu
        load([network, encoder], memory_required=1e20, force_full_load=True)  # nothing else stays on the GPU
        for part in (network.model, encoder.model):
            for module in part.modules():
                # Some layers add to their input in place after it was normalised: the gradient needs it as it was.
                if isinstance(module, nn.LayerNorm):
                    hook = module.register_forward_pre_hook(lambda _, args: (args[0].clone(), *args[1:]))
                    undo.callback(hook.remove)
        # A VAE that encodes a training picture in between may have pushed them out.
        yield ComfyPipeline(own, network, vae, ready=lambda: load([network, encoder], force_full_load=True))


def _copied(patcher):
    """A patcher of a copy of its model."""
    # ComfyUI copies by loading the files again, which a custom loader may not have said how to do.
    loads_again = getattr(patcher, "cached_patcher_init", None)
    if loads_again and "force_deepcopy" in inspect.signature(patcher.clone).parameters:
        return patcher.clone(force_deepcopy=True)
    copied = patcher.clone()
    # The model refers to the patcher that loaded it, which would be copied too, and to a configuration that cannot be.
    shared = {id(getattr(patcher.model, "current_patcher", None)): None}
    if config := getattr(patcher.model, "model_config", None):
        shared[id(config)] = config
    copied.model = copy.deepcopy(patcher.model, shared)
    return copied

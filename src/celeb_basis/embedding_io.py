"""Embeddings of other programs: the layouts that are in use, read without running any code in a file."""

from __future__ import annotations

import logging
import re
import warnings
import zipfile
from collections.abc import Container, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import ParameterDict

from .backend.families import UNSUPPORTED_KEYS, known_embedding_keys
from .backend.pipeline import IN_TURN, model_name, weight_storage
from .backend.text_encoders import check_placeholder, embedding_dims, pooling_at_highest, text_encoders
from .errors import IdentityError, ModelError
from .io import check_regular, load_safetensors
from .limits import MAX_PICKLE_BYTES, MAX_VECTOR_DIM, MAX_VECTORS
from .notation import PLACEHOLDER, slugify

logger = logging.getLogger(__name__)

PICKLES = (".pt", ".bin")
# Of several text encoders, in the order in which their vectors are concatenated.
JOINT_KEYS = [keys for keys in known_embedding_keys() if len(keys) > 1]
# Keys that say nothing about the token; any other single key is the token, as diffusers writes it.
NAMELESS_KEYS = {"*", *(key for keys in known_embedding_keys() for key in keys)}
BUNDLED = re.compile(r"bundle_emb\.(?P<name>.+?)\.(?P<key>string_to_param\.\*|clip_l|clip_g)")


@dataclass(frozen=True, eq=False)
class Embedding:
    """What a file holds: vectors (n, dim) for each text encoder, its metadata, and the token if the file names one."""

    parts: tuple[Tensor, ...]
    metadata: Mapping[str, str]
    token: str | None = None


def read_embedding(path: Path, name: str | None = None) -> Embedding:
    """Read a textual-inversion embedding of any program (.safetensors, .pt, .bin).

    Understood: one tensor under any key, those of a model with several text encoders, AUTOMATIC1111's
    string_to_param, and embeddings bundled in a LoRA file, of which `name` chooses one. A tensor (dim,) is one vector.

    Raises IdentityError for anything else, with what the file holds.
    """
    if path.suffix.lower() in PICKLES:
        tensors, metadata = _read_pickle(path), dict[str, str]()
    else:
        tensors, metadata = load_safetensors(path, IdentityError)
    bundled = None
    if any(key.startswith("bundle_emb.") for key in tensors):
        bundled, tensors = _bundled(path, tensors, name)
    _refuse(path, tensors)
    keys = next((keys for keys in JOINT_KEYS if set(keys) == set(tensors)), tuple(tensors))
    for key in keys:
        tensor = tensors[key]
        if tensor.is_nested or not tensor.is_floating_point() or tensor.is_meta or tensor.layout != torch.strided:
            raise IdentityError(f"{path} is not an identity: its vectors are {tensor.dtype}, {tensor.layout}")
        if tensor.shape[-1:] > (MAX_VECTOR_DIM,) or tensor.numel() > MAX_VECTORS * MAX_VECTOR_DIM:
            raise IdentityError(f"{path} is not an identity: its vectors are {tuple(tensor.shape)}")
    parts = tuple(torch.atleast_2d(tensors[key].float().contiguous()) for key in keys)
    whole = len(parts) == 1 or keys in JOINT_KEYS
    if not whole or any(part.ndim != 2 or not len(part) for part in parts) or len({len(part) for part in parts}) > 1:
        shapes = ", ".join(f"{key} {tuple(t.shape)}" for key, t in list(tensors.items())[:8]) or "nothing"
        raise IdentityError(
            f"{path} is not an identity of two vectors, and no other program's embedding: it holds {shapes}"
        )
    named = bundled or (keys[0] if len(keys) == 1 and keys[0] not in NAMELESS_KEYS else None)
    return Embedding(parts, metadata, named and (named if PLACEHOLDER.fullmatch(named) else f"<{slugify(named)}>"))


def _refuse(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Raise IdentityError for vectors that do not stand before a text encoder of a supported family."""
    if any(key.endswith("_out") for key in tensors):
        raise IdentityError(
            f"{path} holds output embeddings ({', '.join(tensors)}), which stand behind the text encoder: "
            "save it again without them"
        )
    for key, family in UNSUPPORTED_KEYS.items():
        if key in tensors:
            raise IdentityError(f"{path} was made for {family} (it holds {key}), which is not supported")


def _bundled(path: Path, tensors: Mapping[str, Tensor], name: str | None) -> tuple[str, dict[str, Tensor]]:
    """Return one of the embeddings in a LoRA file, with its name."""
    found: dict[str, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        if match := BUNDLED.fullmatch(key):
            found.setdefault(match["name"], {})[match["key"]] = tensor
    wanted = [own for own in found if name is None or f"<{slugify(own)}>" == name]
    if len(wanted) != 1 and len(found) != 1:
        raise IdentityError(
            f"{path} bundles {len(found)} embeddings: load one with placeholder_token= "
            + " or ".join(f"<{slugify(own)}>" for own in found)
        )
    chosen = wanted[0] if wanted else next(iter(found))
    if rest := sum(not key.startswith("bundle_emb.") for key in tensors):
        logger.info(f"{path}: only the embedding is read, not the {rest} tensors of the LoRA around it")
    return chosen, found[chosen]


def _read_pickle(path: Path) -> dict[str, Tensor]:
    """Read the tensors of a pickle, of which only tensors and containers of tensors are unpickled."""
    check_regular(path, IdentityError, MAX_PICKLE_BYTES)
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as parts:
                if sum(part.file_size for part in parts.infolist()) > 2 * MAX_PICKLE_BYTES:
                    raise IdentityError(f"{path} unpacks to more than an embedding can hold")
        # PyTorch warns of unusual pickles that it refuses a line later.
        with torch.serialization.safe_globals([ParameterDict]), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            content = torch.load(path, map_location="cpu", weights_only=True)
    except IdentityError:
        raise
    except Exception as error:  # a foreign pickle can fail in any way
        raise IdentityError(f"{path} is not an embedding that can be read without running code in it") from error
    content = content.get("string_to_param", content) if isinstance(content, dict) else content
    if isinstance(content, ParameterDict):
        content = _parameters(content)
    content = content if isinstance(content, dict) else {"*": content}
    return {str(key): t.detach() for key, t in content.items() if isinstance(t, Tensor)}


def _parameters(content: ParameterDict) -> dict[str, Any]:
    """Return what is in a ParameterDict, whose own methods do not find what PyTorch 1 put in it."""
    inside = {**vars(content).get("_parameters", {}), **vars(content)}
    return {key: value for key, value in inside.items() if isinstance(value, Tensor)}


def load_token(pipe: Any, token: str, vectors: Tensor) -> None:
    """Let `token` mean vectors (n, dim) in every prompt of a pipeline of diffusers, until `unload_token`.

    Each text encoder gets its own part, and pooling is mended where the configuration says eos_token_id 2: diffusers
    alone would pool such a model's prompts at the token.

    Raises ModelError for a pipeline that takes no tokens or whose table is elsewhere, PromptError for a token that
    has a meaning already.
    """
    if not hasattr(pipe, "load_textual_inversion"):
        raise ModelError(f"{model_name(pipe)} is a {type(pipe).__name__}, which takes no embeddings: use generate")
    check_placeholder(pipe, token, len(vectors))
    encoders, parts = text_encoders(pipe), vectors.split(embedding_dims(pipe), dim=-1)
    storage = set().union(*(weight_storage(encoder) for _, _, encoder in encoders))
    if elsewhere := storage - {IN_TURN}:
        raise ModelError(
            f"the text encoder's table is not at hand ({', '.join(elsewhere)}): load {token} before that is switched "
            "on, or use generate"
        )
    device = pipe._execution_device
    if storage:  # diffusers would switch it on again for the device where the weights rest
        pipe.remove_all_hooks()
    for (_, tokenizer, encoder), part in zip(encoders, parts, strict=True):
        pipe.load_textual_inversion(part.contiguous(), token=token, tokenizer=tokenizer, text_encoder=encoder)
        for module in pooling_at_highest(encoder):
            module.eos_token_id = tokenizer.eos_token_id
    if storage:
        pipe.enable_model_cpu_offload(device=device)


def unload_token(pipe: Any, token: str) -> None:
    """Take a token out again; without any, the pipeline is as it was loaded, less rows of a table that no token had.

    Raises IdentityError where the token is not in the pipeline.
    """
    if not all(token in tokenizer.get_vocab() for _, tokenizer, _ in text_encoders(pipe)):
        raise IdentityError(f"{token} is not loaded in {model_name(pipe)}")
    for _, tokenizer, encoder in text_encoders(pipe):
        added = tokenizer.get_added_vocab()
        parts = [token]
        while (following := f"{token}_{len(parts)}") in added:
            parts.append(following)
        before = encoder.get_input_embeddings()
        pipe.unload_textual_inversion(parts, tokenizer=tokenizer, text_encoder=encoder)
        # diffusers makes a new table, which asks for gradients and forgets its settings.
        table = encoder.get_input_embeddings()
        table.weight.requires_grad_(before.weight.requires_grad)
        table.train(before.training)
        if len(tokenizer) == tokenizer.vocab_size:
            for module in encoder.modules():
                if hasattr(module, "eos_token_id"):
                    module.eos_token_id = encoder.config.eos_token_id


# Endings that make a new word of one that a vocabulary knows.
ENDINGS = ("elle", "vik", "owyn", "ulka", "ijo", "exa", "ozzi")


def in_prompts(file: str | Path, token: str) -> dict[str, str]:
    """Return what to write in a prompt of each program for an identity file: `{program: text}`.

    token: what names the person in celeb-basis; the others go by the name of the file.
    """
    stem = Path(file).stem
    return {
        "celeb-basis": token,
        "diffusers": f'{token} after Identity.load("{file}").load_into(pipe)',
        "AUTOMATIC1111, Forge": stem,
        "ComfyUI": f"embedding:{stem}",
        "SD.Next": stem,
        "InvokeAI": f"<{stem}>",
    }


def name_problems(name: str, vocabulary: Container[str] = ()) -> list[str]:
    """Return what a file called `name` breaks in other programs, one line each; nothing for a name that works.

    vocabulary: the pieces that the model's tokenizers know.
    """
    problems = []
    if re.search(r"[<>]", name):
        problems.append("AUTOMATIC1111, ComfyUI and InvokeAI do not find a file with < or > in its name")
    elif not re.fullmatch(r"[a-z0-9_-]+", name):
        problems.append("prompts of ComfyUI and InvokeAI tell capitals apart and end a name at other signs")
    elif not re.fullmatch(r"[a-z]+", name):
        problems.append("stable-diffusion.cpp reads names of letters only")
    if name in vocabulary:
        problems.append(
            f"{name} is a piece of the model's vocabulary: SD.Next uses one of its two vectors and writes the person "
            "into words that contain it, sd-scripts refuses it"
        )
    elif f"{name}</w>" in vocabulary:
        problems.append(f"{name} is a word the model knows, which AUTOMATIC1111, Forge and SD.Next replace everywhere")
    return problems


def name_advice(name: str, vocabulary: Container[str] = ()) -> str:
    """Return one line on what a file called `name` breaks, and another name; empty for one that works everywhere."""
    problems = name_problems(name, vocabulary)
    return f"{'; '.join(problems)}: {free_name(name, vocabulary)} works everywhere" if problems else ""


def free_name(name: str, vocabulary: Container[str] = ()) -> str:
    """Return a name like the one wished for that works in every program: letters, and no piece of the vocabulary."""
    letters = re.sub(r"[^a-z]+", "", slugify(name)) or "person"
    for wish in (letters, *(letters + ending for ending in ENDINGS)):
        if not name_problems(wish, vocabulary):
            return wish
    return free_name(letters + ENDINGS[0], vocabulary)

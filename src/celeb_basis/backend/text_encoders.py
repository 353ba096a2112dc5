"""Tokenizers and text encoders: the embedding rows of names, placeholder tokens, encoding.

A model has one text encoder (Stable Diffusion 1 and 2, FLUX.2 klein, Z-Image), two (SDXL, FLUX.1) or three (Stable
Diffusion 3). All functions loop over them, and a vector is the concatenation of those for each text encoder.
"""

from __future__ import annotations

import copy
import hashlib
import logging
import math
import random
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import lru_cache
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from accelerate.utils import align_module_device
from torch import Tensor, nn

from ..errors import IdentityError, PromptError
from ..limits import MAX_NAME_LENGTH, MAX_PROMPT_LENGTH
from ..notation import PLACEHOLDER, check_token, excerpt
from .pipeline import Pipeline, hook, model_name, pipeline_lock, plain, signs, uncompile

logger = logging.getLogger(__name__)

SUFFIXES = ("", "_2", "_3")  # of a pipeline's text_encoder and tokenizer
MARKED = 256  # words of a vocabulary whose rows are compared
MOST_DIFFERING = 0.25  # of them, between a model and a fine-tune of it
TOKENS = 2  # a name is a first and a last token
POOL_AT_HIGHEST_ID = 2  # the eos_token_id with which transformers pools at the highest id of a prompt
# How vocabularies write a whole word: CLIP with an end, language models with the space before it.
WHOLE_WORD = re.compile("([a-z]{3,})</w>|[\u0120\u2581]([A-Za-z]{3,})")

_fingerprints: WeakKeyDictionary[nn.Module, tuple[Any, str]] = WeakKeyDictionary()
_extended: WeakKeyDictionary[Any, tuple[Any, Any]] = WeakKeyDictionary()


def text_encoders(pipe: Pipeline) -> list[tuple[str, Any, Any]]:
    """Return for each text encoder: the suffix of the pipeline's attributes, the tokenizer, the encoder."""
    found = [(s, getattr(pipe, f"tokenizer{s}", None), getattr(pipe, f"text_encoder{s}", None)) for s in SUFFIXES]
    return [(s, tokenizer, plain(encoder)) for s, tokenizer, encoder in found if encoder is not None]


@contextmanager
def embedding_table(encoder: Any) -> Iterator[Tensor]:
    """Yield a text encoder's embedding table, from wherever the weights are while they are not needed."""
    embedding = encoder.get_input_embeddings()
    with align_module_device(embedding):
        yield embedding.weight.detach()


def embedding_dims(pipe: Pipeline) -> tuple[int, ...]:
    """Return the width of each text encoder's input embeddings: (768,) for SD 1, (768, 1280) for SDXL."""
    return tuple(encoder.get_input_embeddings().weight.shape[1] for _, _, encoder in text_encoders(pipe))


def name_rows(pipe: Pipeline, names: Sequence[str]) -> tuple[Tensor, list[str]]:
    """Look up the embedding rows of the names that can be used; `unusable_names` says why others cannot.

    Returns rows (n, 2, dim), float32 on the CPU, dim concatenated over text encoders, and the n names.
    """
    kept, _ = _sorted_names(pipe, names)
    index = torch.tensor(list(kept), dtype=torch.long).reshape(len(kept), len(text_encoders(pipe)), TOKENS)
    rows = []
    for i, (_, _, encoder) in enumerate(text_encoders(pipe)):
        with embedding_table(encoder) as table:
            rows.append(table[index[:, i].to(table.device)].float().cpu())
    return torch.cat(rows, dim=-1), list(kept.values())


def first_and_second_rows(pipe: Pipeline, names: Sequence[str]) -> tuple[list[Tensor], list[str]]:
    """Look up the embedding rows of the first token of every name, and of the second of every name that has one.

    Returns rows (n1, dim) and (n2, dim), float32 on the CPU, dim concatenated over text encoders, and the n1 names.
    Names with a token that the model does not know are left out.
    """
    names = [name for name in dict.fromkeys(names) if len(name) <= MAX_NAME_LENGTH]
    parts = text_encoders(pipe)
    with pipeline_lock(pipe):
        ids = [_name_ids(tokenizer, names) for _, tokenizer, _ in parts]
    unknown = [tokenizer.unk_token_id for _, tokenizer, _ in parts]
    kept = [
        i
        for i, pieces in enumerate(zip(*ids, strict=True))
        if all(piece and unk not in piece for piece, unk in zip(pieces, unknown, strict=True))
    ]
    rows = []
    for position in range(TOKENS):
        those = [i for i in kept if all(len(own[i]) > position for own in ids)]
        found = []
        for own, (_, _, encoder) in zip(ids, parts, strict=True):
            with embedding_table(encoder) as table:
                index = torch.tensor([own[i][position] for i in those], dtype=torch.long)
                found.append(table[index.to(table.device)].float().cpu())
        rows.append(torch.cat(found, dim=-1))
    return rows, [names[i] for i in kept]


def word_rows(pipe: Pipeline, word: str) -> Tensor:
    """Look up the embedding row (1, dim) of a word in a sentence, float32 on the CPU, over all text encoders.

    Raises IdentityError for a word that is not one token in each of them.
    """
    rows = []
    for _, tokenizer, encoder in text_encoders(pipe):
        [ids] = _name_ids(tokenizer, [word])
        if len(ids) != 1 or ids[0] == tokenizer.unk_token_id:
            raise IdentityError(
                f"{excerpt(word)} is not one token of this model: start from another word", argument="initializer_token"
            )
        with embedding_table(encoder) as table:
            rows.append(table[ids[0]].float().cpu())
    return torch.cat(rows)[None]


def unusable_names(pipe: Pipeline, names: Sequence[str]) -> dict[str, str]:
    """Return the names that are not two known tokens of their own in every tokenizer: `{name: why}`."""
    return _sorted_names(pipe, names)[1]


def nonsense_names(pipe: Pipeline, names: Sequence[str], count: int) -> list[str]:
    """Make up `count` usable names, always the same, of words in the vocabulary that are in none of the names."""
    tokenizer = text_encoders(pipe)[0][1]
    taken = {i for ids in _name_ids(tokenizer, names) for i in ids}
    pieces = ((WHOLE_WORD.fullmatch(piece), i) for piece, i in tokenizer.get_vocab().items() if i not in taken)
    words = sorted(word[1] or word[2] for word, _ in pieces if word)
    chance = random.Random(0)
    made = [" ".join(chance.choices(words, k=TOKENS)) for _ in range(4 * count)] if words else []
    return list(_sorted_names(pipe, made)[0].values())[:count]


def _name_ids(tokenizer: Any, names: Sequence[str]) -> list[list[int]]:
    """Return the tokens of names inside a sentence, which in some vocabularies are not those at its beginning."""
    found: list[list[int]] = (
        tokenizer([f" {name}" for name in names], add_special_tokens=False).input_ids if names else []
    )
    return found


def _sorted_names(
    pipe: Pipeline, names: Sequence[str]
) -> tuple[dict[tuple[tuple[int, ...], ...], str], dict[str, str]]:
    """Return the usable names by their tokens in every tokenizer, and why each other name is unusable."""
    kept: dict[tuple[tuple[int, ...], ...], str] = {}
    dropped = {name: "too long" for name in names if len(name) > MAX_NAME_LENGTH}
    names = [name for name in dict.fromkeys(names) if name not in dropped]
    with pipeline_lock(pipe):
        tokenizers = [tokenizer for _, tokenizer, _ in text_encoders(pipe)]
        ids = [_name_ids(tokenizer, names) for tokenizer in tokenizers]
    for name, *pieces in zip(names, *ids, strict=True):
        tokens = tuple(map(tuple, pieces))
        wrong = next((len(piece) for piece in pieces if len(piece) != TOKENS), TOKENS)
        if wrong != TOKENS:
            dropped[name] = "1 token" if wrong == 1 else f"{wrong} tokens"
        elif any(tokenizer.unk_token_id in piece for tokenizer, piece in zip(tokenizers, pieces, strict=True)):
            dropped[name] = "a token the model does not know"
        elif kept.setdefault(tokens, name) != name:
            dropped[name] = f"the tokens of {kept[tokens]}"
    return kept, dropped


def fingerprint(pipe: Pipeline) -> str:
    """Return a hash of the text encoders: the same for one model in any precision, another for any other.

    Hashed are each tokenizer's vocabulary and the signs of its rows in the embedding table. Signs survive rounding to
    half precision, and training changes some of them.
    """
    digest = hashlib.sha256()
    for _, tokenizer, encoder in text_encoders(pipe):
        with embedding_table(encoder) as table:
            version = 0 if table.is_inference() else table._version  # inference tensors do not count their changes
            key = (table.data_ptr(), version, tuple(table.shape), table.dtype, tokenizer.vocab_size)
            if encoder not in _fingerprints or _fingerprints[encoder][0] != key:
                _fingerprints[encoder] = key, _hash_table(tokenizer, table)
        digest.update(_fingerprints[encoder][1].encode())
    return digest.hexdigest()


def _hash_table(tokenizer: Any, table: Tensor) -> str:
    """Return a hash of a tokenizer's vocabulary and of the signs of its rows in an embedding table."""
    size = tokenizer.vocab_size  # rows of tokens that were added later are not the model's own
    words = sorted((i, word) for word, i in tokenizer.get_vocab().items() if i < size)
    digest = hashlib.sha256(repr((table[:size].shape, words)).encode())
    for rows in table[:size].split(2**14):  # a language model's table is large
        digest.update(signs(rows).tobytes())
    return digest.hexdigest()


def word_marks(pipe: Pipeline) -> str:
    """Return a byte, in hexadecimal, of the row of each of up to MARKED words of each text encoder's vocabulary.

    A fine-tune that changed some rows of the table has nearly all of them in common with the model it came from, and
    another fingerprint. Another model has one in 256.
    """
    marks = []
    for _, tokenizer, encoder in text_encoders(pipe):
        known = ((WHOLE_WORD.fullmatch(piece), i) for piece, i in tokenizer.get_vocab().items())
        words = sorted((word[0], i) for word, i in known if word and i < tokenizer.vocab_size)
        count = min(MARKED, len(words))
        chosen = torch.tensor([words[k * len(words) // count][1] for k in range(count)], dtype=torch.long)
        with embedding_table(encoder) as table:
            rows = signs(table[chosen.to(table.device)])
        marks += [hashlib.sha256(np.packbits(row).tobytes()).hexdigest()[:2] for row in rows]
    return "".join(marks)


def same_model(made_for: tuple[str, str], own: tuple[str, str], what: str, model: str) -> bool:
    """Return whether text encoders are those that something was made for, or all but a few of their rows are.

    made_for, own: the fingerprint and the word marks of each; what, model: their names, for the log, which says how
    many words differ.
    """
    if made_for[0] == own[0]:
        return True
    pairs = [(made_for[1][i : i + 2], own[1][i : i + 2]) for i in range(0, len(own[1]), 2)]
    differing = sum(one != other for one, other in pairs)
    if len(made_for[1]) != len(own[1]) or not pairs or differing > MOST_DIFFERING * len(pairs):
        return False
    _tell_difference(what, model, differing, len(pairs))
    return True


def is_made_for(pipe: Pipeline, made_for: tuple[str, str], what: str) -> bool:
    """Return whether something was made for a pipeline's text encoders, or for nearly those; see `same_model`."""
    own = fingerprint(pipe)
    return own == made_for[0] or same_model(made_for, (own, word_marks(pipe)), what, model_name(pipe))


@lru_cache(maxsize=100)  # once, not for each picture
def _tell_difference(what: str, model: str, differing: int, words: int) -> None:
    logger.warning(
        f"{what} was made for another model, whose text encoder differs from that of {excerpt(model)} in "
        f"{differing or 'none'} of {words} words compared: likeness may suffer"
    )


def check_placeholder(pipe: Pipeline, token: str, count: int = TOKENS) -> None:
    """Raise PromptError unless `token` can stand for `count` vectors in this model."""
    check_token(token)
    for part in _parts(token, count):
        if knows(pipe, part):
            raise PromptError(f"{part} already has a meaning in this model: choose another placeholder token")


def knows(pipe: Pipeline, token: str) -> bool:
    """Return whether `token` is in the vocabulary of a tokenizer, or was added to it."""
    with pipeline_lock(pipe):
        return any(t.convert_tokens_to_ids(token) not in (None, t.unk_token_id) for _, t, _ in text_encoders(pipe))


def vocabulary(pipe: Pipeline) -> frozenset[str]:
    """Return the tokens that any of the pipeline's tokenizers knows."""
    return frozenset(piece for _, tokenizer, _ in text_encoders(pipe) for piece in tokenizer.get_vocab())


def _parts(token: str, count: int) -> list[str]:
    """Return the tokens as which diffusers writes out a token of `count` vectors."""
    return [token, *(f"{token}_{i}" for i in range(1, count))]


@contextmanager
def placeholders(pipe: Pipeline, vectors: Mapping[str, Tensor]) -> Iterator[None]:
    """Let each token mean its vectors (n, dim) in every prompt inside the block: two for a person, or any number.

    The tokenizers are exchanged for extended copies, and hooks replace the rows that the embedding returns for a
    placeholder. So no weight and no vocabulary is changed, gradients flow to the vectors, and afterwards everything is
    as before, even on exceptions and Ctrl-C. Blocks may be nested; other threads wait.

    Raises PromptError for a token that cannot be a placeholder or vectors of another shape.
    """
    width = sum(embedding_dims(pipe))
    with pipeline_lock(pipe), ExitStack() as undo:
        for token, rows in vectors.items():
            check_token(token)
            if rows.ndim != 2 or not len(rows) or rows.shape[1] != width:
                raise PromptError(f"{token}: vectors of shape {tuple(rows.shape)}, this model needs (n, {width})")
            check_placeholder(pipe, token, len(rows))
        parts = [part for token, rows in vectors.items() for part in _parts(token, len(rows))]
        values = torch.cat(list(vectors.values())) if vectors else torch.empty(0, width)
        for (suffix, tokenizer, encoder), value in zip(
            text_encoders(pipe), values.split(embedding_dims(pipe), dim=-1), strict=True
        ):
            uncompile(undo, pipe, f"text_encoder{suffix}")
            extended = _extend(tokenizer, parts, lstrip=not hasattr(pipe, "maybe_convert_prompt"))
            undo.callback(setattr, pipe, f"tokenizer{suffix}", tokenizer)
            setattr(pipe, f"tokenizer{suffix}", extended)
            ids = extended.convert_tokens_to_ids(parts)
            for embedding in _look_ups(encoder):
                _replace_rows(undo, embedding, ids, value)
            for module in pooling_at_highest(encoder):
                undo.callback(setattr, module, "eos_token_id", POOL_AT_HIGHEST_ID)
                module.eos_token_id = extended.eos_token_id
        yield


def pooling_at_highest(encoder: nn.Module) -> list[Any]:
    """Return the modules that pool at the highest token id, as old configurations ask for: that of a placeholder."""
    return [module for module in encoder.modules() if getattr(module, "eos_token_id", None) == POOL_AT_HIGHEST_ID]


def _look_ups(encoder: Any) -> list[nn.Module]:
    """Return the modules that look up rows of a text encoder's table: T5 has two, which usually share it."""
    table = encoder.get_input_embeddings()
    others = [module for module in encoder.modules() if isinstance(module, nn.Embedding) and module is not table]
    return [table, *(module for module in others if module.weight.shape == table.weight.shape)]


def _extend(tokenizer: Any, parts: Sequence[str], *, lstrip: bool) -> Any:
    """Return a copy of the tokenizer that knows `parts`; the last copy is kept, as one of CLIP's takes 0.4 s.

    lstrip: whether a part includes the space before it, as words in a language model's vocabulary do; not where
    diffusers itself writes tokens out, which joins the parts with spaces.
    """
    from transformers import AddedToken

    key = (len(tokenizer), tokenizer.model_max_length, tuple(parts))
    known, extended = _extended.get(tokenizer, (None, None))
    if known != key or len(extended) != len(tokenizer) + len(parts):
        extended = copy.deepcopy(tokenizer)
        extended.add_tokens([AddedToken(part, lstrip=lstrip) for part in parts])
        _extended[tokenizer] = key, extended
    return extended


def _replace_rows(undo: ExitStack, embedding: nn.Module, ids: Sequence[int], values: Tensor) -> None:
    """Let an embedding return `values[i]` for `ids[i]`, which may lie outside its table, until `undo` is closed."""
    hidden: list[Tensor] = []  # placeholder positions of the call in progress

    def hide(_: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        which = (args[0][..., None] == torch.tensor(ids, device=args[0].device)).int()  # (..., len(ids))
        hidden.append(torch.where(which.any(-1), which.argmax(-1), -1))
        return (args[0].masked_fill(hidden[-1] >= 0, 0), *args[1:])

    def fill(_: nn.Module, args: tuple[Tensor, ...], rows: Tensor) -> Tensor:
        index = hidden.pop()
        return torch.where((index >= 0)[..., None], values.to(rows)[index.clamp(min=0)], rows)

    if ids:
        hook(undo, embedding.register_forward_pre_hook, hide)
        hook(undo, embedding.register_forward_hook, fill)


def expanded(pipe: Pipeline, prompts: Sequence[str]) -> list[str]:
    """Write out placeholder tokens as their parts, where the pipeline does not do so itself."""
    if hasattr(pipe, "maybe_convert_prompt"):
        return list(prompts)
    added = text_encoders(pipe)[0][1].get_added_vocab()

    def all_parts(found: re.Match[str]) -> str:
        parts = [found[0]]
        while (following := f"{found[0]}_{len(parts)}") in added:
            parts.append(following)
        return " ".join(parts)

    return [PLACEHOLDER.sub(all_parts, prompt) for prompt in prompts]


def check_lengths(
    pipe: Pipeline, prompts: Sequence[str], limit: float = math.inf, templated: Callable[[str], str] = str
) -> None:
    """Raise PromptError for a prompt that is too long for every text encoder: diffusers would cut it short.

    limit: the number of tokens that the pipeline gives its text encoders, if they take more.
    templated: returns the text that the pipeline makes of a prompt before it is tokenised.
    """
    for prompt in prompts:
        check_text(prompt)
    rows = []
    for _, tokenizer, encoder in text_encoders(pipe):
        own = min(limit, text_length(tokenizer, encoder))
        rows.append(
            [(len(ids), own) for ids in tokenizer([templated(p) for p in _written(pipe, tokenizer, prompts)]).input_ids]
        )
    for prompt, *read in zip(prompts, *rows, strict=True):
        length, most = min(read, key=lambda pair: pair[0] - pair[1])
        if length > most:
            raise PromptError(
                f"the prompt is {length - most:g} tokens too long ({length}, of which this model "
                f"reads {most:g}): shorten {excerpt(prompt)!r}"
            )


def text_length(tokenizer: Any, encoder: Any) -> int:
    """Return how many tokens a text encoder takes."""
    return int(min(tokenizer.model_max_length, getattr(encoder.config, "max_position_embeddings", sys.maxsize)))


def _written(pipe: Pipeline, tokenizer: Any, prompts: Sequence[str]) -> list[str]:
    """Write out every placeholder token of prompts as its parts."""
    if not hasattr(pipe, "maybe_convert_prompt"):
        return expanded(pipe, prompts)
    return [pipe.maybe_convert_prompt(prompt, tokenizer) for prompt in prompts]


def token_ids(pipe: Pipeline, prompts: Sequence[str]) -> tuple[Tensor, ...]:
    """Tokenise prompts as the pipelines of UNets do; return ids (n, length) for each text encoder.

    Raises PromptError for a prompt that does not fit, which diffusers would cut short.
    """
    check_lengths(pipe, prompts)
    result = []
    for _, tokenizer, encoder in text_encoders(pipe):
        written, limit = _written(pipe, tokenizer, prompts), text_length(tokenizer, encoder)
        padded = tokenizer(written, padding="max_length", max_length=limit, return_tensors="pt")
        result.append(padded.input_ids.to(encoder.device))
    return tuple(result)


def check_text(prompt: str) -> None:
    """Raise PromptError for a prompt that no tokenizer can read, or only in minutes."""
    if not isinstance(prompt, str):
        raise PromptError(f"a prompt must be text, not {type(prompt).__name__}")
    if len(prompt) > MAX_PROMPT_LENGTH:
        raise PromptError(f"the prompt is {len(prompt)} letters long, of which no model reads a tenth: shorten it")
    if any("\ud800" <= letter <= "\udfff" for letter in prompt):
        raise PromptError(f"the prompt {excerpt(prompt)!r} is not UTF-8 text: write it again")


def encode(pipe: Pipeline, ids: Sequence[Tensor]) -> tuple[Tensor, Tensor | None]:
    """Encode token ids as `pipe.encode_prompt` of a UNet's pipeline does.

    Returns states (n, length, width) and, for SDXL, pooled (n, width), else None.
    """
    encoders: list[Callable[..., Any]] = [encoder for _, _, encoder in text_encoders(pipe)]
    if len(encoders) == 1 and not hasattr(pipe, "text_encoder_2"):
        return encoders[0](ids[0])[0], None
    outputs = [encoder(i, output_hidden_states=True) for encoder, i in zip(encoders, ids, strict=True)]
    return torch.cat([output.hidden_states[-2] for output in outputs], dim=-1), outputs[-1][0]


def encoder_outputs(pipe: Pipeline, template: str, vectors: Tensor) -> Tensor:
    """Return the text encoders' last states at the two tokens of each name in a prompt, (people, 2, dim), on the CPU.

    vectors: of the names, (people, 2, dim), to which gradients flow.
    """
    tokens = [f"<somebody-{i}>" for i in range(len(vectors))]
    with placeholders(pipe, dict(zip(tokens, vectors, strict=True))):
        states = []
        for _, tokenizer, encoder in text_encoders(pipe):
            written = _written(pipe, tokenizer, [template.replace("{}", token) for token in tokens])
            rows = tokenizer(written, return_tensors="pt").input_ids.to(encoder.device)
            own = [tokenizer.convert_tokens_to_ids(_parts(token, TOKENS)) for token in tokens]
            at = (rows[:, None] == torch.tensor(own).to(rows)[:, :, None]).int().argmax(-1)
            # Without the head that predicts the next word, where there is one.
            hidden = encoder.base_model(rows).last_hidden_state
            states.append(hidden[torch.arange(len(rows))[:, None], at].float().cpu())
    return torch.cat(states, dim=-1)

import copy

import pytest
import torch
from conftest import NAMES, make_pipeline, state_of

from celeb_basis.backend.text_encoders import (
    embedding_dims,
    encode,
    fingerprint,
    name_rows,
    nonsense_names,
    placeholders,
    token_ids,
    unusable_names,
)
from celeb_basis.errors import PromptError

PROMPT = "a photo of <ada> and <bo-2> on the beach"


def encode_prompt(pipe, prompt):
    return [
        t
        for t in pipe.encode_prompt(prompt, device="cpu", num_images_per_prompt=1, do_classifier_free_guidance=False)
        if t is not None
    ]


def some_vectors(pipe, seed=0):
    g = torch.Generator().manual_seed(seed)
    return {token: torch.randn(2, sum(embedding_dims(pipe)), generator=g) for token in ("<ada>", "<bo-2>")}


def load_as_stock(pipe, vectors):
    """What other people's code does with the same vectors."""
    for token, rows in vectors.items():
        parts = rows.split(embedding_dims(pipe), dim=-1)
        pipe.load_textual_inversion({"emb_params": parts[0].contiguous()}, token=token)
        if len(parts) == 2:
            pipe.load_textual_inversion(
                {"clip_g": parts[1].contiguous()},
                token=token,
                text_encoder=pipe.text_encoder_2,
                tokenizer=pipe.tokenizer_2,
            )


def test_rows_are_those_of_two_token_names(pipe):
    rows, kept = name_rows(pipe, [*NAMES, "ada", "zog ashwood", "ada ashwood", "Ada Ashwood"])
    assert kept == NAMES
    assert rows.shape == (len(NAMES), 2, sum(embedding_dims(pipe)))
    first, last = pipe.tokenizer("ada ashwood", add_special_tokens=False).input_ids
    table = pipe.text_encoder.get_input_embeddings().weight
    assert torch.equal(rows[0, :, : table.shape[1]], table[[first, last]])
    assert name_rows(pipe, [])[1] == []


def test_fingerprint_knows_the_model_not_its_precision(pipe):
    other = make_pipeline("sd1", seed=1)
    assert fingerprint(other) != fingerprint(pipe)
    before = fingerprint(other)
    assert fingerprint(other.to(dtype=torch.float16)) == before
    assert fingerprint(other.to(dtype=torch.bfloat16)) == before
    load_as_stock(other, some_vectors(other))
    assert fingerprint(other) == before, "tokens that somebody added are not the model"
    with torch.no_grad():
        other.text_encoder.get_input_embeddings().weight[7] *= -1
    assert fingerprint(other) != before


def test_own_encoding_is_the_pipelines(pipe):
    with placeholders(pipe, some_vectors(pipe)), torch.no_grad():
        states, pooled = encode(pipe, token_ids(pipe, [PROMPT]))
        expected = encode_prompt(pipe, PROMPT)
    assert torch.equal(states, expected[0])
    assert (pooled is None) == (len(expected) == 1)
    assert pooled is None or torch.equal(pooled, expected[1])


@pytest.mark.parametrize("kind", ["sd1", "sd2", "sdxl"])
def test_same_picture_as_stock_textual_inversion(kind):
    pipe = make_pipeline(kind)
    vectors = some_vectors(pipe)

    def draw():
        return pipe(PROMPT, num_inference_steps=2, generator=torch.Generator().manual_seed(3), output_type="np").images

    with placeholders(pipe, vectors):
        ours = draw()
    load_as_stock(pipe, vectors)
    assert (draw() == ours).all()


def test_old_configuration_does_not_pool_at_a_placeholder():
    pipe, right = make_pipeline("sdxl-eos2"), make_pipeline("sdxl")
    vectors = some_vectors(pipe)
    with placeholders(pipe, vectors), torch.no_grad():
        ours = encode_prompt(pipe, PROMPT)
    with placeholders(right, vectors), torch.no_grad():
        expected = encode_prompt(right, PROMPT)
    assert all(torch.equal(a, b) for a, b in zip(ours, expected, strict=True))
    load_as_stock(pipe, vectors)
    with torch.no_grad():
        assert not torch.equal(encode_prompt(pipe, PROMPT)[1], expected[1]), "the trap is gone: simplify"


def test_vectors_of_a_name_are_the_name(pipe):
    rows, _ = name_rows(pipe, NAMES[:1])
    with torch.no_grad():
        expected = encode_prompt(pipe, f"a photo of {NAMES[0]} on the beach")
        with placeholders(pipe, {"<x>": rows[0]}):
            ours = encode_prompt(pipe, "a photo of <x> on the beach")
    assert all(torch.equal(a, b) for a, b in zip(ours, expected, strict=True))


def test_gradients_reach_the_vectors_and_nothing_else(pipe):
    before = state_of(pipe)
    vectors = {token: rows.requires_grad_() for token, rows in some_vectors(pipe).items()}
    with placeholders(pipe, vectors):
        encode_prompt(pipe, PROMPT)[0].square().sum().backward()
    assert all((rows.grad != 0).any(-1).all() for rows in vectors.values())
    assert state_of(pipe) == before


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, None])
def test_everything_is_as_before(pipe, error):
    before = state_of(pipe)
    try:
        with placeholders(pipe, some_vectors(pipe)):
            encode_prompt(pipe, PROMPT)
            if error:
                raise error
    except (ValueError, KeyboardInterrupt):
        pass
    assert state_of(pipe) == before


def test_blocks_nest(pipe):
    vectors = some_vectors(pipe)
    ada, bo = ({token: rows} for token, rows in vectors.items())
    with torch.no_grad():
        with placeholders(pipe, vectors):
            expected = encode_prompt(pipe, PROMPT)
        with placeholders(pipe, bo), placeholders(pipe, ada):
            nested = encode_prompt(pipe, PROMPT)
    assert all(torch.equal(a, b) for a, b in zip(nested, expected, strict=True))


def test_a_known_copy_is_not_reused_after_others_changed_it(pipe):
    vectors = some_vectors(pipe)
    with placeholders(pipe, vectors):
        pipe.tokenizer.add_tokens(["<stray>"])
    with placeholders(pipe, vectors):
        assert "<stray>" not in pipe.tokenizer.get_vocab()


@pytest.mark.parametrize("token", ["ada", "<Ada>", "<a b>", "<>", "<ada", "", "<ada>!"])
def test_tokens_that_other_programs_would_misread_are_refused(pipe, token):
    with (
        pytest.raises(PromptError, match="placeholder token"),
        placeholders(pipe, {token: torch.zeros(2, 2)}),
    ):
        pass


def test_taken_tokens_and_wrong_widths_are_refused(pipe):
    vectors = some_vectors(pipe)
    with (
        placeholders(pipe, vectors),
        pytest.raises(PromptError, match="already"),
        placeholders(pipe, vectors),
    ):
        pass
    with pytest.raises(PromptError, match="shape"), placeholders(pipe, {"<x>": torch.zeros(2, 3)}):
        pass


def test_a_prompt_that_does_not_fit_is_refused(pipe):
    words = "a " * 17 + "<ada>"
    with placeholders(pipe, some_vectors(pipe)):
        with pytest.raises(PromptError, match="1 tokens too long"):
            token_ids(pipe, [words])
        assert token_ids(pipe, [words[2:]])[0].shape == (1, 20)


def test_the_original_tokenizer_can_still_be_copied(pipe):
    with placeholders(pipe, some_vectors(pipe)):
        assert copy.deepcopy(pipe.tokenizer).get_vocab() == pipe.tokenizer.get_vocab()


def test_names_that_cannot_be_used_say_why(pipe):
    names = [*NAMES[:2], "ada", "zog ashwood", NAMES[1].title(), NAMES[0]]
    why = unusable_names(pipe, names)
    assert why.keys() == {"ada", "zog ashwood", NAMES[1].title()}
    assert why["ada"] == "1 token" and why["zog ashwood"] == "4 tokens" and NAMES[1] in why[NAMES[1].title()]
    assert name_rows(pipe, names)[1] == NAMES[:2]


def test_nonsense_is_of_words_no_name_has(pipe):
    names = [name for name in NAMES if not name.startswith("ada")]
    made = nonsense_names(pipe, names, 5)
    assert len(set(made)) == 5 and made == nonsense_names(pipe, names, 5)
    assert unusable_names(pipe, made) == {}
    assert not {word for name in names for word in name.split()} & {word for name in made for word in name.split()}

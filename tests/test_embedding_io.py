"""Files as other programs write them become identities, and files that are something else are refused."""

import io
import pickle
import re
import zipfile

import pytest
import torch
from safetensors.torch import save_file
from torch.nn import Parameter, ParameterDict

from celeb_basis import Identity, IdentityError
from celeb_basis.generate import generate

ROWS = torch.randn(2, 6, generator=torch.Generator().manual_seed(0))
WIDE = torch.randn(2, 8, generator=torch.Generator().manual_seed(1))


def safetensors(path, **tensors):
    save_file({key: t.clone() for key, t in tensors.items()}, path)
    return Identity.load(path)


def test_the_one_key_of_diffusers_is_the_token(tmp_path):
    save_file({"<cat-toy>": ROWS}, tmp_path / "learned_embeds.safetensors")
    found = Identity.load(tmp_path / "learned_embeds.safetensors")
    assert torch.equal(found.vectors, ROWS)
    assert found.placeholder_token == "<cat-toy>"
    save_file({"SKS": ROWS}, tmp_path / "learned_embeds.safetensors")
    assert Identity.load(tmp_path / "learned_embeds.safetensors").placeholder_token == "<sks>"
    assert Identity.load(tmp_path / "learned_embeds.safetensors", "<tovik>").placeholder_token == "<tovik>"


@pytest.mark.parametrize("name", ["cat.pt", "cat.PT", "cat.bin"])
@pytest.mark.parametrize(
    "content",
    [
        {"string_to_token": {"*": 265}, "string_to_param": {"*": ROWS}, "name": "old", "step": 4999},
        {"string_to_param": ParameterDict({"*": Parameter(ROWS)}), "name": "old"},
        {"string_to_param": ROWS},
        {"<cat>": ROWS},
        ROWS,
    ],
    ids=["A1111", "ParameterDict", "bare param", "diffusers", "bare"],
)
def test_pickles(tmp_path, name, content):
    torch.save(content, tmp_path / name)
    found = Identity.load(tmp_path / name)
    assert torch.equal(found.vectors, ROWS)
    assert found.placeholder_token == "<cat>"


def test_a_parameter_dict_of_pytorch_1(tmp_path):
    """Which kept its tensors in _parameters, and no list of keys beside them."""
    old = ParameterDict({"*": Parameter(ROWS)})
    del old.__dict__["_keys"]
    assert "*" in old.__dict__["_parameters"] or "*" in old.__dict__
    torch.save({"string_to_param": old}, tmp_path / "cat.pt")
    assert torch.equal(Identity.load(tmp_path / "cat.pt").vectors, ROWS)


def test_no_code_in_a_pickle_runs(tmp_path):
    torch.save({"run": print}, tmp_path / "evil.pt")
    with pytest.raises(IdentityError, match="without running code"):
        Identity.load(tmp_path / "evil.pt")

    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "broken-in"), "w"))

    torch.save({"string_to_param": {"*": ROWS}}, tmp_path / "evil.pt")
    with zipfile.ZipFile(tmp_path / "evil.pt") as whole:
        parts = {name: whole.read(name) for name in whole.namelist()}
    with zipfile.ZipFile(tmp_path / "evil.pt", "w") as broken:
        for name, content in parts.items():
            broken.writestr(name, pickle.dumps(Evil()) if name.endswith("data.pkl") else content)
    with pytest.raises(IdentityError, match="without running code"):
        Identity.load(tmp_path / "evil.pt")
    (tmp_path / "bare.pt").write_bytes(pickle.dumps(io.BytesIO(b"no tensor")))
    with pytest.raises(IdentityError, match="without running code"):
        Identity.load(tmp_path / "bare.pt")
    assert not (tmp_path / "broken-in").exists()


@pytest.mark.parametrize("first, second", [("clip_l", "clip_g"), ("text_encoders_0", "text_encoders_1")])
def test_pairs_of_sdxl_in_any_order(tmp_path, first, second):
    one = safetensors(tmp_path / "a.safetensors", **{first: ROWS, second: WIDE})
    other = safetensors(tmp_path / "b.safetensors", **{second: WIDE.half(), first: ROWS.half()})
    assert one.encoder_dims == other.encoder_dims == (6, 8)
    assert torch.equal(one.vectors, torch.cat([ROWS, WIDE], dim=1))
    assert torch.allclose(one.vectors, other.vectors, atol=1e-2)
    assert one.placeholder_token == "<a>"


def test_embeddings_bundled_in_a_lora(tmp_path):
    lora = {"lora_unet_down.weight": torch.zeros(3)}
    path = tmp_path / "lora.safetensors"
    found = safetensors(path, **lora, **{"bundle_emb.Ola Nor.string_to_param.*": ROWS})
    assert found.placeholder_token == "<ola-nor>"
    assert torch.equal(found.vectors, ROWS)
    pair = {"bundle_emb.kat.clip_l": ROWS, "bundle_emb.kat.clip_g": WIDE}
    assert safetensors(path, **lora, **pair).encoder_dims == (6, 8)
    with pytest.raises(IdentityError, match="bundles 2 embeddings"):
        safetensors(path, **pair, **{"bundle_emb.tom.clip_l": ROWS})
    assert torch.equal(Identity.load(path, "<tom>").vectors, ROWS)


@pytest.mark.parametrize(
    "tensors, why",
    [
        ({"clip_l_out": ROWS}, "output embeddings"),
        ({"clip_l": ROWS, "clip_g": WIDE, "clip_l_out": ROWS, "clip_g_out": WIDE}, "output embeddings"),
        ({"clip_g": WIDE, "t5xxl": WIDE}, "not an identity"),
        ({"gemma2_2b": ROWS}, "Lumina 2"),
        ({"a": ROWS, "b": WIDE}, "not an identity"),
        ({"clip_l": ROWS, "clip_g": WIDE[:1]}, "not an identity"),
        ({"a": torch.zeros(2, 2, 6)}, "not an identity"),
        ({"a": torch.zeros(0, 6)}, "not an identity"),
    ],
)
def test_other_things_are_refused(tmp_path, tensors, why):
    with pytest.raises(IdentityError, match=why):
        safetensors(tmp_path / "x.safetensors", **tensors)


@pytest.mark.parametrize(
    "stem, token",
    [
        ("My Cat", "<my-cat>"),
        ("Zoë Łuk", "<zoe-luk>"),
        ("Straße", "<strasse>"),
        ("Ægir", "<aegir>"),
    ],
)
def test_the_name_of_a_file_gives_a_token(tmp_path, stem, token):
    assert safetensors(tmp_path / f"{stem}.safetensors", emb_params=ROWS).placeholder_token == token


def test_names_without_latin_letters_differ(tmp_path):
    tokens = {
        safetensors(tmp_path / f"{stem}.safetensors", emb_params=ROWS).placeholder_token for stem in ("陈", "李", "Ада")
    }
    assert len(tokens) == 3
    assert all(re.fullmatch("<person[a-z]{12}>", token) for token in tokens)


@pytest.mark.parametrize("kind", ["sparse", "quantised", "meta", "nested", "complex", "whole numbers"])
def test_tensors_that_are_no_rows_of_numbers_are_refused(kind, tmp_path):
    tensor = {
        "sparse": lambda: ROWS.to_sparse(),
        "quantised": lambda: torch.quantize_per_tensor(ROWS, 0.1, 0, torch.qint8),
        "meta": lambda: ROWS.to("meta"),
        "nested": lambda: torch.nested.nested_tensor([ROWS, ROWS]),
        "complex": lambda: ROWS.to(torch.complex64),
        "whole numbers": lambda: ROWS.long(),
    }[kind]()
    torch.save({"string_to_param": {"*": tensor}}, tmp_path / "thing.pt")
    with pytest.raises(IdentityError, match="is not an") as error:
        Identity.load(tmp_path / "thing.pt")
    assert "\n" not in str(error.value)


def test_as_many_vectors_as_a_file_has_are_drawn_with(pipe, tmp_path):
    """With n vectors that are the rows of n words, the picture is that of the words."""
    from celeb_basis.backend.text_encoders import text_encoders

    words = ["beach", "person", "photo"]
    for count in (1, 3):
        rows = [
            encoder.get_input_embeddings().weight[tokenizer(" ".join(words[:count])).input_ids[1:-1]].detach()
            for _, tokenizer, encoder in text_encoders(pipe)
        ]
        keys = ("emb_params",) if len(rows) == 1 else ("clip_l", "clip_g")
        thing = safetensors(tmp_path / "thing.safetensors", **dict(zip(keys, rows, strict=True)))
        assert len(thing.vectors) == count
        [picture] = generate(pipe, "a photo of <thing>", [thing], num_inference_steps=2)
        [same] = generate(pipe, f"a photo of {' '.join(words[:count])}", num_inference_steps=2)
        assert picture.tobytes() == same.tobytes()

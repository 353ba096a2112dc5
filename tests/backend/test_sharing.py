"""What is uploaded to a hub, on this machine, comes back as it was, with a card that says what it is."""

import hub
import pytest
import torch
from called import answer, complaint
from huggingface_hub import ModelCard

from celeb_basis import BasisError, CelebBasis, Identity, IdentityError, InstantMap, ModelError
from celeb_basis import ModelCard as OurCard
from celeb_basis.backend.sharing import BASIS, INSTANT_MAP


@pytest.fixture
def shared(tmp_path, monkeypatch):
    """An empty hub that takes uploads; the folder of a repository is in this one."""
    with hub.serve({}, gated=["owner/gated"], uploads=tmp_path / "hub") as (address, asked):
        hub.visit(monkeypatch, address, tmp_path / "cache")
        yield tmp_path / "hub", asked


@pytest.fixture(scope="module")
def card():
    return OurCard.of("miniature")


@pytest.fixture(scope="module")
def basis(card):
    return CelebBasis.load(card.basis)


def test_a_basis_and_its_map_come_back_as_they_were(shared, basis, card, tmp_path, capsys):
    instant_map = InstantMap.load(card.instant_map)
    assert basis.push_to_hub("owner/basis", instant_map=instant_map, token="t").endswith("/owner/basis")
    assert CelebBasis.from_pretrained("owner/basis").digest == basis.digest
    back = InstantMap.from_pretrained("owner/basis")
    back.check(basis)
    assert torch.equal(back.coef, instant_map.coef)
    downloaded = answer(capsys, "basis", "--from", "owner/basis", "-o", tmp_path / "folder")
    assert downloaded["names"] == len(basis.names) and downloaded["instant_map"] == instant_map.face_reader
    assert OurCard.of(tmp_path / "folder").basis.name == BASIS
    assert (
        CelebBasis.load(tmp_path / "folder").digest
        == basis.digest
        == CelebBasis.from_pretrained(tmp_path / "folder").digest
    )
    assert "leave out --n-components" in complaint(capsys, "basis", "--from", "owner/basis", "--n-components", 3)


def test_a_basis_without_a_map(shared, basis, tmp_path, capsys):
    basis.push_to_hub("owner/basis", token="t", private=True, commit_message="first")
    with pytest.raises(ModelError, match=f"owner/basis holds no {INSTANT_MAP}"):
        InstantMap.from_pretrained("owner/basis")
    report = answer(capsys, "basis", "--from", "owner/basis", "-o", tmp_path / "b.safetensors")
    assert "instant_map_file" not in report and not (tmp_path / "b.instant.safetensors").exists()


def test_a_map_alone(shared, card):
    instant_map = InstantMap.load(card.instant_map)
    instant_map.push_to_hub("owner/map", token="t")
    assert torch.equal(InstantMap.from_pretrained("owner/map").coef, instant_map.coef)
    with pytest.raises(ModelError, match=f"owner/map holds no {BASIS}"):
        CelebBasis.from_pretrained("owner/map")


def test_a_person_is_shared_with_their_consent_and_without_their_face(shared, basis):
    person = Identity.sample(basis, "<annika>").with_feature(torch.eye(64)[3], "miniature-fitting")
    with pytest.raises(IdentityError, match="who agreed"):
        person.push_to_hub("owner/annika", consent=" ", token="t")
    person.push_to_hub("owner/annika", consent="Nobody: annika was made up.", license="cc0-1.0", token="t")
    back = Identity.from_pretrained("owner/annika")
    assert back.digest == person.digest and back.placeholder_token == "<annika>"
    assert back.feature is None and person.feature is not None
    assert Identity.from_pretrained("owner/annika", "<bodil>").placeholder_token == "<bodil>"
    card = ModelCard.load(shared[0] / "owner" / "annika" / "README.md")
    assert (card.data.library_name, card.data.license, card.data.base_model) == ("celeb-basis", "cc0-1.0", None)
    assert "Nobody: annika was made up." in card.content and 'from_pretrained("owner/annika")' in card.content


def test_a_card_cannot_be_written_by_a_file(shared, basis):
    """What a file says of itself stands in one line, and not in the card's head."""
    person = Identity.sample(basis, "<annika>")
    person.provenance["made_by"] = "fit\n---\nlicense: mit\n---\n# Other\n" + "x" * 10_000
    person.push_to_hub("owner/annika", consent="Nobody.", token="t")
    file = shared[0] / "owner" / "annika" / "README.md"
    card = ModelCard.load(file)
    assert card.data.license == "other" and card.data.license_name == "that-of-the-base-model"
    assert "\n# Other" not in card.content and len(card.content) < 3000


def test_a_model_of_the_hub_is_named_as_the_base(shared, basis):
    from dataclasses import replace

    replace(basis, model="stable-diffusion-v1-5/stable-diffusion-v1-5").push_to_hub("owner/basis", token="t")
    card = ModelCard.load(shared[0] / "owner" / "basis" / "README.md")
    assert card.data.base_model == "stable-diffusion-v1-5/stable-diffusion-v1-5"
    replace(basis, model="/home/annika/models/sd15").push_to_hub("owner/local", token="t")
    assert "/home" not in (shared[0] / "owner" / "local" / "README.md").read_text()


def test_what_the_hub_refuses_is_one_line(shared, basis, tmp_path):
    with pytest.raises(ModelError, match=r"owner/gated cannot be uploaded: .*hf auth login"):
        basis.push_to_hub("owner/gated", token="t")
    with pytest.raises(ModelError, match="the hub has no model owner/nobody"):
        CelebBasis.from_pretrained("owner/nobody")
    for wrong in ("nothing", "a/b/c", "../x"):
        with pytest.raises(ModelError, match="owner/name"):
            basis.push_to_hub(wrong, token="t")
        with pytest.raises(ModelError, match="owner/name"):
            CelebBasis.from_pretrained(wrong)
    (tmp_path / BASIS).write_bytes(b"nothing")
    with pytest.raises(BasisError, match="not a readable safetensors file"):
        CelebBasis.from_pretrained(tmp_path)
    with pytest.raises(ModelError, match="is a folder: leave the revision out"):
        CelebBasis.from_pretrained(tmp_path, revision="main")

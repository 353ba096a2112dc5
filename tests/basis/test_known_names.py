"""Which names a model knows: the measure, and drawing that can be stopped."""

import json
import threading
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from conftest import NAMES, add_safety_checker, make_pipeline, state_of
from PIL import Image
from sklearn.metrics import roc_auc_score
from torch.nn.functional import normalize

from celeb_basis import BasisError, Face, ModelCard
from celeb_basis.backend.defaults import drawing_defaults
from celeb_basis.backend.text_encoders import name_rows
from celeb_basis.backend.tiny_autoencoder import cached_tiny_autoencoder
from celeb_basis.generate import generate
from celeb_basis.known_names import Portraits, draw_portraits, find_known_names


def portraits(features, names=None):
    count = torch.full((len(features),), features.shape[1])
    return Portraits(features, count, names or tuple(f"name {i}" for i in range(len(features))), "so", "test")


def faces(names=12, pictures=4, d=16, noise=0.3, seed=0):
    """Faces of people who differ, each a little different in every picture."""
    g = torch.Generator().manual_seed(seed)
    people = torch.randn(names, 1, d, generator=g)
    return normalize(people + noise * torch.randn(names, pictures, d, generator=g), dim=-1)


def missing(features, seed=1):
    """The same with some pictures in which there is no face."""
    there = torch.rand(features.shape[:2], generator=torch.Generator().manual_seed(seed)) > 0.3
    there[:, :2] = True
    return features * there[..., None]


@pytest.mark.parametrize("features", [faces(noise=1.5), missing(faces(noise=1.5))], ids=["all", "some missing"])
def test_silhouettes_are_scikit_learns(features):
    metrics = pytest.importorskip("sklearn.metrics")
    there = features.any(-1)
    label = torch.arange(len(features))[:, None].expand_as(there)[there]
    each = metrics.silhouette_samples(features[there].double(), label, metric="cosine")
    theirs = [each[(label == i).numpy()].mean() for i in range(len(features))]
    assert min(theirs) < 0 < max(theirs)
    np.testing.assert_allclose(portraits(features).silhouettes(), theirs, atol=1e-5)


def test_who_is_somebody_and_who_is_not():
    features = faces(names=20)
    features[3] = features[4]  # two names for one person
    features[7] = faces(names=4, pictures=1, seed=5)[:, 0]  # somebody else every time
    features[9, 1:] = 0  # one face in four pictures
    features[11] = 0
    drawn = portraits(features)
    assert drawn.unknown([]) == {
        "name 3": "drawn as nobody in particular",
        "name 4": "drawn as nobody in particular",
        "name 7": "drawn as nobody in particular",
        "name 9": "drawn without a face",
        "name 11": "drawn without a face",
    }
    assert drawn.of(["name 5", "name 2"]).features.equal(features[[5, 2]])


def test_drawings_of_one_kind_are_joined():
    features = faces()
    features[:5] = 0  # no face found yet, so that the size of a feature is not known
    none, some = portraits(features[:5, :, :0], ("a", "b", "c", "d", "e")), portraits(features[5:])
    for merge in (none.merge(some), some.merge(none).of((*none.names, *some.names))):
        assert merge.features.equal(features) and merge.names == (*none.names, *some.names)
    with pytest.raises(BasisError, match="other settings"):
        some.merge(replace(none, drawn="otherwise"))


def test_a_name_must_be_more_of_a_person_than_made_up_ones():
    people, vague = faces(names=10, d=64, noise=0.2), faces(names=10, d=64, noise=0.7, seed=7)
    drawn = portraits(torch.cat([people, vague]))
    assert drawn.unknown([]) == {}
    assert drawn.unknown(drawn.names[15:]).keys() == set(drawn.names[10:15])


def test_doubt_is_where_more_pictures_may_change_the_verdict():
    people, nobody = faces(names=30, d=64, noise=0.2), faces(names=30, d=64, noise=3.0, seed=7)
    between = faces(names=30, d=64, noise=1.6, seed=8)
    features = torch.cat([people, nobody, between])
    features[0, 1:] = 0  # one face
    drawn = portraits(features)
    made_up = drawn.names[30:40]
    doubtful = drawn.undecided(made_up)
    assert "name 0" in doubtful and not set(doubtful) & set(made_up)
    assert len(set(doubtful) & set(drawn.names[1:30])) == 0 < len(set(doubtful) & set(drawn.names[60:]))


def test_names_are_told_from_made_up_ones_or_not():
    people, nobody = faces(names=20, d=64, noise=0.2), faces(names=20, d=64, noise=3.0, seed=7)
    drawn = portraits(torch.cat([people, nobody]))
    assert drawn.separates_unknown(drawn.names[20:])
    assert drawn.of(drawn.names[:28]).separates_unknown(drawn.names[24:28])  # some of the names are not known
    assert not drawn.of(drawn.names[20:]).separates_unknown(drawn.names[20:30])
    assert not drawn.of(drawn.names[20:]).separates_unknown(drawn.names[20:])


def test_made_up_names_without_a_face_do_not_move_the_threshold():
    people, nobody = faces(names=10, d=64, noise=0.2), faces(names=20, d=64, noise=3.0, seed=7)
    drawn = portraits(torch.cat([people, nobody]))
    faceless = portraits(torch.cat([people, nobody, torch.zeros(10, 4, 64)]))
    assert faceless.unknown(faceless.names[20:]) == drawn.unknown(drawn.names[20:])
    # Where no made-up name has a face, names drawn with a different one each time are still nobody.
    different = torch.eye(64).view(16, 4, 64)
    alone = portraits(torch.cat([people, different, torch.zeros(10, 4, 64)]))
    assert set(alone.unknown(alone.names[26:])) == set(alone.names[10:26])


@pytest.mark.parametrize("noise", [1.0, 1.6, 1.9, 2.1])
def test_the_area_under_the_curve_is_that_of_scikit_learn(noise):
    drawn = portraits(torch.cat([faces(names=30, d=64, noise=noise), faces(names=30, d=64, noise=3.0, seed=7)]))
    score, made_up = drawn.silhouettes(drawn.names[30:]), drawn.names[30:]
    area = roc_auc_score([name not in made_up for name in drawn.names], score)
    assert drawn.separates_unknown(made_up) == (area >= 0.9)


def test_pictures_that_a_name_does_not_have_hold_no_face():
    drawn = portraits(faces(names=3, pictures=2))
    with pytest.raises(BasisError, match="more pictures than num_images says"):
        Portraits(drawn.features, torch.tensor([2, 1, 2]), drawn.names, "so", "test")
    with pytest.raises(BasisError, match="num_images"):
        Portraits(drawn.features, torch.tensor([2, 2]), drawn.names, "so", "test")


def test_one_name_alone_cannot_be_told_apart():
    assert len(portraits(faces(names=1)).unknown([])) == 1


def test_a_file_holds_all_of_it(tmp_path, basis):
    drawn = portraits(faces())
    drawn.save(tmp_path / "faces.safetensors")
    again = Portraits.load(tmp_path / "faces.safetensors")
    assert again.features.equal(drawn.features)
    assert (again.names, again.drawn, again.face_reader) == (drawn.names, drawn.drawn, drawn.face_reader)
    basis.save(tmp_path / "basis.safetensors")
    with pytest.raises(BasisError, match="does not hold the faces"):
        Portraits.load(tmp_path / "basis.safetensors")


def test_the_instant_map_finds_the_names_again(pipe, basis):
    """From faces that are a linear picture of the names' coefficients, the map leads back to them."""
    coefficients = basis.transform(name_rows(pipe, basis.names)[0])
    mix = torch.linalg.qr(torch.randn(coefficients[0].numel(), 20, generator=torch.Generator().manual_seed(0)).T)[0]
    features = normalize(coefficients.flatten(1) @ mix.T[:, :20], dim=-1)[:, None].expand(-1, 3, -1)
    order = torch.randperm(len(features), generator=torch.Generator().manual_seed(1))
    drawn = portraits(features[order], tuple(basis.names[i] for i in order))
    instant_map = drawn.instant_map(pipe, basis)
    instant_map.check(basis)
    assert instant_map.face_reader == "test"
    found = instant_map.predict(features[:, 0])
    assert torch.cosine_similarity(found, coefficients, -1).mean() > 0.8
    fewer = drawn.of(drawn.names[1:]).instant_map(pipe, basis)
    assert torch.cosine_similarity(fewer.predict(features[:, 0]), coefficients, -1).mean() > 0.7


class Colours:
    """A reader to whom two pictures in three are a face: its mean colours."""

    name = "colours"

    def read(self, images):
        return [self._read(np.asarray(image.resize((2, 2), Image.Resampling.BOX), np.float32)) for image in images]

    def _read(self, colours):
        feature = normalize(torch.from_numpy(colours.ravel() - 127.5), dim=0)
        return [Face(Image.new("RGB", (8, 8)), (0, 0, 8, 8), feature, self.name)] if int(colours.sum()) % 3 else []


@pytest.fixture
def short(pipe, monkeypatch):
    """A pipeline for whose few words the usual prompts are too long."""
    monkeypatch.setattr(pipe, "card", ModelCard(portraits=("a photo of {}", "the face of {}")), raising=False)
    return pipe


def test_drawing_goes_on_where_it_stopped(short):
    before = state_of(short)
    how = {"num_images": 3, "num_inference_steps": 2, "batch_size": 3}
    *_, whole = draw_portraits(short, NAMES[:7], Colours(), **how)
    assert whole.names == tuple(NAMES[:7]) and 0 < whole.found.sum() < 21
    parts = draw_portraits(short, NAMES[:7], Colours(), **how)
    first = next(parts)
    parts.close()
    assert len(first.names) == 3
    *_, rest = draw_portraits(short, NAMES[:7], Colours(), **how, start=first)
    assert rest.features.equal(whole.features)
    assert list(draw_portraits(short, NAMES[:7], Colours(), **how, start=whole)) == []
    assert state_of(short) == before


def test_a_survey_draws_everybody_twice_and_doubtful_names_again(short):
    before = state_of(short)
    made_up, names = NAMES[:3], NAMES[3:12]
    how = {"num_inference_steps": 1, "batch_size": 4}
    steps = list(find_known_names(short, names, made_up, Colours(), **how))
    done, left = steps[-1]
    assert left == 0 and done.names == (*made_up, *names)
    twice = next(faces for faces, _ in steps if len(faces.names) == 12 and faces.num_images.min() == 2)
    counts = dict(zip(done.names, done.num_images.tolist(), strict=True))
    assert {name for name, count in counts.items() if count > 2} >= set(twice.undecided(made_up))
    assert all(counts[name] == 4 for name in done.undecided(made_up))
    ever = {name for faces, _ in steps if len(faces.names) == 12 for name in faces.undecided(made_up)}
    assert {name for name, count in counts.items() if count > 2} <= ever
    assert all(earlier <= later for earlier, later in pairwise(int(f.num_images.sum()) for f, _ in steps))
    stopped = steps[2][0]
    *_, (again, _) = find_known_names(short, names, made_up, Colours(), **how, start=stopped)
    assert again.features.equal(done.features) and again.num_images.equal(done.num_images)
    assert list(find_known_names(short, names, made_up, Colours(), **how, start=done)) == []
    assert state_of(short) == before


def test_a_survey_takes_more_steps_until_names_are_told_apart(short, monkeypatch):
    made_up, names = NAMES[:3], NAMES[3:6]
    shares = iter([False, True])
    monkeypatch.setattr(Portraits, "separates_unknown", lambda self, made_up: next(shares))
    *_, (done, _) = find_known_names(short, names, made_up, Colours(), num_images=2)
    assert json.loads(done.drawn)[-3:] == [8, drawing_defaults(short).guidance_scale, "UniPCMultistepScheduler"]
    assert done.num_images.tolist() == [2] * 6


def test_a_model_may_be_called_otherwise(short):
    how = {"num_images": 2, "num_inference_steps": 1}
    *_, drawn = draw_portraits(short, NAMES[:2], Colours(), **how)
    name = short.config["_name_or_path"]
    short.register_to_config(_name_or_path=f"./{name}")
    try:
        assert list(draw_portraits(short, NAMES[:2], Colours(), **how, start=drawn)) == []
    finally:
        short.register_to_config(_name_or_path=name)


def test_faces_of_another_drawing_are_not_mixed_in(short):
    how = {"num_images": 2, "num_inference_steps": 1}
    *_, drawn = draw_portraits(short, NAMES[:2], Colours(), **how)
    others = make_pipeline(short.config["_name_or_path"].split()[-1], seed=1)
    others.card = short.card
    for other, changed in ((others, how), (short, how | {"seed": 5}), (short, how | {"sampler": "unipc"})):
        with pytest.raises(BasisError, match="drawn with other settings"):
            next(draw_portraits(other, NAMES[:3], Colours(), **changed, start=drawn))


def test_faces_are_read_while_the_next_names_are_drawn(short, monkeypatch):
    """Whoever reads the first names' faces waits until others are drawn."""
    drawing_on, calls = threading.Event(), []

    class Waiting(Colours):
        def read(self, images):
            assert drawing_on.wait(60), "nothing is drawn while faces are read"
            return super().read(images)

    def counted(*args, **options):
        calls.append(threading.get_ident())
        if len(calls) == 3:
            drawing_on.set()
        return generate(*args, **options)

    monkeypatch.setattr("celeb_basis.known_names.generate", counted)
    how = {"num_images": 2, "num_inference_steps": 1, "batch_size": 2}
    steps = list(draw_portraits(short, NAMES[:5], Waiting(), **how))
    assert [len(each.names) for each in steps] == [2, 4, 5] and set(calls) == {threading.get_ident()}
    *_, plain = draw_portraits(short, NAMES[:5], Colours(), **how)
    assert steps[-1].features.equal(plain.features) and steps[-1].names == plain.names


def test_an_error_of_the_reader_ends_the_drawing(short):
    class Blind(Colours):
        def read(self, images):
            raise BasisError("no light")

    with pytest.raises(BasisError, match="no light"):
        list(draw_portraits(short, NAMES[:2], Blind(), num_images=1, num_inference_steps=1))


def test_a_tiny_autoencoder_in_the_cache_decodes_what_is_only_looked_at(tiny_in_cache, caplog):
    pipe = make_pipeline("sd1")
    pipe.card = ModelCard(portraits=("a photo of {}",))
    how = {"num_images": 2, "num_inference_steps": 1, "batch_size": 4}
    before = state_of(pipe)
    with caplog.at_level("INFO", logger="celeb_basis"):
        *_, (drawn, _) = find_known_names(pipe, NAMES[:2], NAMES[2:4], Colours(), **how)
    assert state_of(pipe) == before and "madebyollin/taesd" in caplog.text
    assert json.loads(drawn.drawn)[5] == "madebyollin/taesd"
    *_, own = draw_portraits(pipe, drawn.names, Colours(), **how)
    assert not own.features.equal(drawn.features)
    # What was begun with the model's own decoder goes on with it, and the other way round.
    for begun in (own, drawn):
        first = begun.of(begun.names[:3])
        *_, (found, _) = find_known_names(pipe, NAMES[:2], NAMES[2:4], Colours(), **how, start=first)
        assert found.drawn == begun.drawn and found.of(begun.names).features.equal(begun.features)


def test_without_one_in_the_cache_the_model_decodes_itself(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    for kind in ("sd1", "sdxl"):
        assert cached_tiny_autoencoder(make_pipeline(kind)) is None


class Nobody:
    """A reader to whom no picture is a face."""

    name = "nobody"

    def read(self, images):
        return [[] for _ in images]


@pytest.mark.parametrize("checked", [False, True])
def test_a_survey_that_finds_no_face_stops_and_says_why(checked):
    """After both ways of drawing, and long before all names are drawn."""
    pipe = make_pipeline("sd1")
    pipe.card = ModelCard(portraits=("a photo of {}",))
    if checked:
        add_safety_checker(pipe, threshold=-2)
    drawn = []
    finding = find_known_names(pipe, NAMES[5:], NAMES[:5], Nobody(), batch_size=10)
    with pytest.raises(BasisError, match="none of the first 20 pictures shows exactly one face") as stopped:
        for faces, _ in finding:
            drawn.append(int(faces.num_images.sum()))
    said = stopped.value.message
    assert "too few steps (8 at guidance 7.5: take more), or a model that draws no people (take another)" in said
    assert ("the safety checker, which makes pictures black (load the model without it)" in said) == checked
    assert stopped.value.argument == "num_inference_steps" and "\n" not in said
    assert drawn == []


def test_black_pictures_are_drawn_again_and_not_taken_for_faceless(monkeypatch):
    """Those of a checker that objects to some; the names' other pictures stay as they are."""
    pipe = make_pipeline("sd1")
    pipe.card = ModelCard(portraits=("a photo of {}",))
    how = {"num_images": 2, "num_inference_steps": 1, "batch_size": 4}

    class Seen(Colours):
        def read(self, images):
            assert all(image.getbbox() for image in images), "a black picture"
            return [self._read(np.asarray(image.resize((2, 2), Image.Resampling.BOX), np.float32)) for image in images]

    *_, plain = draw_portraits(pipe, NAMES[:4], Seen(), **how)
    add_safety_checker(pipe, threshold=2)

    def to_some(clip_input, images):
        """Object to the first picture of the first batch of each noise, at the first attempt."""
        flags = [i == 0 and len(images) == 4 for i in range(len(images))]
        return torch.stack([im * (not f) for im, f in zip(images, flags, strict=True)]), flags

    monkeypatch.setattr(pipe.safety_checker, "forward", to_some)
    *_, checked = draw_portraits(pipe, NAMES[:4], Seen(), **how)
    assert checked.num_images.tolist() == [2] * 4 and checked.drawn != plain.drawn
    assert checked.features[1:].equal(plain.features[1:])
    assert not checked.features[0].equal(plain.features[0])
    with pytest.raises(BasisError, match="drawn with other settings"):
        pipe.safety_checker = None
        next(draw_portraits(pipe, NAMES[:5], Seen(), **how, start=checked))


def test_a_record_holds_what_the_model_does_by_itself(short):
    """A model that is drawn otherwise by default one day has other pictures."""
    how = {"num_images": 2, "batch_size": 2}
    *_, own = draw_portraits(short, NAMES[:1], Colours(), num_inference_steps=2, **how)
    *_, asked = draw_portraits(
        short, NAMES[:1], Colours(), num_inference_steps=2, guidance_scale=drawing_defaults(short).guidance_scale, **how
    )
    assert own.drawn == asked.drawn

"""The arithmetic of every score, against hand-made cases, scikit-learn and torchmetrics."""

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.metrics import roc_curve
from torchmetrics.functional.multimodal import clip_score
from transformers import CLIPImageProcessorPil, CLIPModel, CLIPTokenizer

from celeb_basis.evaluation.clip import Clip
from celeb_basis.evaluation.face_verification import equal_error_rate
from celeb_basis.evaluation.scores import Scores, detected, diversity, identity_scores, interval
from celeb_basis.faces.face import Face


def face(*feature):
    return Face(Image.new("RGB", (8, 8)), (0, 0, 8, 8), torch.tensor(feature), "test")


def test_intervals_agree_with_the_central_limit_theorem():
    values = np.random.default_rng(3).normal(0.4, 0.2, size=400)
    low, high = interval(values)
    half = 1.96 * values.std(ddof=1) / 20
    assert low == pytest.approx(values.mean() - half, abs=0.2 * half)
    assert high == pytest.approx(values.mean() + half, abs=0.2 * half)


def test_a_certain_value_has_no_spread():
    assert interval(np.full(5, 0.25)) == (0.25, 0.25)


def test_a_summary_counts_its_pictures():
    scores = Scores(np.array([0.0, 1.0]), np.array([1.0, 1.0]), np.array([0.0, 1.0]), np.ones(2))
    summary = scores.summary()
    assert summary["n_images"] == 2
    assert summary["identity"]["mean"] == 0.5 and summary["prompt"]["interval"] == (1.0, 1.0)


def test_what_is_not_measured_is_left_out():
    assert "prompt" not in Scores(np.ones(2), np.full(2, np.nan), np.ones(2), np.ones(2)).summary()
    ones = np.ones((2, 2))
    partly = Scores(ones, np.array([[0.2, np.nan], [0.4, 0.6]]), ones, ones).summary()
    assert partly["prompt"]["mean"] == pytest.approx(0.4) and partly["prompt"]["interval"] == pytest.approx((0.2, 0.5))


def test_the_largest_face_counts_alone_and_the_likest_in_company():
    person = torch.tensor([1.0, 0.0])
    pictures = [[face(0.0, 1.0), face(1.0, 0.0)], [], [face(0.6, 0.8)]]
    assert identity_scores(pictures, person).tolist() == pytest.approx([0.0, 0.0, 0.6])
    assert identity_scores(pictures, person, [1, 1, 1]).tolist() == pytest.approx([1.0, 0.0, 0.6])
    assert detected(pictures).tolist() == [0, 0, 1] and detected(pictures, [1, 0, 0]).tolist() == [1, 0, 1]


def test_missing_faces_can_be_left_out_as_published():
    """Three prompts of two pictures: one face missing, no face at all, and a mean that is not above 0."""
    identity = np.array([0.5, 0.0, 0.0, 0.0, -0.3, 0.1])
    faces = np.array([1.0, 0.0, 0.0, 0.0, 1.0, 1.0])
    scores = Scores(identity, np.ones(6), faces, faces)
    by_prompt = scores.identity_where_found(2)
    assert by_prompt[0] == 0.5 and np.isnan(by_prompt[1:]).all()
    summary = scores.summary()
    assert summary["identity"]["mean"] == pytest.approx(0.05) and summary["any_face"]["mean"] == 0.5


def test_diversity_of_hand_made_pictures():
    right_angles = torch.eye(3)
    assert diversity(right_angles) == pytest.approx(1) and diversity(right_angles[[0, 0]]) == pytest.approx(0)
    features = torch.nn.functional.normalize(torch.randn(4, 5), dim=-1)
    pairs = [1 - float(features[i] @ features[j]) for i in range(4) for j in range(i)]
    assert diversity(features) == pytest.approx(np.mean(pairs), abs=1e-6)


class ForTorchmetrics:
    """A CLIP as torchmetrics 1.9 expects it: its features are tensors, which transformers 5 wraps."""

    def __init__(self, folder):
        self.model = CLIPModel.from_pretrained(folder).eval()
        self.config = self.model.config
        self._tokenizer = CLIPTokenizer.from_pretrained(folder)
        self._processor = CLIPImageProcessorPil.from_pretrained(folder)

    def to(self, device):
        return self

    def get_image_features(self, pixels):
        return self.model.get_image_features(pixel_values=pixels).pooler_output

    def get_text_features(self, ids, mask):
        return self.model.get_text_features(input_ids=ids, attention_mask=mask).pooler_output

    def __call__(self, images=None, text=None, **options):
        return self._tokenizer(text, **options) if text else self._processor(images=images, return_tensors="pt")


def test_clip_scores_are_those_of_torchmetrics(tiny_clip):
    clip, theirs = Clip.load(str(tiny_clip)), ForTorchmetrics(tiny_clip)
    chance = np.random.default_rng(0)
    pictures = [Image.fromarray(chance.integers(0, 255, (40, 48, 3), dtype=np.uint8)) for _ in range(20)]
    texts = [["a photo of the beach", "the face of a person", "a person"][i % 3] for i in range(20)]
    ours = clip.scores(pictures, texts)
    for picture, text, score in zip(pictures, texts, ours, strict=True):
        pixels = torch.from_numpy(np.asarray(picture).copy()).permute(2, 0, 1)
        with torch.no_grad():
            expected = clip_score(pixels, text, lambda: (theirs, theirs))
        assert score == pytest.approx(float(expected), abs=1e-3)
    assert max(ours) > 0


def test_a_text_longer_than_the_clip_is_cut(tiny_clip):
    clip = Clip.load(str(tiny_clip))
    assert clip.text_features(["the face of a person " * 30]).norm() == pytest.approx(1)


@pytest.mark.parametrize("seed", range(5))
def test_the_equal_error_rate_is_where_the_roc_crosses(seed):
    chance = np.random.default_rng(seed)
    same, different = chance.normal(0.6, 0.2, 200), chance.normal(0.2, 0.2, 900)
    false, true, _ = roc_curve(np.repeat([1, 0], [200, 900]), np.concatenate([same, different]))
    nearest = np.argmin(np.abs((1 - true) - false))
    rate, threshold = equal_error_rate(same, different)
    assert rate == pytest.approx(((1 - true) + false)[nearest] / 2, abs=0.005)
    assert (same < threshold).mean() == pytest.approx((different >= threshold).mean(), abs=0.01)


def test_people_who_are_told_apart_have_no_errors():
    rate, threshold = equal_error_rate(np.array([0.5, 0.7]), np.array([0.1, 0.3]))
    assert rate == 0 and 0.3 < threshold < 0.5

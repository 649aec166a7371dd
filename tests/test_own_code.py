"""A model with somebody's own files can be moved, runs them only with consent, and is not saved if it could not be
loaded; a network that cannot be trained is refused before training."""

import importlib
import json
import shutil
import sys

import numpy as np
import pytest
import torch

import noisekiln as nk
from noisekiln.backbones.base import Backbone
from noisekiln.codecs.pixels import Pixels
from noisekiln.components.consent import Consent
from noisekiln.components.spec import build, class_of
from noisekiln.components.spec_paths import without_folders
from noisekiln.data import load
from noisekiln.denoisers import Denoiser
from noisekiln.model.code_copies import located
from noisekiln.noise_labels.base import NoiseLabel
from noisekiln.plan.build import make_trainer
from noisekiln.plan.defaults import resolve

BLOCKS = "from torch import nn\n\n\ndef layer(i, o):\n    return nn.Conv2d(i, o, 3, padding=1)\n"
NET = """
import torch
from torch import nn
from my_own_blocks import layer
from noisekiln.backbones.base import Backbone


class Net(Backbone):
    def __init__(self, channels: int, width: int = 8, name: str = "a(b)") -> None:
        super().__init__()
        self.channels, self.width, self.name = channels, width, name
        self.layers = nn.ModuleList([layer(channels, width), layer(width, channels)])

    def forward(self, x, noise, cond):
        return self.layers[1](self.layers[0](x).relu())


class Half(Net):
    def forward(self, x, noise, cond):
        return super().forward(x, noise, cond)[..., ::2]


class Pair(Net):
    def forward(self, x, noise, cond):
        return super().forward(x, noise, cond), noise


class Hidden(Net):
    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        layers = list(self.layers)
        del self.layers
        self.layers = layers


class Frozen(Net):
    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.requires_grad_(False)


class Random(Net):
    def forward(self, x, noise, cond):
        return nn.functional.dropout(super().forward(x, noise, cond), 0.5, self.training)


class Listed(Net):
    def __init__(self, channels: int, widths: list = [8]) -> None:
        super().__init__(channels)
        self.widths = widths
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    """The path of a user's file, which imports another one beside it."""
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "my_own_blocks.py").write_text(BLOCKS, encoding="utf-8")
    (folder / "my_own_net.py").write_text(NET, encoding="utf-8")
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.delitem(sys.modules, "my_own_blocks", raising=False)
    yield folder / "my_own_net.py"
    sys.modules.pop("my_own_blocks", None)


def model_of(spec):
    torch.manual_seed(0)
    network = build(Backbone, spec, channels=3)
    return nk.Diffusion(Denoiser(network), Pixels((0.5,) * 3, (0.25,) * 3), (8, 8)).eval()


def test_a_model_is_moved_with_the_files_of_its_author(own, tmp_path, monkeypatch):
    model = model_of(f"{own}:Net(width=4)")
    model.save(tmp_path / "model")
    assert sorted(file.name for file in (tmp_path / "model" / "code").iterdir()) == [
        "my_own_blocks.py",
        "my_own_net.py",
    ]
    expected = model.sample(1, seed=1, steps=2)
    (tmp_path / "model").rename(tmp_path / "moved")
    shutil.rmtree(own.parent)
    sys.modules.pop("my_own_blocks", None)
    with pytest.raises(ValueError, match=r"moved runs the Python code of .*code/my_own_(blocks|net).py"):
        nk.load(tmp_path / "moved")
    moved = nk.load(tmp_path / "moved", allow_code=True)
    assert torch.equal(moved.sample(1, seed=1, steps=2), expected)
    assert str(tmp_path / "moved" / "code") not in sys.path
    moved.save(tmp_path / "again")
    assert torch.equal(nk.load(tmp_path / "again", allow_code=True).sample(1, seed=1, steps=2), expected)


def test_two_models_whose_files_have_one_name_each_use_their_own(own, tmp_path):
    images = []
    for place, factor in (("one", "1"), ("other", "-5")):
        own.with_name("my_own_blocks.py").write_text(BLOCKS + f"\n\nFACTOR = {factor}\n", encoding="utf-8")
        sys.modules.pop("my_own_blocks", None)
        own.write_text(NET.replace("import layer", "import FACTOR, layer").replace("relu())", "relu()) * FACTOR"))
        model = model_of(f"{own}:Net")
        model.save(tmp_path / place)
        images.append(model.sample(1, seed=1, steps=2))
    shutil.rmtree(own.parent)
    users = sys.modules["my_own_blocks"]
    loaded = [nk.load(tmp_path / place, allow_code=True).sample(1, seed=1, steps=2) for place in ("one", "other")]
    assert [torch.equal(*pair) for pair in zip(images, loaded, strict=True)] == [True, True]
    assert not torch.equal(*images)
    assert sys.modules["my_own_blocks"] is users


def test_consent_to_one_file_is_not_consent_to_what_it_imports(own, tmp_path):
    model_of(f"{own}:Net").save(tmp_path / "model")
    kept = tmp_path / "my_own_net.py"
    shutil.copy(own, kept)
    shutil.rmtree(own.parent)
    (tmp_path / "model" / "code" / "my_own_blocks.py").write_text("raise SystemExit", encoding="utf-8")
    with pytest.raises(ValueError, match=r"my_own_blocks\.py"):
        nk.Diffusion.load(tmp_path / "model", allow_code=Consent(frozenset({kept})))


def test_a_file_imports_others_from_beside_it_wherever_the_command_runs(own, tmp_path, monkeypatch):
    before = [place for place in sys.path if place != str(own.parent)]
    monkeypatch.setattr(sys, "path", list(before))
    model_of(f"{own}:Net")
    assert sys.path == before
    stranger = tmp_path / "stranger"  # a copy is as good as the file, but what lies beside the copy is a stranger's
    stranger.mkdir()
    shutil.copy(own, stranger)
    (stranger / "my_own_blocks.py").write_text("raise SystemExit", encoding="utf-8")
    sys.modules.pop("my_own_blocks")
    build(Backbone, f"{stranger / own.name}:Net", Consent(frozenset({own})), channels=3)
    assert sys.modules["my_own_blocks"].__file__ == str(own.parent / "my_own_blocks.py")


def test_while_the_file_is_there_it_is_used(own, tmp_path):
    model_of(f"{own}:Net").save(tmp_path / "model")
    description = json.loads((tmp_path / "model" / "model.json").read_text(encoding="utf-8"))
    assert description["backbone"].startswith(f"{own}:Net(")
    assert description["code"] == {str(own): "code/my_own_net.py"}
    loaded = nk.load(tmp_path / "model", allow_code=True)
    assert type(loaded.denoiser.backbone) is type(model_of(f"{own}:Net").denoiser.backbone)
    model_of(f"{own}:Net").save(tmp_path / "model")  # once more into the same folder


def test_a_model_without_own_files_has_no_code(tmp_path):
    network = nk.Unet(3, 0, widths=(32,), blocks=(1,), patch=1, condition=32)
    sampling = nk.Sampling(sampler=nk.DDIM(eta=1), schedule=nk.Cosine())
    model = nk.Diffusion(Denoiser(network), Pixels((0.5,) * 3, (0.25,) * 3), (8, 8), sampling=sampling).eval()
    model.save(tmp_path)
    assert not (tmp_path / "code").exists()
    assert "code" not in json.loads((tmp_path / "model.json").read_text(encoding="utf-8"))
    assert nk.load(tmp_path).sampling.schedule == "cosine(offset=0.008)"


class AtTheTop(Backbone):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels

    def forward(self, x, noise, cond):
        return x


def test_what_could_not_be_loaded_is_not_saved(own, tmp_path):
    class Inside(AtTheTop):
        pass

    for network, says in (
        (Inside(3), "Inside is not at the top of a Python file"),
        (build(Backbone, f"{own}:Listed", channels=3), r"\[8\] is a list, which no setting can be. Use a tuple"),
        (build(Backbone, f"{own}:Net", channels=3, name=torch.device("cpu")), "is a device, which no setting can be"),
    ):
        model = nk.Diffusion(Denoiser(network), Pixels((0.5,) * 3, (0.25,) * 3), (8, 8))
        with pytest.raises(ValueError, match=says):
            model.save(tmp_path / "model")
        assert not (tmp_path / "model").exists()
    numbered = build(Backbone, f"{own}:Net", channels=3, width=np.int64(4))
    nk.Diffusion(Denoiser(numbered), Pixels((0.5,) * 3, (0.25,) * 3), (8, 8)).save(tmp_path / "numbered")
    assert nk.load(tmp_path / "numbered", allow_code=True).denoiser.backbone.width == 4
    nk.Diffusion(Denoiser(AtTheTop(3)), Pixels((0.5,) * 3, (0.25,) * 3), (8, 8)).save(tmp_path / "model")


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("Half", r"Half returned the shape \(1, 3, 8, 4\) for images of \(1, 3, 8, 8\), but has to keep it"),
        ("Pair", "Pair returned a tuple, and has to return a tensor of the shape of x"),
        ("Hidden", "Hidden has no trainable weight, so there is nothing to train. Make its layers attributes"),
        ("Frozen", "Frozen has no trainable weight"),
    ],
)
def test_a_network_that_cannot_be_trained_is_refused_before_training(own, name, says, tmp_path):
    images = np.zeros((4, 8, 8, 3), np.uint8)
    with pytest.raises(ValueError, match=says):
        nk.train(images, backbone=f"{own}:{name}", images=8, curves="none", out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_the_check_of_a_network_changes_nothing(own):
    """No random number is drawn, and what is in training mode stays so."""
    data = load(np.zeros((4, 8, 8, 3), np.uint8))
    settings = resolve(nk.Settings(backbone=f"{own}:Random", images=8, curves="none"), data)
    torch.manual_seed(3)
    trainer = make_trainer(settings, data)
    drawn = torch.rand(2)
    torch.manual_seed(3)
    assert torch.equal(drawn, torch.rand(2))
    assert trainer.module.diffusion.denoiser.training
    assert not trainer.module.diffusion.codec.training


@pytest.fixture
def two_own(tmp_path):
    """Files of a user in two folders, each of which imports a file of the same name from beside it."""
    files = []
    for number in (1, 2):
        folder = tmp_path / f"folder{number}"
        folder.mkdir()
        (folder / "my_twin.py").write_text(f"NUMBER = {number}\n", encoding="utf-8")
        (folder / "component.py").write_text(TWINS, encoding="utf-8")
        files.append(folder / "component.py")
    sys.modules.pop("my_twin", None)
    yield files
    sys.modules.pop("my_twin", None)


TWINS = """
import my_twin
from dataclasses import dataclass
from torch import nn
from noisekiln.backbones.base import Backbone
from noisekiln.noise_labels.base import NoiseLabel

class TwinNet(Backbone):
    number = my_twin.NUMBER

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels
        self.layer = nn.Conv2d(channels, channels, 1)

    def forward(self, x, noise, cond):
        return self.layer(x)

@dataclass(frozen=True)
class TwinLabel(NoiseLabel):
    number = my_twin.NUMBER

    def __call__(self, level):
        return level.angle
"""


def test_files_in_two_folders_each_import_their_own(two_own, tmp_path, monkeypatch):
    first, second = (class_of(Backbone, f"{file}:TwinNet") for file in two_own)
    assert (first.number, second.number) == (1, 2)
    assert sys.modules["my_twin"].NUMBER == 1  # as whoever has imported it knows it
    monkeypatch.syspath_prepend(str(two_own[1].parent))
    sys.modules.pop("my_twin")
    importlib.import_module("my_twin")
    two_own[1].write_text(TWINS + "\n", encoding="utf-8")
    two_own[0].write_text(TWINS + "\n", encoding="utf-8")
    assert [class_of(Backbone, f"{file}:TwinNet").number for file in two_own] == [1, 2]
    assert sys.modules["my_twin"].NUMBER == 2


def test_a_model_is_moved_with_files_of_one_name_from_two_folders(two_own, tmp_path):
    network = build(Backbone, f"{two_own[0]}:TwinNet", channels=3)
    label = build(NoiseLabel, f"{two_own[1]}:TwinLabel")
    pixels = Pixels((0.5,) * 3, (0.25,) * 3)
    for _ in range(2):  # once more into the same folder
        nk.Diffusion(Denoiser(network, label=label), pixels, (8, 8)).save(tmp_path / "model")
    code = tmp_path / "model" / "code"
    assert sorted(str(file.relative_to(code)) for file in code.rglob("*.py")) == [
        "2/component.py", "2/my_twin.py", "component.py", "my_twin.py"
    ]  # fmt: skip
    for file in two_own:
        shutil.rmtree(file.parent)
    sys.modules.pop("my_twin", None)
    moved = nk.load(tmp_path / "model", allow_code=True)
    assert (moved.denoiser.backbone.number, moved.denoiser.noise_label.number) == (1, 2)
    moved.save(tmp_path / "again")
    again = nk.load(tmp_path / "again", allow_code=True)
    assert (again.denoiser.backbone.number, again.denoiser.noise_label.number) == (1, 2)


@pytest.mark.parametrize("written", ["code/own.py", "code\\own.py"])
@pytest.mark.parametrize("known", ["code/own.py", "code\\own.py"])
def test_a_copy_is_found_whichever_slashes_its_path_has(written, known, tmp_path):
    """A model is pushed with one spelling, and on Windows a path of its spec is read as the other."""
    copy = tmp_path / "code" / "own.py"
    copy.parent.mkdir()
    copy.write_text("", encoding="utf-8")
    description = {"backbone": f"{written}:Net(width=4)", "code": {known: "code/own.py"}}
    with located(description, tmp_path, Consent.of(True)) as found:
        assert found["backbone"] == f"{copy}:Net(width=4)"
    assert without_folders(description["backbone"], description["code"]).spec == "code/own.py:Net(width=4)"


def test_a_copy_outside_of_the_model_is_not_used(own, tmp_path):
    model_of(f"{own}:Net").save(tmp_path / "model")
    file = tmp_path / "model" / "model.json"
    own.rename(tmp_path / "elsewhere.py")
    for copy in ("../elsewhere.py", "code/../../elsewhere.py", str(tmp_path / "elsewhere.py")):
        description = json.loads(file.read_text(encoding="utf-8"))
        description["code"] = {str(own): copy}
        file.write_text(json.dumps(description), encoding="utf-8")
        with pytest.raises(ValueError, match="which does not exist"):
            nk.load(tmp_path / "model", allow_code=True)

"""Low-rank differences and adapters: nothing at the start, what was trained in the end, and off again."""

import copy
import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

import noisekiln as nk
from noisekiln.backbones.unet import Unet
from noisekiln.blocks.low_rank import LowRank, adapt, adapt_rows, adaptable_layers, lora_modules, lora_parameters
from noisekiln.codecs.pixels import Pixels
from noisekiln.conditioners.base import Conditioner
from noisekiln.conditioners.class_label import ClassLabel
from noisekiln.conditioners.text import Text
from noisekiln.denoisers import Denoiser
from noisekiln.levels import level
from noisekiln.model.adapter import (
    FILE,
    NEW_ROWS,
    Adapter,
    AdapterMetadata,
    merge,
    network_fingerprint,
    parse_adapter_option,
    unmerge,
)
from noisekiln.model.diffusion import Diffusion

LAYERS = {
    "linear": (lambda: nn.Linear(6, 10), (5, 6)),
    "conv1d": (lambda: nn.Conv1d(4, 8, 3), (2, 4, 9)),
    "conv2d": (lambda: nn.Conv2d(4, 8, 3, stride=2), (2, 4, 9, 9)),
    "grouped": (lambda: nn.Conv2d(4, 8, 3, groups=2), (2, 4, 9, 9)),
    "transposed": (lambda: nn.ConvTranspose2d(4, 8, 2, stride=2), (2, 4, 5, 5)),
}
every_layer = pytest.mark.parametrize("kind", LAYERS)


def made(kind: str) -> tuple[nn.Module, Tensor]:
    torch.manual_seed(0)
    make, shape = LAYERS[kind]
    return make(), torch.randn(shape)


def disturb(module: nn.Module, seed: int = 1) -> None:
    """Give every adapter weight a value, as training would."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.requires_grad:
                parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))


@every_layer
def test_an_adapted_layer_begins_as_it_was(kind: str):
    layer, x = made(kind)
    before = layer(x)
    adapt(layer, 2)
    assert torch.equal(layer(x), before)


@every_layer
def test_the_difference_has_its_rank_and_its_scale(kind: str):
    layer, _ = made(kind)
    weight = layer.weight.detach().clone()
    adapt(layer, 2)
    disturb(layer)
    up, down = lora_parameters(layer)
    change = (layer.weight - weight).flatten(1)
    assert torch.allclose(change, up @ down / 2**0.5, atol=1e-6)
    assert torch.linalg.matrix_rank(change, atol=1e-5) == 2


def test_only_differences_are_trained():
    network = Unet(3, vector=8, widths=(32,), blocks=(1,), attention=(0,), condition=16)
    before = {name: p.detach().clone() for name, p in network.named_parameters()}
    names = {f"{name}.weight" for name, _ in adaptable_layers(network)}
    assert {"conv_in.weight", "conv_out.weight", "embed_vector.weight", "middle.residual.0.conv1.weight"} < names
    assert {"middle.attention.0.qkv.weight", "middle.attention.0.out.weight"} < names
    adapt(network, 4)
    assert {name for name, _ in lora_modules(network)} == names
    trained = [p for p in network.parameters() if p.requires_grad]
    assert {id(p) for p in trained} == {id(p) for p in lora_parameters(network)}
    disturb(network)
    after = {name.replace("parametrizations.weight.original", "weight"): p for name, p in network.named_parameters()}
    assert all(torch.equal(after[name], value) for name, value in before.items())


def test_a_rank_beyond_the_matrix_is_cut():
    assert LowRank(torch.randn(3, 5, 1, 1), 64).up.shape == (3, 3)


def test_rows_of_a_table():
    table = nn.Embedding(6, 4).requires_grad_(False)
    before = table.weight.detach().clone()
    adapt_rows(table, torch.tensor([2, 5]))
    assert torch.equal(table.weight, before)
    table(torch.arange(6)).square().sum().backward()
    (difference,) = (p for p in table.parameters() if p.requires_grad)
    assert difference.grad is not None
    assert difference.grad.shape == (2, 4)
    disturb(table)
    changed = (table.weight != before).any(1)
    assert changed.tolist() == [False, False, True, False, False, True]


# Adapters of whole models


def make_model(seed: int = 0, conditioner: Conditioner | None = None) -> Diffusion:
    torch.manual_seed(seed)
    vector = conditioner.width if conditioner else 0
    network = Unet(3, vector, widths=(32,), blocks=(1,), patch=1, attention=(0,), condition=16)
    for parameter in network.parameters():  # nothing at zero, so that every weight counts
        nn.init.normal_(parameter, std=0.1)
    codec = Pixels((0.5,) * 3, (0.5,) * 3)
    return Diffusion(Denoiser(network), codec, (8, 8), conditioner).eval()


def adapted(base: Diffusion, rank: int = 2, seed: int = 1) -> tuple[Diffusion, Adapter]:
    model = copy.deepcopy(base)
    model.requires_grad_(False)
    adapt(model.denoiser.backbone, rank)
    disturb(model, seed)
    return model, Adapter.extract(model, base, rank, "runs/base")


def estimated_image(model: Diffusion, condition: str | None = None) -> Tensor:
    x = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(5))
    with torch.no_grad():
        return model.bind([condition, condition])(x, level(0.6, 0.8)).x


def weights(model: Diffusion) -> Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


def test_merge_and_unmerge(tmp_path: Path):
    base = make_model()
    before, estimate_before = weights(base), estimated_image(base)
    model, adapter = adapted(base)
    adapter.save(tmp_path / FILE)
    assert (estimated_image(model) - estimate_before).abs().max() > 0.05
    assert nk.merge(base, tmp_path) is base
    assert torch.allclose(estimated_image(base), estimated_image(model), atol=1e-5)
    nk.unmerge(base, tmp_path / FILE)
    assert torch.allclose(weights(base), before, atol=1e-6)
    assert torch.allclose(estimated_image(base), estimate_before, atol=1e-5)


def test_strength():
    base = make_model()
    before = weights(base)
    adapter = adapted(base)[1]
    full = weights(merge(copy.deepcopy(base), adapter)) - before
    for strength in (0.0, 0.5, -1.0, 2.0):
        other = weights(merge(copy.deepcopy(base), adapter, strength)) - before
        assert torch.allclose(other, strength * full, atol=1e-6)


def test_adapters_add_up_and_come_off_in_any_order():
    base = make_model()
    before = weights(base)
    one, two = adapted(base, seed=1)[1], adapted(base, rank=3, seed=2)[1]
    both = weights(merge(merge(base, one), two, 0.5))
    assert not torch.allclose(both, before, atol=1e-2)
    unmerge(unmerge(base, one), two, 0.5)
    assert torch.allclose(weights(base), before, atol=1e-6)


@pytest.mark.parametrize(
    ("before", "after", "condition"),
    [
        (ClassLabel(("cat", "dog"), 16), ClassLabel(("Dog", "bird"), 16), "bird"),
        (Text(("red", "hair"), 16, 3), Text(("green", "hair"), 16, 5), "green"),
    ],
)
def test_an_adapter_carries_new_classes_and_words(
    before: Conditioner, after: Conditioner, condition: str, tmp_path: Path
):
    base = make_model(conditioner=before)
    model = copy.deepcopy(base)
    model.conditioner = before.extended(after)
    model.requires_grad_(False)
    adapt(model.denoiser.backbone, 2)
    places = model.conditioner.encode([condition]).view(1, -1)[:, 0]
    adapt_rows(model.conditioner.get_submodule("vectors"), places)
    disturb(model)
    Adapter.extract(model, base, 2, "runs/base").save(tmp_path / FILE)
    old = (base.conditioner.choices or base.conditioner.words)[0]
    estimate_before = estimated_image(base, old)
    merge(base, tmp_path)
    assert torch.allclose(estimated_image(base, condition), estimated_image(model, condition), atol=1e-5)
    unmerge(base, tmp_path)
    assert torch.allclose(estimated_image(base, old), estimate_before, atol=1e-5)


def test_an_adapter_for_another_network():
    adapter = adapted(make_model())[1]
    for other in (make_model(seed=7), make_model(conditioner=ClassLabel(("a",), 16))):
        before = weights(other)
        with pytest.raises(
            ValueError, match=r"was trained for another model \(runs/base at that time\).* Give that model, or use"
        ):
            merge(other, adapter)
        assert torch.equal(weights(other), before)


def test_a_fingerprint_knows_adapters_from_training():
    base = make_model()
    mark = network_fingerprint(base.denoiser)
    assert network_fingerprint(merge(copy.deepcopy(base), adapted(base)[1]).denoiser) == mark
    with torch.no_grad():
        base.denoiser.backbone.get_parameter("embed_mix.bias").add_(1e-3)
    assert network_fingerprint(base.denoiser) != mark


def test_no_adapter(tmp_path: Path):
    with pytest.raises(ValueError, match=r"There is no adapter .*nowhere.*trained with `start` and `lora`"):
        merge(make_model(), tmp_path / "nowhere")
    with pytest.raises(ValueError, match="There is no adapter"):
        merge(make_model(), tmp_path)
    (tmp_path / FILE).write_bytes(b"cut off")
    with pytest.raises(ValueError, match="is not an adapter of noisekiln, or damaged"):
        merge(make_model(), tmp_path)
    make_model().save(tmp_path / "model")
    with pytest.raises(ValueError, match="is not an adapter of noisekiln, or damaged"):
        merge(make_model(), tmp_path / "model" / "model.safetensors")
    with pytest.raises(ValueError, match="strength=nan"):
        merge(make_model(), adapted(make_model())[1], float("nan"))


def test_an_adapter_never_runs_code():
    base = make_model(conditioner=ClassLabel(("a",), 16))
    adapter = adapted(base)[1]
    about = replace(adapter.about, conditioner="evil.py:Conditioner()", added=("b",))
    before = weights(base)
    with pytest.raises(ValueError, match="Code that an adapter names is never run"):
        merge(base, Adapter(about, adapter.tensors | {"conditioner.vectors.weight": torch.zeros(1, 16)}))
    assert torch.equal(weights(base), before)


def changed_adapters() -> dict[str, Callable[[AdapterMetadata, dict[str, Tensor]], object]]:
    """Changes of an adapter's metadata or tensors, by name; "n" is the first of its weights."""

    def replaced(name: str, change: Callable[[Tensor], Tensor]) -> Callable[..., object]:
        return lambda about, tensors: tensors.update({name: change(tensors[name])})

    first = "condition_embed.0.weight"
    return {
        "another name": lambda about, tensors: tensors.update({"x.up": tensors.pop(f"{first}.up")}),
        "one factor": lambda about, tensors: tensors.pop(f"{first}.up"),
        "no suffix": lambda about, tensors: tensors.update({"x": torch.zeros(1)}),
        "turned": replaced(f"{first}.up", lambda up: up.T.contiguous()),
        "another rank": replaced(f"{first}.down", lambda down: down[:1]),
        "not a matrix": replaced(f"{first}.up", torch.flatten),
        "integers": replaced(f"{first}.up", Tensor.long),
        "infinite": replaced(f"{first}.up", lambda up: up / 0),
        "another conditioner": lambda about, tensors: object.__setattr__(about, "conditioner", "text(words=('b',))"),
        "no conditioner": lambda about, tensors: object.__setattr__(about, "conditioner", "nothing_like_this"),
        "added without rows": lambda about, tensors: object.__setattr__(about, "added", ("a",)),
        "added unknown": lambda about, tensors: (
            object.__setattr__(about, "added", ("q",)), tensors.update({NEW_ROWS: torch.zeros(1, 16)})
        ),
        "rows of another width": lambda about, tensors: (
            object.__setattr__(about, "added", ("a",)), tensors.update({NEW_ROWS: torch.zeros(1, 7)})
        ),
    }  # fmt: skip


@pytest.mark.parametrize("name", changed_adapters())
def test_a_changed_adapter_is_refused_and_leaves_the_model_as_it_is(name: str):
    base = make_model(conditioner=ClassLabel(("a",), 16))
    adapter = adapted(base)[1]
    before, tensors = weights(base), dict(adapter.tensors)
    first = "condition_embed.0.weight"
    source = next(key.removesuffix(".up") for key in sorted(tensors) if key.endswith(".up"))
    tensors = {key.replace(source, first): tensor for key, tensor in tensors.items()}
    about = replace(adapter.about)
    changed_adapters()[name](about, tensors)
    tensors = {key.replace(first, source): tensor for key, tensor in tensors.items()}
    with pytest.raises(ValueError):
        merge(base, Adapter(about, tensors))
    assert torch.equal(weights(base), before)
    assert base.conditioner is not None
    assert base.conditioner.choices == ("a",)


@pytest.mark.parametrize(
    "entry",
    [{"scale": None}, {"scale": "1"}, {"scale": float("inf")}, {"rank": "2"}, {"rank": 2.5}, {"base": None},
     {"conditioner": 5.0}, {"added": [1]}, {"added": None}, {"start": []}],
    ids=str,
)  # fmt: skip
def test_metadata_of_another_type_are_refused_when_an_adapter_is_read(tmp_path: Path, entry: dict[str, object]):
    adapter = adapted(make_model())[1]
    adapter.save(tmp_path / FILE)
    about = {**asdict(adapter.about), **entry}
    save_file(adapter.tensors, tmp_path / FILE, metadata={"adapter": json.dumps(about)})
    with pytest.raises(ValueError, match="is not an adapter of noisekiln, or damaged"):
        Adapter.load(tmp_path)


def test_any_flipped_bit_of_an_adapter_is_noticed_and_files_without_a_sum_are_read(tmp_path: Path):
    file, adapter = tmp_path / FILE, adapted(make_model())[1]
    adapter.save(file)
    assert Adapter.load(file).about == adapter.about
    written = file.read_bytes()
    start = int.from_bytes(written[:8], "little") + 8
    scale = written.index(b'scale\\": ') + 9
    for place, bit in ((start, 0), (start + 5, 3), (len(written) - 1, 6), (scale + 3, 0)):
        flipped = bytearray(written)
        flipped[place] ^= 1 << bit
        file.write_bytes(flipped)
        with pytest.raises(ValueError, match=r"damaged|SHA-256"):
            Adapter.load(file)
    save_file(adapter.tensors, file, metadata={"adapter": json.dumps(asdict(adapter.about))})
    assert Adapter.load(file).about == adapter.about


def test_a_place_and_a_strength(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    assert parse_adapter_option("runs/style") == ("runs/style", 1.0)
    assert parse_adapter_option("runs/style:0.7") == ("runs/style", 0.7)
    assert parse_adapter_option("runs/style:-1") == ("runs/style", -1.0)
    assert parse_adapter_option("C:\\runs\\style") == ("C:\\runs\\style", 1.0)
    (tmp_path / "a:1").mkdir()
    assert parse_adapter_option("a:1") == ("a:1", 1.0)

"""`nk.TrainingLoss` and `nk.Ema` in other people's loops: the loss of `nk.train`, from batches of any loader."""

import pytest
import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

import noisekiln as nk

PIXELS = torch.randint(0, 256, (6, 8, 8, 3), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
PIXELS[0, 0, 0], PIXELS[0, 0, 1] = 0, 255
FIRST = PIXELS.permute(0, 3, 1, 2).float() / 255


def model(classes=(), task=None):
    torch.manual_seed(0)
    label = nk.ClassLabel(tuple(classes), width=4) if classes else None
    network = nk.SimpleUnet(3, label.sizes.vector if label else 0, width=8)
    for weight in network.parameters():  # those that begin at zero would hide what the network reads
        torch.nn.init.normal_(weight, std=0.3)
    return nk.Diffusion(nk.Denoiser(network), nk.Pixels((0.5,) * 3, (0.25,) * 3), (8, 8), label, task=task)


def generator(seed=3):
    return torch.Generator().manual_seed(seed)


def test_it_is_the_objective_of_the_encoded_images():
    own = model()
    found = nk.TrainingLoss(own)(PIXELS, generator=generator())
    expected = nk.Denoising()(own.denoiser, (FIRST - 0.5) / 0.25, generator=generator())
    torch.testing.assert_close(found.value, expected.value)
    torch.testing.assert_close(found.level.sigma, expected.level.sigma)
    found.value.backward()
    assert all(weight.grad is not None for weight in own.denoiser.parameters())


@pytest.mark.parametrize(
    ("images", "value_range"),
    [
        (PIXELS.permute(0, 3, 1, 2), (0, 255)),
        (PIXELS.float(), (0, 255)),
        (FIRST, (0, 1)),
        (FIRST * 2 - 1, (-1, 1)),
        (FIRST.permute(0, 2, 3, 1), (0.0, 1.0)),
    ],
)
def test_images_of_any_layout_and_range_are_the_same_images(images, value_range):
    own = model()
    expected = nk.TrainingLoss(own)(PIXELS, generator=generator()).value
    found = nk.TrainingLoss(own, value_range=value_range)(images, generator=generator()).value
    torch.testing.assert_close(found, expected)


def test_conditions_are_names_or_numbers_and_some_are_dropped():
    own = model(["cat", "dog"])
    seen = []
    own.conditioner.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].tolist()))
    loss = nk.TrainingLoss(own, cond_dropout=0)
    loss(PIXELS, torch.tensor([0, 1, 1, 0, 0, 1]))
    loss(PIXELS, ("cat", "dog", "dog", None, "cat", "dog"))
    loss(PIXELS)
    nk.TrainingLoss(own, cond_dropout=1)(PIXELS, [0] * 6)
    assert seen == [[0, 1, 1, 0, 0, 1], [0, 1, 1, 2, 0, 1], [2] * 6, [2] * 6]
    seen.clear()
    half = nk.TrainingLoss(own, cond_dropout=0.5)
    for seed in range(100):
        half(PIXELS, [0] * 6, generator(seed))
    assert abs(sum(labels.count(2) for labels in seen) / 600 - 0.5) < 0.1


def test_without_a_generator_torch_s_own_seed_counts():
    loss, values = nk.TrainingLoss(model()), []
    for seed in (5, 5, 6):
        torch.manual_seed(seed)
        values.append(loss(PIXELS).value.item())
    assert values[0] == values[1] != values[2]


def test_the_codec_is_neither_trained_nor_put_in_training_mode():
    own = model()
    own.codec = nk.Autoencoder(factor=2, channels=3, width=16, image_channels=3)
    loss = nk.TrainingLoss(own).train()
    assert own.denoiser.training
    assert not own.codec.training
    assert not any(weight.requires_grad for weight in own.codec.parameters())
    loss(PIXELS).value.backward()


@pytest.fixture
def one_process(tmp_path):
    dist.init_process_group("gloo", init_method=f"file://{tmp_path / 'store'}", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def test_ddp_wraps_it(one_process):
    """DDP averages the gradients of what runs in `forward`: the reducer must see all of them."""
    own = model()
    wrapped = DistributedDataParallel(nk.TrainingLoss(own))
    seen = []
    wrapped.register_comm_hook(None, lambda _, bucket: seen.append(bucket.buffer().clone()) or _done(bucket.buffer()))
    wrapped(PIXELS, generator=generator()).value.backward()
    gradients = [weight.grad for weight in own.denoiser.parameters()]
    assert sum(map(torch.numel, seen)) == sum(map(torch.numel, gradients))
    nk.TrainingLoss(other := model())(PIXELS, generator=generator()).value.backward()
    for one, two in zip(gradients, other.denoiser.parameters(), strict=True):
        torch.testing.assert_close(one, two.grad)


def _done(buffer):
    future = torch.futures.Future()
    future.set_result(buffer)
    return future


def test_it_learns_and_what_it_trained_is_saved(tmp_path):
    """Of one constant image: samples of the averaged weights are that image."""
    grey = torch.full((16, 8, 8, 3), 160, dtype=torch.uint8)
    torch.manual_seed(0)
    own = nk.Diffusion(nk.Denoiser(nk.Unet(3, widths=(32,), blocks=(1,))), nk.Pixels((0.5,) * 3, (0.25,) * 3), (8, 8))

    def distance(images):
        return (images.as_subclass(torch.Tensor).float() - 160).abs().mean()

    assert distance(own.sample(4, seed=0, steps=10)) > 40
    loss, ema = nk.TrainingLoss(own), nk.Ema(own)
    optimizer = torch.optim.AdamW(loss.parameters(), lr=3e-3)
    for step in range(120):
        loss(grey).value.backward()
        optimizer.step()
        optimizer.zero_grad()
        ema.update(own, 16 * (step + 1))
    averaged = ema.averaged(own)
    assert averaged is not own
    weights = zip(ema.tracks[0].values(), averaged.parameters(), own.parameters(), strict=True)
    assert all(torch.equal(average, new) and not torch.equal(new, last) for average, new, last in weights)
    averaged.save(tmp_path / "model")
    images = nk.load(tmp_path / "model").sample(4, seed=0, steps=10)
    assert distance(images) < 20  # it is 13


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: nk.TrainingLoss(model(), cond_dropout=2), "`cond_dropout=2`.*a share from 0 to 1"),
        (lambda: nk.TrainingLoss(model(), value_range=(1, 0)), r"`value_range=\(1, 0\)`.*value of black"),
        (lambda: nk.TrainingLoss(model(task=nk.Colorize())), "colorize needs a second image or a second model"),
        (lambda: nk.TrainingLoss(model())(PIXELS[:, :4]), r"\(6, 4, 8, 3\) do not fit a model of 8x8 pixels and 3 ch"),
        (lambda: nk.TrainingLoss(model())(FIRST), r"values from 0 to 1, and `value_range` says \(0.0, 255.0\)"),
        (lambda: nk.TrainingLoss(model(), value_range=(0, 1))(FIRST * 2 - 1), "values from -1 to 1, and"),
        (lambda: nk.TrainingLoss(model(), value_range=(-1, 1))(PIXELS), "values from 0 to 255, and"),
        (lambda: nk.TrainingLoss(model())(PIXELS, [0] * 6), "was trained without conditions"),
        (lambda: nk.TrainingLoss(model(["cat"]))(PIXELS, ["cat"]), "There are 6 images and 1 condition. Give one"),
        (lambda: nk.TrainingLoss(model(["cat"]))(PIXELS, ["cow"] * 6), "There is no class called 'cow'"),
    ],
)
def test_what_does_not_fit_is_refused(call, says):
    with pytest.raises(ValueError, match=says):
        call()


def test_a_text_of_the_data_is_one_of_its_captions_as_it_stands():
    own = nk.Diffusion(
        nk.Denoiser(nk.Unet(3, vector=8, widths=(32,), blocks=(1,), condition=16)),
        nk.Pixels((0.5,) * 3, (0.5,) * 3),
        (8, 8),
        nk.Text(("red", "blue", "sign", "1", "5"), 8, 5),
    )
    seen = []
    own.conditioner.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0][..., :2].tolist()))
    loss = nk.TrainingLoss(own, cond_dropout=0)
    texts = ["a red\na blue", "a sign: 1.5", "", None, "blue", "red, Negative prompt: blue"]
    loss(PIXELS, texts, generator=generator())
    read = [[place[0] for place in row if place[1]] for row in seen[0]]
    assert read[0] in ([1], [2]), "one line of two"
    assert read[1] == [3, 4, 5], "no weight"
    assert read[2:5] == [[], [], [2]]
    assert read[5] == [1, 2], "nothing is negative"
    draws = set()
    for _ in range(20):
        seen.clear()
        loss(PIXELS[:1], texts[:1])
        draws.add(seen[0][0][0][0])
    assert draws == {1, 2}

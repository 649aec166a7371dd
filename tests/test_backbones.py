import inspect

import pytest
import torch
from torch import nn

from noisekiln.backbones.base import INTERFACE, Backbone
from noisekiln.backbones.dit import Dit
from noisekiln.blocks.attention import Attention
from noisekiln.components.registry import find, names
from noisekiln.components.spec import build, describe, with_defaults
from noisekiln.conditions import NOTHING, Cond

SMALL = {
    "width": 16,
    "widths": (32, 64),
    "blocks": (1, 1),
    "depth": 2,
    "head": 8,
}  # settings that make a backbone small, where it has them
SIZES = [(8, 8), (7, 9), (28, 28), (16, 24), (5, 5)]
every_backbone = pytest.mark.parametrize("name", names("backbones"))


def make(name, channels, vector, image=0):
    kind = find(Backbone, name)
    settings = {key: value for key, value in SMALL.items() if key in inspect.signature(kind).parameters}
    torch.manual_seed(0)
    backbone = kind(channels=channels, vector=vector, image=image, **settings)
    for parameter in backbone.parameters():  # a last layer of zeros would hide what is behind it
        if not bool(parameter.any()):
            nn.init.normal_(parameter, std=0.02)
    return backbone


@pytest.mark.parametrize("vector", [0, 6])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@every_backbone
def test_any_channels_and_size_with_gradients_everywhere(name, channels, vector):
    backbone = make(name, channels, vector)
    cond = Cond(vector=torch.randn(2, vector)) if vector else NOTHING
    for size in SIZES:
        x = torch.randn(2, channels, *size)
        y = backbone(x, torch.tensor([0.1, 0.9]), cond)
        assert y.shape == x.shape
        backbone.zero_grad()
        y.square().sum().backward()
        for parameter_name, parameter in backbone.named_parameters():
            assert parameter.grad is not None, (parameter_name, size)
            assert bool(parameter.grad.isfinite().all()), (parameter_name, size)
            if size == (16, 24):
                assert bool(parameter.grad.any()), parameter_name


@every_backbone
def test_image_noise_and_vector_are_all_read(name):
    backbone = make(name, 3, 6).eval()
    x, noise, vector = torch.randn(2, 3, 8, 8), torch.tensor([0.3, 0.3]), torch.randn(2, 6)
    y = backbone(x, noise, Cond(vector=vector))
    assert not torch.allclose(backbone(x + 0.1 * torch.randn_like(x), noise, Cond(vector=vector)), y, atol=1e-6)
    assert not torch.allclose(backbone(x, noise + 0.4, Cond(vector=vector)), y, atol=1e-6)
    assert not torch.allclose(backbone(x, noise, Cond(vector=-vector)), y, atol=1e-6)


@every_backbone
def test_images_of_a_batch_do_not_see_each_other(name):
    backbone = make(name, 2, 6).train()
    x, noise, vector = torch.randn(3, 2, 8, 8), torch.tensor([0.1, 0.5, 0.9]), torch.randn(3, 6)
    together = backbone(x, noise, Cond(vector=vector))
    for i in range(3):
        alone = backbone(x[i : i + 1], noise[i : i + 1], Cond(vector=vector[i : i + 1]))
        torch.testing.assert_close(alone[0], together[i], rtol=1e-4, atol=1e-5)


@every_backbone
def test_slots_that_it_does_not_read_may_be_filled_or_empty(name):
    without = make(name, 1, 0)
    x, noise = torch.randn(2, 1, 8, 8), torch.tensor([0.1, 0.9])
    filled = Cond(vector=torch.randn(2, 6))
    torch.testing.assert_close(without(x, noise, filled), without(x, noise, NOTHING))
    assert make(name, 1, 6)(x, noise, NOTHING).shape == x.shape


@every_backbone
def test_memory_format_makes_no_difference(name):
    backbone = make(name, 3, 0)
    x, noise = torch.randn(2, 3, 16, 16), torch.tensor([0.1, 0.9])
    plain = backbone(x, noise, NOTHING)
    last = backbone.to(memory_format=torch.channels_last)(x.to(memory_format=torch.channels_last), noise, NOTHING)
    torch.testing.assert_close(last, plain, rtol=1e-4, atol=1e-4)


# --- seeing an image beside the noisy one


@pytest.mark.parametrize("size", SIZES)
@every_backbone
def test_the_condition_image_is_read_if_it_is_requested(name, size):
    """At the same position: padding, where a size does not divide, is the same for image and condition image."""
    backbone = make(name, 3, 6, image=2).eval()
    x, noise, image = torch.randn(2, 3, *size), torch.tensor([0.1, 0.9]), torch.randn(2, 2, *size)
    vector = torch.randn(2, 6)
    y = backbone(x, noise, Cond(vector=vector, image=image))
    assert y.shape == x.shape
    assert not torch.allclose(backbone(x, noise, Cond(vector=vector, image=-image)), y, atol=1e-6)
    assert torch.equal(backbone(x, noise, Cond(vector=vector)), backbone(x, noise, Cond(vector, image=0 * image)))


@every_backbone
def test_without_channels_for_it_an_image_changes_nothing(name):
    torch.manual_seed(0)
    x, noise, image = torch.randn(2, 1, 8, 8), torch.tensor([0.1, 0.9]), torch.randn(2, 4, 8, 8)
    backbone = make(name, 1, 0)
    assert torch.equal(backbone(x, noise, Cond(image=image)), backbone(x, noise, NOTHING))
    assert backbone.image == 0


@every_backbone
def test_the_image_is_in_what_is_saved(name):
    made = make(name, 1, 0, image=2)
    again = build(Backbone, describe(made, include_defaults=True))
    assert {k: v.shape for k, v in again.state_dict().items()} == {k: v.shape for k, v in made.state_dict().items()}


# --- the interface and the sizes


@every_backbone
def test_it_takes_channels_and_declares_what_it_reads(name):
    parameters = inspect.signature(find(Backbone, name)).parameters
    assert "channels" in parameters
    assert {"vector", "tokens"} & set(parameters), "a network without conditions cannot be guided"
    made = make(name, 2, 6, image=1)
    assert (made.channels, made.vector, made.image) == (2, 6, 1)
    own = [p for key, p in parameters.items() if key not in INTERFACE]
    assert all(p.default is not p.empty for p in own), "settings need defaults: a spec may be just the name"


@every_backbone
def test_sizes_make_larger_and_larger_networks(name):
    kind = find(Backbone, name)
    assert kind.default_size in ("", *kind.sizes)
    counts = []
    for size in kind.sizes:
        spec = with_defaults(Backbone, name, kind.sized(size, (32, 32)))
        network = build(Backbone, spec, channels=3, vector=0, tokens=0, image=0)
        counts.append(sum(parameter.numel() for parameter in network.parameters()))
    assert counts == sorted(set(counts))


def test_arguments_of_a_spec_override_the_size():
    spec = with_defaults(Backbone, "unet(patch=4)", find(Backbone, "unet").sized("xs", (64, 64)))
    made = build(Backbone, spec, channels=1, vector=0, tokens=0, image=0)
    assert made.patch == 4
    assert made.widths[:2] == (32, 64)


# --- words as tokens


def words_net():
    torch.manual_seed(0)
    network = Dit(1, tokens=5, width=16, depth=2, head=8)
    for parameter in network.parameters():
        if not bool(parameter.any()):
            nn.init.normal_(parameter, std=0.2)
    return network


def test_words_are_read_where_the_mask_is_true():
    network, x, noise = words_net(), torch.randn(2, 1, 6, 8), torch.tensor([0.2, 0.7])
    tokens, mask = torch.randn(2, 3, 5), torch.tensor([[True, True, False], [True, True, True]])
    y = network(x, noise, Cond(tokens=tokens, mask=mask))
    others = tokens.clone()
    others[0, 2] += 1  # not used
    torch.testing.assert_close(network(x, noise, Cond(tokens=others, mask=mask)), y)
    others[1, 2] += 1  # used
    assert not torch.allclose(network(x, noise, Cond(tokens=others, mask=mask))[1], y[1], atol=1e-5)
    torch.testing.assert_close(network(x[:1], noise[:1], Cond(tokens=tokens[:1, :2])), y[:1])


def test_an_image_without_words_is_that_of_a_network_that_is_shown_none():
    network, x, noise = words_net(), torch.randn(1, 1, 6, 8), torch.tensor([0.2])
    empty = Cond(tokens=torch.randn(1, 3, 5), mask=torch.zeros(1, 3, dtype=torch.bool))
    torch.testing.assert_close(network(x, noise, empty), network(x, noise, NOTHING))


def test_the_length_of_tokens_does_not_matter():
    """Encoders' outputs differ in length by orders of magnitude."""
    network, x, noise, tokens = words_net(), torch.randn(1, 1, 6, 8), torch.tensor([0.2]), torch.randn(1, 3, 5)
    torch.testing.assert_close(
        network(x, noise, Cond(tokens=100 * tokens)), network(x, noise, Cond(tokens=tokens)), rtol=1e-4, atol=1e-4
    )


def test_a_transformer_has_at_most_256_patches():
    for side, patch in ((8, 1), (16, 1), (28, 2), (32, 2), (33, 4), (64, 4), (128, 8), (256, 16)):
        assert Dit.sized("s", (side, side // 2))["patch"] == patch


@pytest.mark.parametrize(("side", "pixels", "latents"), [(8, 1, 1), (16, 2, 1), (23, 2, 1), (24, 2, 2), (32, 2, 2)])
def test_a_position_of_latents_is_not_joined_with_others_where_x_is_small(side, pixels, latents):
    unet = find(Backbone, "unet")
    assert unet.sized("s", (side, side))["patch"] == pixels
    assert unet.sized("s", (side, side), latents=True)["patch"] == latents


def test_the_lowest_level_can_be_named_from_below():
    for attention in ((1,), (-1,)):
        network = build(Backbone, f"unet(widths=(32,64),blocks=(1,2),attention={attention})", channels=4)
        found = [part.qkv.in_features for part in network.modules() if isinstance(part, Attention)]
        assert found == [64, 64]
    with pytest.raises(ValueError, match="levels 0 to 1, -1 for the lowest"):
        build(Backbone, "unet(widths=(32,64),blocks=(1,2),attention=(-3,))", channels=4)


def test_impossible_sizes_of_a_transformer_are_refused():
    for settings, said in (
        ({"width": 100}, "multiple of `head`"),
        ({"head": 6}, "multiple of 4"),
        ({"depth": 0}, "1 or"),
    ):
        with pytest.raises(ValueError, match=said):
            Dit(1, **settings)

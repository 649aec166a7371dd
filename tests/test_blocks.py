"""Layers that networks are built of, against what they are by hand."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from noisekiln.backbones.unet import Unet
from noisekiln.blocks.attention import Attention
from noisekiln.blocks.fourier import Fourier
from noisekiln.blocks.residual import Residual
from noisekiln.levels import level
from noisekiln.noise_labels.log_nsr import LogNsr


def test_attention_is_the_textbooks_head_by_head():
    torch.manual_seed(0)
    layer = Attention(8, head=4, group=4)
    nn.init.normal_(layer.out.weight)
    x = torch.randn(2, 8, 2, 3)
    with torch.no_grad():
        y = layer(x)
        rows = layer.norm(x).flatten(2).mT  # (B, H W, C)
        q, k, v = (rows @ weight.T for weight in layer.qkv.weight.chunk(3))
        heads = []
        for head in (slice(0, 4), slice(4, 8)):
            weights = (q[..., head] @ k[..., head].mT / 4**0.5).softmax(-1)
            heads.append(weights @ v[..., head])
        expected = x + (torch.cat(heads, -1) @ layer.out.weight.T).mT.reshape(x.shape)
    torch.testing.assert_close(y, expected)


def test_features_of_a_noise_label_have_unit_variance():
    features = Fourier(64)(torch.linspace(-60, 60, 20_001))
    assert abs(float(features.square().mean()) - 1) < 1e-3
    torch.testing.assert_close(features[10_000, :32], torch.full((32,), 2**0.5))  # cosines of zero


def test_the_label_of_edm_is_a_quarter_of_the_logarithm():
    """c_noise of Karras et al. 2022, table 1."""
    assert float(LogNsr()(level(0.5, 0.5 * 2.718281828459045**2))) == pytest.approx(0.5)


def test_an_embedding_of_zero_leaves_the_normalised_middle_as_it_is():
    torch.manual_seed(0)
    block = Residual(4, 3, group=2)
    nn.init.normal_(block.conv2.weight)
    x = torch.randn(2, 4, 5, 5)
    with torch.no_grad():
        middle = block.norm2(block.conv1(F.silu(block.norm1(x))))
        torch.testing.assert_close(block(x, torch.zeros(2, 3)), x + block.conv2(F.silu(middle)))


def test_an_embedding_scales_and_shifts_the_middle():
    torch.manual_seed(0)
    block = Residual(4, 8, group=2)
    nn.init.normal_(block.conv2.weight)
    nn.init.eye_(block.modulate.weight)  # the embedding is (scale, shift)
    x, scale, shift = torch.randn(2, 4, 5, 5), torch.randn(2, 4), torch.randn(2, 4)
    with torch.no_grad():
        middle = block.norm2(block.conv1(F.silu(block.norm1(x))))
        moved = middle * (1 + scale[..., None, None]) + shift[..., None, None]
        expected = x + block.conv2(F.silu(moved))
        torch.testing.assert_close(block(x, torch.cat([scale, shift], 1)), expected)


def test_the_edges_of_a_network_are_the_layers_that_face_x():
    network = Unet(3, widths=(32,), blocks=(1,), patch=1, condition=8)
    first, last = network.edges()
    assert isinstance(first, nn.Conv2d)
    assert isinstance(last, nn.Conv2d)
    assert (first.in_channels, last.out_channels) == (3, 3)
    assert first is not last

"""Layers that networks are built of, against what they are by hand."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from noisekiln.backbones.unet import Unet
from noisekiln.blocks.attention import Attention
from noisekiln.blocks.cross_attention import CrossAttention
from noisekiln.blocks.fourier import Fourier
from noisekiln.blocks.residual import Residual
from noisekiln.blocks.rotary import rotary_angles, rotate
from noisekiln.blocks.transformer_block import GatedFeedForward, RotaryAttention, TransformerBlock
from noisekiln.blocks.word_attention import WordAttention
from noisekiln.conditions import NOTHING, Cond
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


def test_cross_attention_is_the_textbooks_with_a_learned_token():
    torch.manual_seed(0)
    layer = CrossAttention(8, 5, head=4, group=4)
    x, tokens, mask = torch.randn(2, 8, 2, 3), torch.randn(2, 4, 5), torch.tensor([[1, 1, 0, 0], [0, 0, 0, 0]]).bool()
    assert torch.equal(layer(x, tokens, mask), x), "the identity at the start"
    nn.init.normal_(layer.out.weight)
    nn.init.normal_(layer.no_word)
    with torch.no_grad():
        y = layer(x, tokens, mask)
        for row, used in ((0, tokens[0, :2]), (1, tokens[1, :0])):
            rows = layer.norm(x)[row].flatten(1).mT
            words = torch.cat([layer.no_word[None], used])
            q, (k, v) = rows @ layer.q.weight.T, (words @ weight.T for weight in layer.kv.weight.chunk(2))
            heads = [(q[:, h] @ k[:, h].mT / 4**0.5).softmax(-1) @ v[:, h] for h in (slice(0, 4), slice(4, 8))]
            expected = x[row] + (torch.cat(heads, -1) @ layer.out.weight.T).mT.reshape(8, 2, 3)
            torch.testing.assert_close(y[row], expected)
        torch.testing.assert_close(layer(x, tokens), layer(x, tokens, torch.ones(2, 4).bool()))


def test_a_unet_reads_tokens_if_it_is_built_for_them_and_is_the_same_without():
    settings = {"channels": 1, "vector": 3, "widths": (32, 32), "blocks": (1, 2), "condition": 8}
    torch.manual_seed(0)
    plain = Unet(**settings)
    after = torch.rand(1)
    torch.manual_seed(0)
    reads = Unet(**settings, tokens=6)
    same = plain.state_dict()
    assert all(torch.equal(weight, reads.state_dict()[name]) for name, weight in same.items())
    assert {name.partition(".")[0] for name in reads.state_dict().keys() - same.keys()} == {"read_tokens"}
    assert len(reads.read_tokens) == 2, "one after each block of the lowest level"
    torch.manual_seed(0)
    Unet(**settings)
    assert torch.equal(torch.rand(1), after), "and draws no other random numbers"
    nn.init.normal_(plain.conv_out.weight)
    reads.conv_out.weight.data.copy_(plain.conv_out.weight)
    x, noise = torch.randn(2, 1, 8, 8), torch.rand(2)
    cond = Cond(torch.randn(2, 3), torch.randn(2, 4, 6), torch.ones(2, 4).bool())
    with torch.no_grad():
        assert torch.equal(plain(x, noise, cond), plain(x, noise, cond._replace(tokens=None, mask=None)))
        assert torch.equal(reads(x, noise, cond), plain(x, noise, cond)), "gates are zero"
        nn.init.normal_(reads.read_tokens[0].out.weight)
        assert not torch.allclose(reads(x, noise, cond), plain(x, noise, cond))
        assert torch.equal(reads(x, noise, NOTHING), plain(x, noise, NOTHING)), "tokens may be missing"
        empty = cond._replace(mask=torch.zeros(2, 4).bool())
        assert bool(reads(x, noise, empty).isfinite().all())


def test_words_attend_to_words_alone():
    torch.manual_seed(0)
    layer = WordAttention(8)
    x = torch.randn(2, 5, 8)
    mask = torch.tensor([[1, 1, 1, 0, 0], [0, 0, 0, 0, 0]]).bool()
    x = x * mask[..., None]
    assert torch.equal(layer(x, mask), x), "the identity at the start"
    nn.init.normal_(layer.attention.out.weight)
    with torch.no_grad():
        y = layer(x, mask)
        assert bool(y.isfinite().all())
        assert not y[~mask].any()
        torch.testing.assert_close(y[:1, :3], layer(x[:1, :3], mask[:1, :3]))
        swapped = layer(x[:, [1, 0, 2, 3, 4]], mask)
        assert not torch.allclose(swapped[0, 2], y[0, 2]), "the order of words matters"
    with pytest.raises(ValueError, match="needs a multiple of 4"):
        WordAttention(6)


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


# --- transformers


def test_rotated_vectors_know_only_how_far_apart_they_are():
    torch.manual_seed(0)
    angles = rotary_angles(4, 5, 8, torch.device("cpu"))
    q, k = (rotate(torch.randn(8).double().expand(20, 8), angles.cos(), angles.sin()) for _ in range(2))
    product = (q @ k.T).view(4, 5, 4, 5)  # from (row, column) to (row, column)
    torch.testing.assert_close(product[1:, 1:, 1:, 1:], product[:-1, :-1, :-1, :-1], rtol=1e-5, atol=1e-6)
    assert len(product[0, 0].flatten().mul(1e4).round().unique()) == 20  # every offset is told apart


def test_rotation_keeps_lengths_and_begins_with_no_turn():
    x, angles = torch.randn(6, 8), rotary_angles(2, 3, 8, torch.device("cpu"))
    turned = rotate(x, angles.cos(), angles.sin())
    torch.testing.assert_close(turned.norm(dim=1), x.norm(dim=1))
    assert torch.equal(turned[0], x[0])
    assert bool((angles[1] * torch.tensor([0, 0, 1, 1]) == angles[1]).all())  # a column further: the second half
    assert float(angles[1, 2]) == 1.0


def test_rotary_attention_is_the_textbooks_head_by_head():
    torch.manual_seed(0)
    layer, angles = RotaryAttention(8, head=4), rotary_angles(2, 3, 4, torch.device("cpu"))
    nn.init.normal_(layer.norm_q)
    nn.init.normal_(layer.norm_k)
    x, mask = torch.randn(2, 6, 8), torch.rand(2, 6) > 0.3
    with torch.no_grad():
        y = layer(x, (angles.cos(), angles.sin()), mask)
        q, k, v = (x @ weight.T for weight in layer.qkv.weight.chunk(3))
        heads = []
        for head in (slice(0, 4), slice(4, 8)):
            a, b = (
                rotate(part / part.square().mean(-1, keepdim=True).sqrt() * norm, angles.cos(), angles.sin())
                for part, norm in ((q[..., head], layer.norm_q), (k[..., head], layer.norm_k))
            )
            scores = (a @ b.mT / 2).masked_fill(~mask[:, None], -torch.inf)
            heads.append(scores.softmax(-1) @ v[..., head])
        expected = torch.cat(heads, -1) @ layer.out.weight.T
    torch.testing.assert_close(y, expected, rtol=1e-4, atol=1e-4)


def test_a_transformer_block_starts_as_the_identity_and_is_modulated_by_its_embedding():
    torch.manual_seed(0)
    block, angles = TransformerBlock(8, 48, head=4), rotary_angles(2, 2, 4, torch.device("cpu"))
    x, rotation = torch.randn(2, 4, 8), (angles.cos(), angles.sin())
    assert torch.equal(block(x, torch.randn(2, 48), rotation), x)
    nn.init.eye_(block.modulate.weight)  # the embedding is scale, shift, gate of both parts
    scale1, shift1, gate1, scale2, shift2, gate2 = embedding = torch.randn(6, 2, 1, 8).unbind()
    with torch.no_grad():
        normal = x / x.square().mean(-1, keepdim=True).sqrt()
        y = x + gate1 * block.attention(normal * (1 + scale1) + shift1, rotation, None)
        normal = y / y.square().mean(-1, keepdim=True).sqrt()
        y = y + gate2 * block.feed_forward(normal * (1 + scale2) + shift2)
        torch.testing.assert_close(block(x, torch.cat(embedding, dim=2)[:, 0], rotation), y, rtol=1e-4, atol=1e-4)


def test_the_gated_layer_costs_as_much_as_an_ordinary_one():
    layer, x = GatedFeedForward(96), torch.randn(2, 96)
    assert sum(weight.numel() for weight in layer.parameters()) == 2 * 96 * 4 * 96
    with torch.no_grad():
        gate, inner = x @ layer.gate.weight.T, x @ layer.inner.weight.T
        torch.testing.assert_close(layer(x), (gate * gate.sigmoid() * inner) @ layer.out.weight.T)

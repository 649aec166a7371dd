import pytest
import torch
from torch import nn

from noisekiln.backbones.base import Backbone
from noisekiln.conditions import NOTHING, Cond
from noisekiln.denoisers import Denoiser
from noisekiln.guidance.classifier_free import ClassifierFree
from noisekiln.levels import CLEAN, Level, level

X = torch.randn(3, 2, 4, 4, generator=torch.Generator().manual_seed(0))
T, S = level(0.6, 0.8), level(0.9, 0.2)


class Recording(Backbone):
    """A network that remembers its noise labels, and depends on the vector."""

    def __init__(self) -> None:
        super().__init__()
        self.noise: list[torch.Tensor] = []
        self.gain = nn.Parameter(torch.ones(()))

    def forward(self, x, noise, cond):
        self.noise.append(noise)
        return self.gain * x * (1 if cond.vector is None else cond.vector[:, :1, None, None])


class TwoLevels(Recording):
    reads_target = True


def test_a_network_gets_one_label_an_image_of_the_images_type():
    denoiser = Denoiser(Recording())
    denoiser(X, T)
    denoiser(X.double(), Level(*(c.expand(3, 1, 1, 1) for c in T)))
    single, batched = denoiser.backbone.noise
    assert (single.shape, single.dtype) == ((3,), torch.float32)
    assert (batched.shape, batched.dtype) == ((3,), torch.float64)
    torch.testing.assert_close(single.double(), batched, rtol=0, atol=1e-7)


@pytest.mark.parametrize("to", [S, CLEAN])
def test_a_network_that_reads_the_target_gets_its_label_beside_that_of_the_level(to):
    denoiser = Denoiser(TwoLevels())
    bound = denoiser.bind(NOTHING)
    bound(X, T, to=to)
    bound(X, T)
    with_target, without = denoiser.backbone.noise
    label = [float(denoiser.noise_label(at)) for at in (T, to)]
    torch.testing.assert_close(with_target, torch.tensor([label]).expand(3, 2))
    assert torch.equal(without[:, 0], without[:, 1])  # no target: as if the step ended where it begins


def test_both_conditions_in_one_call_are_each_alone():
    denoiser = Denoiser(Recording())
    one, other = Cond(torch.full((3, 1), 2.0)), Cond(torch.full((3, 1), -1.0))
    for both, alone in zip(denoiser.bind_both(one, other)(X, T), (one, other), strict=True):
        torch.testing.assert_close(both.x, denoiser.bind(alone)(X, T).x)


def test_bound_and_guided_models_say_what_they_are():
    denoiser = Denoiser(Recording())
    cond = Cond(torch.ones(3, 1), image=torch.zeros(3, 1, 4, 4))
    bound, both = denoiser.bind(cond), denoiser.bind_both(cond, cond)
    assert repr(bound) == "Bound(Recording, Cond(vector=(3, 1), image=(3, 1, 4, 4)))"
    assert repr(denoiser.bind(NOTHING)) == "Bound(Recording, Cond())"
    guided = repr(ClassifierFree(3.0)(bound, both))
    assert guided.startswith("Guided(guidance=ClassifierFree(scale=3.0, ")
    assert repr(bound) in guided
    assert "BoundPair(Recording, Cond(vector=(6, 1), image=(6, 1, 4, 4)))" in guided


def test_an_output_of_another_shape_than_the_images_is_explained():
    class Wider(Recording):
        def forward(self, x, noise, cond):
            return torch.cat([x, x], dim=1)

    with pytest.raises(ValueError, match=r"Wider returned the shape \(3, 4, 4, 4\) for images of \(3, 2, 4, 4\)"):
        Denoiser(Wider())(X, T)

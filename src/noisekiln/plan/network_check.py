"""Check of a network before training: it has something to train, and returns what it is trained to."""

import torch

from noisekiln.codecs.base import Size, check_image_size
from noisekiln.components.registry import name_of
from noisekiln.conditions import NOTHING, Cond
from noisekiln.levels import level
from noisekiln.model.diffusion import Diffusion
from noisekiln.plan.learner import Learner


@torch.no_grad()
def check_network(learner: Learner, size: Size) -> None:
    """Call the network once with noise-free x, in evaluation mode; no random number is drawn, and nothing changes.

    Args:
        learner: The model to train.
        size: Height and width of the images.

    Raises:
        ValueError: If the codec cannot encode images of this size; if the network has no trainable weight, or its
            output has another shape than x.
    """
    diffusion = learner.diffusion
    check_image_size(diffusion.codec, size, diffusion.device)
    if not any(weight.requires_grad for weight in diffusion.denoiser.backbone.parameters()):
        raise ValueError(
            f"The backbone {name_of(type(diffusion.denoiser.backbone))} has no trainable weight, so there is nothing "
            "to train. Make its layers attributes of the module (lists of layers: torch.nn.ModuleList), and do not "
            "switch off their gradients."
        )
    trained = [module for module in learner.modules() if module.training]
    learner.eval()
    try:
        with torch.random.fork_rng(devices=[]):
            _denoise_once(diffusion, size)
    finally:
        for module in trained:
            module.training = True


def _denoise_once(diffusion: Diffusion, size: Size) -> None:
    task, channels = diffusion.task, diffusion.codec.x_channels
    x = torch.zeros_like(diffusion.empty_x(1, size))
    condition = None if task is None else x.new_zeros(1, task.condition_channels(channels), *x.shape[2:])
    conditioner = diffusion.conditioner
    ids = None if conditioner is None else conditioner.nothing(1).to(x.device)
    cond: Cond = NOTHING if ids is None or conditioner is None else conditioner(ids)
    diffusion.denoiser.output(x, level(1.0, 1.0), cond.with_image(condition))

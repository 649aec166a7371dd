"""denoising-diffusion-pytorch (lucidrains) with classes: the example of its module `classifier_free_guidance`.

Unet(dim=64), GaussianDiffusion and a guidance of 6 as there; Adam 8e-5, batch 32, average of the weights 0.995 as in
the README. Differences: three levels instead of four where 8 does not divide the size, as of 28; 20 steps of DDIM
instead of 250; the package's `Trainer` knows no classes, so its loop is written out; torchvision, which the package
imports, is a stand-in (see peer_torchvision.py).
"""

import peer_torchvision  # isort: skip

peer_torchvision.install()

import torch  # noqa: E402
from denoising_diffusion_pytorch.classifier_free_guidance import GaussianDiffusion, Unet  # noqa: E402
from ema_pytorch import EMA  # noqa: E402
from torch import Tensor  # noqa: E402

from peer_data import STEPS, Budget, in_parts, run_peer  # noqa: E402

BATCH = 32


def contend(images: Tensor, labels: Tensor, requested: Tensor, budget: Budget) -> Tensor:
    """Train as the package's `Trainer` does, sample the average of the weights."""
    channels, size = images.shape[1], images.shape[-1]
    levels = (1, 2, 4) if size % 8 else (1, 2, 4, 8)
    model = Unet(dim=64, dim_mults=levels, num_classes=10, cond_drop_prob=0.5, channels=channels)
    diffusion = GaussianDiffusion(model, image_size=size, timesteps=1000, sampling_timesteps=STEPS)
    optimizer = torch.optim.Adam(diffusion.parameters(), lr=8e-5, betas=(0.9, 0.99))
    ema = EMA(diffusion, beta=0.995, update_every=10)
    while budget.left():
        rows = torch.randint(len(images), (BATCH,))
        diffusion(images[rows].float() / 255, classes=labels[rows]).backward()
        torch.nn.utils.clip_grad_norm_(diffusion.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        ema.update()
        budget.images_seen += BATCH
    ema.ema_model.eval()
    return in_parts(lambda part: ema.ema_model.sample(part, cond_scale=6.0) * 2 - 1, requested)


if __name__ == "__main__":
    run_peer(contend)

"""diffusers as a user would write it: the tutorial's loop, and 20 steps of DDIM.

Two differences from the tutorial "Train a diffusion model", which is for 128 x 128 on a GPU: UNet2DModel has 32, 64, 64
channels, with classes; there is no warm-up, and AdamW keeps its learning rate of 1e-4.
"""

import torch
from diffusers import DDIMScheduler, DDPMScheduler, UNet2DModel
from diffusers.training_utils import EMAModel
from torch import Tensor

from peer_data import STEPS, Budget, in_parts, run_peer

BATCH = 64


def contend(images: Tensor, labels: Tensor, requested: Tensor, budget: Budget) -> Tensor:
    """Train with DDPMScheduler, sample the average of the weights with DDIMScheduler."""
    network = UNet2DModel(
        sample_size=images.shape[-1],
        in_channels=images.shape[1],
        out_channels=images.shape[1],
        block_out_channels=(32, 64, 64),
        down_block_types=("DownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "AttnUpBlock2D", "UpBlock2D"),
        num_class_embeds=10,
    )
    scheduler = DDPMScheduler(num_train_timesteps=1000)
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-4)
    ema = EMAModel(network.parameters(), use_ema_warmup=True)
    while budget.left():
        rows = torch.randint(len(images), (BATCH,))
        clean = images[rows].float() / 127.5 - 1
        noise, steps = torch.randn_like(clean), torch.randint(1000, (BATCH,))
        predicted = network(scheduler.add_noise(clean, noise, steps), steps, class_labels=labels[rows]).sample
        torch.nn.functional.mse_loss(predicted, noise).backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        ema.step(network.parameters())
        budget.images_seen += BATCH
    ema.copy_to(network.parameters())
    ddim = DDIMScheduler(num_train_timesteps=1000)
    ddim.set_timesteps(STEPS)

    def sample(part: Tensor) -> Tensor:
        x = torch.randn(len(part), *images.shape[1:])
        for step in ddim.timesteps:
            x = ddim.step(network(x, step, class_labels=part).sample, step, x).prev_sample
        return x

    return in_parts(sample, requested)


if __name__ == "__main__":
    run_peer(contend)

"""smalldiffusion as its example `fashion_mnist_dit_cond.py` has it: a transformer with classes, 20 steps, gam=1.6.

Differences: batches of 64, because those of 1,024 are for a GPU and would be some twenty steps here; and torchvision,
which it imports for the transforms of its images, is a stand-in (see peer_torchvision.py).
"""

import peer_torchvision  # isort: skip

peer_torchvision.install()

import torch  # noqa: E402
from PIL import Image  # noqa: E402
from smalldiffusion import (  # noqa: E402
    CondEmbedderLabel,
    DiT,
    ScheduleDDPM,
    img_train_transform,
    samples,
    training_loop,
)
from torch import Tensor  # noqa: E402
from torch.utils.data import DataLoader, Dataset  # noqa: E402
from torch_ema import ExponentialMovingAverage  # noqa: E402

from peer_data import STEPS, Budget, in_parts, run_peer  # noqa: E402

BATCH = 64


class Pictures(Dataset[tuple[Tensor, int]]):
    """As torchvision's FashionMNIST: a PIL image through the example's transform, and its class."""

    def __init__(self, images: Tensor, labels: Tensor) -> None:
        grey = images.shape[1] == 1
        self.images = images.squeeze(1).numpy() if grey else images.permute(0, 2, 3, 1).numpy()
        self.labels = labels.tolist()

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return img_train_transform(Image.fromarray(self.images[index])), self.labels[index]


def contend(images: Tensor, labels: Tensor, requested: Tensor, budget: Budget) -> Tensor:
    """Train by the package's loop, sample the average of the weights."""
    loader = DataLoader(Pictures(images, labels), batch_size=BATCH, shuffle=True)
    schedule = ScheduleDDPM(beta_start=0.0001, beta_end=0.02, N=1000)
    model = DiT(
        in_dim=images.shape[-1],
        channels=images.shape[1],
        patch_size=2,
        depth=6,
        head_dim=32,
        num_heads=6,
        mlp_ratio=4.0,
        cond_embed=CondEmbedderLabel(32 * 6, 10, 0.1),
    )
    ema = ExponentialMovingAverage(model.parameters(), decay=0.99)
    budget.left()  # starts the clock: the loop's first yield comes after its first forward pass
    for _ in training_loop(loader, model, schedule, epochs=10_000, lr=1e-3, conditional=True):
        ema.update()
        budget.images_seen += BATCH
        if not budget.left():
            break

    def sample(part: Tensor) -> Tensor:
        *_, last = samples(model, schedule.sample_sigmas(STEPS), gam=1.6, batchsize=len(part), cond=part)
        return torch.as_tensor(last)

    with ema.average_parameters():
        return in_parts(sample, requested)


if __name__ == "__main__":
    run_peer(contend)

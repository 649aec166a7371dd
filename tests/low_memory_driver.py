"""`noisekiln` where process 1 has no memory for more than 4 images."""

import os

import torch

from forked import noisekiln
from noisekiln.plan.learner import Learner

forward = Learner.forward


def short(self, x, *others):
    if os.environ["RANK"] == "1" and torch.is_grad_enabled() and self.training and len(x) > 4:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 MiB")
    return forward(self, x, *others)


def train_in_low_memory(*words):
    Learner.forward = short
    noisekiln(*words)

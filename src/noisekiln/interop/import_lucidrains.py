"""A checkpoint of denoising_diffusion_pytorch (lucidrains), in a file of safetensors, as a model.

The package writes no settings, but the shapes of the weights tell those of the network, the table of betas the
schedule, and the weights of the loss what is predicted. The size of the images is in none of them.
"""

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor

from noisekiln.codecs.base import Size
from noisekiln.codecs.pixels import Pixels
from noisekiln.denoisers import Denoiser
from noisekiln.errors import reason_of
from noisekiln.model.diffusion import Diffusion
from noisekiln.model.sampling import Sampling
from noisekiln.noise_labels.time import Time
from noisekiln.predictions import EPS, X0, Prediction, V
from noisekiln.pretrained.lucidrains_unet import LucidrainsUnet
from noisekiln.schedules.base import Schedule
from noisekiln.schedules.cosine import Cosine
from noisekiln.schedules.linear_betas import LinearBetas
from noisekiln.schedules.sigmoid import Sigmoid

FIRST = "init_conv.weight"
PREFIXES = ("ema_model.model.", "model.", "")  # before the names of the network: averaged, trained, and by itself
TOLERANCE = 1e-3  # of alpha_bar and of weights of the loss, which are float32


def is_of_lucidrains(file: Path) -> bool:
    """Whether a file of safetensors holds a U-Net of that package; raises ValueError if it is damaged."""
    try:
        with safe_open(file, framework="pt") as opened:
            return bool({prefix + FIRST for prefix in PREFIXES} & set(opened.keys()))
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{file} is damaged ({reason_of(error)}). Copy it again.") from error


def read_lucidrains(file: Path, size: Size) -> Diffusion:
    """The model of a checkpoint: a `GaussianDiffusion` with its `Unet`, or the average that its `Trainer` keeps of it.

    It samples by 50 steps of DDIM by default; estimates are not clipped at each step, as the package does.

    Args:
        file: The state of a `GaussianDiffusion`, or of a `Trainer`'s `ema`, which is preferred.
        size: Height and width of its images.

    Raises:
        ValueError: If it is another class of the package, or has settings that cannot be told.
    """
    state = load_file(file)
    prefix = next(prefix for prefix in PREFIXES if prefix + FIRST in state)
    outer = prefix.removesuffix("model.")
    if outer + "betas" not in state or not prefix:
        raise ValueError(
            f"{file} holds the weights of a Unet alone, without the noise it was trained at. Save the state of its "
            "GaussianDiffusion, `save_file(diffusion.state_dict(), FILE)`, or give the network to noisekiln.denoiser."
        )
    weights = {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
    try:
        backbone = _network_of(weights, file)
    except (KeyError, IndexError, RuntimeError) as error:
        raise ValueError(
            f"{file} does not hold the layers of a Unet as its package has them since 2.0 ({reason_of(error, 300)}). "
            "Build it with its package, and give it to noisekiln.denoiser."
        ) from error
    if any(side % 2 ** (len(backbone.widths) - 2) for side in size):
        raise ValueError(
            f"The network in {file} takes sides that are multiples of {2 ** (len(backbone.widths) - 2)}, and "
            f"{size[0]}x{size[1]} was given. Give the size of its training as `size`."
        )
    alpha_bar = (1 - state[outer + "betas"].double()).cumprod(0)
    schedule = _curve_through(alpha_bar, file)
    label = Time(schedule, scale=float(len(alpha_bar)), from_zero=True)
    return Diffusion(
        Denoiser(backbone, _prediction_of(state.get(outer + "loss_weight"), alpha_bar, file), label),
        Pixels((0.5,) * backbone.channels, (0.5,) * backbone.channels),
        size,
        None,
        Sampling(sampler="ddim", steps=50, schedule=schedule),
    ).eval()


def _network_of(weights: Mapping[str, Tensor], file: Path) -> LucidrainsUnet:
    """The network, by the shapes of its weights."""
    channels, read = weights["final_conv.weight"].shape[0], weights[FIRST].shape[1]
    if channels != read or {"classes_emb.weight", "time_mlp.0.weights"} & weights.keys():
        raise ValueError(
            f"{file} holds a network with classes, self-conditioning, a learned variance or learned frequencies, which "
            "is not read here. Build it with its package, and give it to noisekiln.denoiser."
        )
    levels = 1 + max(int(name.split(".")[1]) for name in weights if name.startswith("downs."))
    whole = tuple(f"downs.{level}.2.to_out.weight" in weights for level in range(levels))
    memories = [weights[f"downs.{level}.2.mem_kv"].shape for level in range(levels)]
    widths = [weights[f"ups.{levels - 1 - level}.2.norm.g"].shape[1] for level in range(levels)]
    network = LucidrainsUnet(
        channels,
        width=weights["time_mlp.1.weight"].shape[1],
        widths=(weights[FIRST].shape[0], *widths),
        heads=tuple(shape[1] for shape in memories),
        head=tuple(shape[3] if softmax else shape[2] for shape, softmax in zip(memories, whole, strict=True)),
        whole=whole,
    )
    network.load_state_dict(dict(weights))
    return network


def _curve_through(alpha_bar: Tensor, file: Path) -> Schedule:
    """The curve of a table; its last beta is clipped there, and counts for nothing."""
    times = torch.arange(1, len(alpha_bar), dtype=torch.float64) / len(alpha_bar)
    candidates = [Sigmoid(), Cosine(), *([LinearBetas(len(alpha_bar))] if len(alpha_bar) > 20 else [])]
    for schedule in candidates:
        if (schedule(times).alpha ** 2 - alpha_bar[:-1]).abs().max() < TOLERANCE:
            return schedule
    raise ValueError(
        f"The betas in {file} are none of the sigmoid, cosine and linear schedules with their default settings, which "
        "are read here. Build the network with its package, and give it to noisekiln.denoiser."
    )


def _prediction_of(loss_weight: Tensor | None, alpha_bar: Tensor, file: Path) -> Prediction:
    """What is predicted: the loss weighs step by step as 1, the signal-to-noise ratio, or that over itself plus 1.

    Where Min-SNR clips that ratio, at 5 by default, they look alike: the step with a ratio of about a half decides.
    """
    snr = alpha_bar / (1 - alpha_bar)
    place = int((snr - 0.5).abs().argmin())
    weights = {EPS: 1.0, X0: float(snr[place]), V: float(alpha_bar[place])}
    found = None if loss_weight is None else float(loss_weight[place])
    for prediction, weight in weights.items():
        if found is not None and abs(found - weight) < TOLERANCE:
            return prediction
    raise ValueError(
        f"The weights of the loss in {file} do not tell what its network predicts. Build it with its package, and give "
        "it to noisekiln.denoiser."
    )

"""`nk.denoiser`: any function f(x, t) that was trained elsewhere, as a model for every sampler and every use."""

from collections.abc import Callable, Sequence
from math import isfinite
from typing import Any

import torch

from noisekiln.codecs.pixels import Pixels
from noisekiln.components.argument_names import answering_unknown_names
from noisekiln.components.plain_values import plain
from noisekiln.components.registry import did_you_mean
from noisekiln.components.setting import check_argument
from noisekiln.components.spec import build
from noisekiln.data.sizes import height_and_width
from noisekiln.denoisers import Denoiser
from noisekiln.errors import reason_of
from noisekiln.interop.own_network import ClassNumber, OwnNetwork, TimeInput
from noisekiln.machine.transfer import module_to_device
from noisekiln.model.diffusion import Diffusion
from noisekiln.model.sampling import Sampling
from noisekiln.noise_labels.time import Time
from noisekiln.predictions import PREDICTIONS, Prediction
from noisekiln.schedules.base import Schedule
from noisekiln.schedules.tables.beta_table import BetaTable

MAX_SIDE, MAX_CHANNELS, MAX_CLASSES = 1 << 15, 1 << 12, 1_000_000  # what no memory holds is refused at once
TIMES = ("steps", "fractional", "continuous")
ELSEWHERE = {"epsilon": "eps", "noise": "eps", "sample": "x0", "v_prediction": "v", "velocity": "flow"}


@answering_unknown_names("arguments of denoiser")
def denoiser(
    net: Callable[..., Any],
    schedule: Schedule | str = "linear_betas",
    prediction: str | Prediction = "eps",
    *,
    size: int | Sequence[int] | None = None,
    channels: int | None = None,
    time: TimeInput | None = None,
    mean: float | Sequence[float] = 0.5,
    std: float | Sequence[float] = 0.5,
    classes: int | Sequence[str] | None = None,
    no_class: int | None = None,
    device: str | None = None,
) -> Diffusion:
    """A network that was trained elsewhere, as a model: ``nk.denoiser(net, nk.LinearBetas(), "eps", size=32)``.

    It samples along its own schedule by default. It is put in evaluation mode, and called once, to see that it fits.

    Args:
        net: ``f(x_t, t)``, or ``f(x_t, t, class)`` with `classes`: a module or any function. x_t is
            ``alpha x + sigma eps`` of its schedule, (B, C, H, W); t and class are (B,). It returns a tensor of x_t's
            shape, or an object with one in `.sample`, or a tuple that begins with one.
        schedule: Schedule of its training, or its spec: "linear_betas", "cosine", "rectified", "karras".
        prediction: What it predicts: "eps", "v", "x0" or "flow" (eps - x; time 1 is noise), or a `Prediction`.
        size: Height and width of the images; by default ``net.config.sample_size``, as in diffusers.
        channels: 1 for grey, 3 for colour; by default ``net.config.in_channels``, or 3.
        time: What it reads as t: "steps" (whole numbers 0, ..., T - 1; the default for a schedule with `steps`),
            "fractional" (the same between whole steps), "continuous" (0 clean, 1 noise; the default otherwise), or a
            function of the `Level`, such as ``lambda t: t.nsr`` for EDM's sigma.
        mean: Mean in ``x = (pixel / 255 - mean) / std``: 0.5 and 0.5 are images in [-1, 1].
        std: Deviation, likewise; 0 and 1 are images in [0, 1].
        classes: Number or names of its classes, if it reads any.
        no_class: The class that it reads for an image without one, which guidance compares with.
        device: Device; by default that of its weights.

    Raises:
        ValueError: If something does not fit, with the shapes.
    """
    config, path = getattr(net, "config", None), build(Schedule, schedule)
    pixels = _chosen_size(size, getattr(config, "sample_size", None))
    depth = _in_range("channels", channels, getattr(config, "in_channels", None) or 3, MAX_CHANNELS)
    names = _class_names(plain(classes))
    backbone = OwnNetwork(net, path, _time_input(time, path), depth, len(names) and 1, _checked_class(no_class))
    codec = Pixels(_per_channel("mean", mean, depth), _per_channel("std", std, depth))
    sampling = Sampling(sampler="ddim", steps=50, schedule=path)
    own = Denoiser(backbone, _own_prediction(prediction), Time(path))
    model = Diffusion(own, codec, pixels, ClassNumber(names) if names else None, sampling)
    module_to_device(model, device or model.device).eval()
    _check_fits(model, net, path)
    return model


@torch.no_grad()
def _check_fits(model: Diffusion, net: Callable[..., Any], path: Schedule) -> None:
    """Raise ValueError if the network cannot be called with noise, or returns another shape."""
    x = torch.zeros_like(model.empty_x(1))
    conditions = [None if model.conditioner is None else 0]
    try:
        model.bind(conditions)(x, path(torch.ones((), dtype=torch.float64)))
    except ValueError:
        raise
    except Exception as error:  # a user's own network may raise anything
        raise ValueError(
            f"{_name_of_net(net)} raised {type(error).__name__} for x of the shape {tuple(x.shape)}: "
            f"{reason_of(error, 300)}. Check `size`, `channels`, `time` and `classes`; or wrap it: "
            "`lambda x, t: net(x, t)`."
        ) from error


def _in_range(name: str, value: Any, default: int, largest: int) -> int:
    """A whole number of 1 or more, or the default for None. Raises ValueError."""
    number = default if value is None else plain(value)
    if type(number) is not int or not 1 <= number <= largest:
        raise ValueError(f"`{name}={number!r}` is not possible. Give a whole number from 1 to {largest:,}.")
    return number


def _checked_class(no_class: Any) -> int | None:
    number: int | None = plain(no_class)
    if number is not None:
        check_argument("no_class", number, int)
    return number


def _class_names(classes: Any) -> tuple[str, ...]:
    if isinstance(classes, int):
        return tuple(map(str, range(_in_range("classes", classes, 1, MAX_CLASSES))))
    if classes is not None and not isinstance(classes, list | tuple):
        raise ValueError(f"`classes={classes!r}` is no number and no list of names. Give 10, or ['cat', 'dog'].")
    names = tuple(map(str, classes or ()))
    if classes is not None and not 1 <= len(set(names)) == len(names):
        raise ValueError(f"`classes={classes!r}`: there is none, or one twice. Give each class once, in order.")
    return names


def _name_of_net(net: Callable[..., Any]) -> str:
    return f"The network {getattr(net, '__name__', type(net).__name__)}"


def _chosen_size(size: Any, own: Any) -> tuple[int, int]:
    if size is None and own is None:
        raise ValueError("`size`: a function does not tell how large its images are. Give 32, or (height, width).")
    height, width = height_and_width(own if size is None else size)
    return _in_range("size", height, 1, MAX_SIDE), _in_range("size", width, 1, MAX_SIDE)


def _time_input(time: TimeInput | None, path: Schedule) -> TimeInput:
    if time is None:
        return "steps" if isinstance(path, BetaTable) else "continuous"
    if not callable(time) and time not in TIMES:
        raise ValueError(f"`time={time}` is not a choice. {did_you_mean(str(time), TIMES, 'values')}")
    return time


def _own_prediction(name: str | Prediction) -> Prediction:
    if isinstance(name, Prediction):
        return name
    if not isinstance(name, str):
        raise ValueError(f"`prediction={name!r}` is not possible. Give one of {', '.join(PREDICTIONS)}, as text.")
    own = ELSEWHERE.get(name, name)
    if own not in PREDICTIONS:
        raise ValueError(f"`prediction={name}` is not a choice. {did_you_mean(name, list(PREDICTIONS), 'types')}")
    return PREDICTIONS[own]


def _per_channel(name: str, values: float | Sequence[float], channels: int) -> tuple[float, ...]:
    listed = plain(values)
    each = [listed] * channels if isinstance(listed, int | float) else listed
    if not isinstance(each, list | tuple) or not all(isinstance(one, int | float) and isfinite(one) for one in each):
        raise ValueError(f"`{name}={values!r}` is no number, and none for each channel. Give 0.5, or one for each.")
    return tuple(map(float, each))

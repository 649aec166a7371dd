"""The config of a scheduler of diffusers: its table of betas, its prediction, and how its steps are spaced."""

from collections.abc import Mapping
from typing import Any, get_args

from noisekiln.components.registry import did_you_mean
from noisekiln.model.sampling import Sampling
from noisekiln.predictions import EPS, X0, Prediction, V
from noisekiln.schedules.linear_betas import LinearBetas
from noisekiln.schedules.scaled_linear_betas import ScaledLinearBetas
from noisekiln.schedules.tables.beta_table import BetaTable
from noisekiln.schedules.timesteps import Spacing, Timesteps

PREDICTED = {"epsilon": EPS, "v_prediction": V, "sample": X0}
SAMPLERS = {"ddim": "ddim", "dpmpp_2m": "dpmpp_2m", "euler": "ddim"}  # by the name of a scheduler
OWN = {"DDIMScheduler": "ddim", "EulerDiscreteScheduler": "euler", "DPMSolverMultistepScheduler": "dpmpp_2m"}
STEPS, GUIDANCE = {"ddim": 50, "euler": 30, "dpmpp_2m": 25}, 7.5
UNSUPPORTED = {  # settings that change what is sampled, and values that change nothing
    "rescale_betas_zero_snr": (False, None),
    "thresholding": (False, None),
    "clip_sample": (False, None),
    "trained_betas": (None,),
}


def table_of(config: Mapping[str, Any]) -> BetaTable:
    """The table of betas.

    Raises:
        ValueError: If it is none that noisekiln has.
    """
    kind = config.get("beta_schedule")
    steps = int(_config_number(config, "num_train_timesteps", 1000))
    first, last = _config_number(config, "beta_start", 1e-4), _config_number(config, "beta_end", 0.02)
    for name, values in UNSUPPORTED.items():
        if config.get(name) not in values:
            raise ValueError(
                f"The scheduler has {name}={config[name]}, which noisekiln does not do. Load a pipeline without it, or "
                "use diffusers."
            )
    if kind == "scaled_linear":
        return ScaledLinearBetas(steps, first, last)
    if kind == "linear":
        return LinearBetas(steps, first * steps / 1000, last * steps / 1000)
    raise ValueError(
        f"The scheduler has beta_schedule={kind!r}, and 'linear' and 'scaled_linear' are known here. "
        "Load another pipeline, or use diffusers."
    )


def prediction_of(config: Mapping[str, Any]) -> Prediction:
    """What the network predicts.

    Raises:
        ValueError: If it is none that noisekiln has.
    """
    kind = config.get("prediction_type", "epsilon")
    if kind not in PREDICTED:
        raise ValueError(f"The scheduler has prediction_type={kind!r}. Load one of {', '.join(PREDICTED)}.")
    return PREDICTED[kind]


def sampling_of(config: Mapping[str, Any], table: BetaTable, scheduler: str | None = None) -> Sampling:
    """The sampler and the schedule that visit what a scheduler of diffusers visits.

    Args:
        config: Its config.
        table: Its table of betas.
        scheduler: "ddim", "dpmpp_2m" or "euler"; by default that of the config, else "dpmpp_2m".

    Raises:
        ValueError: If there is no such scheduler.
    """
    name = OWN.get(str(config.get("_class_name")), "dpmpp_2m") if scheduler is None else scheduler
    if name not in SAMPLERS:
        raise ValueError(f"`scheduler={name}` is not a choice. {did_you_mean(name, list(SAMPLERS), 'schedulers')}")
    spacing = config.get("timestep_spacing", "leading")
    offset = int(_config_number(config, "steps_offset", 0))
    schedule = Timesteps(
        table,
        spacing if spacing in get_args(Spacing) else "leading",
        offset if spacing == "leading" else 0,
        1 if name == "dpmpp_2m" and spacing != "trailing" else 0,
        "first" if name == "ddim" and not config.get("set_alpha_to_one", True) else "clean",
    )
    return Sampling(SAMPLERS[name], STEPS[name], GUIDANCE, schedule)


def _config_number(config: Mapping[str, Any], name: str, default: float) -> float:
    """A number of the config; raises ValueError for what is none."""
    value = config.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(
            f"scheduler_config.json has {name}={value!r}, which is no number. Download the pipeline again."
        )
    return float(value)

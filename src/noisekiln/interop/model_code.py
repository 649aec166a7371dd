"""A trained model as one Python file without noisekiln: the source of its parts, and the calls that build them."""

import inspect
import sys

from noisekiln.components.plain_values import plain
from noisekiln.components.spec import build, is_component, settings_of
from noisekiln.denoisers import Denoiser
from noisekiln.guidance.classifier_free import guidance_of
from noisekiln.interop.parsed_module import Name
from noisekiln.interop.source_extract import extract_source, name_of_class
from noisekiln.interop.standalone_model import StandaloneModel
from noisekiln.model.code_copies import spec_to_save
from noisekiln.model.diffusion import Diffusion
from noisekiln.predictions import Prediction
from noisekiln.samplers.base import Sampler
from noisekiln.schedules.base import Schedule
from noisekiln.version import VERSION


def model_code(model: Diffusion, name: str, *, bases: str = "", header: str = "", decorator: str = "") -> str:
    """The text of a Python file with a class whose state dict is that of `model`, and which makes the same images.

    Args:
        model: The model.
        name: Name of the class.
        bases: Its bases beside `StandaloneModel`, with commas before.
        header: Further import statements.
        decorator: A line before its constructor.

    Raises:
        ValueError: If a part is an object of Python that no text describes.
    """
    denoiser, sampling = model.denoiser, model.sampling
    network: dict[str, object] = {"backbone": denoiser.backbone, "label": denoiser.noise_label}
    parts: dict[str, object] = {
        "codec": model.codec,
        "conditioner": model.conditioner,
        "task": model.task,
        "sampler": build(Sampler, sampling.sampler),
        "guidance": guidance_of(sampling.guidance),
        "schedule": build(Schedule, sampling.schedule),
    }
    for part in (*network.values(), *parts.values()):
        spec_to_save(part)  # raises if no text describes it
    kinds = {kind for part in (*network.values(), *parts.values()) for kind in _classes_in(part)}
    place = sys.modules[Prediction.__module__]
    prediction = next(each for each, value in vars(place).items() if value is denoiser.prediction)
    roots = [Name(place.__name__, prediction), *map(name_of_class, (StandaloneModel, Denoiser))]
    roots += sorted(map(name_of_class, kinds))
    text, names = extract_source(roots, used=("images",))
    calls = {word: _call(part, names) for word, part in (*network.items(), *parts.items())}
    made = {
        "denoiser": f"Denoiser({calls.pop('backbone')}, {prediction}, {calls.pop('label')})",
        **calls,
        "size": repr(tuple(model.size)),
        "steps": repr(sampling.steps),
    }
    arguments = "".join(f"            {word}={value},\n" for word, value in made.items())
    constructor = f"    {decorator}\n    def __init__(self):\n" if decorator else "    def __init__(self):\n"
    return (
        f'"""A diffusion model, with its network, by noisekiln {VERSION} (Apache-2.0), which it does not need."""\n\n'
        f'{text}\n\n{header}\n\n\nclass {name}(StandaloneModel{bases}):\n    """The model as it was trained."""\n\n'
        f"{constructor}        super().__init__(\n{arguments}        )\n"
    )


def _classes_in(value: object) -> set[type]:
    """The class of a component, and those of its settings."""
    if not is_component(value):
        return set()
    return {type(value)}.union(*map(_classes_in, settings_of(value).values()))


def _call(value: object, names: dict[Name, str] | object) -> str:
    """The expression that builds a component, or that is a plain value."""
    assert isinstance(names, dict)
    if not is_component(value):
        return 'float("inf")' if plain(value) == float("inf") else repr(plain(value))
    defaults = inspect.signature(type(value)).parameters
    settings = ", ".join(
        f"{word}={_call(each, names)}" for word, each in settings_of(value).items() if each != defaults[word].default
    )
    return f"{names[name_of_class(type(value))]}({settings})"

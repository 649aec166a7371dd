"""What was asked for, as the model at hand takes it."""

from collections.abc import Sequence

from noisekiln.cli._show import say
from noisekiln.components.registry import did_you_mean
from noisekiln.model.cascade import Model
from noisekiln.model.diffusion import Diffusion


def wishes(model: Model, classes: Sequence[str], prompts: Sequence[str]) -> list[str | int | None]:
    """All classes or prompts, if this model can be asked for them; [None] for none."""
    if classes and prompts:
        raise ValueError("Both --class and --prompt were given; a model knows classes or captions. Give one of them.")
    conditioner = model.conditioner
    known = conditioner.choices if conditioner else ()
    if classes and conditioner and not known:
        raise ValueError(f"--class {classes[0]} was given, but this model was trained on captions. Use --prompt.")
    if prompts and known:
        raise ValueError(f"--prompt was given, but this model knows classes: {', '.join(known)}. Use --class.")
    unknown_words(model, prompts)
    if list(classes) == ["all"] and known:
        return list(range(len(known)))
    return [*classes, *prompts] or [None]


def wish(model: Diffusion, classes: Sequence[str], prompts: Sequence[str]) -> str | int | None:
    """One class or prompt, for a command whose pictures all show the same."""
    for flag, given in (("--class", classes), ("--prompt", prompts)):
        if len(given) > 1:
            raise ValueError(f"{flag} was given {len(given)} times, and a picture becomes one thing. Give it once.")
    if list(classes) == ["all"]:
        raise ValueError("--class all: one picture shows one class. Give its name or number.")
    return wishes(model, classes, prompts)[0]


def unknown_words(model: Model, prompts: Sequence[str]) -> None:
    """Say which words of the prompts the model never learned."""
    conditioner = model.conditioner
    if conditioner is None:
        return
    for word in dict.fromkeys(word for prompt in prompts for word in conditioner.unknown(prompt)):
        short = word if len(word) <= 40 else f"{word[:40]}..."
        told = f"note: the word {short!r} is in fewer than two training captions; it is ignored."
        say(f"{told} {did_you_mean(word, conditioner.words[:60])}")

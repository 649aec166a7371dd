"""An untrained network of diffusers from its `config.json`, for codecs and models that hold its weights themselves."""

import json
from collections.abc import Sequence
from typing import Any

from noisekiln.files.packages import check_packages


def network_from_config(config: str, kinds: Sequence[str], what: str) -> Any:
    """The untrained network of a `config.json` of diffusers, in evaluation mode.

    Args:
        config: The file, as text.
        kinds: Names of the classes that it may name.
        what: What it is, with its article, for messages: "an autoencoder".

    Raises:
        ValueError: If diffusers is not installed, the text is damaged, or it names another class.
    """
    check_packages(f"{what[0].upper()}{what[1:]} of diffusers", "diffusers", "diffusers")
    import diffusers

    try:
        settings = json.loads(config)
        name = str(settings.get("_class_name", "model of another library"))
    except (ValueError, AttributeError) as error:
        raise ValueError(f"The config.json of {what} cannot be read ({error}). Download it again.") from error
    if name not in kinds:
        raise ValueError(f"The class {name} is none of those that can be used as {what}: {', '.join(kinds)}.")
    return getattr(diffusers, name).from_config(settings).eval()

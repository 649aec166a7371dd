"""Models that a run started from or learned from: their names, and the licences that their own cards state."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from noisekiln.files.card_file import read_card, stated_license
from noisekiln.files.hub import PREFIX, is_hub_name
from noisekiln.plan.source_models import START, TEACHER

HOW = {START: "fine-tuned from", TEACHER: "distilled from"}  # by the setting that names the model
CACHED = "models--"  # begins the folder of a repository in the cache of the Hub


class MadeFrom(NamedTuple):
    """A model that another one was made from.

    Attributes:
        how: "fine-tuned from" or "distilled from".
        name: Its name: "hf:user/name", or that of its folder, without those above it.
        license: Licence that its card states; "" if none is known.
    """

    how: str
    name: str
    license: str

    @property
    def repository(self) -> str:
        """Its name on the Hub, "user/name"; "" for a folder."""
        return self.name.removeprefix(PREFIX).partition("@")[0] if is_hub_name(self.name) else ""


def read_made_from(settings: Mapping[str, Any], folder: Path) -> tuple[MadeFrom, ...]:
    """The models that a run was made from.

    Args:
        settings: Settings of its `run.yaml`.
        folder: Its folder, with copies of these models and of their cards.
    """
    return tuple(
        MadeFrom(how, source_name(settings[name]), stated_license(read_card(folder / name)))
        for name, how in HOW.items()
        if isinstance(settings.get(name), str)
    )


def source_name(source: str) -> str:
    """A model as a card names it: as on the Hub, else the last part of its path."""
    if is_hub_name(source):
        return source
    folder = Path(source)
    repository = folder.parent.parent.name
    if folder.parent.name == "snapshots" and repository.startswith(CACHED):
        return PREFIX + repository.removeprefix(CACHED).replace("--", "/")
    return folder.parent.name if folder.name == "model" else folder.name

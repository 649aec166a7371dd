"""The best weights of a run by their score: `model-best/`, a model with a record of its score."""

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from noisekiln.files.json_file import read_json, write_json
from noisekiln.model.diffusion import Diffusion
from noisekiln.runs.events import Score

FOLDER = "model-best"
RECORD = "score.json"


@dataclass(frozen=True)
class BestScore:
    """The score of the best weights, and by what it was measured.

    Attributes:
        score: The score.
        measured_by: Features and images, in words; scores by others cannot be compared.
    """

    score: Score
    measured_by: dict[str, str]

    def write(self, folder: Path, model: Diffusion) -> None:
        """Write the model and this record into the folder of a run.

        The record comes first, and a checkpoint after this. So a run that is killed in between has older weights than
        the record says, or a record of weights that its checkpoint has not reached; both are made again.
        """
        place = folder / FOLDER
        place.mkdir(exist_ok=True)
        numbers = asdict(self.score)
        del numbers["is_best"]
        write_json(place / RECORD, numbers | {"measured_by": self.measured_by})
        model.save(place)


def read_best(folder: Path, images_seen: int) -> BestScore | None:
    """The record of a run's best weights; None if there is none, or these weights will be made again.

    Args:
        folder: Folder of the run.
        images_seen: Images seen by the checkpoint that the run resumes from.
    """
    place = folder / FOLDER
    if not all((place / name).is_file() for name in (RECORD, "model.json", "model.safetensors")):
        return None
    try:
        found = _best_score(read_json(place / RECORD))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):  # damaged: the next score makes it again
        return None
    return found if found.score.images_seen <= images_seen else None


def _best_score(entries: dict[str, Any]) -> BestScore:
    score = Score(
        images_seen=int(entries["images_seen"]),
        samples=int(entries["samples"]),
        against=str(entries["against"]),
        kid=float(entries["kid"]),
        kid_error=float(entries["kid_error"]),
        mind=float(entries["mind"]),
        is_best=True,
    )
    return BestScore(score, {str(name): str(value) for name, value in entries["measured_by"].items()})


def as_best(score: Score, best: BestScore | None) -> Score:
    """The score, and whether it is the best so far: the lowest MIND, and the earlier one of two that are equal."""
    return replace(score, is_best=best is None or score.mind < best.score.mind)

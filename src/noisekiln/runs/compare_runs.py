"""`nk.compare`: runs side by side, in a folder."""

from collections.abc import Sequence
from pathlib import Path

from noisekiln.components.argument_names import answering_unknown_names
from noisekiln.components.setting import check_argument
from noisekiln.guidance.base import Guidance
from noisekiln.model.sampling import BATCH_SIZE
from noisekiln.paths import expand_home
from noisekiln.runs.comparison import Comparison, check_out
from noisekiln.runs.comparison_samples import COUNT, ComparedSamples, check_sampling
from noisekiln.samplers.base import Sampler
from noisekiln.schedules.base import Schedule
from noisekiln.session.prompts import RequestedConditions
from noisekiln.uses.request import SampleOptions


@answering_unknown_names("settings")
def compare(
    runs: Sequence[str | Path],
    *,
    out: str | Path | None = "runs/comparison",
    count: int = COUNT,
    seed: int = 0,
    classes: Sequence[str] = (),
    prompts: Sequence[str] = (),
    conditions: Sequence[str] = (),
    sampler: str | Sampler | None = None,
    steps: int | None = None,
    guidance: float | str | Guidance | None = None,
    schedule: str | Schedule | None = None,
    batch_size: int = BATCH_SIZE,
    precision: str = "auto",
    device: str = "cpu",
    allow_code: bool = False,
) -> Comparison:
    """Compare runs, models or cascades: a table, their curves, and samples with equal seeds and conditions.

    Args:
        runs: Their folders, two or more.
        out: Folder for `compare.json`, `curves.png`, `curves.svg` and `grids.png`; if None, nothing is written or
            sampled.
        count: Images of each model, at most 256; 0 for none.
        seed: Seed of the first image; image i of each model uses seed + i.
        classes: Classes to show; by default those that all models know.
        prompts: Prompts to show; by default captions of held-out images.
        conditions: Any other conditions, as text for the conditioners.
        sampler: Sampler of all models; by default each has its own, as for the next three.
        steps: Number of steps.
        guidance: Guidance scale or method.
        schedule: Noise schedule.
        batch_size: Images sampled at once; changes only speed and memory.
        precision: Precision of the networks.
        device: Device of the models.
        allow_code: Whether Python files that the models name may be run.

    Returns:
        The comparison: `rows()` is the table, `notes` what cannot be compared.

    Raises:
        ValueError: If fewer than two of the folders can be compared, or for an impossible setting.
        WouldOverwrite: If `out` holds anything else than an earlier comparison.
    """
    if isinstance(runs, str | Path):
        raise ValueError(f"`runs`: a single folder was given ({runs}). Give a list of two or more.")
    for run in runs:
        check_argument("runs", run, Path)
    options = {"sampler": sampler, "steps": steps, "guidance": guidance, "schedule": schedule}
    chosen = SampleOptions.of(**options, count=count or 1, seed=seed, batch_size=batch_size, precision=precision)
    check_sampling(options)
    place = None if out is None else expand_home(out)
    if place is not None:
        check_out(place)
    comparison = Comparison.open([expand_home(run) for run in runs], allow_code=allow_code)
    if place is None:
        return comparison
    comparison.write(place)
    if count:
        samples = ComparedSamples(
            comparison,
            count=count,
            seed=chosen.seed,
            requested=RequestedConditions(classes, prompts, conditions),
            device=device,
            allow_code=allow_code,
            batch_size=chosen.batch_size,
            note=comparison.notes.append,
            precision=precision,
            **options,
        )
        for _ in samples.sample():
            pass
        samples.save(place)
    return comparison

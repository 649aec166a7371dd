"""`nk.compare`: runs side by side, in a folder."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Unpack

from noisekiln.components.argument_names import answering_unknown_names
from noisekiln.components.setting import check_argument
from noisekiln.paths import expand_home
from noisekiln.runs.comparison import Comparison, check_out
from noisekiln.runs.comparison_samples import COUNT, ComparedSamples, check_sampling
from noisekiln.session.prompts import RequestedConditions
from noisekiln.uses.options_by_name import SamplingByName
from noisekiln.uses.request import SampleOptions


@answering_unknown_names("settings")
def compare(
    runs: Sequence[str | Path],
    *,
    out: str | Path | None = "runs/comparison",
    count: int = COUNT,
    seed: int = 0,
    conditions: Sequence[Any] = (),
    device: str = "cpu",
    allow_code: bool = False,
    **options: Unpack[SamplingByName],
) -> Comparison:
    """Compare runs, models or cascades: a table, their curves, and samples with equal seeds and conditions.

    Args:
        runs: Their folders, two or more.
        out: Folder for `compare.json`, `curves.png`, `curves.svg` and `grids.png`; None: nothing is written or sampled.
        count: Images of each model, at most 256; 0 for none.
        seed: Seed of the first image; image i of each model uses seed + i.
        conditions: Classes or prompts to show; by default classes that all models know, or captions of held-out images.
        device: Device of the models.
        allow_code: Whether Python files that the models name may be run.
        options: Options of sampling for all models; by default each has its own.

    Returns:
        The comparison: `rows()` is the table, `notes` what cannot be compared.

    Raises:
        ValueError: If fewer than two of the folders can be compared, or for an impossible setting.
        WouldOverwrite: If `out` holds anything else than an earlier comparison.
    """
    folders = _folders(runs)
    shown = [options.pop("condition")] if options.get("condition") is not None else conditions
    SampleOptions.of(**options, count=count or 1, seed=seed)  # these raise, before anything is read
    check_sampling(options)
    place = None if out is None else expand_home(out)
    if place is not None:
        check_out(place)
    comparison = Comparison.open(folders, allow_code=allow_code)
    if place is not None:
        comparison.write(place)
    if place is not None and count:
        requested = RequestedConditions(conditions=[str(each) for each in shown])
        settings: dict[str, Any] = {"count": count, "seed": seed, "requested": requested, **options}
        note = comparison.notes.append
        samples = ComparedSamples(comparison, device=device, allow_code=allow_code, note=note, **settings)
        for _ in samples.sample():
            pass
        samples.save(place)
    return comparison


def _folders(runs: Sequence[str | Path]) -> list[Path]:
    if isinstance(runs, str | Path):
        raise ValueError(f"`runs`: a single folder was given ({runs}). Give a list of two or more.")
    for run in runs:
        check_argument("runs", run, Path)
    return [expand_home(run) for run in runs]

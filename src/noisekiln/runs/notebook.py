"""How a run shows itself in a notebook: its progress, and its newest grid."""

import base64
import html

from noisekiln.runs.run_folder import RunFolder
from noisekiln.training.trainer import Trainer


def as_html(folder: RunFolder, trainer: Trainer) -> str:
    """A line about a run, above its newest grid of samples if there is one."""
    facts = f"{trainer.share:.0%} of the budget, {trainer.images_seen:,} images seen"
    line = f"<b>{html.escape(folder.path.name)}</b>: {facts}"
    grids = sorted(folder.samples.glob("*.png"))
    if not grids:
        return line
    return f'{line}<br><img src="data:image/png;base64,{base64.b64encode(grids[-1].read_bytes()).decode()}">'

"""Post-hoc EMA: averages tracked during a run beside those combined from its snapshots afterwards.

A run on the portraits with everything at its default, while other lengths are tracked too. For each of these: how far
the reconstructed weights are from the tracked ones, as a share of their norm and of their distance to the last
weights; the same with snapshots kept in float32; and the loss on held-out images of both.
`python benchmarks/post_hoc_ema.py --record records/post_hoc_ema.json` prints and keeps the figures.
"""

import argparse
import copy
import json
import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fine_tune import held_out_loss
from noisekiln.data import load
from noisekiln.ema.post_hoc import fit_combination, reconstruct
from noisekiln.ema.power import Ema
from noisekiln.ema.snapshots import list_snapshots
from noisekiln.plan.settings import Settings
from noisekiln.runs.run import Run

LENGTHS = (0.02, 0.03, 0.05, 0.07, 0.1, 0.15, 0.2, 0.25)
Weights = dict[str, Tensor]


def flat(weights: Weights) -> Tensor:
    """All weights as one vector, in the order of their names."""
    return torch.cat([weights[name].double().flatten() for name in sorted(weights)])


def main() -> None:
    """Train, track, reconstruct, compare."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--minutes", type=float, default=2.5)
    parser.add_argument("--ema-snapshots", type=int, default=16)
    parser.add_argument("--work", type=Path, help="folder for the run, to be kept")
    parser.add_argument("--record", type=Path, help="JSON file for the figures")
    options = parser.parse_args()

    data = load("bundled:portraits")
    assert data.held_out is not None
    with tempfile.TemporaryDirectory() as made:
        folder = options.work or Path(made)
        settings = Settings(minutes=options.minutes, ema_snapshots=options.ema_snapshots, device="cpu")
        run = Run(settings, data, folder)
        ema, tracked = run.trainer.ema, Ema(run.learner, LENGTHS)
        whole: list[tuple[int, list[Weights]]] = []  # the snapshots once more, in float32
        for report in run.steps():
            tracked.update(run.learner, report.images_seen)
            if len(list_snapshots(run.folder.snapshots)) > len(whole):
                whole.append((ema.images_seen, [{k: v.clone() for k, v in t.items()} for t in ema.tracks]))
        snapshots = list_snapshots(run.folder.snapshots)
        if len(snapshots) > len(whole):  # that of the end
            whole.append((ema.images_seen, ema.tracks))
        assert [shot.images_seen for shot in snapshots] == [seen for seen, _ in whole]

        last = flat({name: p.detach() for name, p in run.learner.named_parameters()})
        copies = [(seen, length) for seen, _ in whole for length in ema.lengths]
        model = copy.deepcopy(run.learner).eval()
        figures: dict[str, Any] = {
            "images_seen": tracked.images_seen,
            "snapshots": len(snapshots),
            "parameters": run.parameters,
            "bytes of a snapshot": snapshots[-1].file.stat().st_size,
            "loss of the last weights": held_out_loss(run.learner.eval().diffusion, data.held_out),
        }
        for i, length in enumerate(LENGTHS):
            reconstructed, combination = reconstruct(snapshots, length)
            exact = flat(tracked.tracks[i])
            blend = fit_combination(copies, length, ema.images_seen).weights
            in_float32 = sum(
                w * flat(track) for w, track in zip(blend, [t for _, ts in whole for t in ts], strict=True)
            )
            tracked.copy_into(model, run.learner, i)
            loss = held_out_loss(model.diffusion, data.held_out)
            with torch.no_grad():
                for name, weight in reconstructed.items():
                    model.get_parameter(name).copy_(weight)
            error = (flat(reconstructed) - exact).norm()
            figures[f"{length:g}"] = {
                "residual of the profile": round(combination.residual, 5),
                "error / norm of the weights": float(f"{error / exact.norm():.3g}"),
                "the same, float32 snapshots": float(f"{(in_float32 - exact).norm() / exact.norm():.3g}"),
                "error / distance to the last weights": float(f"{error / (last - exact).norm():.3g}"),
                "held-out loss, tracked": loss,
                "held-out loss, reconstructed": held_out_loss(model.diffusion, data.held_out),
            }
            print(length, figures[f"{length:g}"], flush=True)
    print(json.dumps(figures, indent=2))
    if options.record:
        options.record.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

"""What each part of a codec's loss is worth: codecs at equal minutes, and models of their latents.

    python benchmarks/codec_losses.py toon_avatars64.npz --minutes 1 --record records/codec_losses.json
    python benchmarks/codec_losses.py toon_avatars64.npz --minutes 1 --model-minutes 3 --arms l1

Each arm trains a codec with `noisekiln codec train`, and 256 held-out images are compared with what comes back: PSNR,
SSIM, and the slope of the latents' spectrum beside that of the images, over the frequencies that both have. With
--model-minutes a model of the latents is trained for so long, and 500 samples judged like those of benchmarks/roads.py.
Arms that the record has are not measured again. Needs the extra `evaluate`; run it on a quiet machine.
"""

import argparse
from pathlib import Path
from typing import Any

import commands
import noisekiln as nk
from cells import measure_cells
from noisekiln.data import load
from noisekiln.files.pictures import save_image
from noisekiln.monitor.reconstruction import evenly_spaced, quality_of, reconstruct, side_by_side, slopes_of

ARMS = {  # settings of the codec beside its factor
    "l1": "noise=0.0,spectrum=0.0,equivariance=0.0",
    "l1, noise": "noise=0.1,spectrum=0.0,equivariance=0.0",
    "l1, noise, equivariance": "noise=0.1,spectrum=0.0,equivariance=0.25",
    "l1, noise, spectrum": "noise=0.1,spectrum=0.1,equivariance=0.0",
    "l1, noise, spectrum, equivariance": "noise=0.1,spectrum=0.1,equivariance=0.25",
    "l1, noise, adversarial": "noise=0.1,spectrum=0.0,equivariance=0.0,adversarial=0.1",
}
COUNT, SHOWN = 256, 8


def main() -> None:
    """Measure each arm that the record lacks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--minutes", type=float, default=2.0)
    parser.add_argument("--model-minutes", type=float)
    parser.add_argument("--arms", nargs="+", default=list(ARMS))
    parser.add_argument("--network", default="factor=4,channels=8,width=96")
    parser.add_argument("--work", type=Path, default=Path(".bench/codec_losses"))
    parser.add_argument("--record", type=Path)
    options = parser.parse_args()
    same = {"data": options.data.stem, "network": options.network, "minutes": options.minutes}
    wanted = [same | {"arm": arm, "model_minutes": options.model_minutes} for arm in options.arms]
    measure_cells(wanted, lambda cell: measured(options, cell["arm"]), options.record)


def measured(options: argparse.Namespace, arm: str) -> dict[str, Any]:
    """Train and judge one arm."""
    folder = options.work / f"{options.data.stem}_{arm.replace(', ', '_')}_{options.minutes:g}min"
    spec = f"autoencoder({options.network},{ARMS[arm]})"
    codec = nk.train_codec(options.data, codec=spec, minutes=options.minutes, out=folder, watch=lambda event: None)
    data = load(options.data)
    originals = evenly_spaced(data.held_out or data.train, COUNT)
    images = reconstruct(codec, originals)
    save_image(side_by_side(images[:SHOWN], originals[:SHOWN]), folder.with_suffix(".png"), at_least=1024)
    quality, slopes = quality_of(images, originals), slopes_of(codec, originals)
    found = {
        "psnr": round(quality.psnr, 2),
        "ssim": round(quality.ssim, 4),
        "latent_slope": round(slopes.latents, 3),
        "image_slope": round(slopes.images, 3),
    }
    if options.model_minutes:
        found |= model_of(folder, options)
    return found


def model_of(codec: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Train a model of a codec's latents, and judge its samples."""
    wanted = ["--codec", str(codec), "--minutes", f"{options.model_minutes:g}"]
    trained = commands.train(options.data, codec.with_name(f"{codec.name}_model"), wanted)
    report = nk.evaluate(trained.folder, count=500, model_weights="averaged")
    scores = {key: round(score.value / score.real, 3) for key, score in report.scores.items() if score.real}
    return {"images_seen": trained.images_seen, "frechet_ratio": scores["frechet"], "mind_ratio": scores["mind"]}


if __name__ == "__main__":
    main()

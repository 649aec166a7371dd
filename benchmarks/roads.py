"""What each road reaches in which time: sizes x minutes x roads, each cell a run with all else at its default.

    python benchmarks/roads.py toon_avatars64.npz --sizes 64 --minutes 4 --record records/roads.json

DATA is whatever `noisekiln train` takes. A cell trains with `noisekiln train DATA --size S --minutes M --road R`, and
500 samples are compared with real images in the features of EfficientNet: the Fréchet distance over that of as many
real images. Cells that the record has are not measured again, so that a table can grow from day to day. Needs the
extra `evaluate`; run it on a quiet machine.
"""

import argparse
from itertools import product
from pathlib import Path
from typing import Any

import commands
import noisekiln as nk
from cells import measure_cells
from noisekiln.files.pictures import save_image, tile

COUNT, SHOWN = 500, 32


def main() -> None:
    """Measure each cell that the record lacks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--sizes", nargs="+", type=int, default=[64])
    parser.add_argument("--minutes", nargs="+", type=float, default=[2, 5, 10])
    parser.add_argument("--roads", nargs="+", default=["pixels", "cascade", "latent"])
    parser.add_argument("--work", type=Path, default=Path(".bench/roads"))
    parser.add_argument("--record", type=Path)
    options = parser.parse_args()
    wanted = [
        {"data": options.data.stem, "size": size, "minutes": minutes, "road": road}
        for size, minutes, road in product(options.sizes, options.minutes, options.roads)
    ]
    measure_cells(
        wanted,
        lambda cell: measured(options.data, cell["size"], cell["minutes"], cell["road"], options.work),
        options.record,
    )


def measured(data: Path, size: int, minutes: float, road: str, work: Path) -> dict[str, Any]:
    """Train and judge one cell; some samples are left as a picture in the folder of the work."""
    name = f"{data.stem}_{size}_{minutes:g}min_{road}"
    wanted = ["--size", str(size), "--minutes", f"{minutes:g}", "--road", road]
    trained = commands.train(data, work / name, wanted)
    report = nk.evaluate(trained.folder, count=COUNT, model_weights="averaged")
    assert report.images is not None
    save_image(tile(report.images.samples[:SHOWN].numpy(), columns=8), work / f"{name}.png", at_least=512)
    scores = {key: round(score.value / score.real, 3) for key, score in report.scores.items() if score.real}
    return {
        "images_seen": trained.images_seen,
        "seconds": round(trained.seconds, 1),
        "frechet_ratio": scores["frechet"],
        "mind_ratio": scores["mind"],
        "density": round(report.scores["density"].value, 3),
        "coverage": round(report.scores["coverage"].value, 3),
    }


if __name__ == "__main__":
    main()

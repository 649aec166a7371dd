"""Can the digits of the study notes' networks be recognised?

    python examples/study_notes.py --out runs/strided
    python examples/study_notes.py --network simple_unet --width 64 --images 600000 --out runs/simple
    python benchmarks/notes_digits.py runs/strided runs/simple --record records/study_notes.json

A sample counts as a digit if it lies as near to real digits as 99 % of real ones do, and its five nearest neighbours
all have one name. 200 samples of 200 ancestral steps; real digits, kept out of the comparison, give the ceiling.
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np

from noisekiln.model.diffusion import Diffusion

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from test_examples import known_digits, share_of_digits


def main() -> None:
    """Judge each model, print and record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", type=Path, nargs="+", help="folders that examples/study_notes.py left")
    parser.add_argument("--record", type=Path)
    arguments = parser.parse_args()
    real = known_digits()[3]
    noise = np.random.default_rng(1).normal(real.mean(0), real.std(0), (500, 64)).clip(0, 16)
    figures = {"real digits": share_of_digits(real)[0], "Gaussian noise": share_of_digits(noise)[0]}
    for folder in arguments.models:
        images = Diffusion.load(folder).sample(200, steps=200, batch_size=200)
        figures[folder.name] = share_of_digits(images.reshape(200, 64).numpy() / 255 * 16)[0]
    figures = {name: round(float(share), 3) for name, share in figures.items()}
    print(json.dumps(figures, indent=2))
    if arguments.record:
        arguments.record.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

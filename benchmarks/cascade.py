"""Three stages against one: 16 -> 32 -> 64 pixels, and 64 at once, in the same minutes of training.

    python benchmarks/cascade.py toon_avatars64.npz --minutes 12 -n 300 --record records/cascade.json

DATA is an .npz with `images` (N, 64, 64, 3), `captions`, and attributes, two of which the classifier learns whose
features measure the distance. Both ways train side by side, each on one thread; stages share the minutes 1 : 1 : 2.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from classifier import Classifier, trained_classifier
from noisekiln.data import load as load_data
from noisekiln.files.pictures import save_image, tile
from noisekiln.metrics.frechet import frechet_distance
from noisekiln.model.cascade import load
from noisekiln.model.model import Model

SHARES = {"base": (["--size", "16"], 0.25), "up32": (["--size", "32"], 0.25), "up64": (["--size", "64"], 0.5)}


def main() -> None:
    """Train both ways, sample both, measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--minutes", type=float, default=12)
    parser.add_argument("-n", type=int, default=500)
    parser.add_argument("--noise", default="0.05,0.1,0.2", help="shares of noise between stages to try")
    parser.add_argument("--work", type=Path, default=Path(".bench/cascade"))
    parser.add_argument("--record", type=Path)
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    direct = train(options, "direct", ["--size", "64"], options.minutes)
    for name, (settings, share) in SHARES.items():
        task = [] if name == "base" else ["--task", "upscale(factor=2)"]
        train(options, name, [*settings, *task], options.minutes * share).wait()
    direct.wait()
    data = load_data(options.data)
    assert data.held_out is not None
    assert data.held_out.captions is not None
    prompts = list(data.held_out.captions[: options.n])
    classifier = features_of(options)
    real = [torch.from_numpy(part.pixels) for part in (data.held_out, data.train)]
    reference = classifier.judge(real[0][: options.n])[0]
    floor = frechet_distance(classifier.judge(real[1][: options.n])[0], reference)
    results: dict[str, Any] = {"minutes": options.minutes, "n": options.n, "frechet_floor": round(floor, 3)}
    shown = [real[0][:10]]
    for name, folder in contenders(options):
        start_time = time.perf_counter()
        model: Model = load(folder)
        images: Tensor = model.sample(prompts, batch_size=50)
        ratio = frechet_distance(classifier.judge(images)[0], reference) / floor
        seconds = (time.perf_counter() - start_time) / options.n
        results[name] = {"frechet_ratio": round(ratio, 3), "seconds_an_image": round(seconds, 3)}
        shown.append(images[:10])
        print(name, results[name], flush=True)
    for name in ("direct", *SHARES):
        numbers = sorted((options.work / name / "checkpoints").glob("[0-9]*/state.json"))[-1]
        results.setdefault("images_seen", {})[name] = json.loads(numbers.read_text(encoding="utf-8"))["images_seen"]
    save_image(tile(torch.cat(shown).numpy(), columns=10), options.work / "cascade.png")
    print(json.dumps(results, indent=1))
    if options.record:
        options.record.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


def train(options: argparse.Namespace, name: str, settings: list[str], minutes: float) -> subprocess.Popen[bytes]:
    """A run of its own, in the background, on one thread."""
    command = [sys.executable, "-m", "noisekiln", "train", str(options.data), "--minutes", str(minutes), *settings]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen([*command, "--out", str(options.work / name)], env=environment)


def contenders(options: argparse.Namespace) -> list[tuple[str, Path]]:
    """The single model, and the cascade at every share of noise."""
    found = [("direct", options.work / "direct")]
    for noise in options.noise.split(","):
        out = options.work / f"cascade_{noise}"
        stages = [str(options.work / name) for name in SHARES]
        command = [
            sys.executable,
            "-m",
            "noisekiln",
            "cascade",
            *stages,
            "--noise",
            noise,
            "--out",
            str(out),
            "-n",
            "1",
        ]
        subprocess.run(command, check=True)
        found.append((f"cascade, noise {noise}", out))
    return found


def features_of(options: argparse.Namespace) -> Classifier:
    """A classifier of hair and clothes, trained on all images."""
    with np.load(options.data) as arrays:
        kinds = np.char.add(arrays["hair"], arrays["clothes"])
        images = torch.from_numpy(arrays["images"])
    labels = torch.from_numpy(np.unique(kinds, return_inverse=True)[1])
    return trained_classifier(images, labels, options.work / "classifier.pt", epochs=2)


if __name__ == "__main__":
    main()

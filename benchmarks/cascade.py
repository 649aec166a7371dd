"""Three stages against one: 16 -> 32 -> 64 pixels, and 64 at once, in the same minutes of training.

    python benchmarks/cascade.py toon_avatars64.npz --minutes 12 --record records/cascade.json

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
from noisekiln.files.pictures import save_picture, tile
from noisekiln.metrics.frechet import frechet_distance
from noisekiln.model.cascade import Model, load

SHARES = {"base": (["--size", "16"], 0.25), "up32": (["--size", "32"], 0.25), "up64": (["--size", "64"], 0.5)}


def main() -> None:
    """Train both ways, sample both, measure."""
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("data", type=Path)
    ask.add_argument("--minutes", type=float, default=12)
    ask.add_argument("-n", type=int, default=500)
    ask.add_argument("--noise", default="0.05,0.1,0.2", help="shares of noise between stages to try")
    ask.add_argument("--work", type=Path, default=Path(".bench/cascade"))
    ask.add_argument("--record", type=Path)
    given = ask.parse_args()
    given.work.mkdir(parents=True, exist_ok=True)
    direct = train(given, "direct", ["--size", "64"], given.minutes)
    for name, (settings, share) in SHARES.items():
        task = [] if name == "base" else ["--task", "upscale(factor=2)"]
        train(given, name, [*settings, *task], given.minutes * share).wait()
    direct.wait()
    data = load_data(given.data)
    assert data.held_out is not None
    assert data.held_out.captions is not None
    prompts = list(data.held_out.captions[: given.n])
    classifier = features_of(given)
    real = [torch.from_numpy(part.pixels) for part in (data.held_out, data.train)]
    reference = classifier.judge(real[0][: given.n])[0]
    floor = frechet_distance(classifier.judge(real[1][: given.n])[0], reference)
    told: dict[str, Any] = {"minutes": given.minutes, "n": given.n, "frechet_floor": round(floor, 3)}
    shown = [real[0][:10]]
    for name, folder in contenders(given):
        begun = time.perf_counter()
        model: Model = load(folder)
        images: Tensor = model.sample(prompts, batch=50)
        ratio = frechet_distance(classifier.judge(images)[0], reference) / floor
        seconds = (time.perf_counter() - begun) / given.n
        told[name] = {"frechet_ratio": round(ratio, 3), "seconds_an_image": round(seconds, 3)}
        shown.append(images[:10])
        print(name, told[name], flush=True)
    for name in ("direct", *SHARES):
        numbers = sorted((given.work / name / "checkpoints").glob("[0-9]*/numbers.json"))[-1]
        told.setdefault("images_seen", {})[name] = json.loads(numbers.read_text(encoding="utf-8"))["images_seen"]
    save_picture(tile(torch.cat(shown).numpy(), columns=10), given.work / "cascade.png")
    print(json.dumps(told, indent=1))
    if given.record:
        given.record.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")


def train(given: argparse.Namespace, name: str, settings: list[str], minutes: float) -> subprocess.Popen[bytes]:
    """A run of its own, in the background, on one thread."""
    command = [sys.executable, "-m", "noisekiln", "train", str(given.data), "--minutes", str(minutes), *settings]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen([*command, "--out", str(given.work / name)], env=environment)


def contenders(given: argparse.Namespace) -> list[tuple[str, Path]]:
    """The single model, and the cascade at every share of noise."""
    found = [("direct", given.work / "direct")]
    for noise in given.noise.split(","):
        out = given.work / f"cascade_{noise}"
        stages = [str(given.work / name) for name in SHARES]
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


def features_of(given: argparse.Namespace) -> Classifier:
    """A classifier of hair and clothes, trained on all images."""
    with np.load(given.data) as arrays:
        kinds = np.char.add(arrays["hair"], arrays["clothes"])
        images = torch.from_numpy(arrays["images"])
    labels = torch.from_numpy(np.unique(kinds, return_inverse=True)[1])
    return trained_classifier(images, labels, given.work / "classifier.pt", epochs=2)


if __name__ == "__main__":
    main()

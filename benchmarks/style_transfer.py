"""Class to class on Fashion-MNIST: does a shoe become a shirt, and is what they can share kept?

    python benchmarks/style_transfer.py runs/fashion fashion-mnist/ --record records/style_transfer.json

`noisekiln style` of held-out images of each class into another. Counted: how many the classifier takes for the
requested class, and how the brightness of the result goes with that of the image (correlation over the images, of the
mean over pixels that are not background), beside images of the class sampled from noise.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from classifier import Classifier, trained_classifier
from noisekiln.api import style
from noisekiln.data import load
from noisekiln.files.pictures import save_image, tile
from noisekiln.model.diffusion import Diffusion

PAIRS = (("sneaker", "shirt"), ("t-shirt", "dress"), ("ankle boot", "sandal"), ("coat", "trouser"))


def main() -> None:
    """Every pair, at three strengths."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("data")
    parser.add_argument("-n", type=int, default=25)
    parser.add_argument("--work", type=Path, default=Path(".bench/style"))
    parser.add_argument("--record", type=Path)
    options = parser.parse_args()
    model, data = Diffusion.load(options.run), load(options.data)
    train = (torch.from_numpy(data.train.pixels), torch.from_numpy(np.asarray(data.train.labels)))
    classifier = trained_classifier(*train, options.work / "classifier.pt")
    part, results = data.held_out, {}
    assert part is not None
    for shown, requested in PAIRS:
        rows = np.flatnonzero(part.labels == data.class_names.index(shown))[: options.n]
        before, target = part.pixels[rows], data.class_names.index(requested)
        ways: dict[str, Tensor] = {"from noise": model.sample([requested] * len(rows))}
        for strength in (0.8, 0.95, 1.0):
            made: list[Tensor] = [
                style(model, image, source_condition=shown, condition=requested, strength=strength) for image in before
            ]
            ways[f"strength {strength:g}"] = torch.cat(made)
        sheet = torch.cat([torch.from_numpy(before[:12]), *(images[:12] for images in ways.values())])
        save_image(tile(sheet.numpy(), columns=12), options.work / f"{shown}_{requested}.png", at_least=700)
        for way, images in ways.items():
            results[f"{shown} to {requested}, {way}"] = judged(before, images, target, classifier)
            print(f"{shown} to {requested}, {way}", results[f"{shown} to {requested}, {way}"], flush=True)
    if options.record:
        options.record.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


def judged(
    before: "np.typing.NDArray[np.uint8]", after: Tensor, target: int, classifier: Classifier
) -> dict[str, float]:
    """Share of the requested class, and the correlation of brightness."""
    verdict = classifier.judge(after)[1]
    light = [[float(image[image > 40].mean()) for image in images] for images in (before, after.numpy())]
    right = float((verdict == target).double().mean())
    return {"as requested": round(right, 3), "brightness kept": round(float(np.asarray(np.corrcoef(light))[0, 1]), 3)}


if __name__ == "__main__":
    main()

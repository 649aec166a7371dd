"""Class to class on Fashion-MNIST: does a shoe become a shirt, and is what they can share kept?

    python benchmarks/style_transfer.py RUN fashion-mnist/ --record records/style_transfer.json

`noisekiln style` of held-out pictures of each class into another. Counted: how many the classifier takes for what was
asked, and how far the brightness of what is painted goes with that of the picture (correlation over the pictures, of
the mean over pixels that are not background), beside pictures painted of the class from nothing.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from classifier import Classifier, trained_classifier
from noisekiln.data import load
from noisekiln.files.pictures import save_picture, tile
from noisekiln.model.diffusion import Diffusion
from noisekiln.uses.style_transfer import style

PAIRS = (("sneaker", "shirt"), ("t-shirt", "dress"), ("ankle boot", "sandal"), ("coat", "trouser"))


def main() -> None:
    """Every pair, at three strengths."""
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("run", type=Path)
    ask.add_argument("data")
    ask.add_argument("-n", type=int, default=25)
    ask.add_argument("--work", type=Path, default=Path(".bench/style"))
    ask.add_argument("--record", type=Path)
    given = ask.parse_args()
    model, data = Diffusion.load(given.run), load(given.data)
    train = (torch.from_numpy(data.train.pixels), torch.from_numpy(np.asarray(data.train.labels)))
    classifier = trained_classifier(*train, given.work / "classifier.pt")
    part, told = data.held_out, {}
    assert part is not None
    for shown, wanted in PAIRS:
        rows = np.flatnonzero(part.labels == data.class_names.index(shown))[: given.n]
        before, target = part.pixels[rows], data.class_names.index(wanted)
        ways: dict[str, Tensor] = {"from nothing": model.sample([wanted] * len(rows))}
        for strength in (0.8, 0.95, 1.0):
            made = [style(model, image, like=shown, wish=wanted, strength=strength) for image in before]
            ways[f"strength {strength:g}"] = torch.cat(made)
        sheet = torch.cat([torch.from_numpy(before[:12]), *(images[:12] for images in ways.values())])
        save_picture(tile(sheet.numpy(), columns=12), given.work / f"{shown}_{wanted}.png", at_least=700)
        for way, images in ways.items():
            told[f"{shown} to {wanted}, {way}"] = judged(before, images, target, classifier)
            print(f"{shown} to {wanted}, {way}", told[f"{shown} to {wanted}, {way}"], flush=True)
    if given.record:
        given.record.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")


def judged(
    before: "np.typing.NDArray[np.uint8]", after: Tensor, target: int, classifier: Classifier
) -> dict[str, float]:
    """Share of the asked class, and the correlation of brightness."""
    verdict = classifier.judge(after)[1]
    light = [[float(image[image > 40].mean()) for image in images] for images in (before, after.numpy())]
    right = float((verdict == target).double().mean())
    return {"as asked": round(right, 3), "brightness kept": round(float(np.asarray(np.corrcoef(light))[0, 1]), 3)}


if __name__ == "__main__":
    main()

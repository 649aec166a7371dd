"""Checks the colours of 16x16 portraits against the words of their captions.

A stand-in for a human eye: it looks at fixed pixels where a portrait always shows its hair (or hat), skin and clothing,
takes for each pixel the nearest colour of the palette that the portraits were drawn with, and lets the majority decide.
`python benchmarks/portrait_colours.py` prints the ceiling: how often it agrees on the real portraits; with
`--run runs/demo` also how often samples agree with the captions that they were generated from.
"""

import argparse
import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

SOURCE = Path(__file__).resolve().parents[1] / "src"
PALETTE: dict[str, dict[str, str]] = {
    part: colours
    for part, colours in json.loads((SOURCE / "noisekiln/data/bundled/portraits.json").read_text("utf-8")).items()
    if isinstance(colours, dict)
}

# part: (its palette, its region as (rows, columns)); a hat sits where the hair would be
REGIONS: dict[str, tuple[str, tuple[list[int], list[int]]]] = {
    "hair": ("hair", ([2], [4, 5, 6, 7, 8, 9, 10, 11])),
    "hat": ("clothing", ([1, 2, 3], [4, 5, 6, 7, 8])),
    "skin": ("skin", ([4, 8, 8, 12], [7, 8])),  # row 8, the tip of the nose, counts twice: nothing ever covers it
    "clothing": ("clothing", ([14, 15], [2, 3, 4, 5, 10, 11, 12, 13])),
}
NOUNS = {"hair": "hair", "hat": "hat", "skin": "skin", "clothing": "shirt"}


def read_colours(image: NDArray[np.uint8]) -> dict[str, str]:
    """The colour words that a portrait (16, 16, 3), uint8, shows, by part: hair, hat, skin, clothing.

    Every part is read from its place, present or not: a portrait without a hat gets its hair's colour under "hat".
    """
    if image.shape != (16, 16, 3) or image.dtype != np.uint8:
        raise ValueError(f"a portrait is uint8 of shape (16, 16, 3), this is {image.dtype} of shape {image.shape}")
    return {part: _majority(image[np.ix_(*region)], PALETTE[name]) for part, (name, region) in REGIONS.items()}


def requested_colours(caption: str) -> dict[str, str]:
    """The colour words that a caption names, by part; parts that it does not name are absent."""
    found = {part: re.search(rf"(\w+) {noun}\b", caption) for part, noun in NOUNS.items()}
    return {part: match[1] for part, match in found.items() if match and match[1] in PALETTE[REGIONS[part][0]]}


def agreement(images: NDArray[np.uint8], captions: Sequence[str]) -> dict[str, float]:
    """How often images (N, 16, 16, 3) show what their captions ask for, as fractions of 0 to 1.

    By part, among the captions that name it (nan if none does), and under "all" for everything that a caption names.
    """
    if len(images) != len(captions):
        raise ValueError(f"{len(images)} images need as many captions, there are {len(captions)}")
    right: dict[str, list[bool]] = {part: [] for part in (*REGIONS, "all")}
    for image, caption in zip(images, captions, strict=True):
        shown, requested = read_colours(image), requested_colours(caption)
        for part, word in requested.items():
            right[part].append(shown[part] == word)
        if requested:
            right["all"].append(all(shown[part] == word for part, word in requested.items()))
    return {part: float(np.mean(hits)) if hits else float("nan") for part, hits in right.items()}


def _majority(pixels: NDArray[np.uint8], colours: dict[str, str]) -> str:
    """The palette word that most pixels are nearest to."""
    values = np.array([[int(code[i : i + 2], 16) for i in (1, 3, 5)] for code in colours.values()])
    distance = ((pixels.reshape(-1, 1, 3).astype(np.int64) - values) ** 2).sum(-1)
    return list(colours)[int(np.bincount(distance.argmin(1)).argmax())]


def main() -> None:
    """Print the ceiling on the bundled portraits, and how a run's samples agree with held-out captions."""
    sys.path.insert(0, str(SOURCE))
    from noisekiln.data import load

    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--run", type=Path, help="folder of a run on the portraits, such as runs/demo")
    parser.add_argument("-n", type=int, default=200, help="samples to judge")
    parser.add_argument("--record", type=Path, help="JSON file for the figures")
    arguments = parser.parse_args()

    portraits = load("bundled:portraits")
    figures: dict[str, object] = {}
    for name, part in (("train", portraits.train), ("held out", portraits.held_out)):
        assert part is not None
        assert part.captions is not None
        figures[f"ceiling, {name}"] = agreement(part.pixels, part.captions)
    if arguments.run:
        from noisekiln import load as load_model

        model = load_model(arguments.run)
        assert portraits.held_out is not None
        prompts = list((portraits.held_out.captions or ())[: arguments.n])
        figures["samples"] = agreement(model.sample(prompts).numpy(), prompts)
        figures["images_seen"] = max(int(f.name) for f in (arguments.run / "checkpoints").glob("[0-9]*"))
    print(json.dumps(figures, indent=2))
    if arguments.record:
        arguments.record.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

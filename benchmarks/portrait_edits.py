"""Another hair colour by prompt, and everything else as it was: edits of held-out portraits, judged by the checker.

    python benchmarks/portrait_edits.py --run runs/demo -n 60 --record records/portrait_edits.json

Every portrait with hair gets the next colour of the palette. Counted are those that show it, those whose other
colours are all as before, and both; and how far the pixels moved outside the hair.
"""

import argparse
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from noisekiln.data import load
from noisekiln.files.pictures import save_image, tile
from noisekiln.flow.inversion import invert
from noisekiln.model.diffusion import Diffusion
from noisekiln.uses.fit_image import to_x
from noisekiln.uses.image_to_noise import prepare_inversion
from portrait_colours import PALETTE, read_colours, requested_colours

Pixels = NDArray[np.uint8]


def main() -> None:
    """Every way of editing, at every strength."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, default=Path("runs/demo"))
    parser.add_argument("-n", type=int, default=100)
    parser.add_argument("--record", type=Path)
    parser.add_argument("--images", type=Path, default=Path(".bench/edits.png"))
    options = parser.parse_args()
    model = Diffusion.load(options.run)
    part = load("bundled:portraits").held_out
    assert part is not None
    assert part.captions is not None
    rows = [i for i, caption in enumerate(part.captions) if "hair" in requested_colours(caption)][: options.n]
    before, captions = part.pixels[rows], [part.captions[i] for i in rows]
    prompts = [recoloured(caption) for caption in captions]
    results, shown = {}, [before[:12]]
    for way in (edited, restyled):
        for guidance in (1.5, 3.0):
            for strength in (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9):
                after = way(model, before, captions, prompts, strength, guidance).numpy()
                label = f"{way.__name__} strength {strength} guidance {guidance}"
                results[label] = judged(before, after, prompts)
                print(label, results[label], flush=True)
                if guidance == 3.0:
                    shown.append(after[:12])
    save_image(tile(np.concatenate(shown), columns=12), options.images, at_least=900)
    if options.record:
        options.record.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


def recoloured(caption: str) -> str:
    """The caption with the next hair colour of the palette."""
    colours = list(PALETTE["hair"])
    old = requested_colours(caption)["hair"]
    return re.sub(rf"\b{old} hair", f"{colours[(colours.index(old) + 1) % len(colours)]} hair", caption)


def edited(
    model: Diffusion, images: Pixels, captions: list[str], prompts: list[str], strength: float, guidance: float
) -> Tensor:
    """`noisekiln edit`, all at once."""
    x = torch.cat([to_x(model, image) for image in images])
    *_, last = model.generate(prompts, seeds=range(len(x)), start=x, strength=strength, guidance=guidance, steps=40)
    return last.images()


def restyled(
    model: Diffusion, images: Pixels, captions: list[str], prompts: list[str], strength: float, guidance: float
) -> Tensor:
    """`noisekiln style`, all at once."""
    x = torch.cat([to_x(model, image) for image in images])
    inversion = prepare_inversion(model, x, model.size, captions, steps=40, strength=strength)
    with torch.no_grad():
        *_, noisiest = invert(inversion.denoise, inversion.levels, x)
    noise = inversion.unit_noise(noisiest)
    settings: dict[str, Any] = {"sampler": "ddim", "steps": 40, "guidance": guidance}
    *_, last = model.generate(prompts, seeds=range(len(x)), start=x, strength=strength, noise=noise, **settings)
    return last.images()


def judged(before: Pixels, after: Pixels, prompts: list[str]) -> dict[str, float]:
    """Shares of the portraits, and the mean change of pixels below the hair, in grey steps."""
    changed, kept = [], []
    for old, new, caption in zip(before, after, prompts, strict=True):
        was, now, requested = read_colours(old), read_colours(new), requested_colours(caption)
        changed.append(now["hair"] == requested["hair"])
        kept.append(all(now[name] == was[name] for name in requested if name != "hair"))
    moved = np.abs(after[:, 12:].astype(float) - before[:, 12:]).mean()
    both = float(np.mean(np.array(changed) & np.array(kept)))
    results = {"hair as requested": float(np.mean(changed)), "all else kept": float(np.mean(kept)), "both": both}
    return {name: round(value, 3) for name, value in results.items()} | {"pixels moved": round(float(moved), 2)}


if __name__ == "__main__":
    main()

"""Do samples show what their captions ask for? Attributes of images that nobody trained on, read by a judge.

    python benchmarks/attributes.py toon_avatars64.npz --attributes hairColor clothesColor skinColor rearHair hair \
        clothes --record records/attributes.json

DATA has captions, and a column for each attribute, which the captions name. A column of colours (#b58143) is read from
the pixels: the colour that most of them are near to, where images have the attribute. The judge of the others is a
logistic regression from EfficientNet's features, fitted to half of the images. A model is trained on that half by
`noisekiln train` with all else at its default; then it draws images from captions of the other half. Its score is the
share of the attributes that the judge reads as asked, over the same share for the real images of these captions, the
ceiling. Needs the extra `evaluate` and scikit-learn; run it on a quiet machine.
"""

import argparse
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import commands
import noisekiln as nk
from cells import measure_cells
from noisekiln.features.efficientnet import EfficientNet
from noisekiln.files.pictures import save_image, tile

SHOWN = 32
NEAR = 25.0  # distance in RGB, 0 to 255, up to which a pixel has a colour
Values = Mapping[str, NDArray[np.str_]]
Reader = Callable[[NDArray[np.uint8], NDArray[np.float32]], NDArray[np.str_]]  # of images and their features


class Judge:
    """Reads attributes from images.

    Args:
        images: Images to learn from, (N, H, W, C) uint8.
        values: The value of each attribute of each of them.
    """

    def __init__(self, images: NDArray[np.uint8], values: Values) -> None:
        features = features_of(images)
        self.readers = {
            name: color_reader(images, column) if column[0].startswith("#") else fitted_reader(features, column)
            for name, column in values.items()
        }

    def agreement(self, images: NDArray[np.uint8], values: Values) -> dict[str, float]:
        """The share of images (N, H, W, C) that show each attribute as asked, and the mean under "all"."""
        features = features_of(images)
        shares = {
            name: float(np.mean(reader(images, features) == values[name])) for name, reader in self.readers.items()
        }
        return shares | {"all": float(np.mean(list(shares.values())))}


def color_reader(images: NDArray[np.uint8], column: NDArray[np.str_]) -> Reader:
    """A reader that finds the colour, of those in a column, that most pixels are near to.

    A pixel counts as often as it has the attribute's colour in the given images. A network's features would not do:
    they read the hair of samples wrongly whose colour was right to the eye, and by its pixels (LOG.md).
    """
    colors, index = np.unique(column, return_inverse=True)
    rgb = np.array([[int(color[i : i + 2], 16) for i in (1, 3, 5)] for color in colors], np.float32)
    place = np.mean([nearest(image, rgb) == i for image, i in zip(images, index, strict=True)], axis=0)

    def read(images: NDArray[np.uint8], features: NDArray[np.float32]) -> NDArray[np.str_]:
        which = [nearest(image, rgb) for image in images]
        counts = [[place[each == i].sum() for i in range(len(colors))] for each in which]
        found: NDArray[np.str_] = colors[np.argmax(counts, 1)]
        return found

    return read


def nearest(image: NDArray[np.uint8], colors: NDArray[np.float32]) -> NDArray[np.int64]:
    """Which colour each pixel of an image (H, W, 3) is nearest to, (H, W); -1 if it is far from all."""
    distances = np.linalg.norm(image[:, :, None].astype(np.float32) - colors, axis=-1)
    return np.where(distances.min(-1) < NEAR, distances.argmin(-1), -1)


def fitted_reader(features: NDArray[np.float32], column: NDArray[np.str_]) -> Reader:
    """A logistic regression of an attribute."""
    fitted = make_pipeline(StandardScaler(), LogisticRegression(C=0.03, max_iter=300)).fit(features, column)
    return lambda images, features: fitted.predict(features)


def features_of(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """EfficientNet's features of images, (N, 1280)."""
    return EfficientNet().extract(torch.from_numpy(images)).numpy()


def main() -> None:
    """Measure each cell that the record lacks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="an .npz with images, captions and a column for each attribute")
    parser.add_argument("--attributes", nargs="+", required=True)
    parser.add_argument("--minutes", nargs="+", type=float, default=[10])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("-n", dest="count", type=int, default=500, help="samples, each from a caption of its own")
    parser.add_argument("--train", nargs=argparse.REMAINDER, default=[], help="further options of `noisekiln train`")
    parser.add_argument("--work", type=Path, default=Path(".bench/attributes"))
    parser.add_argument("--record", type=Path)
    options = parser.parse_args()
    arrays = np.load(options.data)
    half = len(arrays["images"]) // 2
    options.work.mkdir(parents=True, exist_ok=True)
    seen = options.work / options.data.name
    np.savez(seen, images=arrays["images"][:half], captions=arrays["captions"][:half])
    judge = Judge(arrays["images"][:half], {name: arrays[name][:half] for name in options.attributes})
    rest = slice(half, half + options.count)
    asked = {name: arrays[name][rest] for name in options.attributes}
    ceiling = judge.agreement(arrays["images"][rest], asked)
    captions = [str(caption) for caption in arrays["captions"][rest]]

    def measured(cell: Mapping[str, Any]) -> dict[str, Any]:
        name = f"{options.data.stem}_{cell['minutes']:g}min_seed{cell['seed']}"
        wanted = ["--minutes", f"{cell['minutes']:g}", "--seed", str(cell["seed"]), *options.train]
        trained = commands.train(seen, options.work / name, wanted)
        images = samples_of(trained.folder, captions, options.work / f"{name}.png")
        shown = judge.agreement(images, asked)
        parts = {part: {"samples": round(share, 3), "real": round(ceiling[part], 3)} for part, share in shown.items()}
        share = round(shown["all"] / ceiling["all"], 3)
        return {"images_seen": trained.images_seen, "of_ceiling": share, "agreement": parts}

    about = {"data": options.data.stem, "images": half, "count": options.count, "options": " ".join(options.train)}
    cells = [about | {"minutes": minutes, "seed": seed} for minutes in options.minutes for seed in options.seeds]
    measure_cells(cells, measured, options.record)


def samples_of(run: Path, captions: Sequence[str], picture: Path) -> NDArray[np.uint8]:
    """An image of each caption, (N, H, W, C); some of them are shown in a picture."""
    images = np.asarray(nk.load(run).sample(list(captions), seed=0))
    save_image(tile(images[:SHOWN], columns=8), picture, at_least=512)
    return images


if __name__ == "__main__":
    main()

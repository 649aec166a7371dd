"""Samples the ONNX model of this folder; needs onnxruntime, numpy and Pillow: python sample.py -h."""

import argparse
import difflib
import hashlib
import json
import re
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from PIL import Image, ImageOps


def sample(
    folder: Path, x: Any, ids: Any = None, guidance: float = 1.0, source: Any = None, source_noise: Any = None
) -> Any:
    """Images, (B, H, W, C) floats of 0 to 1, from unit noise (B, C, H, W) and the ids of conditions, (B, ...).

    A model with a task starts from `source`, (B, h, w, c) uint8, to which some add noise of the shape of x.
    """
    run = {file.stem: onnxruntime.InferenceSession(str(file)) for file in folder.glob("*.onnx")}
    model, before, x = json.loads((folder / "sampling.json").read_text("utf-8")), 0.0, x.astype(np.float32)
    if model["source"] and source is None:
        raise ValueError("This model starts from an image. Give it as `source`.")
    slots = [each.name for each in run["denoiser"].get_inputs()[2:] if each.name != "image"]
    nothing = np.tile(np.array(model["nothing"], np.int64), (len(x),) + (1,) * np.ndim(model["nothing"]))
    rows = [nothing] if slots else []
    guided = bool(rows) and ids is not None and guidance != 1
    rows = [ids, *rows] if guided else [ids] if rows and ids is not None else rows
    cond = dict(zip(slots, run["conditioner"].run(None, {"ids": np.concatenate(rows)}), strict=True)) if slots else {}
    image = None if source is None else image_of(run["source"], source, x if source_noise is None else source_noise)
    cond |= {} if image is None else {"image": np.concatenate([image] * (1 + guided))}
    x = model["first"] * x
    for step in model["steps"]:
        x_in, label = np.concatenate([x] * (1 + guided)) * np.float32(step["scale"]), step["label"]
        y = run["denoiser"].run(None, {"x": x_in, "label": np.full(len(x_in), label, np.float32), **cond})[0]
        y = y[len(x) :] + guidance * (y[: len(x)] - y[len(x) :]) if guided else y
        clean = np.float32(step["of_x"]) * x + np.float32(step["of_y"]) * y  # the estimate of the image
        clean = run["known"].run(None, {"x": clean, "image": image})[0] if "known" in run else clean
        aim = clean + step["ahead"] * (clean - before)  # DPM-Solver++(2M); `ahead` is 0 for DDIM
        x, before = (step["keep"] * x + step["add"] * aim).astype(np.float32), clean
    return run["decoder"].run(None, {"x": x})[0].transpose(0, 2, 3, 1).clip(0, 1)


def image_of(session: Any, source: Any, noise: Any) -> Any:
    """The network's condition image of sources."""
    inputs = {"source": source, "noise": noise.astype(np.float32)}
    return session.run(None, {each.name: inputs[each.name] for each in session.get_inputs()})[0]


def read_source(file: str, height: int, width: int, channels: int) -> Any:
    """The source in a file, (1, h, w, c) uint8; transparent pixels are those to fill in."""
    try:
        image = ImageOps.exif_transpose(Image.open(file)).convert("RGBA")
    except OSError as error:
        raise SystemExit(f"{file} cannot be read ({error}).") from None
    if channels in (1, 3):  # transparent pixels on white, as in training
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    image = image.convert({1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}[channels])
    pixels = np.asarray(ImageOps.fit(image, (width, height))).reshape(1, height, width, channels)
    if channels in (2, 4) and pixels[..., -1].min() > 127:
        raise SystemExit(f"{file} has no transparent pixels, and these are filled in. Erase some, and save it as PNG.")
    return pixels


def ids_of(condition: dict[str, Any], value: str) -> Any:
    """The ids of a class or a prompt, one row."""
    if condition["kind"] == "class":
        return np.array([condition["names"].index(value) if value in condition["names"] else int(value)])
    if re.search(r"Negative prompt:|:\s*\d*\.?\d+\s*[),;\n]|:\s*\d*\.\d+\s*$", value):
        raise SystemExit("Weights of phrases and negative prompts are not read here: write words alone.")
    text = value.lower() if value.isascii() else unicodedata.normalize("NFC", value.lower())
    words = re.findall(condition["ascii_word" if value.isascii() else "word"], text)
    numbers = {word: number for number, word in enumerate(condition["words"], 1)}
    read = [word for word in words if condition["buckets"] or word in numbers][: condition["length"]]
    ids = np.zeros((1, condition["length"], 2 + condition["groups"]), np.int64)
    for place, found in enumerate(read):
        word = found if found in numbers or not condition["buckets"] else meant_word(found, condition)
        row = [numbers.get(word, 0), condition["weight"], *hashed_letters(word, condition)]
        ids[0, place, : len(row)] = row
    return ids


def meant_word(word: str, condition: dict[str, Any]) -> str:
    """The known word that means the same, or else the one that is spelled most alike; the word itself if none is."""
    if word in condition["synonyms"]:
        return str(condition["synonyms"][word])
    same_letter = [each for each in condition["words"] if each[0] == word[0]]
    found = difflib.get_close_matches(word, same_letter, 1, condition["likeness"])
    return found[0] if found and len(word) >= condition["shortest"] else word


def hashed_letters(word: str, condition: dict[str, Any]) -> list[int]:
    """The buckets of the groups of letters of a word; of a long one, those at both ends."""
    marked, half = f"<{word}>", condition["groups"] // 2
    starts = [(i, size) for i in range(len(marked) - 1) for size in condition["sizes"] if i + size <= len(marked)]
    groups = [marked[i : i + size].encode("utf-8", "replace") for i, size in starts]
    kept = groups if len(groups) <= 2 * half else groups[:half] + groups[-half:]
    hashes = [hashlib.blake2b(group, digest_size=8).digest() for group in kept if half]
    return [1 + int.from_bytes(each, "little") % condition["buckets"] for each in hashes]


def main() -> None:
    """Write images to the folder `pictures`."""
    folder = Path(__file__).parent
    model = json.loads((folder / "sampling.json").read_text("utf-8"))
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("condition", nargs="?", help="a class or a prompt")
    options.add_argument("-n", type=int, default=8, help="number of images")
    options.add_argument("-s", dest="seed", type=int, default=0, help="seed")
    options.add_argument("-g", dest="guidance", type=float, default=model["guidance"], help="guidance scale")
    if model["source"]:
        options.add_argument(
            "-i",
            dest="image",
            required=True,
            help="the image to start from; transparent where it is to be filled in",
        )
    arguments = options.parse_args()
    if arguments.condition is not None and model["condition"] is None:
        options.error("this folder samples without conditions: omit it")
    ids = (
        None
        if arguments.condition is None
        else np.repeat(ids_of(model["condition"], arguments.condition), arguments.n, 0)
    )
    random = np.random.default_rng(arguments.seed)
    x, noise = (random.standard_normal((arguments.n, *model["x"])) for _ in range(2))
    source = np.repeat(read_source(arguments.image, *model["source"]), arguments.n, 0) if model["source"] else None
    images = sample(folder, x, ids, arguments.guidance, source, noise)
    (folder / "pictures").mkdir(exist_ok=True)
    for number, image in enumerate((255 * images).round().astype(np.uint8)):
        Image.fromarray(image.squeeze()).save(folder / "pictures" / f"{number:05d}.png")
    print(f"{arguments.n} image{'s' * (arguments.n != 1)} in {folder / 'pictures'}")


if __name__ == "__main__":
    main()

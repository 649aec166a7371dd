"""Makes `src/noisekiln/autoencoding/weights/`: autoencoders of drawn images, from which codecs start to train.

    python tools/starting_weights.py --factor 4 --minutes 30

Draws images of leaves that hide each other, lines, letters and clouds, trains the default codec of the factor on them
from random weights, and writes its weights in half precision. Nothing that a person drew or photographed goes in.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter, ImageFont
from safetensors.torch import save_file

import noisekiln as nk
from noisekiln.autoencoding.starting_weights import starting_weights_file
from noisekiln.plan.codec_training import CHANNELS, WIDTHS

COUNT = 12_000  # images
SIDES = {2: 32, 4: 64, 8: 96}  # pixels, by factor
FEW_OR_MANY, SHARES = (2, 5, 12, 30, 80), (0.15, 0.25, 0.25, 0.25, 0.1)  # shapes in an image, and how often so many


def main() -> None:
    """Draw, train, and write the weights."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--factor", type=int, choices=sorted(SIDES), required=True)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--work", type=Path, default=Path(".bench/starting_weights"))
    options = parser.parse_args()
    generator = np.random.default_rng(options.factor)
    images = np.stack([drawn(generator, SIDES[options.factor]) for _ in range(COUNT)])
    spec = f"autoencoder(factor={options.factor},channels={CHANNELS[options.factor]},width={WIDTHS[options.factor]},"
    codec = nk.train_codec(
        images,
        codec=f"{spec}pretrained=False)",
        minutes=options.minutes,
        flip=True,
        out=options.work / f"factor{options.factor}",
    )
    assert isinstance(codec, nk.Autoencoder)
    write_weights(codec)


def write_weights(codec: nk.Autoencoder) -> Path:
    """Write the weights of a trained codec in half precision, and its statistics, where codecs look for them."""
    file = starting_weights_file(codec)
    file.parent.mkdir(exist_ok=True)
    state = codec.state_dict()
    halved = {name: value if name.startswith("statistics") else value.half() for name, value in state.items()}
    save_file({name: value.contiguous() for name, value in halved.items()}, file)
    return file


def drawn(generator: np.random.Generator, side: int) -> NDArray[np.uint8]:
    """One image, (side, side, 3) uint8, drawn at up to four times the size and averaged."""
    over = int(generator.integers(1, 5))
    hue = generator.integers(0, 256, 3)
    image = ground(generator, side * over, hue)
    for _ in range(int(generator.choice(FEW_OR_MANY, p=SHARES))):
        add_shape(generator, ImageDraw.Draw(image), side * over, over, hue)
    if generator.random() < 0.3:
        image = image.filter(ImageFilter.GaussianBlur(over * generator.uniform(0.3, 1.5)))
    pixels = np.asarray(image.resize((side, side), Image.Resampling.BOX)).astype(np.float64)
    if generator.random() < 0.3:  # a surface
        rough = clouds(generator, side, generator.uniform(1.8, 3.5))
        pixels = pixels * (1 + 0.2 * generator.random() * rough[..., None])
    if generator.random() < 0.15:  # grain
        pixels = pixels + generator.normal(0, generator.uniform(0, 6), pixels.shape)
    if generator.random() < 0.1:
        pixels = pixels.mean(-1, keepdims=True).repeat(3, -1)
    return np.clip(pixels, 0, 255).astype(np.uint8)


def ground(generator: np.random.Generator, side: int, hue: NDArray[np.int64]) -> Image.Image:
    """What shapes lie on: one colour, clouds of two, or a ramp between two."""
    plain = Image.new("RGB", (side, side), colour(generator))
    if generator.random() < 0.3:
        return plain
    across = np.linspace(0, 1, side)
    ramp = across[:, None] * generator.normal() + across * generator.normal()
    cloudy = 0.25 * clouds(generator, side, generator.uniform(2.5, 4.5)) + 0.5
    mixed = np.clip(cloudy if generator.random() < 0.6 else ramp, 0, 1)[..., None]
    first, second = (np.array(colour(generator, hue)) for _ in range(2))
    return Image.fromarray((first + (second - first) * mixed).astype(np.uint8))


def add_shape(
    generator: np.random.Generator, draw: ImageDraw.ImageDraw, side: int, over: int, hue: NDArray[np.int64]
) -> None:
    """An ellipse, polygon, rectangle, line or word; small ones are more frequent, as things are in photographs."""
    radius = min(0.6 * side, 1.5 * over / max(generator.random(), 0.02) ** 0.8)
    (x, y), fill, kind = generator.random(2) * side, colour(generator, hue), generator.random()
    if kind < 0.35:
        a, b = generator.uniform(0.4, 1, 2) * radius
        outline = colour(generator) if generator.random() < 0.3 else None
        draw.ellipse((x - a, y - b, x + a, y + b), fill=fill, outline=outline, width=over)
    elif kind < 0.6:
        corners = int(generator.integers(3, 7))
        angles = np.sort(generator.random(corners)) * 2 * np.pi
        far = radius * generator.uniform(0.5, 1.2, corners)
        draw.polygon([*zip(x + far * np.cos(angles), y + far * np.sin(angles), strict=True)], fill=fill)
    elif kind < 0.7:
        a, b = generator.uniform(0.3, 1, 2) * radius
        draw.rectangle((x - a, y - b, x + a, y + b), fill=fill)
    elif kind < 0.9:
        steps = generator.normal(0, 0.6 * radius, (int(generator.integers(1, 6)), 2))
        path = np.cumsum(np.vstack([[x, y], steps]), 0)
        draw.line([*map(tuple, path)], fill=fill, width=max(1, int(over * generator.uniform(0.5, 3))), joint="curve")
    else:
        word = "".join(map(chr, generator.integers(33, 127, int(generator.integers(1, 6)))))
        draw.text((x, y), word, fill=fill, font=ImageFont.load_default(max(6, radius)))


def colour(generator: np.random.Generator, like: NDArray[np.int64] | None = None) -> tuple[int, ...]:
    """A colour, often near another one, and mostly not a bright one."""
    if like is None or generator.random() < 0.3:
        value = generator.uniform(0, 255, 3)
    else:
        value = np.clip(like + generator.normal(0, 40, 3), 0, 255)
    grey = value.mean()
    return tuple(int(each) for each in grey + (value - grey) * generator.uniform(0.2, 1))


def clouds(generator: np.random.Generator, side: int, slope: float) -> NDArray[np.float64]:
    """Noise whose power falls with the frequency to the power of `slope`, (side, side) of variance 1."""
    frequency = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side))
    frequency[0, 0] = np.inf
    waves = frequency ** (-slope / 2) * np.exp(2j * np.pi * generator.random(frequency.shape))
    field: NDArray[np.float64] = np.fft.irfft2(waves, (side, side))
    return np.asarray(field / field.std())


if __name__ == "__main__":
    torch.manual_seed(0)
    main()

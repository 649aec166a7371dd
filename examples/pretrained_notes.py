"""Pretrained Stable Diffusion: the notes' ten lines, and the same weights sampled by noisekiln.

    python examples/pretrained_notes.py
    python examples/pretrained_notes.py --model FOLDER --prompt "a cat in the sun, photo" --steps 25

The first half is the notes' own code, with its device chosen: float16 needs a GPU. The second loads the same folder or
name with `nk.load_pretrained`; from the same seed, both make the same picture in float32, up to rounding.

CLIP of Stable Diffusion 1.x was trained on English captions: a Chinese prompt makes a picture, but follows it loosely.
"""

import argparse

import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline
from PIL import Image

import noisekiln as nk

PROMPT = "一只可爱的猫咪在阳光下玩耍，超高清摄影"


def by_diffusers(model_id: str, prompt: str, steps: int, seed: int) -> Image.Image:
    """The notes' lines; DDIM instead of the pipeline's own scheduler, and a seed."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    dtype = torch.float16 if device == "cuda" else torch.float32
    pipe = StableDiffusionPipeline.from_pretrained(model_id, torch_dtype=dtype)
    pipe.scheduler = DDIMScheduler.from_config(pipe.scheduler.config)
    pipe = pipe.to(device)
    image: Image.Image = pipe(prompt, num_inference_steps=steps, generator=torch.Generator().manual_seed(seed)).images[
        0
    ]
    return image


def by_noisekiln(model_id: str, prompt: str, steps: int, seed: int) -> Image.Image:
    """The same weights as a noisekiln model, with the scheduler's timesteps."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = nk.load_pretrained(model_id, scheduler="ddim", device=device)
    return Image.fromarray(model.sample(prompt, steps=steps, seed=seed)[0].cpu().numpy())


def main(words: list[str] | None = None) -> None:
    """Write generated_cat.png, and generated_cat_noisekiln.png."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    options.add_argument("--model", default="runwayml/stable-diffusion-v1-5", help="a folder, or a name on the Hub")
    options.add_argument("--prompt", default=PROMPT)
    options.add_argument("--steps", type=int, default=50)
    options.add_argument("--seed", type=int, default=0)
    given = options.parse_args(words)
    by_diffusers(given.model, given.prompt, given.steps, given.seed).save("generated_cat.png")
    by_noisekiln(given.model, given.prompt, given.steps, given.seed).save("generated_cat_noisekiln.png")


if __name__ == "__main__":
    main()

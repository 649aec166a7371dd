"""A diffusion pipeline for a model of noisekiln, which need not be installed: `DiffusionPipeline.from_pretrained`."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from diffusers import DiffusionPipeline, ImagePipelineOutput
from PIL import Image, ImageOps


class NoisekilnPipeline(DiffusionPipeline):  # type: ignore[misc]  # diffusers has no types
    """Images from classes, prompts or nothing, by the sampler, steps and guidance that the model was saved with."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.register_modules(model=model)

    @torch.no_grad()
    def __call__(
        self,
        prompt: str | list[str] | None = None,
        negative_prompt: str | list[str] | None = None,
        class_labels: Any = None,
        image: Any = None,
        num_images_per_prompt: int = 1,
        num_inference_steps: int | None = None,
        guidance_scale: float | None = None,
        generator: torch.Generator | list[torch.Generator] | None = None,
        latents: torch.Tensor | None = None,
        output_type: str = "pil",
        return_dict: bool = True,
    ) -> Any:
        """Generate images.

        Args:
            prompt: A prompt, or a list of them, for a model that was trained on captions.
            negative_prompt: What images should not show, one text for all or one for each prompt; it needs a
                `guidance_scale` above 1.
            class_labels: A class or a list of them, by name or number, for a model that was trained on classes.
            image: The image, or list of images, that a model with a task starts from: one for each result.
            num_images_per_prompt: Images of each prompt or class; or in all, without any.
            num_inference_steps: Number of steps; by default those that the model was saved with.
            guidance_scale: 1 is no guidance, more follows the prompt or class more closely; by default the model's.
            generator: A generator, or one for each image: an image of `torch.Generator().manual_seed(7)` is that of
                `noisekiln sample --seed 7`.
            latents: Unit noise to start from, (images, C, H, W), instead.
            output_type: "pil", "np" (floats of 0 to 1), or "pt" (the same, channels first).
            return_dict: Whether to return an `ImagePipelineOutput`, and not a tuple.
        """
        if negative_prompt:
            prompt = _with_negative(prompt or "", negative_prompt)
        conditions = self._conditions(prompt, class_labels, num_images_per_prompt)
        if isinstance(generator, list) and len(generator) != len(conditions):
            raise ValueError(f"{len(generator)} generators were given for {len(conditions)} images. Give one for each.")
        pixels = self.model.images(
            conditions,
            lambda like: _noise(like, generator),
            steps=num_inference_steps,
            guidance=guidance_scale,
            start=latents,
            source=None if image is None else self._source(image, len(conditions)),
            progress=self._with_bar,
        ).cpu()
        images = _OUTPUTS[output_type](pixels)
        return ImagePipelineOutput(images=images) if return_dict else (images,)

    def _source(self, image: Any, count: int) -> torch.Tensor:
        """Images as a tensor of bytes, (count, h, w, c); those of Pillow upright, and of the mode of the task."""
        task, images = self.model.task, image if isinstance(image, list | tuple) else [image]
        mode = None if task is None else _MODES.get(task.source_channels(self.model.codec.image_channels))
        if mode is not None:
            images = [_in_mode(each, mode) if isinstance(each, Image.Image) else each for each in images]
        arrays = [torch.from_numpy(np.array(each)) for each in images]
        source = torch.stack([array if array.ndim == 3 else array[..., None] for array in arrays])
        return source.expand(count, -1, -1, -1) if len(source) == 1 else source

    def _with_bar(self, steps: Iterator[torch.Tensor], count: int) -> Iterator[torch.Tensor]:
        with self.progress_bar(total=count) as bar:
            for x in steps:
                bar.update()
                yield x

    def _conditions(self, prompt: Any, class_labels: Any, count: int) -> list[Any]:
        if prompt is not None and class_labels is not None:
            raise ValueError("A prompt and class labels were given, and a model reads one of them. Omit the other.")
        requested = prompt if prompt is not None else class_labels
        if requested is not None and self.model.conditioner is None:
            raise ValueError(
                f"{requested!r} was given to a model that was trained without prompts or classes. Omit it."
            )
        if torch.is_tensor(requested):
            requested = requested.tolist()
        return [
            each for each in (requested if isinstance(requested, list | tuple) else [requested]) for _ in range(count)
        ]


def _with_negative(prompt: str | list[str], negative: str | list[str]) -> list[str]:
    """Prompts with their negative ones, as the model reads them: on a line of its own."""
    prompts = [prompt] if isinstance(prompt, str) else prompt
    negatives = [negative] * len(prompts) if isinstance(negative, str) else negative
    if len(negatives) != len(prompts):
        raise ValueError(f"{len(negatives)} negative prompts were given for {len(prompts)} prompts. Give one for each.")
    return [f"{text}\nNegative prompt: {each}" if each else text for text, each in zip(prompts, negatives, strict=True)]


def _noise(like: torch.Tensor, generator: torch.Generator | list[torch.Generator] | None) -> torch.Tensor:
    """Unit noise, drawn image by image in float32 on the generator's device."""
    each = generator if isinstance(generator, list) else [generator] * len(like)
    drawn = [torch.randn(like.shape[1:], generator=one, device=one.device if one else "cpu") for one in each]
    return torch.stack(drawn).to(like)


def _as_pil(pixels: torch.Tensor) -> list[Image.Image]:
    return [Image.fromarray(array if array.shape[2] > 1 else array[..., 0]) for array in pixels.numpy()]


def _in_mode(image: Image.Image, mode: str) -> Image.Image:
    """A photo as a camera held it; transparent pixels on white where the mode has none."""
    image = ImageOps.exif_transpose(image).convert("RGBA")
    on_white = image if mode.endswith("A") else Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return on_white.convert(mode)


_MODES = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}  # of Pillow, by channels
_OUTPUTS: dict[str, Callable[[torch.Tensor], Any]] = {
    "pil": _as_pil,
    "np": lambda pixels: pixels.numpy().astype(np.float32) / 255,
    "pt": lambda pixels: pixels.permute(0, 3, 1, 2).float() / 255,
}

"""A diffusion model, whole: everything between a wish and a picture, in one object that can be saved and loaded."""

import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from noisekiln.backbones.base import Backbone
from noisekiln.codecs.base import Codec
from noisekiln.conditioners.base import Conditioner
from noisekiln.conditions import NOTHING, Cond
from noisekiln.denoiser import Denoiser
from noisekiln.estimate import Denoise
from noisekiln.guidance.base import Guidance
from noisekiln.guidance.classifier_free import ClassifierFree
from noisekiln.labels.base import Label
from noisekiln.predictions import PREDICTIONS
from noisekiln.samplers.base import Sampler, SeededNoise, grid, sample
from noisekiln.schedules.base import Schedule
from noisekiln.spec import build, describe

FORMAT = 1
Steer = Callable[[Denoise], Denoise]


@dataclass(frozen=True)
class Sampling:
    """How a model is best sampled; saved with it, and overridden by whoever asks for something else.

    Attributes:
        sampler: A spec, such as "dpmpp_2m" or "ddim(eta=1)".
        steps: Number of steps.
        guidance: A scale of classifier-free guidance, or the spec of another guidance.
        schedule: Along which levels.
    """

    sampler: str = "dpmpp_2m"
    steps: int = 20
    guidance: str | float = 1.0
    schedule: str = "karras"


@dataclass(frozen=True)
class Progress:
    """Where sampling stands after a step.

    Attributes:
        step: Steps done, 1 ... steps.
        steps: Steps in all.
        x: The images so far, still noisy unless it was the last step, (B, C, H, W).
        codec: What decodes them.
    """

    step: int
    steps: int
    x: Tensor
    codec: Codec

    def images(self) -> Tensor:
        """The images as they are now, (B, H, W, C) uint8."""
        return self.codec.decode(self.x)


class Diffusion(nn.Module):
    """Denoiser, codec, and conditioner together, for images of one size.

    Args:
        denoiser: The trained part that sees noisy images.
        codec: Between images and x.
        size: Height and width of x.
        conditioner: What reads classes or prompts; None for a model that takes no wishes.
        sampling: How it is sampled unless asked otherwise.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        codec: Codec,
        size: tuple[int, int],
        conditioner: Conditioner | None = None,
        sampling: Sampling = Sampling(),
    ) -> None:
        super().__init__()
        self.denoiser = denoiser
        self.codec = codec
        self.size = size
        self.conditioner = conditioner
        self.sampling = sampling

    @torch.no_grad()
    def generate(
        self,
        wanted: Sequence[str | int | None],
        *,
        seeds: Sequence[int],
        sampler: str | Sampler | None = None,
        steps: int | None = None,
        guidance: float | str | Guidance | None = None,
        schedule: str | Schedule | None = None,
        steer: Steer | None = None,
    ) -> Iterator[Progress]:
        """Paint one image for each wish, step by step; the last `Progress` holds the finished ones.

        Args:
            wanted: Class names or numbers, or prompts, as the model's conditioner takes them; None wishes for nothing.
            seeds: One an image: the seed and the wish alone decide an image, not its batch.
            sampler: A sampler or its spec.
            steps: Number of steps, >= 1.
            guidance: A scale (0 ignores the wish, 1 is the model as it is, above asks more strongly), or a guidance.
            schedule: Along which levels, or its spec.
            steer: A last wrapper of the denoiser, for what else shall change where the model aims.

        Raises:
            ValueError: For a wish, a setting or a number that cannot be, with what can.
        """
        if len(wanted) != len(seeds):
            raise ValueError(f"{len(wanted)} wishes came with {len(seeds)} seeds. Give one seed for each image.")
        usual = self.sampling
        method: Sampler = build(Sampler, sampler or usual.sampler)
        path: Schedule = build(Schedule, schedule or usual.schedule)
        denoise = self.bind(wanted, usual.guidance if guidance is None else guidance)
        denoise = steer(denoise) if steer else denoise
        levels = grid(path, usual.steps if steps is None else steps, self._start(path))
        noise = SeededNoise(seeds)
        like = torch.empty(len(seeds), self.codec.channels, *self.size, device=self._device())
        x = levels[0].norm * noise(like)
        for i, x_s in enumerate(sample(denoise, method, levels, x, noise), 1):
            yield Progress(i, len(levels) - 1, x_s, self.codec)

    def sample(
        self, wanted: int | Sequence[str | int | None], *, seed: int = 0, batch: int = 64, **settings: Any
    ) -> Tensor:
        """Finished images, without the steps in between: (B, H, W, C) uint8.

        Args:
            wanted: How many images without a wish, or the wishes as `generate` takes them.
            seed: Of the first image; the others count on from it.
            batch: Images painted at once; it changes nothing but speed and memory.
            settings: The other settings of `generate`.
        """
        wanted = [None] * wanted if isinstance(wanted, int) else wanted
        seeds = settings.pop("seeds", range(seed, seed + len(wanted)))
        if not wanted or batch < 1:
            raise ValueError(
                f"{len(wanted)} images in batches of {batch}: there is nothing to paint. Ask for 1 or more."
            )
        done = []
        for i in range(0, len(wanted), batch):
            part = slice(i, i + batch)
            *_, last = self.generate(wanted[part], seeds=seeds[part], **settings)
            done.append(last.images())
        return torch.cat(done)

    def bind(self, wanted: Sequence[str | int | None], guidance: float | str | Guidance = 1.0) -> Denoise:
        """The denoiser with these wishes bound, and guided."""
        guidance = float(guidance) if isinstance(guidance, int) else guidance
        guide: Guidance = ClassifierFree(guidance) if isinstance(guidance, float) else build(Guidance, guidance)
        if self.conditioner is None:
            if any(wish is not None for wish in wanted):
                asked = next(wish for wish in wanted if wish is not None)
                raise ValueError(
                    f"{asked!r} was asked for, but this model was trained without classes or captions. "
                    "Sample it without, or train one on images with classes (a sub-folder each) or captions."
                )
            return self.denoiser.bind(NOTHING)
        ids = self.conditioner.nothing(len(wanted))
        for i, wish in enumerate(wanted):
            if wish is not None:
                ids[i] = self.conditioner.encode([wish])[0]
        device = self._device()
        cond: Cond = self.conditioner(ids.to(device))
        away: Cond = self.conditioner(self.conditioner.nothing(len(wanted)).to(device))
        if all(wish is None for wish in wanted):  # nothing to guide towards
            return self.denoiser.bind(away)
        return guide(self.denoiser.bind(cond), self.denoiser.bind_both(cond, away))

    def save(self, folder: str | Path) -> None:
        """Write `model.json` and `model.safetensors` into a folder, which is made."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        denoiser = self.denoiser
        told = {
            "format": FORMAT,
            "size": list(self.size),
            "backbone": describe(denoiser.backbone, whole=True),
            "prediction": denoiser.prediction.name,
            "label": describe(denoiser.label, whole=True),
            "codec": describe(self.codec, whole=True),
            "conditioner": describe(self.conditioner, whole=True) if self.conditioner else None,
            "sampling": asdict(self.sampling),
        }
        weights = {name: tensor.contiguous() for name, tensor in self.state_dict().items()}
        # Beside their places, then renamed: whoever samples while a run trains never reads half a file.
        save_file(weights, folder / ".model.safetensors.partial")
        (folder / ".model.json.partial").write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")
        for name in ("model.safetensors", "model.json"):
            os.replace(folder / f".{name}.partial", folder / name)

    @classmethod
    def load(cls, folder: str | Path, *, device: str | torch.device = "cpu", allow_code: bool = False) -> "Diffusion":
        """The model that `save` wrote, ready to sample.

        Args:
            folder: The folder with `model.json`, or a run folder that holds it in `model/`.
            device: Where to put it.
            allow_code: Whether a component from somebody's own Python file may be run; only for files that you trust.

        Raises:
            ValueError: If there is no model there, or it is damaged, or of a later version.
        """
        folder = _model_folder(Path(folder))
        told = _read_json(folder / "model.json")
        if any(".py:" in str(spec) for spec in told.values()) and not allow_code:
            raise ValueError(
                f"{folder} runs Python code of its maker's, which could do anything. "
                "If you trust it, allow it: --allow-code, or allow_code=True."
            )
        try:
            model = cls._told(told)
            model.load_state_dict(load_file(folder / "model.safetensors"))
        except (KeyError, TypeError, ValueError, OSError, RuntimeError, SafetensorError) as error:
            raise ValueError(f"The model in {folder} is missing or damaged ({error}). Take another copy.") from error
        model.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        return model.eval()

    @classmethod
    def _told(cls, told: dict[str, Any]) -> "Diffusion":
        """The model that a `model.json` describes, untrained."""
        backbone: Backbone = build(Backbone, told["backbone"])
        denoiser = Denoiser(backbone, PREDICTIONS[told["prediction"]], build(Label, told["label"]))
        conditioner: Conditioner | None = build(Conditioner, told["conditioner"]) if told["conditioner"] else None
        codec: Codec = build(Codec, told["codec"])
        return cls(denoiser, codec, tuple(told["size"]), conditioner, Sampling(**told["sampling"]))

    def _start(self, path: Schedule) -> float:
        """1, or a little less where the prediction says nothing about the image at pure noise (eps at alpha = 0)."""
        end = path(torch.ones((), dtype=torch.float64))
        return 1.0 if bool(self.denoiser.prediction.determinant(end) != 0) else 0.999

    def _device(self) -> torch.device:
        return next(self.parameters()).device


def described(folder: str | Path) -> dict[str, Any]:
    """What the `model.json` of a run or a model says; nothing is built, and no code is run.

    Raises:
        ValueError: If there is no model there, or it is damaged, or of a later version.
    """
    return _read_json(_model_folder(Path(folder)) / "model.json")


def _model_folder(folder: Path) -> Path:
    for place in (folder, folder / "model"):
        if (place / "model.json").is_file():
            return place
    if not folder.exists():
        raise ValueError(f"There is no folder {str(folder)!r}. Give the folder of a run, such as runs/demo.")
    raise ValueError(
        f"{str(folder)!r} is not a run: it holds no model/model.json. "
        "Give a folder that `noisekiln train` has written; the first model is there after its first grid."
    )


def _read_json(file: Path) -> dict[str, Any]:
    try:
        told = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"{file} cannot be read ({error}). The model is damaged; take another copy.") from error
    if not isinstance(told, dict) or told.get("format") != FORMAT:
        raise ValueError(f"{file} is not a model of format {FORMAT}. It may come from a later noisekiln: update it.")
    return told

"""Lines about the training of a codec."""

from math import isfinite

from noisekiln.cli._plan import describe_budget
from noisekiln.cli._show import command_line
from noisekiln.errors import counted
from noisekiln.runs.codec_events import CodecEnd, CodecPlan, Reconstructions

SLOPES_APART = 0.2  # of the images' slope, at most
POOR, SOFT, CLEAR = 18.0, 27.0, 33.0  # decibels: hardly to be recognised, without details, hardly a difference


def describe_codec_plan(plan: CodecPlan) -> list[str]:
    """The plan of a codec's run, in lines."""
    settings = plan.settings
    channels, height, width = plan.x_shape
    fewer = plan.data.channels * plan.data.size[0] * plan.data.size[1] / (channels * height * width)
    name = str(settings.codec).partition("(")[0]
    start = " that start from drawn shapes" if plan.pretrained else ""
    lines = [
        f"plan: {name} of {plan.parameters / 1e6:.2f}M parameters{start}, "
        f"{height}x{width} latents of {channels} channels ({fewer:.2g} times fewer numbers), "
        f"batch {settings.batch_size}, {describe_budget(settings)} on {settings.device}"
    ]
    if plan.images_seen and plan.share < 1:
        lines.append(f"resuming after {counted(plan.images_seen, 'image')}, {plan.share:.0%} of the budget")
    return lines


def describe_codec_end(end: CodecEnd, found: Reconstructions | None = None) -> list[str]:
    """The end of a codec's training, in lines; `found` are its last reconstructions, if there are any."""
    if end.why == "finished before":
        return ["The budget of this codec is used up. Give a larger budget to resume it, or another `out`."]
    if end.why == "stopped":
        seen = f"stopped after {counted(end.images_seen, 'image')}"
        return [f"{seen}; all is saved in {end.folder}. To resume:", f"  {command_line()}"]
    return [
        f"done: {counted(end.images_seen, 'image')} in {end.seconds / 60:.1f} minutes",
        f"  pictures  {end.folder / 'samples'}",
        f"  codec     {end.folder}, for `codec={end.folder}`",
        *(() if found is None else _describe_slopes(found.latent_slope, found.image_slope)),
    ]


def describe_reconstructions(found: Reconstructions) -> str:
    """What is left of images that were encoded and decoded, in one line."""
    look = "hardly changed"
    if found.psnr < CLEAR:
        look = "without their fine details" if found.psnr < SOFT else "a little soft"
    if found.psnr < POOR:
        look = "hardly to be recognised: no sample can be better than that"
    return f"through the codec, images are {look} (PSNR {found.psnr:.1f} dB, SSIM {found.ssim:.3f}): {found.file}"


def _describe_slopes(latents: float, images: float) -> list[str]:
    """How smooth latents are, compared with images, in one line; none if it is not known."""
    if not (isfinite(latents) and isfinite(images)) or not images:
        return []
    apart = abs(latents / images - 1)
    target = "within the target of 20 %" if apart <= SLOPES_APART else "the target is 20 %"
    if apart > SLOPES_APART and latents > images:
        target += "; smoother ones, such as by `equivariance=0.25`, are easier to learn"
    return [
        f"  spectrum  the power of latents falls with frequency by a slope of {latents:.2f}, that of images by "
        f"{images:.2f}: {apart:.0%} apart ({target})"
    ]

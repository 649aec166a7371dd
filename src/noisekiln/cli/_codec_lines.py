"""Lines about the training of a codec."""

from noisekiln.cli._plan import describe_budget
from noisekiln.cli._show import command_line
from noisekiln.errors import counted
from noisekiln.runs.events import CodecEnd, CodecPlan, Reconstructions

POOR, SOFT, CLEAR = 18.0, 27.0, 33.0  # decibels: hardly to be recognised, without details, hardly told apart


def describe_codec_plan(plan: CodecPlan) -> list[str]:
    """The plan of a codec's run, in lines."""
    settings = plan.settings
    channels, height, width = plan.x_shape
    fewer = plan.data.channels * plan.data.size[0] * plan.data.size[1] / (channels * height * width)
    name = str(settings.codec).partition("(")[0]
    lines = [
        f"plan: {name} of {plan.parameters / 1e6:.2f}M parameters, {height}x{width} latents of {channels} channels "
        f"({fewer:.2g} times fewer numbers), batch {settings.batch_size}, "
        f"{describe_budget(settings)} on {settings.device}"
    ]
    if plan.images_seen and plan.share < 1:
        lines.append(f"resuming after {counted(plan.images_seen, 'image')}, {plan.share:.0%} of the budget")
    return lines


def describe_codec_end(end: CodecEnd) -> list[str]:
    """The end of a codec's training, in lines."""
    if end.why == "finished before":
        return ["The budget of this codec is used up. Give a larger budget to resume it, or another `out`."]
    if end.why == "stopped":
        seen = f"stopped after {counted(end.images_seen, 'image')}"
        return [f"{seen}; all is saved in {end.folder}. To resume:", f"  {command_line()}"]
    return [
        f"done: {counted(end.images_seen, 'image')} in {end.seconds / 60:.1f} minutes",
        f"  pictures  {end.folder / 'samples'}",
        f"  codec     {end.folder}, for `codec={end.folder}`",
    ]


def describe_reconstructions(found: Reconstructions) -> str:
    """What is left of images that were encoded and decoded, in one line."""
    look = "hardly changed"
    if found.psnr < CLEAR:
        look = "without their fine details" if found.psnr < SOFT else "a little soft"
    if found.psnr < POOR:
        look = "hardly to be recognised: no sample can be better than that"
    return f"through the codec, images are {look} (PSNR {found.psnr:.1f} dB, SSIM {found.ssim:.3f}): {found.file}"

"""Colours of a decoded image as sRGB: by its colour profile, where it has another one; transparency onto white."""

import io
from functools import lru_cache

import numpy as np
from PIL import Image, ImageCms

SAME = 2  # of 255: a profile whose colours differ less from sRGB's changes nothing
UNREADABLE = "unreadable"
NONE = ""  # no profile, or sRGB's own


def on_white(image: Image.Image) -> Image.Image:
    """An 8-bit image as RGB or grey in sRGB; transparent parts become white, as hidden colours are often garbage."""
    if image.has_transparency_data:
        layer = (image.convert("LA") if image.mode == "La" else image).convert("RGBA")
        opaque = _in_srgb(layer.convert("RGB"), image.info.get("icc_profile"))
        opaque.putalpha(layer.getchannel("A"))
        return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), opaque).convert("RGB")
    if image.mode in ("1", "L"):
        return _in_srgb(image.convert("L"), image.info.get("icc_profile"))
    flat = image if image.mode in ("RGB", "CMYK", "LAB") else image.convert("RGB")
    return _in_srgb(flat, image.info.get("icc_profile"))


def profile_name(image: Image.Image) -> str:
    """Name of the profile by which its colours are converted; "" for sRGB or none; UNREADABLE for a broken one."""
    profile = image.info.get("icc_profile")
    mode = _mode(image)
    if not profile:
        return NONE
    opened, transform = _opened(profile), _transform(profile, mode)
    if opened is None or (transform is None and mode == "CMYK"):
        return UNREADABLE
    if transform is None:
        return NONE
    return " ".join(ImageCms.getProfileDescription(opened).split())[:60] or "without a name"


def _mode(image: Image.Image) -> str:
    """The mode that an image's profile is for."""
    if image.mode in ("1", "L", "LA", "La") or image.mode.startswith(("I", "F")):
        return "L"
    return image.mode if image.mode in ("CMYK", "LAB") else "RGB"


def _in_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    """An image of mode L, RGB, CMYK or LAB as RGB in sRGB; a grey one without a profile stays as it is."""
    transform = _transform(profile or b"", image.mode)
    if transform is None:
        return image if image.mode in ("L", "RGB") else image.convert("RGB")
    return transform.apply(image)


@lru_cache(64)
def _transform(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """The conversion to sRGB; None for sRGB itself, no profile, or one that cannot be used with this mode."""
    source = ImageCms.createProfile("LAB") if mode == "LAB" else _opened(profile)
    if source is None:
        return None
    try:
        transform = ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), mode, "RGB")
    except ImageCms.PyCMSError:
        return None
    if mode not in ("L", "RGB"):
        return transform
    chart = _chart(mode)
    change = np.abs(np.asarray(transform.apply(chart), np.int16) - np.asarray(chart.convert("RGB"), np.int16))
    return transform if change.max() > SAME else None


@lru_cache(64)
def _opened(profile: bytes) -> ImageCms.ImageCmsProfile | None:
    if not profile:
        return None
    try:
        return ImageCms.ImageCmsProfile(io.BytesIO(profile))
    except (OSError, ImageCms.PyCMSError):
        return None


def _chart(mode: str) -> Image.Image:
    """All greys, or 512 colours."""
    if mode == "L":
        return Image.fromarray(np.arange(256, dtype=np.uint8)[None])
    levels = np.linspace(0, 255, 8).astype(np.uint8)
    return Image.fromarray(np.stack(np.meshgrid(levels, levels, levels), -1).reshape(1, -1, 3))

"""Classifier-free guidance."""

from dataclasses import dataclass
from typing import ClassVar

from noisekiln.components.consent import ANY_CODE, Consent
from noisekiln.components.spec import build
from noisekiln.guidance.base import Guidance, ScaledGuidance


@dataclass(frozen=True)
class ClassifierFree(ScaledGuidance):
    """``without + scale (with - without)`` the condition (Ho & Salimans 2022; their w is our scale - 1).

    Args:
        scale: 1 is no guidance, at half the cost; 0 ignores the condition; above 1 follows it more closely.
        low: Noise-to-signal ratio below which guidance is off (Kynkäänniemi et al. 2024).
        high: Ratio above which it is off.
    """

    advice: ClassVar[str] = (
        "would lead away from the condition. "
        "Use 0 (ignore the condition), 1 (no guidance) or more (2 is a good number)."
    )

    scale: float = 2.0


def guidance_of(spec: str | float | Guidance, consent: Consent = ANY_CODE) -> Guidance:
    """The guidance for a scale, which may be text, or for a spec.

    Raises:
        ValueError: For a scale that is out of range, or a spec that names no guidance method.
    """
    if isinstance(spec, Guidance):
        return spec
    try:
        scale = float(spec)
    except TypeError:
        kind = type(spec).__name__
        raise ValueError(f"A value of the type {kind} is no guidance. Give a scale, or a spec.") from None
    except ValueError:
        method: Guidance = build(Guidance, str(spec), consent)
        return method
    return ClassifierFree(scale)

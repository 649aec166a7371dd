"""Prompts as people write them: weights of phrases, and negative prompts."""

import re
from dataclasses import dataclass

NEGATIVE = "Negative prompt:"  # begins the line of the negative prompt, as in the texts of other programs' images
IN_BRACKETS = re.compile(r"(?<!\\)\(([^()]*?):[ \t]*(\d(?:\.\d+)?|\.\d+)[ \t]*\)")
LIKE_WEIGHT = re.compile(r"\([^()]*?:[ \t]*[-+]?[\d.,]{1,20}[ \t]*\)|[^\s,;:()]{0,40}:[ \t]*[-+]?\d{0,9}[.,]\d+")
ESCAPED = re.compile(r"\\\([^()]*\)?")
CLAUSE = re.compile(r"(?<![^,;\n])([^,;:()\n]+):[ \t]*(\d?\.\d+)[ \t]*(?=[,;\n]|$)")  # no weight in "16:9"


@dataclass(frozen=True)
class Prompt:
    """A prompt in parts.

    Attributes:
        phrases: Its phrases in order, each with its weight; 1 for those without one.
        negative: The negative prompt; "" for nothing.
    """

    phrases: tuple[tuple[str, float], ...]
    negative: str = ""

    @property
    def text(self) -> str:
        """The phrases without their weights; those of weight 0 are left out."""
        return "".join(text for text, weight in self.phrases if weight)


class Caption(str):
    """A caption of the data: taken as it stands, while a prompt may have weights."""

    __slots__ = ()


def read_prompt(text: str) -> Prompt:
    """The phrases of ``a person with (red hair:1.3), a blue shirt:0.8``, and what follows `NEGATIVE`.

    A weight, from 0 to below 10, stands behind a colon: at the end of a bracket, or with a point in it at the end of a
    clause between commas. Anything else is text: brackets without a number too, and every bracket after a backslash.
    A `Caption` is one phrase.
    """
    if isinstance(text, Caption):
        return Prompt(((str(text), 1.0),))
    positive, found, negative = text.partition(NEGATIVE)
    return Prompt(tuple(_phrases(positive)), negative.strip() if found else "")


def with_negative(text: str, negative: str) -> str:
    """A prompt with a negative one, as `read_prompt` reads it."""
    return f"{text}\n{NEGATIVE} {negative}" if negative.strip() else text


def numbers_without_weight(text: str) -> list[str]:
    """The places in a prompt whose number looks like a weight, and is none: ``(red hair:10)``, ``((a:1.2) b:1.3)``."""
    prompt = read_prompt(text)
    left = [phrase for phrase, _ in (*prompt.phrases, *_phrases(prompt.negative))]
    return list(
        dict.fromkeys(found[0].strip() for each in left for found in LIKE_WEIGHT.finditer(ESCAPED.sub("", each)))
    )


def _phrases(text: str) -> list[tuple[str, float]]:
    """Phrases and their weights: those in brackets first, then clauses in the text between."""
    phrases: list[tuple[str, float]] = []
    for pattern in (IN_BRACKETS, CLAUSE):
        if pattern.search(text) is None:
            continue
        end = 0
        for found in pattern.finditer(text):
            phrases += [*_phrases(text[end : found.start()]), (f" {found[1]} ", float(found[2]))]
            end = found.end()
        return [*phrases, *_phrases(text[end:])]
    return [(text, 1.0)] if text else []

"""How the script of an export to ONNX turns a condition into ids: as numbers, words and patterns."""

from functools import singledispatch
from typing import Any

from noisekiln.conditioners.base import Conditioner
from noisekiln.conditioners.class_label import ClassLabel
from noisekiln.conditioners.language.letter_groups import MOST_GROUPS, SIZES
from noisekiln.conditioners.language.spelling import LIKENESS, SHORTEST_MISSPELT
from noisekiln.conditioners.language.split_words import ASCII_WORD, WORD
from noisekiln.conditioners.language.synonyms import synonyms_of
from noisekiln.conditioners.text import HUNDREDTHS, Text

PROBES = (
    "a red hat",
    "a bluue shrit",
    "Größe, 汽车 2024",
    "",
)  # prompts on which the tokens of `sample.py` are compared


@singledispatch
def tokens_of(conditioner: Conditioner) -> dict[str, Any] | None:
    """How the `ids_of` of `sample.py` turns a condition into ids; None for a conditioner that it does not know."""
    return None


@tokens_of.register
def _(conditioner: ClassLabel) -> dict[str, Any]:
    return {"kind": "class", "names": list(conditioner.names)}


@tokens_of.register
def _(conditioner: Text) -> dict[str, Any]:
    patterns = {"ascii_word": ASCII_WORD.pattern, "word": WORD.pattern}
    letters = {"buckets": conditioner.buckets or 0, "sizes": SIZES, "groups": MOST_GROUPS if conditioner.buckets else 0}
    spelling = {"shortest": SHORTEST_MISSPELT, "likeness": LIKENESS, "synonyms": synonyms_of(conditioner.words)}
    read = {"words": list(conditioner.words), "length": conditioner.length, "weight": HUNDREDTHS}
    return {"kind": "text", **read, **letters, **spelling, **patterns}


def tokens_agree(condition: dict[str, Any], conditioner: Conditioner) -> bool:
    """Whether `sample.py` and the conditioner have the same ids for some conditions."""
    from noisekiln.interop.onnx_sample import ids_of

    values = [*conditioner.choices, *(PROBES if not conditioner.choices else ())]
    values += [" ".join(conditioner.vocabulary[:8])] if conditioner.vocabulary else []
    ours = conditioner.encode(values)
    return all(ids_of(condition, value).tolist() == [row] for value, row in zip(values, ours.tolist(), strict=True))

"""Misspelt words: which known word was meant."""

from collections.abc import Sequence
from difflib import get_close_matches
from functools import lru_cache

SHORTEST_MISSPELT, LIKENESS = 3, 0.75  # letters, and the share of letters in common (`difflib.SequenceMatcher.ratio`)


@lru_cache(maxsize=1 << 12)
def meant_word(word: str, known: Sequence[str]) -> str | None:
    """The known word that is most like this one, of those with the same first letter; None if none is alike.

    "gren" is "green" and "shirts" is "shirt". A word of another meaning may be alike too: "skirt" is "shirt" where no
    caption has a skirt, which is why a note says what was read.
    """
    if len(word) < SHORTEST_MISSPELT:
        return None
    same_letter = [each for each in known if each[0] == word[0]]
    return next(iter(get_close_matches(word, same_letter, 1, LIKENESS)), None)

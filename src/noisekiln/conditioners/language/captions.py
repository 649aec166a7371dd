"""Captions of an image: several of them, and shorter ones made of their clauses."""

import random
import re
from functools import lru_cache

CLAUSE_END = re.compile(r"(?:[;,](?!\d)|\.(?=\s)|[，、。；])\s*")  # not the comma in 1,000, nor the point in 1.5


def captions_of(text: str) -> tuple[str, ...]:
    """The captions of an image, each on its own line; lines without text are left out."""
    return tuple(line.strip() for line in text.split("\n") if line.strip())


def clauses_of(caption: str) -> list[str]:
    """What stands between commas, semicolons and ends of sentences, also the Chinese ones."""
    return [clause.strip() for clause in CLAUSE_END.split(caption) if clause.strip(" .")]


@lru_cache(maxsize=1 << 16)  # a start of training asks several times
def shorter_captions(caption: str, most: int, seed: str) -> tuple[str, ...]:
    """Captions of some of the clauses, in their order: at least one, and not all.

    Args:
        caption: The caption.
        most: How many to make; equal ones count once.
        seed: Text that decides which, the same everywhere.
    """
    clauses = clauses_of(caption)
    if len(clauses) < 2:
        return ()
    draw = random.Random(seed)
    kept = [sorted(draw.sample(range(len(clauses)), draw.randint(1, len(clauses) - 1))) for _ in range(most)]
    return tuple(dict.fromkeys(", ".join(clauses[place] for place in places) for places in kept))

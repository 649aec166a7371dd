"""Groups of neighbouring letters of a word, hashed: what an unseen word shares with seen ones."""

import hashlib
from functools import lru_cache

SIZES = (2, 3, 4)  # letters of a group
MOST_GROUPS = 24  # of a word; those of 8 letters


def letter_groups(word: str) -> tuple[str, ...]:
    """The groups of 2 to 4 neighbouring letters of ``<word>``, by place (Bojanowski et al. 2017, section 3.2).

    The brackets mark its ends. Of a long word the groups at both ends are kept, where stems and endings are.
    """
    marked = f"<{word}>"
    groups = [marked[i : i + size] for i in range(len(marked) - 1) for size in SIZES if i + size <= len(marked)]
    half = MOST_GROUPS // 2
    return tuple(groups if len(groups) <= MOST_GROUPS else [*groups[:half], *groups[-half:]])


@lru_cache(maxsize=1 << 16)
def hashed_groups(word: str, buckets: int) -> tuple[int, ...]:
    """The bucket of each group of a word, 1 to `buckets`; the same on every machine and in every process."""
    return tuple(1 + _hash(group) % buckets for group in letter_groups(word))


def _hash(group: str) -> int:
    return int.from_bytes(hashlib.blake2b(group.encode("utf-8", "replace"), digest_size=8).digest(), "little")

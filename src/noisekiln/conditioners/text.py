"""Prompts, by a small encoder that is trained along with the model: nothing is downloaded."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import ClassVar, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from noisekiln.conditioners.base import Conditioner
from noisekiln.conditions import Cond

PADDING, FIRST_WORD = 0, 1
SMALL_WORDS = {
    "a",
    "an",
    "and",
    "at",
    "by",
    "has",
    "her",
    "his",
    "in",
    "is",
    "it",
    "of",
    "on",
    "or",
    "the",
    "to",
    "with",
}


class Text(Conditioner):
    """Words, looked at with their neighbours ("red hair" is not "red shirt"), then averaged.

    Each word's vector passes two residual convolutions of three words' reach. A word that was seen less than twice in
    training, or never, is left out: it says nothing rather than something wrong.

    Args:
        words: The vocabulary, in order of frequency.
        width: Size of a word's vector and of the pooled one.
        length: Most words of a prompt that are read.
    """

    reads: ClassVar[str] = "captions"

    def __init__(self, words: tuple[str, ...] = (), width: int = 128, length: int = 32) -> None:
        super().__init__()
        self.words = words
        self.width = width
        self.length = length
        self.index = {word: i for i, word in enumerate(words, FIRST_WORD)}
        self.vectors = nn.Embedding(len(words) + FIRST_WORD, width, padding_idx=PADDING)
        self.neighbours = nn.ModuleList([nn.Conv1d(width, width, 3, padding=1) for _ in range(2)])
        self.silence = nn.Parameter(torch.zeros(width))

    @classmethod
    def fit(cls, captions: Iterable[str], *, width: int = 128, most_words: int = 8192, longest: int = 64) -> "Text":
        """The encoder for a data set's captions: its vocabulary and the length of its longest caption."""
        counts: Counter[str] = Counter()
        length = 1
        for caption in captions:
            words = split_words(caption)
            counts.update(words)
            length = max(length, len(words))
        known = [word for word, count in counts.most_common(most_words) if count > 1]
        return cls(tuple(known), width, min(length, longest))

    def extended(self, other: Self) -> Self:
        """With the other's words after its own, each at zero, and its length if that is greater."""
        new = tuple(word for word in other.words if word not in self.index)
        longer = type(self)(self.words + new, self.width, max(self.length, other.length))
        weights = self.state_dict()
        table = weights["vectors.weight"]
        weights["vectors.weight"] = torch.cat([table, table.new_zeros(len(new), self.width)])
        longer.load_state_dict(weights)
        return longer

    def encode(self, wanted: Sequence[str | int]) -> Tensor:
        """Ids of the known words of each prompt, (B, length), padded with 0; what exceeds the length is cut."""
        ids = torch.full((len(wanted), self.length), PADDING, dtype=torch.int64)
        for row, prompt in zip(ids, wanted, strict=True):
            words = [self.index[word] for word in split_words(str(prompt)) if word in self.index][: self.length]
            row[: len(words)] = torch.tensor(words, dtype=torch.int64)
        return ids

    def unknown(self, prompt: str) -> list[str]:
        """The words of a prompt that the model never learned, and so ignores; small words that say little aside."""
        return [word for word in split_words(prompt) if word not in self.index and word not in SMALL_WORDS]

    def nothing(self, count: int) -> Tensor:  # noqa: D102 (the base class says it)
        return torch.full((count, self.length), PADDING, dtype=torch.int64)

    def forward(self, ids: Tensor) -> Cond:
        """Both the pooled vector (B, width) and the words (B, length, width) with their mask."""
        there = (ids != PADDING).unsqueeze(1)  # (B, 1, L)
        words = self.vectors(ids).transpose(1, 2)  # (B, width, L)
        for convolve in self.neighbours:
            words = words + F.silu(convolve(words)) * there
        count = there.sum(-1)  # (B, 1)
        pooled = (words * there).sum(-1) / count.clamp(min=1).sqrt() + self.silence * (count == 0)
        return Cond(vector=pooled, tokens=words.transpose(1, 2), mask=there.squeeze(1))


def split_words(caption: str) -> list[str]:
    """Lower-case words and numbers; punctuation separates."""
    return re.findall(r"\w+(?:'\w+)?", caption.lower())

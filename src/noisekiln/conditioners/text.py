"""Prompts: a small text encoder that is trained together with the model, without downloads."""

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from noisekiln.conditioners.base import Conditioner
from noisekiln.conditions import Cond, CondSizes
from noisekiln.data import DataSet, Split
from noisekiln.errors import counted

PADDING, FIRST_WORD = 0, 1
MOST_WORDS, LONGEST = 8192, 64  # of a vocabulary, and words of a prompt that are read
STOP_WORDS = frozenset(
    ["a", "an", "and", "at", "by", "has", "her", "his", "in", "is", "it", "of", "on", "or", "the", "to", "with"]
)
# Scripts whose words stand without spaces: Thai, Lao, Burmese, Khmer, Chinese and Japanese.
UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3005-\u3007\u3041-\u312f\u31f0-\u31ff"
    "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff66-\uff9f\U00020000-\U0003ffff"
)
# Accents and vowel signs, which Unicode does not count as letters, although they stand within words.
ACCENTS = "".join(sign for sign in map(chr, range(0x300, 0x2100)) if unicodedata.category(sign).startswith("M"))
LETTER = rf"(?:(?![{UNSPACED}])[\w{ACCENTS}])"
WORD = re.compile(rf"(?=[\w{ACCENTS}])[{UNSPACED}]|{LETTER}+(?:'{LETTER}+)?")
ASCII_WORD = re.compile(r"\w+(?:'\w+)?")


class Text(Conditioner):
    """Words, convolved with their neighbours ("red hair" is not "red shirt"), then averaged.

    Each word's vector passes two residual convolutions of three words' reach. A word that occurs less than twice in
    training, or never, is left out: no meaning is better than a wrong one. In Chinese, Japanese, Thai and other scripts
    that do not separate words, each character is a word.

    Args:
        words: The vocabulary; that of the captions, in order of frequency, if it is empty.
        width: Size of a word's vector and of the pooled one.
        length: Number of words of a prompt that are read, the rest is cut; 0: as many as the longest caption has.
    """

    kind: ClassVar[str] = "text"
    plural: ClassVar[str] = "captions"
    needs: ClassVar[str] = (
        "captions in which a word occurs twice or more (in a metadata.csv, or a .txt file beside each image)"
    )
    priority: ClassVar[int | None] = 0

    def __init__(self, words: tuple[str, ...] = (), width: int = 128, length: int = 0) -> None:
        super().__init__()
        self.words = self.vocabulary = words
        self.width = width
        self.length = length
        self.index = {word: i for i, word in enumerate(words, FIRST_WORD)}
        self.vectors = nn.Embedding(len(words) + FIRST_WORD, width, padding_idx=PADDING)
        self.convolutions = nn.ModuleList([nn.Conv1d(width, width, 3, padding=1) for _ in range(2)])
        self.empty_prompt_vector = nn.Parameter(torch.zeros(width))

    @property
    def sizes(self) -> CondSizes:  # noqa: D102 (the base class says it)
        return CondSizes(vector=self.width, tokens=self.width)

    def fit(self, data: DataSet) -> Self | None:
        """An encoder with the vocabulary and the length of the captions, unless it has its own.

        None also if the captions have no word that it could learn.
        """
        captions = [split_words(caption) for caption in data.train.captions or ()]
        if not any(captions):
            return None
        counts = Counter(word for words in captions for word in words)
        known = self.words or tuple(word for word, count in counts.most_common(MOST_WORDS) if count > 1)
        length = self.length or min(max(map(len, captions)), LONGEST)
        return type(self)(known, self.width, length) if known else None

    def values(self, images: Split, class_names: tuple[str, ...]) -> list[str | None] | None:  # noqa: D102
        captions = images.captions or ()
        return [caption or None for caption in captions] if any(captions) else None

    def encode(self, values: Sequence[str]) -> Tensor:
        """Ids of the known words of each prompt, (B, length), padded with 0; what exceeds the length is cut.

        Raises:
            ValueError: For a prompt that is not text.
        """
        ids = torch.full((len(values), self.length), PADDING, dtype=torch.int64)
        for row, prompt in zip(ids, values, strict=True):
            if not isinstance(prompt, str):
                raise ValueError(
                    f"The prompt {prompt!r} is not text, and this model's conditions are words. "
                    "Give text, such as 'a red hat', or None for an unconditional image."
                )
            words = [self.index[word] for word in self._known_words(prompt)[: self.length]]
            row[: len(words)] = torch.tensor(words, dtype=torch.int64)
        return ids

    def nothing(self, count: int) -> Tensor:  # noqa: D102 (the base class says it)
        return torch.full((count, self.length), PADDING, dtype=torch.int64)

    def forward(self, ids: Tensor) -> Cond:
        """Both the pooled vector (B, width) and the words (B, length, width) with their mask."""
        is_word = (ids != PADDING).unsqueeze(1)  # (B, 1, L)
        words = self.vectors(ids).transpose(1, 2)  # (B, width, L)
        for convolve in self.convolutions:
            words = words + F.silu(convolve(words)) * is_word
        count = is_word.sum(-1)  # (B, 1)
        pooled = (words * is_word).sum(-1) / count.clamp(min=1).sqrt() + self.empty_prompt_vector * (count == 0)
        return Cond(vector=pooled, tokens=words.transpose(1, 2), mask=is_word.squeeze(1))

    def describe(self, value: str) -> dict[str, Any]:  # noqa: D102 (the base class says it)
        return {"prompt": str(value)}

    def unknown_words(self, value: str) -> list[str]:
        """The words of a prompt that are not in the vocabulary and so ignored, apart from small ones like "the"."""
        return [word for word in split_words(value) if word not in self.index and word not in STOP_WORDS]

    def cut_from(self, value: str) -> str:
        """A note on a prompt with more known words than are read."""
        known = self._known_words(value)
        if len(known) <= self.length:
            return ""
        return (
            f"the prompt has {len(known):,} known words, and this model reads the first {self.length:,}: "
            f"it is cut after {known[self.length - 1]!r}"
        )

    def left_out(self, images: Split, class_names: tuple[str, ...]) -> list[str]:
        """Notes on captions that are longer than what is read, and on words that are not in the vocabulary."""
        captions = [split_words(caption) for caption in images.captions or ()]
        lengths = [sum(word in self.index for word in words) for words in captions]
        long = sum(length > self.length for length in lengths)
        lines = []
        if long:
            lines.append(
                f"{long:,} of {counted(len(captions), 'caption')} {'is' if long == 1 else 'are'} longer than the "
                f"{self.length:,} words that are read, up to {max(lengths):,}, and cut; "
                f"`cond=text(length={max(lengths)})` reads all"
            )
        rare = {word for words in captions for word in words} - self.index.keys()
        if rare:
            lines.append(
                f"of {counted(len(rare) + len(self.words), 'word')}, {len(rare):,} {'is' if len(rare) == 1 else 'are'} "
                f"too rare in the captions to be learned, such as {min(rare)!r}"
            )
        return lines

    def extended(self, other: Self) -> Self:
        """This encoder with the other's words after its own, each a zero vector, and the greater of both lengths."""
        new = tuple(word for word in other.words if word not in self.index)
        longer = type(self)(self.words + new, self.width, max(self.length, other.length))
        weights = self.state_dict()
        table = weights["vectors.weight"]
        weights["vectors.weight"] = torch.cat([table, table.new_zeros(len(new), self.width)])
        longer.load_state_dict(weights)
        return longer

    def table(self) -> tuple[str, tuple[str, ...]]:  # noqa: D102 (the base class says it)
        return "vectors.weight", ("", *self.words)

    def _known_words(self, prompt: str) -> list[str]:
        return [word for word in split_words(prompt) if word in self.index]


def split_words(caption: str) -> list[str]:
    """Lower-case words and numbers, separated by punctuation and spaces.

    A character of a script that does not separate words is a word; accents are a part of their letter.
    """
    if caption.isascii():
        return ASCII_WORD.findall(caption.lower())
    return WORD.findall(unicodedata.normalize("NFC", caption.lower()))

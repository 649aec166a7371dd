"""Prompts: a small text encoder that is trained together with the model, without downloads."""

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import ClassVar, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from noisekiln.blocks.word_attention import WordAttention
from noisekiln.conditioners.language.captions import captions_of
from noisekiln.conditioners.language.letter_groups import MOST_GROUPS, hashed_groups, letter_groups
from noisekiln.conditioners.language.prompt import Caption, read_prompt
from noisekiln.conditioners.language.spelling import meant_word
from noisekiln.conditioners.language.split_words import split_words
from noisekiln.conditioners.language.synonyms import synonyms_of
from noisekiln.conditioners.language.text_conditioner import TextConditioner, check_is_text
from noisekiln.conditions import Cond, CondSizes
from noisekiln.data import DataSet, Split
from noisekiln.errors import counted

PADDING, FIRST_WORD = 0, 1
MOST_WORDS = 8192  # of a vocabulary
SHORTEST, LONGEST = 16, 64  # words of a prompt that are read, by the captions
GROUP_WIDTH = 64  # of the vector of a group of letters
FEWEST_BUCKETS, MOST_BUCKETS = 2048, 32768
HUNDREDTHS = 100  # weights of words are whole numbers in ids
LETTERS_KEPT, MISSING = 0.5, 0.5  # share of groups kept in a blurred word; of the others, share that is missing
EXAMPLE_WORDS = 3  # of a prompt in a model card
STOP_WORDS = frozenset(
    ["a", "an", "and", "at", "by", "has", "her", "his", "in", "is", "it", "of", "on", "or", "the", "to", "with"]
)


class Text(TextConditioner):
    """Words and their letters, convolved with their neighbours, attending to each other, then averaged.

    The vector of a word is its own, if it is in the vocabulary, plus those of its groups of 2 to 4 letters, which are
    hashed into buckets: a plural, a typo or another word of the same stem says something, and letters that no
    caption had say nothing. In prompts, a synonym of a known word, and a word that is spelled almost like one, is read
    as that one. Two residual convolutions of three words' reach keep "red hair" from "red shirt"; layers of
    self-attention reach further. In Chinese, Japanese, Thai and other scripts that do not separate words, each
    character is a word. Weights of phrases multiply the vectors of their words.

    Args:
        words: The vocabulary; that of the captions, in order of frequency, if it is empty.
        width: Size of a word's vector and of the pooled one.
        length: Number of words of a prompt that are read, the rest is cut; 0: as many as the longest caption has.
        buckets: Vectors of groups of letters; 0 ignores words that are not in the vocabulary. None: by the captions;
            saved models of earlier versions, which do not name it, have none.
        layers: Layers of self-attention. None: one; in saved models that do not name it, none.
        tokens: Whether networks that attend to words get them; else they read the pooled vector alone, which is faster.
    """

    needs: ClassVar[str] = (
        "captions in which a word occurs twice or more (in a metadata.csv, or a .txt file beside each image)"
    )
    priority: ClassVar[int | None] = 0
    ids_are_of_words: ClassVar[bool] = True
    most_parts: ClassVar[int] = 4

    def __init__(
        self,
        words: tuple[str, ...] = (),
        width: int = 128,
        length: int = 0,
        buckets: int | None = None,
        layers: int | None = None,
        tokens: bool = True,
    ) -> None:
        super().__init__()
        self.words = self.vocabulary = words
        self.width = width
        self.length = length
        self.buckets = buckets
        self.layers = layers
        self.tokens = tokens
        self.index = {word: i for i, word in enumerate(words, FIRST_WORD)}
        self.vectors = nn.Embedding(len(words) + FIRST_WORD, width, padding_idx=PADDING)
        self.convolutions = nn.ModuleList([nn.Conv1d(width, width, 3, padding=1) for _ in range(2)])
        self.empty_prompt_vector = nn.Parameter(torch.zeros(width))
        self.groups: nn.Embedding | None = None
        if buckets:
            self.unknown_words_are = "guessed from the letters"
            self.groups = nn.Embedding(buckets + 1, GROUP_WIDTH, padding_idx=PADDING)
            nn.init.zeros_(self.groups.weight)  # so that letters that are never trained say nothing
            self.spell = nn.Linear(GROUP_WIDTH, width, bias=False)
        self.attention = nn.ModuleList(WordAttention(width) for _ in range(layers or 0))

    @property
    def sizes(self) -> CondSizes:  # noqa: D102 (the base class says it)
        return CondSizes(vector=self.width, tokens=self.width if self.tokens else 0)

    def fit(self, data: DataSet) -> Self | None:
        """An encoder with the vocabulary, the length and the letters of the captions, unless it has its own.

        None also if the captions have no word that it could learn.
        """
        captions = [split_words(caption) for text in data.train.captions or () for caption in captions_of(text)]
        if not any(captions):
            return None
        counts = Counter(word for words in captions for word in words)
        known = self.words or tuple(word for word, count in counts.most_common(MOST_WORDS) if count > 1)
        length = self.length or min(max(SHORTEST, *map(len, captions)), LONGEST)
        buckets = _enough_buckets(known) if self.buckets is None else self.buckets
        layers = 1 if self.layers is None else self.layers
        return type(self)(known, self.width, length, buckets, layers, self.tokens) if known else None

    def encode(self, values: Sequence[str]) -> Tensor:
        """The words of each prompt, (B, length, 2) or (B, length, 2 + `MOST_GROUPS`) int32, padded with 0.

        Of each word its number in the vocabulary (0 for none), its weight in hundredths, and the buckets of its groups
        of letters. What exceeds the length is cut.

        Raises:
            ValueError: For a prompt that is not text.
        """
        ids = self.nothing(len(values))
        rows = ids.numpy()
        for row, prompt in zip(rows, values, strict=True):
            check_is_text(prompt)
            for place, (found, weight) in zip(range(self.length), self._read(prompt), strict=False):
                word = found if isinstance(prompt, Caption) else self.meant_word(found) or found
                groups = hashed_groups(word, self.buckets) if self.buckets else ()
                row[place, : 2 + len(groups)] = (self.index.get(word, PADDING), weight, *groups)
        return ids

    def nothing(self, count: int) -> Tensor:  # noqa: D102 (the base class says it)
        columns = 2 + (MOST_GROUPS if self.buckets else 0)
        return torch.full((count, self.length, columns), PADDING, dtype=torch.int32)

    def forward(self, ids: Tensor) -> Cond:
        """Both the pooled vector (B, width) and the words (B, length, width) with their mask."""
        weights = (ids[..., 1].unsqueeze(1) / HUNDREDTHS).to(self.vectors.weight.dtype)  # (B, 1, L)
        mask = ids[..., 1] > 0
        is_word = mask.unsqueeze(1)
        words = self._vectors_of(ids).transpose(1, 2)  # (B, width, L)
        for convolve in self.convolutions:
            words = words + F.silu(convolve(words)) * is_word
        for attend in self.attention:
            words = attend(words.transpose(1, 2), mask).transpose(1, 2)
        words = words * weights
        count = is_word.sum(-1)  # (B, 1)
        pooled = words.sum(-1) / count.clamp(min=1).sqrt() + self.empty_prompt_vector * (count == 0)
        return Cond(vector=pooled, tokens=words.transpose(1, 2), mask=mask) if self.tokens else Cond(vector=pooled)

    def blur(self, ids: Tensor, share: float, generator: torch.Generator) -> Tensor:
        """Ids in which a share of the words are not known, and half of their groups of letters lost.

        A lost group is missing, or one of another word stands for it, as in a typo. So the letters alone, and some
        of them, come to say what a word says.
        """
        if self.groups is None:
            return ids
        blurred = (torch.rand(ids.shape[:-1], generator=generator) < share) & (ids[..., 1] > 0)
        groups = ids[..., 2:]
        lost = (torch.rand(groups.shape, generator=generator) >= LETTERS_KEPT) & blurred[..., None]
        others = groups.flatten(0, 1)
        others = others[torch.randint(len(others), (len(others),), generator=generator)].view_as(groups)
        missing = torch.rand(groups.shape, generator=generator) < MISSING
        groups = torch.where(lost, others.masked_fill(missing, PADDING), groups)
        return torch.cat([ids[..., :1].masked_fill(blurred[..., None], PADDING), ids[..., 1:2], groups], dim=-1)

    def meant_word(self, word: str) -> str | None:  # noqa: D102 (the base class says it)
        if not self.buckets or word in self.index:
            return None
        return synonyms_of(self.words).get(word) or meant_word(word, self.words)

    def unknown_words(self, value: str) -> list[str]:
        """The words of a prompt that are not in the vocabulary, apart from small ones like "the"."""
        prompt = read_prompt(value)
        words = split_words(f"{prompt.text}, {read_prompt(prompt.negative).text}")
        return [word for word in words if word not in self.index and word not in STOP_WORDS]

    def example(self) -> str:
        """A prompt of the most frequent words, apart from small ones like "the"."""
        return " ".join([word for word in self.words if word not in STOP_WORDS][:EXAMPLE_WORDS])

    def cut_from(self, value: str) -> str:  # noqa: D102 (the base class says it)
        words = [word for word, _ in self._read(value)]
        if len(words) <= self.length:
            return ""
        kind = "words" if self.buckets else "known words"
        return (
            f"the prompt has {len(words):,} {kind}, and this model reads the first {self.length:,}: "
            f"it is cut after {words[self.length - 1]!r}"
        )

    def left_out(self, images: Split, class_names: tuple[str, ...]) -> list[str]:
        """Notes on captions that are longer than what is read, and on words that are not in the vocabulary."""
        captions = [split_words(caption) for text in images.captions or () for caption in captions_of(text)]
        lengths = [sum(self._is_read(word) for word in words) for words in captions]
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
            instead = ", and known by the letters alone" if self.buckets else ""
            lines.append(
                f"of {counted(len(rare) + len(self.words), 'word')}, {len(rare):,} {'is' if len(rare) == 1 else 'are'} "
                f"too rare in the captions to be learned{instead}, such as {min(rare)!r}"
            )
        return lines

    def extended(self, other: Self) -> Self:
        """This encoder with the other's words after its own, each a zero vector, and the greater of both lengths."""
        new = tuple(word for word in other.words if word not in self.index)
        length = max(self.length, other.length)
        longer = type(self)(self.words + new, self.width, length, self.buckets, self.layers, self.tokens)
        weights = self.state_dict()
        table = weights["vectors.weight"]
        weights["vectors.weight"] = torch.cat([table, table.new_zeros(len(new), self.width)])
        longer.load_state_dict(weights)
        return longer

    def table(self) -> tuple[str, tuple[str, ...]]:  # noqa: D102 (the base class says it)
        return "vectors.weight", ("", *self.words)

    def _vectors_of(self, ids: Tensor) -> Tensor:
        """The vector of each word by itself, (B, length, width)."""
        words: Tensor = self.vectors(ids[..., 0])
        if self.groups is None:
            return words
        groups = ids[..., 2:].flatten(0, 1)
        sums = F.embedding_bag(groups, self.groups.weight, mode="sum", padding_idx=PADDING)
        spelled: Tensor = self.spell(sums / MOST_GROUPS**0.5)
        return words + spelled.view_as(words)

    def _read(self, prompt: str) -> Iterator[tuple[str, int]]:
        """The words that are read, with their weights in hundredths."""
        for text, weight in read_prompt(prompt).phrases:
            hundredths = round(weight * HUNDREDTHS)
            if hundredths:
                yield from ((word, hundredths) for word in split_words(text) if self._is_read(word))

    def _is_read(self, word: str) -> bool:
        return bool(self.buckets) or word in self.index


def _enough_buckets(words: Sequence[str]) -> int:
    """A power of two, eight times as large as the number of different groups of letters, within limits."""
    groups = len(set(chain.from_iterable(map(letter_groups, words))))
    return min(max(FEWEST_BUCKETS, 1 << (8 * groups).bit_length()), MOST_BUCKETS)

"""Prompts by a frozen text encoder of transformers: CLIP, T5, BERT and their like."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Self

import torch
from torch import Tensor, nn

from noisekiln.conditioners.language.captions import captions_of
from noisekiln.conditioners.language.pretrained_encoder import PretrainedEncoder, is_folder, load_encoder
from noisekiln.conditioners.language.prompt import read_prompt
from noisekiln.conditioners.language.text_conditioner import TextConditioner, check_is_text
from noisekiln.conditions import Cond, CondSizes
from noisekiln.data import DataSet, Split
from noisekiln.errors import counted
from noisekiln.files.array_cache import ArrayCache, key_of

SHORTEST, LONGEST = 16, 77  # tokens of a prompt that are read, by the captions
MEASURED = 2048  # captions by which the encoder's outputs are standardised
TOGETHER = 64  # prompts that pass the encoder at once
KEPT_FROM, KEPT_TOGETHER = 256, 1024  # prompts in one call from which on they are cached, and in one file
MOST_BYTES = 8 * 2**30  # of all caches, about


class PretrainedText(TextConditioner):
    """The outputs of a frozen text encoder, standardised by those of the captions: a vector, and the tokens.

    The encoder is not a part of the model: `model.json` has its name and its checksum. Outputs for captions are kept
    on disk in half precision (in NOISEKILN_CACHE, by default ~/.cache/noisekiln), so that training does not compute
    them again. The vector is the mean of the tokens, CLIP's its own one. Weights of phrases multiply their tokens.

    Args:
        model: A folder in the format of transformers, or a name on the Hub.
        tokens: Whether the tokens are used too, by networks that attend to them; the vector alone takes a small part
            of the memory.
        length: Number of tokens that are read, the rest is cut; 0: as many as the longest caption has, up to 77.
        width: Features of the encoder's outputs; found by `fit`.
        checksum: Checksum of weights and vocabulary of the encoder; found by `fit`.
    """

    needs: ClassVar[str] = "captions (in a metadata.csv, or a .txt file beside each image)"

    vector_statistics: Tensor
    token_statistics: Tensor

    def __init__(
        self,
        model: str = "sentence-transformers/all-MiniLM-L6-v2",
        tokens: bool = True,
        length: int = 0,
        width: int = 0,
        checksum: str = "",
    ) -> None:
        super().__init__()
        if not model.strip():
            raise ValueError("`pretrained_text(model='')` names no encoder. Give a folder, or OWNER/NAME on the Hub.")
        self.model = model
        self.tokens = tokens
        self.length = length
        self.width = width
        self.checksum = checksum
        self.register_buffer("vector_statistics", _no_statistics(width))  # mean and deviation of each feature
        self.register_buffer("token_statistics", _no_statistics(width))
        self.empty_prompt_vector = nn.Parameter(torch.zeros(width))

    @property
    def sizes(self) -> CondSizes:  # noqa: D102 (the base class says it)
        return CondSizes(vector=self.width, tokens=self.width if self.tokens else 0)

    def fit(self, data: DataSet) -> Self | None:
        """This encoder with the length and the statistics of the captions.

        Raises:
            ValueError: If the encoder cannot be loaded.
        """
        captions = list(dict.fromkeys(each for text in data.train.captions or () for each in captions_of(text)))
        if not captions:
            return None
        encoder = load_encoder(self.model)
        longest = max(SHORTEST, *encoder.count_tokens(captions))
        length = min(self.length or min(longest, LONGEST), encoder.longest)
        folder = is_folder(self.model)
        place = self.model if folder is None else str(folder)
        fitted = type(self)(place, self.tokens, length, encoder.width, encoder.checksum)
        fitted._measure(captions[:: -(-len(captions) // MEASURED)])
        return fitted

    def encode(self, values: Sequence[str]) -> Tensor:
        """The encoder's outputs for each prompt, (B, 1 + length, width + 1) float16; (B, 1, width + 1) without tokens.

        First the vector, then the tokens; the last column is the weight, 0 where there is no token.

        Raises:
            ValueError: For a prompt that is not text, or if the encoder is missing or has changed.
        """
        for prompt in values:
            check_is_text(prompt)
        if not values:
            return self.nothing(0)
        distinct = list(dict.fromkeys(values))
        rows = {text: row for row, text in enumerate(distinct)}
        outputs = torch.cat([self._outputs(distinct[i : i + KEPT_TOGETHER]) for i in self._starts(distinct)])
        return outputs[[rows[text] for text in values]]

    def nothing(self, count: int) -> Tensor:  # noqa: D102 (the base class says it)
        return torch.zeros(count, 1 + (self.length if self.tokens else 0), self.width + 1, dtype=torch.float16)

    def forward(self, ids: Tensor) -> Cond:
        """The vector (B, width), and the tokens (B, length, width) with their mask."""
        features, weights = ids[..., :-1].float(), ids[..., -1:].float()
        there = weights[:, 0] > 0
        vector = torch.where(there, _standardise(features[:, 0], self.vector_statistics), self.empty_prompt_vector)
        if not self.tokens:
            return Cond(vector=vector)
        tokens = _standardise(features[:, 1:], self.token_statistics) * weights[:, 1:]
        return Cond(vector=vector, tokens=tokens, mask=weights[:, 1:, 0] > 0)

    def cut_from(self, value: str) -> str:  # noqa: D102 (the base class says it)
        (count,) = self._encoder().count_tokens([read_prompt(value).text])
        if count <= self.length:
            return ""
        return f"the prompt has {count:,} tokens, and this model reads the first {self.length:,}; the rest is cut"

    def left_out(self, images: Split, class_names: tuple[str, ...]) -> list[str]:
        """A note on captions that are longer than what is read."""
        captions = [each for text in images.captions or () for each in captions_of(text)]
        counts = self._encoder().count_tokens(captions)
        long = sum(count > self.length for count in counts)
        if not long:
            return []
        return [
            f"{long:,} of {counted(len(captions), 'caption')} {'is' if long == 1 else 'are'} longer than the "
            f"{self.length:,} tokens that are read, up to {max(counts):,}, and cut"
        ]

    @staticmethod
    def _starts(texts: Sequence[str]) -> range:
        return range(0, len(texts), KEPT_TOGETHER)

    def _outputs(self, texts: Sequence[str]) -> Tensor:
        """The rows of `encode` for different texts, from the cache if many are asked at once."""
        if len(texts) < KEPT_FROM:
            return self._computed(texts)
        kept = ArrayCache(_cache_folder(), MOST_BYTES)
        name = f"text-{key_of(self.checksum, self.length, self.tokens, *map(read_prompt, texts))}"
        rows = kept.read(name, (len(texts), *self.nothing(1).shape[1:]), torch.float16)
        if rows is None:
            rows = self._computed(texts)
            kept.keep(name, rows)
        return rows

    def _computed(self, texts: Sequence[str]) -> Tensor:
        encoder, device = self._encoder(), self.empty_prompt_vector.device
        rows = self.nothing(len(texts))
        for start in range(0, len(texts), TOGETHER):
            prompts = [read_prompt(text) for text in texts[start : start + TOGETHER]]
            encoded = encoder.encode(prompts, self.length, device)
            part = rows[start : start + TOGETHER]
            part[:, 0, :-1], part[:, 0, -1] = (
                encoded.vector,
                torch.tensor([bool(each.text.strip()) for each in prompts]),
            )
            if self.tokens:
                part[:, 1:, :-1], part[:, 1:, -1] = encoded.tokens, encoded.weights
            part[~part[:, 0, -1].bool()] = 0  # a prompt without text is no condition
        return rows

    def _encoder(self) -> PretrainedEncoder:
        """The encoder that this conditioner was fitted with."""
        try:
            encoder = load_encoder(self.model)
        except ValueError as error:
            raise ValueError(
                f"{error} This model was trained with the one whose checksum is {self.checksum}: put it into "
                f"{self.model}, or write its folder into the conditioner of model.json, as its model."
            ) from error
        if encoder.checksum != self.checksum:
            raise ValueError(
                f"The text encoder {self.model} is not the one that this model was trained with: its checksum is "
                f"{encoder.checksum}, and was {self.checksum}. Prompts would mean something else. Get the earlier one, "
                "and write its folder into the conditioner of model.json, as its model."
            )
        return encoder

    @torch.no_grad()
    def _measure(self, captions: Sequence[str]) -> None:
        """Mean and deviation of each feature, over captions and over their tokens."""
        rows = self.encode(captions).float()
        self.vector_statistics.copy_(_statistics(rows[:, 0, :-1]))
        if self.tokens:
            self.token_statistics.copy_(_statistics(rows[:, 1:, :-1][rows[:, 1:, -1] > 0]))


def _cache_folder() -> Path:
    """Where outputs are kept: NOISEKILN_CACHE, or the user's own folder of caches."""
    own = os.environ.get("NOISEKILN_CACHE")
    return (
        Path(own) if own else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "noisekiln"
    ) / "text"


def _no_statistics(width: int) -> Tensor:
    return torch.stack([torch.zeros(width), torch.ones(width)])


def _statistics(rows: Tensor) -> Tensor:
    deviation = rows.std(0, correction=0)
    return torch.stack([rows.mean(0), deviation.clamp(min=1e-3 * float(deviation.max().clamp(min=1e-3)))])


def _standardise(features: Tensor, statistics: Tensor) -> Tensor:
    return (features - statistics[0]) / statistics[1]

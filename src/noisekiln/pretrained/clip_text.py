"""Prompts as Stable Diffusion reads them: one CLIP text encoder or two, frozen."""

from collections.abc import Sequence
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from noisekiln.conditioners.language.prompt import read_prompt
from noisekiln.conditioners.language.text_conditioner import TextConditioner, check_is_text
from noisekiln.conditions import Cond, CondSizes
from noisekiln.data import DataSet, Split
from noisekiln.errors import shorten
from noisekiln.pretrained.clip_encoder import ClipEncoder

ZEROS = -1  # in place of a token's id: the condition is zeros


class ClipText(TextConditioner):
    """Tokens of all encoders side by side, and the pooled text of the last one if it has a projection.

    An image without a condition is one with the empty prompt; in XL, the condition of zeros. Weights of phrases
    multiply their tokens.

    Args:
        configs: The `config.json` of each encoder, as text.
        tokenizer_bytes: Length of each `tokenizer.json`.
        padding: The token that fills up short prompts, of each.
        length: Tokens that are read, with those of beginning and end.
        penultimate: Whether the tokens are those of the last layer but one.
        zeros: Whether an image without a condition has zeros as its condition.
    """

    needs: ClassVar[str] = "captions (in a metadata.csv, or a .txt file beside each image)"

    def __init__(
        self,
        configs: tuple[str, ...] = (),
        tokenizer_bytes: tuple[int, ...] = (),
        padding: tuple[int, ...] = (),
        length: int = 77,
        penultimate: bool = False,
        zeros: bool = False,
    ) -> None:
        super().__init__()
        self.configs, self.tokenizer_bytes = configs, tokenizer_bytes
        self.padding, self.length = padding, length
        self.penultimate, self.zeros = penultimate, zeros
        each = zip(configs, tokenizer_bytes, padding, strict=True)
        self.encoders = nn.ModuleList(
            ClipEncoder(config, size, fill, length, penultimate) for config, size, fill in each
        )

    @classmethod
    def of_encoders(
        cls, encoders: Sequence[ClipEncoder], arguments: Sequence[dict[str, Any]], penultimate: bool, zeros: bool
    ) -> Self:
        """A conditioner of encoders that are loaded already, each with the arguments that make it again."""
        configs, sizes, padding = (
            tuple(each[name] for each in arguments) for name in ("config", "tokenizer_bytes", "padding")
        )
        with torch.device("meta"):
            made = cls(configs, sizes, padding, min(each["length"] for each in arguments), penultimate, zeros)
        made.encoders = nn.ModuleList(encoders)
        return made

    @property
    def sizes(self) -> CondSizes:  # noqa: D102 (the base class says it)
        return CondSizes(vector=self._all()[-1].pooled_width, tokens=sum(each.width for each in self._all()))

    def fit(self, data: DataSet) -> Self | None:
        """This conditioner if there are captions: nothing is trained in it."""
        return self if self.values(data.train, data.class_names) is not None and self._all() else None

    def encode(self, values: Sequence[str]) -> Tensor:
        """Ids and weights, in thousandths, of the tokens of each prompt, for each encoder: (B, encoders, 2, length).

        What exceeds the length is cut.

        Raises:
            ValueError: For a prompt that is not text.
        """
        for prompt in values:
            check_is_text(prompt)
        prompts = [read_prompt(prompt) for prompt in values]
        return torch.stack([each.ids(prompts) for each in self._all()], dim=1)

    def nothing(self, count: int) -> Tensor:  # noqa: D102 (the base class says it)
        if self.zeros:
            return torch.full((count, len(self._all()), 2, self.length), ZEROS)
        return self.encode([""]).repeat(count, 1, 1, 1)

    @torch.no_grad()
    def forward(self, ids: Tensor) -> Cond:
        """Tokens (B, length, D), and the pooled text (B, D') or None."""
        encoded = [each(own.clamp(min=0)) for each, own in zip(self._all(), ids.unbind(1), strict=True)]
        kept = (ids[:, 0, 0, 0] != ZEROS).to(encoded[0].tokens)
        pooled = encoded[-1].pooled
        tokens = torch.cat([each.tokens for each in encoded], dim=-1) * kept.view(-1, 1, 1)
        return Cond(vector=None if pooled is None else pooled * kept.view(-1, 1), tokens=tokens)

    def cut_from(self, value: str) -> str:  # noqa: D102 (the base class says it)
        count, cut = self._all()[0].cut_from(read_prompt(value))
        if not cut:
            return ""
        return (
            f"the prompt has {count:,} tokens, and CLIP reads {self.length - 2}: what follows is cut: "
            f"{shorten(cut, 200)!r}"
        )

    def left_out(self, images: Split, class_names: tuple[str, ...]) -> list[str]:
        """A note on captions that are longer than what is read."""
        captions = [text for texts in self.alternatives(images, class_names) or () for text in texts if text]
        long = sum(bool(self._all()[0].cut_from(read_prompt(text))[1]) for text in captions)
        if not long:
            return []
        return [f"{long:,} of {len(captions):,} captions have more than the {self.length - 2} tokens that CLIP reads"]

    def _all(self) -> list[ClipEncoder]:
        return [each for each in self.encoders if isinstance(each, ClipEncoder)]

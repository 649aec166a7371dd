"""One CLIP text encoder with its tokenizer."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor, nn

from noisekiln.conditioners.language.prompt import Prompt
from noisekiln.pretrained.libraries import transformers

WHOLE = 1000  # the weight 1, in whole numbers
CLASSES = ("CLIPTextModel", "CLIPTextModelWithProjection")


class ClipOutput(NamedTuple):
    """What a text encoder makes of prompts.

    Attributes:
        tokens: (B, length, D).
        pooled: (B, D') of a model with a projection; None of others.
    """

    tokens: Tensor
    pooled: Tensor | None


SPECIAL_TOKENS = 8  # at most, of a tokenizer without words


class ClipEncoder(nn.Module):
    """A frozen CLIP text model of transformers; its tokenizer is a buffer, so that both are in one file.

    Args:
        config: The model's `config.json`, as text.
        tokenizer_bytes: Length of the tokenizer's `tokenizer.json`, in UTF-8.
        padding: The token that fills up a short prompt.
        length: Tokens that are read, with those of beginning and end.
        penultimate: Whether the tokens are those of the last layer but one, as in XL.
    """

    tokenizer: Tensor

    def __init__(
        self, config: str, tokenizer_bytes: int, padding: int, length: int = 77, penultimate: bool = False
    ) -> None:
        super().__init__()
        self.padding, self.length = padding, length
        self.penultimate = penultimate
        self.network: Any = _untrained_encoder(config).eval().requires_grad_(False)
        self.register_buffer("tokenizer", torch.zeros(tokenizer_bytes, dtype=torch.uint8))
        self._read: Any = None

    @classmethod
    def from_folder(cls, folder: Path, tokenizer: Path, penultimate: bool, **how: Any) -> tuple[Self, dict[str, Any]]:
        """The encoder that transformers has saved, and the arguments that make it again.

        Args:
            folder: The `text_encoder` of a pipeline.
            tokenizer: The `tokenizer` of the pipeline.
            penultimate: Whether the tokens are those of the last layer but one.
            how: Further arguments of transformers' `from_pretrained`: dtype, variant.
        """
        library = transformers()
        reader = library.CLIPTokenizer.from_pretrained(tokenizer)
        if len(reader) <= SPECIAL_TOKENS:
            raise ValueError(f"{tokenizer} holds no vocabulary, so prompts would say nothing. Download it again.")
        rules = reader.backend_tokenizer
        rules.no_truncation()
        rules.no_padding()
        text = rules.to_str().encode()
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        arguments: dict[str, Any] = {
            "config": json.dumps(config, separators=(",", ":")),
            "tokenizer_bytes": len(text),
            "padding": int(reader.pad_token_id),
            "length": min(int(reader.model_max_length), int(config.get("max_position_embeddings", 77))),
        }
        kind = getattr(library, _encoder_class(config))
        with torch.device("meta"):
            encoder = cls(**arguments, penultimate=penultimate)
        network = kind.from_pretrained(folder, use_safetensors=True, **how)
        encoder.network = network.eval().requires_grad_(False)
        encoder.tokenizer = torch.tensor(list(text), dtype=torch.uint8)
        return encoder, arguments

    @property
    def width(self) -> int:
        """Size of a token."""
        return int(self.network.config.hidden_size)

    @property
    def pooled_width(self) -> int:
        """Size of the pooled text, 0 without a projection."""
        has_projection = type(self.network).__name__ == CLASSES[1]
        return int(self.network.config.projection_dim) if has_projection else 0

    def ids(self, prompts: Sequence[Prompt]) -> Tensor:
        """Ids of the tokens of prompts, cut or filled up to the length, and their weights: (B, 2, length) int64."""
        rows = [self._row(prompt) for prompt in prompts]
        return torch.tensor(rows, dtype=torch.int64).view(-1, 2, self.length)

    def cut_from(self, prompt: Prompt) -> tuple[int, str]:
        """How many tokens a prompt has, without beginning and end, and the text of those that are not read."""
        text = prompt.text.strip()
        encoding = self._rules().encode(text)
        count, read = len(encoding.ids) - 2, self.length - 2
        return count, "" if count <= read else text[encoding.offsets[read + 1][0] :]

    def forward(self, ids: Tensor) -> ClipOutput:
        """Tokens and pooled text of ids and weights (B, 2, length)."""
        tokens, weights = ids.unbind(1)
        output = self.network(tokens, output_hidden_states=self.penultimate)
        made: Tensor = output.hidden_states[-2] if self.penultimate else output.last_hidden_state
        return ClipOutput(made * (weights / WHOLE)[..., None].to(made), getattr(output, "text_embeds", None))

    def _row(self, prompt: Prompt) -> tuple[list[int], list[int]]:
        """Ids and weights of one prompt."""
        encoding = self._rules().encode(prompt.text)
        of_signs = [round(WHOLE * weight) for text, weight in prompt.phrases if weight for _ in text]
        weights = [of_signs[start] if start < end else WHOLE for start, end in encoding.offsets]
        ids, kept, more = encoding.ids, self.length - 1, self.length - len(encoding.ids)
        if more < 0:
            return [*ids[:kept], ids[-1]], [*weights[:kept], WHOLE]
        return [*ids, *[self.padding] * more], [*weights, *[WHOLE] * more]

    def _rules(self) -> Any:
        """The tokenizer, read from its buffer when it is first used."""
        if self._read is None:
            from tokenizers import Tokenizer

            self._read = Tokenizer.from_str(bytes(self.tokenizer.tolist()).decode())
        return self._read


def _untrained_encoder(config: str) -> Any:
    """The untrained model of a `config.json`."""
    settings, library = json.loads(config), transformers()
    return getattr(library, _encoder_class(settings))(library.CLIPTextConfig.from_dict(settings))


def _encoder_class(config: dict[str, Any]) -> str:
    """The class of a model; raises ValueError if it is none of the text encoders that can be read."""
    name = next(iter(config.get("architectures") or ["model without a name"]))
    if name not in CLASSES:
        raise ValueError(f"The text encoder is a {name}, and only those of CLIP can be read: {', '.join(CLASSES)}.")
    return str(name)

"""Frozen text encoders of transformers: CLIP, T5, BERT and their like, from a folder or the Hub."""

import hashlib
import importlib
import importlib.util
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from noisekiln.conditioners.language.prompt import Prompt
from noisekiln.errors import listed, reason_of
from noisekiln.files.hub import local_folder
from noisekiln.files.json_file import read_json
from noisekiln.files.model_folder import digest
from noisekiln.files.packages import check_packages
from noisekiln.paths import expand_home

CONTRASTIVE = {"clip": "CLIPTextModel", "clip_text_model": "CLIPTextModel"}  # whose pooled vector is trained
FILES = ("*.json", "*.txt", "*.model", "model*.safetensors")  # of a repository on the Hub
SHARDS = "model.safetensors.index.json"  # names the files of weights, where they are several
VOCABULARIES = (("tokenizer.json",), ("vocab.txt",), ("vocab.json", "merges.txt"), ("*.model",))  # one is enough
WITHOUT_VOCABULARY = ("ByT5Tokenizer", "CanineTokenizer", "PerceiverTokenizer")  # classes that read bytes or characters
LONGEST = 512  # tokens, where neither tokenizer nor network has a limit
LARGEST = 60000.0  # of half precision


class Encoded(NamedTuple):
    """What an encoder makes of prompts.

    Attributes:
        vector: One vector for each prompt, (B, D).
        tokens: (B, L, D); zero where there is no token.
        weights: Weight of each token, (B, L); 0 where there is none.
    """

    vector: Tensor
    tokens: Tensor
    weights: Tensor


@dataclass(frozen=True, eq=False)
class PretrainedEncoder:
    """A frozen network of transformers with its tokenizer.

    Attributes:
        network: The network, in float32 and evaluation mode.
        tokenizer: Its tokenizer.
        contrastive: Whether its own pooled vector is used, as CLIP's, and not the mean of the tokens.
        longest: Tokens that it can read.
        width: Features of a token.
        checksum: 16 hex digits of its weights and its vocabulary.
    """

    network: Any
    tokenizer: Any
    contrastive: bool
    longest: int
    width: int
    checksum: str

    @torch.inference_mode(False)
    @torch.no_grad()
    def encode(self, prompts: Sequence[Prompt], length: int, device: torch.device) -> Encoded:
        """Vectors and tokens of prompts, on the CPU; `length` tokens are read, the rest is cut."""
        texts = [prompt.text for prompt in prompts]
        read = self.tokenizer(
            texts,
            padding="max_length",
            truncation=True,
            max_length=length,
            return_tensors="pt",
            return_offsets_mapping=self.tokenizer.is_fast,
        )
        mask = read["attention_mask"]
        output = self.network.to(device)(input_ids=read["input_ids"].to(device), attention_mask=mask.to(device))
        tokens = (output.last_hidden_state.float().cpu() * mask[..., None]).clamp(-LARGEST, LARGEST)
        weights = mask * self._weights(prompts, read.get("offset_mapping"), length)
        if self.contrastive:
            return Encoded(output.pooler_output.float().cpu(), tokens, weights)
        mean = (tokens * weights[..., None]).sum(1) / mask.sum(1, keepdim=True).clamp(min=1)
        return Encoded(mean, tokens, weights)

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """How many tokens each text has, those at its ends among them."""
        return [len(ids) for ids in self.tokenizer(list(texts), truncation=False, verbose=False)["input_ids"]]

    @staticmethod
    def _weights(prompts: Sequence[Prompt], offsets: Tensor | None, length: int) -> Tensor:
        """The weight of each token, (B, length): that of the phrase in which its first letter is."""
        weights = torch.ones(len(prompts), length)
        for row, prompt in enumerate(prompts):
            if all(weight in (0, 1) for _, weight in prompt.phrases):
                continue
            if offsets is None:
                raise ValueError(
                    "A phrase has a weight, and the tokenizer of this text encoder does not say which tokens it "
                    "became. Omit the weights."
                )
            letters = [weight for text, weight in prompt.phrases if weight for _ in text]
            for place, (start, end) in enumerate(offsets[row].tolist()):
                weights[row, place] = letters[start] if end > start else 1
        return weights


@cache
def load_encoder(model: str) -> PretrainedEncoder:
    """The encoder in a folder, or of this name on the Hub; loaded once.

    Raises:
        ValueError: If transformers is not installed, or the model cannot be had, or is none that encodes text.
    """
    check_packages("A pretrained text encoder", "text", "transformers")
    transformers = importlib.import_module("transformers")
    place = local_folder(model, "text encoder", FILES, is_whole=is_whole_encoder)
    options = {"trust_remote_code": False, "local_files_only": True}
    try:
        config = transformers.AutoConfig.from_pretrained(place, **options)
        kind, contrastive = _kind_of(config, transformers)
        with _without_bar(transformers):
            network, report = kind.from_pretrained(place, use_safetensors=True, output_loading_info=True, **options)
        tokenizer = transformers.AutoTokenizer.from_pretrained(place, **options)
    except (OSError, KeyError, ValueError, RuntimeError, ImportError) as error:
        raise ValueError(
            f"The text encoder {model!r}: transformers cannot read it ({reason_of(error, 300)}). Give a folder "
            "with config.json, model.safetensors and the files of its tokenizer, or a name on the Hub."
        ) from error
    missing = [name for name in report["missing_keys"] if not name.startswith("pooler.")]
    if missing:
        raise ValueError(
            f"The text encoder {model!r} lacks weights of the network ({listed(sorted(missing), 3)}), so it would "
            "encode at random. Download the model again."
        )
    if config.is_encoder_decoder and kind is transformers.AutoModel:
        network = network.get_encoder()
    network = network.float().eval().requires_grad_(False)
    return PretrainedEncoder(
        network,
        _padding(tokenizer),
        contrastive,
        min(int(tokenizer.model_max_length), _positions(network.config), LONGEST),
        int(network.config.hidden_size),
        _encoder_checksum(network, tokenizer),
    )


def is_whole_encoder(folder: Path) -> bool:
    """Whether a folder has the config, all weights and the vocabulary of an encoder: a download may have stopped."""
    if (folder / SHARDS).is_file():
        try:
            weights = set(read_json(folder / SHARDS)["weight_map"].values())
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return False
    else:
        weights = {"model.safetensors"}
    vocabularies = (all(any(folder.glob(name)) for name in names) for names in VOCABULARIES)
    has_vocabulary = any(vocabularies) or _reads_bytes(folder)
    return has_vocabulary and all((folder / name).is_file() for name in ("config.json", *weights))


def _reads_bytes(folder: Path) -> bool:
    """Whether the tokenizer of an encoder is one that needs no vocabulary."""
    try:
        return read_json(folder / "tokenizer_config.json")["tokenizer_class"] in WITHOUT_VOCABULARY
    except (OSError, ValueError, KeyError, TypeError):
        return False


@contextmanager
def _without_bar(transformers: Any) -> Iterator[None]:
    """Loads without a bar of progress, as nothing is downloaded any more."""
    logging = transformers.utils.logging
    shown = logging.is_progress_bar_enabled()
    if shown:
        logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def _kind_of(config: Any, transformers: Any) -> tuple[Any, bool]:
    """The class of transformers that encodes text with such a model, and whether its pooled vector is trained."""
    if config.model_type in CONTRASTIVE:
        return getattr(transformers, CONTRASTIVE[config.model_type]), True
    mapping = transformers.models.auto.modeling_auto.MODEL_FOR_TEXT_ENCODING_MAPPING_NAMES
    known = config.model_type in mapping
    return (transformers.AutoModelForTextEncoding if known else transformers.AutoModel), False


def _padding(tokenizer: Any) -> Any:
    """The tokenizer; one of a decoder, which has no sign for padding, pads with the sign of the end."""
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def _positions(config: Any) -> int:
    """Tokens that a network has positions for; T5's are relative, so it has no limit."""
    return int(getattr(config, "max_position_embeddings", None) or LONGEST)


def _encoder_checksum(network: Any, tokenizer: Any) -> str:
    found = hashlib.sha256(digest(network.state_dict()).encode())
    found.update(repr(sorted(tokenizer.get_vocab().items())).encode("utf-8", "replace"))
    return found.hexdigest()[:16]


def is_folder(model: str) -> Path | None:
    """The whole path of a model that is a folder; None for a name on the Hub."""
    folder = expand_home(model)
    return folder.resolve() if folder.is_dir() else None

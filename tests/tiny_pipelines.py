"""Stable Diffusion with random weights and a vocabulary of letters: a folder of a megabyte."""

import json
from pathlib import Path
from typing import Any

import torch

LETTERS = [chr(code) for code in range(ord("a"), ord("z") + 1)]
SIDE = 16  # pixels


def tiny_sd(folder: Path, prediction: str = "epsilon") -> Path:
    """A pipeline in the layout of Stable Diffusion 1.x (epsilon) or 2.x (v_prediction)."""
    import diffusers

    torch.manual_seed(0)
    pipeline = diffusers.StableDiffusionPipeline(
        vae=_vae(), text_encoder=_encoder(32), tokenizer=_tokenizer(folder / "words"), unet=_unet(32),
        scheduler=_scheduler(prediction), safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip
    pipeline.save_pretrained(folder / "sd")
    return folder / "sd"


def tiny_xl(folder: Path) -> Path:
    """A pipeline in the layout of Stable Diffusion XL."""
    import diffusers

    torch.manual_seed(0)
    more = {"addition_embed_type": "text_time", "addition_time_embed_dim": 8}
    unet = _unet(64, **more, projection_class_embeddings_input_dim=6 * 8 + 24)
    pipeline = diffusers.StableDiffusionXLPipeline(
        vae=_vae(), text_encoder=_encoder(32), text_encoder_2=_encoder(32, projection=24),
        tokenizer=_tokenizer(folder / "words"), tokenizer_2=_tokenizer(folder / "words", padding="!"), unet=unet,
        scheduler=_scheduler("epsilon"),
    )  # fmt: skip
    pipeline.save_pretrained(folder / "xl")
    return folder / "xl"


def _vae() -> Any:
    import diffusers

    return diffusers.AutoencoderKL(
        block_out_channels=(8, 8), down_block_types=("DownEncoderBlock2D",) * 2, sample_size=SIDE,
        up_block_types=("UpDecoderBlock2D",) * 2, latent_channels=4, norm_num_groups=4, scaling_factor=0.18215,
    )  # fmt: skip


def _unet(tokens: int, **more: Any) -> Any:
    import diffusers

    return diffusers.UNet2DConditionModel(
        sample_size=SIDE // 2, in_channels=4, out_channels=4, layers_per_block=1, block_out_channels=(8, 16),
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"), up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=tokens, attention_head_dim=4, norm_num_groups=4, **more,
    )  # fmt: skip


def _encoder(width: int, projection: int = 0) -> Any:
    import transformers

    config = transformers.CLIPTextConfig(
        vocab_size=2 + 2 * len(LETTERS) + 4, hidden_size=width, intermediate_size=width, num_hidden_layers=3,
        num_attention_heads=4, max_position_embeddings=77, bos_token_id=0, eos_token_id=1, pad_token_id=1,
        projection_dim=projection or width,
    )  # fmt: skip
    kind: Any = transformers.CLIPTextModelWithProjection if projection else transformers.CLIPTextModel
    return kind(config).eval()


def _scheduler(prediction: str) -> Any:
    import diffusers

    return diffusers.DDIMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False, set_alpha_to_one=False,
        steps_offset=1, prediction_type=prediction,
    )  # fmt: skip


def _tokenizer(folder: Path, padding: str = "<|endoftext|>") -> Any:
    import transformers

    signs = [*LETTERS, "!", ","]
    words = ["<|startoftext|>", "<|endoftext|>", *signs, *(f"{sign}</w>" for sign in signs)]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps({word: i for i, word in enumerate(words)}), encoding="utf-8")
    (folder / "merges.txt").write_text("#version: 0.2\n", encoding="utf-8")
    files = str(folder / "vocab.json"), str(folder / "merges.txt")
    return transformers.CLIPTokenizer(*files, model_max_length=77, pad_token=padding)

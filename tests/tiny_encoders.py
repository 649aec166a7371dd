"""Text encoders of transformers with random weights, a few kilobytes each, as folders."""

import tokenizers
import torch
import transformers

WORDS = ("a", "red", "blue", "hat", "shoe", "person", "with", ",", "hair", "shirt")
SIGNS = {"pad_token": "<pad>", "unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>"}
SIZES = {"vocab_size": len(SIGNS) + len(WORDS), "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1}


def save_encoder(kind, folder, *, seed=0, most_tokens=32):
    """An encoder of the kind "bert", "clip" or "t5" with its tokenizer; returns the folder."""
    torch.manual_seed(seed)
    ends = {"bos_token_id": 2, "eos_token_id": 3, "pad_token_id": 0}
    make = {
        "bert": lambda: transformers.BertModel(
            transformers.BertConfig(**SIZES, num_attention_heads=2, max_position_embeddings=most_tokens, pad_token_id=0)
        ),
        "clip": lambda: transformers.CLIPTextModel(
            transformers.CLIPTextConfig(**SIZES, **ends, num_attention_heads=2, max_position_embeddings=most_tokens)
        ),
        "t5": lambda: transformers.T5EncoderModel(
            transformers.T5Config(
                vocab_size=SIZES["vocab_size"], d_model=16, d_kv=8, d_ff=32, num_layers=1, num_heads=2, pad_token_id=0
            )
        ),
    }
    make[kind]().save_pretrained(folder)
    known = {word: number for number, word in enumerate((*SIGNS.values(), *WORDS))}
    made = tokenizers.Tokenizer(tokenizers.models.WordLevel(known, unk_token="<unk>"))
    made.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    made.normalizer = tokenizers.normalizers.Lowercase()
    made.post_processor = tokenizers.processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 2), ("</s>", 3)]
    )
    fast = transformers.PreTrainedTokenizerFast(tokenizer_object=made, model_max_length=most_tokens, **SIGNS)
    fast.save_pretrained(folder)
    return folder

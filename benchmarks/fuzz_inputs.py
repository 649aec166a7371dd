"""What is fuzzed: for each kind of input, valid examples, and what a user does with one."""

import contextlib
import gzip
import io
import json
import shutil
import struct
import tarfile
import warnings
import zipfile
from collections.abc import Callable, Mapping
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, features

import noisekiln as nk
from noisekiln.backbones.base import Backbone
from noisekiln.components.spec import build, python_file
from noisekiln.data import load
from noisekiln.draws.base import Draw
from noisekiln.ema.snapshots import list_snapshots
from noisekiln.evaluation.evaluation_cache import EvaluationCache
from noisekiln.features.classifier import Classifier
from noisekiln.files.sample_folder import SampleFolder
from noisekiln.guidance.base import Guidance
from noisekiln.model.diffusion import Diffusion
from noisekiln.plan.settings import Settings
from noisekiln.runs.best_model import BestScore, read_best
from noisekiln.runs.comparison_table import rows_of_runs
from noisekiln.runs.events import Score
from noisekiln.runs.run_folder import RunFolder
from noisekiln.runs.run_summary import read_summary
from noisekiln.samplers.base import Sampler
from noisekiln.tasks.base import Task
from noisekiln.training import checkpoints

Use = Callable[[bytes, Path], object]
"""Puts an input into an empty folder and does with it what a user does."""

FORMATS = ("png", "jpg", "gif", "bmp", "tiff", "webp", "ppm", "tga", "avif")
SPECS = (
    "ddim(eta=0.5)", "uniform(schedule=cosine(offset=0.008))", "resample(times=2, sampler=ddim(eta=1))", "v", "heun",
    "unet(widths=(8, 16), blocks=(1, 1), patch=1, condition=8)", "log_normal(mean=-0.5, std=1.2)", "min_snr(gamma=5.0)",
    "upscale(factor=4)", "classifier_free(scale=1.5, low=0, high=inf)", "text(words=('a', 'b'))", "karras(rho=7.0)",
)  # fmt: skip
CHINESE = "\u732b\u5728\u9633\u5149\u4e0b"
ROOMS: tuple[type, ...] = (Sampler, Draw, Guidance, Task, Backbone)


def kinds(run: Path) -> dict[str, tuple[list[bytes], Use]]:
    """All kinds of input: valid examples, and their use.

    Args:
        run: Folder of a small run, with an adapter as `adapter.safetensors`; see `make_run`.
    """
    found: dict[str, tuple[list[bytes], Use]] = {}
    for suffix in FORMATS:
        if suffix != "avif" or features.check("avif"):
            found[f"image.{suffix}"] = (_images(suffix), partial(_use_image, suffix))
    found |= {
        "data.npz": (_archives(), partial(_use_file, "data.npz")),
        "data.npy": ([_saved(_pixels()), _saved(_pixels() / 255.0)], partial(_use_file, "data.npy")),
        "idx": ([_idx(), gzip.compress(_idx())], _use_idx),
        "metadata.csv": ([_csv()], partial(_use_beside_images, "metadata.csv")),
        "metadata.jsonl": ([_jsonl()], partial(_use_beside_images, "metadata.jsonl")),
        "0.txt": (
            [b"a red shoe, left\n", "\u732b\u5728\u9633\u5149\u4e0b".encode()],
            partial(_use_beside_images, "0.txt"),
        ),
        "data.zip": ([_zip()], partial(_use_file, "data.zip")),
        "data.tar": ([_tar("w"), _tar("w:gz")], partial(_use_file, "data.tar")),
        "spec": ([spec.encode() for spec in SPECS], _use_spec),
    }
    for file in sorted(path for path in run.rglob("*") if path.is_file()):
        name = file.relative_to(run).as_posix()
        if name.startswith("model-best/model"):  # the same files as in model/
            continue
        if file.suffix in (".json", ".jsonl", ".yaml", ".safetensors", ".sha256", ""):
            found[f"run/{name}"] = ([file.read_bytes()], partial(_use_run, run, name))
    return found


def make_run(folder: Path) -> None:
    """Train a tiny run with captions, and an adapter of it, with samples and with what only longer runs write."""
    folder.mkdir(parents=True)
    images = [Image.fromarray(each) for each in _pixels(12)]
    data = folder.parent / "images"
    data.mkdir()
    for number, image in enumerate(images):
        image.save(data / f"{number}.png")
        (data / f"{number}.txt").write_text(f"a {'red' if number % 2 else 'green'} shoe", encoding="utf-8")
    small: dict[str, Any] = {"batch_size": 4, "device": "cpu", "curves": "none", "images": 16}
    network = "unet(widths=(32,), blocks=(1,), patch=1, condition=8)"
    nk.train(data, out=folder, backbone=network, ema_snapshots=2, **small)
    other = folder.parent / "adapted"
    nk.train(data, out=other, start=str(folder), lora=1, **small)
    shutil.copy(next(other.rglob("adapter*.safetensors")), folder / "adapter.safetensors")
    samples = SampleFolder(folder / "pictures")
    samples.add(_pixels(2), [{"seed": number, "prompt": "a red shoe"} for number in range(2)])
    RunFolder(folder).limit_micro_batch(2)
    errors = [[0.5, 0.4, 0.3, 0.2, 0.1, 0.1]] * 5
    evaluations = [{"images_seen": 16, "held_out": errors, "train": errors}]
    content = {"noisy_images": 5, "nsr": [0.1, 0.2, 0.5, 1.0, 2.0, 5.0], "evaluations": evaluations}
    (folder / "held_out.json").write_text(json.dumps(content), encoding="utf-8")
    _add_evaluation(folder)


def _add_evaluation(folder: Path) -> None:
    """What `noisekiln evaluate` and `train --score` leave in a run."""
    score = {"title": "KID", "value": 0.1, "spread": 0.01, "real": 0.0, "real_spread": 0.01}
    conclusions = [{"question": "quality", "grade": "good", "text": "most look real"}]
    report = {"count": 10, "real": "its images", "features": {"name": "a"}, "images_seen": 16, "notes": []}
    report |= {"scores": {"kid": score}, "raw_scores": {}, "conclusions": conclusions}
    (folder / "evaluation.json").write_text(json.dumps(report), encoding="utf-8")
    EvaluationCache(folder / "evaluation").keep("features", torch.rand(4, 8))
    classifier = Classifier().fit(torch.from_numpy(_pixels(20)), torch.arange(20) % 2)
    classifier.save(folder / "evaluation" / "classifier.safetensors")
    best = BestScore(Score(16, 10, "images", 0.1, 0.01, 0.2, is_best=True), {"name": "a"})
    best.write(folder, Diffusion.load(folder))


def _pixels(count: int = 4) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, 8, 8, 3)).astype(np.uint8)


@cache
def _images(suffix: str) -> list[bytes]:
    modes = {"jpg": ("RGB", "L"), "webp": ("RGB",), "avif": ("RGB",), "ppm": ("RGB", "L"), "tga": ("RGB", "L")}
    found = []
    for mode in modes.get(suffix, ("RGB", "L", "P")):
        file = io.BytesIO()
        Image.fromarray(_pixels()[0]).convert(mode).save(file, Image.registered_extensions()[f".{suffix}"])
        found.append(file.getvalue())
    return found


def _archives() -> list[bytes]:
    plain, more = io.BytesIO(), io.BytesIO()
    np.savez(plain, images=_pixels(), labels=np.arange(4))
    np.savez_compressed(more, train_images=_pixels(), train_captions=np.array(["a", "b", "c", "d"]))
    return [plain.getvalue(), more.getvalue()]


def _saved(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def _idx() -> bytes:
    return struct.pack(">IIII", 0x803, 4, 8, 8) + _pixels()[..., 0].tobytes()


def _csv() -> bytes:
    return b'file_name,text,label\n0.png,a red one,x\n1.png,"a, b",y\n2.png,caf\xc3\xa9,x\n'


def _jsonl() -> bytes:
    return b"".join(json.dumps({"file_name": f"{i}.png", "text": f"a {i}"}).encode() + b"\n" for i in range(3))


def _zip() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for number, image in enumerate(_images("png")):
            archive.writestr(f"{'ab'[number % 2]}/{number}.png", image)
    return file.getvalue()


def _tar(mode: Any) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode=mode) as archive:
        for number, image in enumerate(_images("png")):
            member = tarfile.TarInfo(f"{'ab'[number % 2]}/{number}.png")
            member.size = len(image)
            archive.addfile(member, io.BytesIO(image))
    return file.getvalue()


def _use_image(suffix: str, data: bytes, folder: Path) -> object:
    for number, image in enumerate(_images("png")[:2]):
        (folder / f"{number}.png").write_bytes(image)
    (folder / f"x.{suffix}").write_bytes(data)
    return load(folder, size=8)


def _use_file(name: str, data: bytes, folder: Path) -> object:
    (folder / name).write_bytes(data)
    return load(folder / name, size=8)


def _use_idx(data: bytes, folder: Path) -> object:
    name = "train-images-idx3-ubyte" + ".gz" * data.startswith(b"\x1f\x8b")
    (folder / name).write_bytes(data)
    return load(folder / name, size=8)


def _use_beside_images(name: str, data: bytes, folder: Path) -> object:
    for number, image in enumerate(_images("png")[:3]):
        (folder / f"{number}.png").write_bytes(image)
    (folder / name).write_bytes(data)
    return load(folder, size=8)


def _use_spec(data: bytes, folder: Path) -> object:
    text = data.decode("utf-8", "replace")
    python_file(text)
    for room in ROOMS[1:]:
        with contextlib.suppress(ValueError):
            build(room, text)
    return build(ROOMS[0], text)


def _use_run(run: Path, name: str, data: bytes, folder: Path) -> object:
    """Sample, combine averages, add the adapter, and read what a resumed run reads."""
    place = folder / "run"
    shutil.copytree(run, place)
    (place / name).write_bytes(data)
    first = name.split("/")[0]
    if first == "model":
        return nk.load(place).sample(1, steps=1)
    if first == "ema":
        list_snapshots(place / "ema")
        return nk.post_hoc_ema(place, 0.1)
    if first == "adapter.safetensors":
        return nk.merge(Diffusion.load(place), place / name)
    if first == "checkpoints":
        return checkpoints.load_newest(place / "checkpoints")
    if first == "pictures":
        SampleFolder(place / "pictures").add(_pixels(1), [{"seed": 0}])  # which looks first
        return None
    if name == "evaluation.json":
        return rows_of_runs([read_summary(place, "run")])
    if first == "evaluation":
        if "classifier" in name:
            return Classifier.load(place / name)
        return EvaluationCache(place / first).read("features", (4, None), torch.float32)
    if first == "model-best":
        return read_best(place, 16)
    if name == "dataset.json":
        return RunFolder(place).read_data_description()
    Settings.read(place / "run.yaml")
    return nk.train(_data_of(run), out=place, images=16, batch_size=4, curves="none", device="cpu")


@cache
def _data_of(run: Path) -> Path:
    return run.parent / "images"


def ignore_warnings() -> None:
    """Notes for the user are no findings."""
    warnings.simplefilter("ignore")


Kinds = Mapping[str, tuple[list[bytes], Use]]

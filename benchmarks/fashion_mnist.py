"""Real data, equal time: noisekiln at its defaults beside diffusers as a user would write it.

    python benchmarks/fashion_mnist.py --minutes 5 --record records/fashion_mnist_5min.json

Needs Debian's `dataset-fashion-mnist` (or the four idx files in --data) and the `test` extra.
"""

import argparse
import json
import platform
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from classifier import Judge, trained_classifier
from noisekiln.data import load
from noisekiln.files.pictures import save_image, tile

COUNT = 1000


def main() -> None:
    """Train both, sample both, judge both."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="/usr/share/datasets/fashion-mnist")
    parser.add_argument("--minutes", type=float, default=5)
    parser.add_argument("--work", type=Path, default=Path(".bench/fashion_mnist"))
    parser.add_argument("--record", type=Path)
    parser.add_argument("--only", choices=["noisekiln", "diffusers"])
    arguments = parser.parse_args()

    data = load(arguments.data)
    assert data.held_out is not None
    train, test = ((torch.from_numpy(p.pixels), torch.from_numpy(p.labels)) for p in (data.train, data.held_out))
    judge = Judge(trained_classifier(*train, arguments.work / "classifier.pt"), train, test)
    record: dict[str, Any] = {
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads",
        "torch": torch.__version__,
        "minutes": arguments.minutes,
        "classifier_test_accuracy": round(judge.test_accuracy, 4),
        "frechet_floor": round(judge.floor, 3),
    }
    labels = torch.arange(10).repeat_interleave(COUNT // 10)
    for name, contender in {"noisekiln": ours, "diffusers": theirs}.items():
        if arguments.only in (None, name):
            images, figures = contender(arguments, train, labels)
            ratio, accuracy = judge(images, labels)
            record[name] = {"frechet_ratio": round(ratio, 3), "accuracy": round(accuracy, 4), **figures}
            rows = torch.cat([torch.arange(c * 100, c * 100 + 16) for c in range(10)])
            save_image(
                tile(images[rows].numpy(), columns=16),
                arguments.work / f"{name}_{arguments.minutes:g}min.png",
                at_least=960,
            )
            print(json.dumps({name: record[name]}, indent=2), flush=True)
    if {"noisekiln", "diffusers"} <= record.keys():
        record["images_per_second_ratio"] = round(
            record["noisekiln"]["images_per_second"] / record["diffusers"]["images_per_second"], 2
        )
    print(json.dumps(record, indent=2))
    if arguments.record:
        arguments.record.parent.mkdir(parents=True, exist_ok=True)
        arguments.record.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


def ours(arguments: argparse.Namespace, train: tuple[Tensor, Tensor], labels: Tensor) -> tuple[Tensor, dict[str, Any]]:
    """The two commands, everything left at its default."""
    run, pictures = (
        arguments.work / f"run_{arguments.minutes:g}min",
        arguments.work / f"pictures_{arguments.minutes:g}min",
    )
    shutil.rmtree(run, ignore_errors=True)  # an earlier run would be resumed, and judged as this one
    command = [sys.executable, "-m", "noisekiln"]
    subprocess.run(
        [*command, "train", arguments.data, "--minutes", str(arguments.minutes), "--out", str(run)], check=True
    )
    trained = json.loads(sorted((run / "checkpoints").glob("[0-9]*/state.json"))[-1].read_text(encoding="utf-8"))
    start_time = time.perf_counter()
    subprocess.run(
        [*command, "sample", str(run), "--class", "all", "-n", str(len(labels)), "--out", str(pictures)], check=True
    )
    seconds = time.perf_counter() - start_time
    listed = json.loads((pictures / "samples.json").read_text(encoding="utf-8"))
    assert [sample["label"] for sample in listed] == labels.tolist()
    images = np.stack([np.asarray(Image.open(pictures / sample["file"])) for sample in listed])[..., None]
    return torch.from_numpy(images), {
        "images_seen": trained["images_seen"],
        "images_per_second": round(trained["images_seen"] / trained["seconds"], 1),
        "sampled_per_second": round(len(labels) / seconds, 1),
    }


def theirs(
    arguments: argparse.Namespace, train: tuple[Tensor, Tensor], labels: Tensor
) -> tuple[Tensor, dict[str, Any]]:
    """Diffusers as a user would write it: the tutorial's loop with UNet2DModel 32-64-64, and 20 steps of DDIM."""
    from diffusers import DDIMScheduler, DDPMScheduler, UNet2DModel
    from diffusers.training_utils import EMAModel

    torch.manual_seed(0)
    network = UNet2DModel(
        sample_size=28,
        in_channels=1,
        out_channels=1,
        block_out_channels=(32, 64, 64),
        down_block_types=("DownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "AttnUpBlock2D", "UpBlock2D"),
        num_class_embeds=10,
    )
    scheduler = DDPMScheduler(num_train_timesteps=1000)
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-4)
    ema = EMAModel(network.parameters(), use_ema_warmup=True)
    images, labels = train
    seen, start_time = 0, time.perf_counter()
    while time.perf_counter() - start_time < 60 * arguments.minutes:
        rows = torch.randint(len(images), (64,))
        clean = images[rows].permute(0, 3, 1, 2).float() / 127.5 - 1
        noise, steps = torch.randn_like(clean), torch.randint(1000, (64,))
        predicted = network(scheduler.add_noise(clean, noise, steps), steps, class_labels=labels[rows]).sample
        torch.nn.functional.mse_loss(predicted, noise).backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        ema.step(network.parameters())
        seen += 64
    trained = time.perf_counter() - start_time
    ema.copy_to(network.parameters())
    ddim = DDIMScheduler(num_train_timesteps=1000)
    ddim.set_timesteps(20)
    start_time, done = time.perf_counter(), []
    for part in labels.split(250):
        x = torch.randn(len(part), 1, 28, 28)
        for step in ddim.timesteps:
            with torch.no_grad():
                x = ddim.step(network(x, step, class_labels=part).sample, step, x).prev_sample
        done.append(((x.clamp(-1, 1) + 1) * 127.5).round().byte().permute(0, 2, 3, 1))
    return torch.cat(done), {
        "images_seen": seen,
        "images_per_second": round(seen / trained, 1),
        "sampled_per_second": round(len(labels) / (time.perf_counter() - start_time), 1),
    }


if __name__ == "__main__":
    main()

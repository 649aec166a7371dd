"""Equal time: noisekiln at its defaults beside other packages, each as its own README has it.

    python benchmarks/peers.py --install
    python benchmarks/peers.py --minutes 5 --record records/peers_5min.json
    python benchmarks/peers.py --data cifar10_jpeg.npz --minutes 20 -n 500 --record records/peers_cifar10.json

One run each, one after the other on a quiet machine: N minutes of training from its first step, then 1,000 samples, 100
of each class, which one judge, a classifier of the data, compares with test images; a second one, in features that have
never seen the classes as classes (EfficientNet), says whether the first is partial. Every peer has an environment of
its own in .bench/peers, made by --install, and a script `peer_NAME.py`, which says what differs from the README. With
--only, what the record has of the others stays. --data takes images of ten classes with a test part; the default,
Fashion-MNIST, is Debian's `dataset-fashion-mnist`. Needs the extra `evaluate`.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import commands
from classifier import FASHION_CLASSIFIER, FASHION_MNIST, Judge, balanced, train_and_test, trained_classifier
from hardware import commit, hardware, hardware_line, is_busy
from noisekiln.features.base import FeatureExtractor
from noisekiln.features.efficientnet import EfficientNet
from noisekiln.files.pictures import save_image, tile
from noisekiln.metrics.mind import sliced_distance

HERE = Path(__file__).resolve().parent
OURS = "noisekiln"


@dataclass(frozen=True)
class Peer:
    """A package to compare with.

    Attributes:
        package: Its release.
        needs: What it needs, as far as training does.
        alone: Whether it is installed without what it asks for, because that is torchvision.
    """

    package: str
    needs: tuple[str, ...]
    alone: bool = True


PEERS = {
    "diffusers": Peer("diffusers==0.42.1", ("accelerate",), alone=False),
    "azula": Peer("azula==0.11.1", ("einops", "tqdm")),
    "smalldiffusion": Peer("smalldiffusion==0.5.0", ("accelerate", "einops", "tqdm", "torch-ema")),
    "lucidrains": Peer("denoising-diffusion-pytorch==2.3.4", ("accelerate", "einops", "ema-pytorch", "scipy", "tqdm")),
}


class Judges:
    """Fréchet ratio and accuracy of the classifier, and MIND in the features of another network as a ratio, too.

    Args:
        classifier: The first judge.
        features: The network of the second.
        train: Images and labels of the training part.
        test: Images and labels of the test part.
    """

    def __init__(
        self,
        classifier: Judge,
        features: FeatureExtractor,
        train: tuple[Tensor, Tensor],
        test: tuple[Tensor, Tensor],
    ) -> None:
        self.classifier, self.features = classifier, features
        count = len(classifier.reference)
        self.reference = features.extract(test[0][balanced(test[1], count, 0)])
        real = features.extract(train[0][balanced(train[1], count, 0)])
        self.floor = sliced_distance(real, self.reference)

    def __call__(self, images: Tensor, labels: Tensor) -> dict[str, Any]:
        """Figures of samples (N, H, W, C) uint8, N as that of the classifier; 1 is as good as real images."""
        ratio, accuracy = self.classifier(images, labels)
        mind = sliced_distance(self.features.extract(images), self.reference) / self.floor
        return {"frechet_ratio": round(ratio, 3), "accuracy": round(accuracy, 4), "mind_ratio": round(mind, 2)}


def main() -> None:
    """Install, or train, sample and judge all of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--install", action="store_true", help="make the environments, and do nothing else")
    parser.add_argument("--minutes", type=float, default=5)
    parser.add_argument("--only", nargs="+", choices=[OURS, *PEERS], default=[OURS, *PEERS])
    parser.add_argument("--data", default=FASHION_MNIST)
    parser.add_argument("-n", dest="count", type=int, default=1000, help="samples of each")
    parser.add_argument("--environments", type=Path, default=Path(".bench/peers"))
    parser.add_argument("--work", type=Path, default=Path(".bench/peers/work"))
    parser.add_argument("--record", type=Path)
    arguments = parser.parse_args()
    if arguments.install:
        for name in arguments.only:
            if name != OURS:
                install(PEERS[name], arguments.environments / name)
        return
    machine = hardware()
    if is_busy(machine):
        print("Something else is running on this machine: equal time is not equal work.", flush=True)
    judges = prepared_judges(arguments.data, arguments.work, arguments.count)
    for name, result in contest(arguments, judges):
        print(
            json.dumps(recorded(arguments, machine, {name: result})["results"][name] | {"contender": name}), flush=True
        )


def install(peer: Peer, folder: Path) -> None:
    """Make a peer's environment, with the torch of constraints.txt and without torchvision."""
    if not folder.exists():
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "-q"]
    pinned = os.environ | {"PIP_CONSTRAINT": str(HERE.parent / "constraints.txt")}
    subprocess.run([*pip, "torch", "numpy", "pillow", *peer.needs], check=True, env=pinned)
    subprocess.run([*pip, *(["--no-deps"] if peer.alone else []), peer.package], check=True, env=pinned)


def prepared_judges(data: str, work: Path, count: int) -> Judges:
    """The judges, and in `work` an archive of what a peer's script reads."""
    train, test = train_and_test(data)
    work.mkdir(parents=True, exist_ok=True)
    requested = torch.arange(10).repeat_interleave(count // 10)
    np.savez(work / "data.npz", images=train[0].numpy(), labels=train[1].numpy(), requested=requested.numpy())
    weights = FASHION_CLASSIFIER if data == FASHION_MNIST else work / f"classifier_{Path(data).stem}.pt"
    classifier = Judge(trained_classifier(*train, weights), train, test, n=count)
    return Judges(classifier, EfficientNet(), train, test)


def contest(arguments: argparse.Namespace, judges: Judges) -> Iterator[tuple[str, dict[str, Any]]]:
    """Name and figures of each contender when it is done; one that cannot run is left out, which is said."""
    for name in arguments.only:
        script, python = HERE / f"peer_{name}.py", arguments.environments / name / "bin" / "python"
        if name != OURS and not python.exists():
            print(f"{name} is left out: {python} does not exist. `python benchmarks/peers.py --install` makes it.")
            continue
        try:
            if name == OURS:
                yield name, ours(arguments, judges)
            else:
                yield name, peer_result(script, str(python), arguments.work, arguments.minutes, judges)
        except (subprocess.CalledProcessError, RuntimeError) as error:
            print(f"{name} is left out: {error}")


def ours(arguments: argparse.Namespace, judges: Judges) -> dict[str, Any]:
    """The two commands, everything left at its default."""
    run = arguments.work / f"run_{arguments.minutes:g}min"
    trained = commands.train(arguments.data, run, ["--minutes", f"{arguments.minutes:g}"])
    samples = commands.sample(run, run / "pictures", len(judges.reference), [])
    figures = {
        "images_seen": trained.images_seen,
        "images_per_second": round(trained.images_per_second, 1),
        "sampled_per_second": round(len(samples.images) / samples.seconds, 1),
    }
    return judged(samples.images, samples.labels, judges, arguments.work / f"{OURS}.png") | figures


def peer_result(script: Path, python: str, work: Path, minutes: float, judges: Judges) -> dict[str, Any]:
    """Run a peer's script in its environment, and judge what it has left.

    Args:
        script: The script; called with the archive of the data, a file for its samples, and --minutes.
        python: Interpreter of its environment.
        work: Folder that holds `data.npz`.
        minutes: Minutes of training.
        judges: Judges of the samples.

    Raises:
        subprocess.CalledProcessError: If the script fails.
    """
    data, out = work / "data.npz", work / f"{script.stem}.npz"
    start_time = time.perf_counter()
    subprocess.run([python, str(script), str(data), str(out), "--minutes", str(minutes)], check=True)
    seconds = time.perf_counter() - start_time - 60 * minutes  # start and sampling, so the rate is at least this
    with np.load(out) as archive, np.load(data) as asked:
        images = torch.from_numpy(archive["images"])
        figures: dict[str, Any] = json.loads(str(archive["figures"]))
        labels = torch.from_numpy(asked["requested"])
    rate = {"sampled_per_second": round(len(images) / max(seconds, 1e-3), 1)}
    return judged(images, labels, judges, work / f"{script.stem}.png") | figures | rate


def judged(images: Tensor, labels: Tensor, judges: Judges, picture: Path) -> dict[str, Any]:
    """What the judges say of samples sorted by class, some of which are written as a picture."""
    each = len(images) // (int(labels.max()) + 1)
    rows = torch.cat([torch.nonzero(labels == c).flatten()[: min(16, each)] for c in labels.unique().tolist()])
    save_image(tile(images[rows].numpy(), columns=min(16, each)), picture, at_least=960)
    return judges(images, labels)


def recorded(
    arguments: argparse.Namespace, machine: dict[str, Any], results: dict[str, dict[str, Any]]
) -> dict[str, Any]:
    """The record: these results, and those that it has of others at the same budget; written to --record."""
    earlier: dict[str, Any] = {}
    if arguments.record and arguments.record.exists():
        earlier = json.loads(arguments.record.read_text(encoding="utf-8"))
    same = earlier.get("results", {}) if earlier.get("minutes") == arguments.minutes else {}
    versions = {name: PEERS[name].package for name in results if name in PEERS}
    about = {"hardware": hardware_line(machine), "load": machine["load"], "torch": torch.__version__}
    record = {
        "minutes": arguments.minutes,
        "results": same | {name: result | about for name, result in results.items()},
        "releases": earlier.get("releases", {}) | versions | {OURS: commit()},
    }
    if arguments.record:
        arguments.record.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    return record


if __name__ == "__main__":
    main()

"""Inception-v3 of the standard Fréchet Inception distance (FID): 2,048 features, with weights from a file."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional as F

from noisekiln.errors import DataError, class_and_reason, listed
from noisekiln.features.base import FeatureExtractor, colour_input
from noisekiln.features.networks.inception_v3 import InceptionV3
from noisekiln.files.plain_file import check_plain
from noisekiln.machine.transfer import module_to_device
from noisekiln.paths import expand_home

REFERENCE = "pt_inception-2015-12-05-6726825d.pth"  # of pytorch-fid; its name ends with its SHA-256, as torch's do
SIDE = 299


@dataclass(frozen=True)
class Inception(FeatureExtractor):
    """The last average pool of Inception-v3, formula for formula as in the reference port, pytorch-fid.

    Images are resized to 299x299 bilinearly, *not* antialiased, as FID is defined: shrinking large images aliases.

    Args:
        weights: File of the weights: the reference port's `pt_inception-2015-12-05-6726825d.pth`, or its tensors
            under the same names in the format of safetensors.
    """

    weights: str = ""

    @property
    def batch_size(self) -> int:  # noqa: D102 (the base class says it)
        return 16

    def features_of(self, images: Tensor) -> Tensor:  # noqa: D102 (the base class says it)
        x = F.interpolate(colour_input(images) / 255, (SIDE, SIDE), mode="bilinear", align_corners=False)
        features: Tensor = _inception(self._file(), images.device)(2 * x - 1)
        return features

    def describe(self) -> dict[str, str]:  # noqa: D102 (the base class says it)
        checksum = _sha256_of(self._file()) if self.weights else ""
        named = f"{REFERENCE}, the reference" if checksum.startswith("6726825d") else "not the reference file"
        return {
            "name": "Inception-v3 of 2015-12-05, 2,048 features",
            "version": f"{named}, sha256 {checksum[:16]}" if checksum else "no weights yet",
            "preprocessing": f"bilinear to {SIDE}x{SIDE}, not antialiased; pixel / 127.5 - 1; grey repeated",
        }

    def _file(self) -> Path:
        if not self.weights:
            raise ValueError(
                f"`features=inception` needs a file of weights, which noisekiln does not contain. Download {REFERENCE} "
                "from the releases of github.com/mseitzer/pytorch-fid, and give `features=inception(weights=FILE)`."
            )
        file = expand_home(self.weights)
        if not file.is_file():
            raise ValueError(f"`weights={self.weights}`: there is no such file. Give the path of {REFERENCE}.")
        return file


@cache
def _sha256_of(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


@cache
def _inception(file: Path, device: torch.device) -> InceptionV3:
    """The network with the weights of a file, loaded once on each device.

    Raises:
        DataError: If the file holds other weights.
    """
    with torch.device("meta"):  # without random weights, which would be drawn from the global generator
        network = InceptionV3()
    weights = {name: value for name, value in _read_tensors(file).items() if not name.startswith("fc.")}
    _check_tensors(file, weights, network.state_dict())
    network.load_state_dict(weights, strict=False, assign=True)  # the counters of batch norms may be absent
    network.eval().requires_grad_(False).fuse()
    return module_to_device(network, device)


def _read_tensors(file: Path) -> Mapping[str, Tensor]:
    try:
        check_plain(file)
        if file.suffix == ".safetensors":
            return load_file(file)
        found = torch.load(file, weights_only=True, map_location="cpu")
    except Exception as error:  # whatever bytes make the unpickler of torch raise: KeyError, IndexError, ...
        raise _not_inception(file, f"no weights can be read from it ({class_and_reason(error)})") from error
    if not isinstance(found, dict) or not all(isinstance(value, Tensor) for value in found.values()):
        raise _not_inception(file, f"it holds a {type(found).__name__}, and not tensors by name")
    return found


def _check_tensors(file: Path, weights: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    needed = [name for name in expected if not name.endswith("num_batches_tracked")]
    lacking = [name for name in needed if name not in weights]
    other = [name for name in weights if name not in expected]
    unlike = [name for name in needed if name in weights and weights[name].shape != expected[name].shape]
    if lacking:
        raise _not_inception(
            file, f"{len(lacking)} of the network's {len(needed)} tensors are missing ({listed(lacking, 3)})"
        )
    if other or unlike:
        raise _not_inception(file, f"these are the weights of another network ({listed([*other, *unlike], 3)})")


def _not_inception(file: Path, reason: str) -> DataError:
    return DataError(str(file), reason, f"Give the file {REFERENCE} of pytorch-fid, or the same tensors as safetensors")

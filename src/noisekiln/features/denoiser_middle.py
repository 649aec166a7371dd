"""The middle of a denoiser of one's own, a frozen reference run: for kinds of images that no other network has seen."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import NamedTuple, Self

import torch
from torch import Tensor, nn

from noisekiln.features.base import FeatureExtractor


class _ConnectedNetwork(NamedTuple):
    """A network and the module in it whose output is read; see `DenoiserMiddle.connect`."""

    forward: Callable[[Tensor], object]
    module: nn.Module
    channels: int
    version: str
    preprocessing: str


@dataclass(frozen=True)
class DenoiserMiddle(FeatureExtractor):
    """Mean and deviation over space of each channel that a module in the middle of a frozen network puts out.

    The features are ``[mean(h), std(h)]`` of its output h, (B, C, H, W) or (B, tokens, C): 2 C numbers.
    Any network will do: whatever runs the network and knows its input connects the two.

    Args:
        run: Folder of the run whose denoiser it is. Scores of several runs can be compared only with one and the same.
    """

    run: str = ""
    connected: _ConnectedNetwork | None = field(default=None, init=False, repr=False, compare=False)

    @property
    def channels(self) -> tuple[int, ...]:  # noqa: D102 (the base class says it)
        return super().channels if self.connected is None else (self.connected.channels,)

    def connect(
        self,
        forward: Callable[[Tensor], object],
        module: nn.Module,
        *,
        channels: int,
        version: str,
        preprocessing: str,
    ) -> Self:
        """An extractor that reads a network.

        Args:
            forward: Runs the network on images, (B, H, W, C) uint8, such that `module` is called exactly once. It must
                give an image the same result in any batch: noise that it adds must be the same for every image.
            module: The module whose output is read; it stays as it is.
            channels: Channels that its images have.
            version: Which network it is, such as a checksum of its weights; stands in reports.
            preprocessing: What `forward` does with images; stands in reports.
        """
        copy = replace(self)
        object.__setattr__(copy, "connected", _ConnectedNetwork(forward, module, channels, version, preprocessing))
        return copy

    def features_of(self, images: Tensor) -> Tensor:  # noqa: D102 (the base class says it)
        connected = self._connected()
        outputs: list[Tensor] = []

        def read(_module: nn.Module, _inputs: object, output: object) -> None:
            first = output[0] if isinstance(output, tuple | list) else output
            assert isinstance(first, Tensor), f"the module puts out a {type(first).__name__}"
            outputs.append(first)

        handle = connected.module.register_forward_hook(read)
        try:
            connected.forward(images)
        finally:
            handle.remove()
        assert len(outputs) == 1, f"the module was called {len(outputs)} times"
        return pooled(outputs[0].float())

    def describe(self) -> dict[str, str]:  # noqa: D102 (the base class says it)
        connected = self.connected
        run = f"'{self.run}'" if self.run else "a run"
        return {
            "name": f"middle of the denoiser of {run}, mean and deviation over space",
            "version": "no network yet" if connected is None else connected.version,
            "preprocessing": "that of the network" if connected is None else connected.preprocessing,
        }

    def _connected(self) -> _ConnectedNetwork:
        if self.connected is None:
            raise ValueError(
                f"`features=denoiser_middle(run={self.run})`: these features come from the network of a run, which is "
                "not loaded yet. Give the folder of the run itself: `features=runs/NAME`."
            )
        return self.connected


def pooled(output: Tensor) -> Tensor:
    """Mean and deviation over space: (B, C, H, W) or (B, tokens, C) -> (B, 2 C)."""
    space = (2, 3) if output.ndim == 4 else (1,)
    mean = output.mean(space, keepdim=True)
    return torch.cat([mean.flatten(1), (output - mean).square().mean(space).sqrt()], 1)

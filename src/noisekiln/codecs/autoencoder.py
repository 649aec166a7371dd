"""Convolutional autoencoder that is trained on one's own images: x is a small image of latents."""

from typing import Self, cast

from torch import Tensor, nn
from torch.nn import functional as F

from noisekiln.blocks.conv_coder import ConvDecoder, ConvEncoder, reach
from noisekiln.blocks.latent_statistics import LatentStatistics
from noisekiln.blocks.tiles import apply_in_tiles
from noisekiln.codecs.base import Codec, Size, check_channels

FACTORS = (2, 4, 8)
ENCODER_BLOCKS, DECODER_BLOCKS = 1, 2  # at each resolution; decoding is harder
NARROWEST = 32  # channels of the highest resolution, at least
TILE = 512  # pixels of the side of a tile: larger images are encoded and decoded in tiles


class Autoencoder(Codec):
    """A deterministic encoder and decoder without norms inside (``x = (encoder(image) - mean) / std``).

    In training, x is standardised over the batch (batch norm without affine) and gets fixed noise, which bounds what a
    position of x can tell and makes the decoder robust to errors of a diffusion model; there is no KL weight (as in
    "Unified Latents", arXiv 2602.17270). Later mean and deviation are those of the training images. Images of any
    size work: they are padded to a multiple of `factor`, and larger ones are cut into tiles, which changes nothing.

    Args:
        factor: Pixels of a side that become one position of x: 2, 4 or 8.
        channels: Channels of x.
        width: Channels of the network at the resolution of x, a multiple of 16; half as many at twice the resolution.
        noise: Standard deviation of the noise on x in training, where x has variance 1.
        spectrum: Weight of the loss of amplitudes in 8x8 blocks, against blur, such as 0.1; 0 for none.
        equivariance: Weight of the loss of half-size images decoded from half-size x (arXiv 2502.14831), such as 0.25;
            0 for none.
        adversarial: Weight of the correction by a discriminator in the second half of training, such as 0.1: its
            gradient as a share of that of the other losses; 0 for none.
        pretrained: Whether training starts from the weights of an autoencoder of drawn shapes; there are such for the
            default channels and width of factors 4 and 8.
        image_channels: Channels of images; 0 until it is fitted.
    """

    costly = True
    is_learned = True

    def __init__(
        self,
        factor: int = 4,
        channels: int = 8,
        width: int = 96,
        noise: float = 0.1,
        spectrum: float = 0.0,
        equivariance: float = 0.0,
        adversarial: float = 0.0,
        pretrained: bool = False,
        image_channels: int = 0,
    ) -> None:
        super().__init__()
        if factor not in FACTORS or channels < 1 or width < 16 or width % 16:
            raise ValueError(
                f"autoencoder(factor={factor}, channels={channels}, width={width}): `factor` has to be 2, 4 or 8, "
                "`channels` 1 or more, and `width` a multiple of 16."
            )
        if min(noise, spectrum, equivariance, adversarial) < 0:
            raise ValueError(
                f"autoencoder(noise={noise}, spectrum={spectrum}, equivariance={equivariance}, "
                f"adversarial={adversarial}): none of them may be below 0. Give 0 to leave a part out."
            )
        if adversarial > 1:
            raise ValueError(
                f"autoencoder(adversarial={adversarial}): above 1 the discriminator would outweigh the image itself. "
                "Give 0.1, or another weight up to 1."
            )
        self.factor = factor
        self.channels = channels
        self.width = width
        self.noise = noise
        self.spectrum = spectrum
        self.equivariance = equivariance
        self.adversarial = adversarial
        self.pretrained = pretrained
        self._image_channels = image_channels
        self.statistics = LatentStatistics(channels)
        self.encoder: ConvEncoder | None = None
        self.decoder: ConvDecoder | None = None
        if image_channels:
            widths = [max(width // 2**level, min(width, NARROWEST)) for level in reversed(range(self._resolutions))]
            self.encoder = ConvEncoder(image_channels, channels, widths, ENCODER_BLOCKS)
            self.decoder = ConvDecoder(image_channels, channels, widths, DECODER_BLOCKS)

    @property
    def image_channels(self) -> int:  # noqa: D102 (the base class says it)
        return self._image_channels

    @property
    def x_channels(self) -> int:  # noqa: D102 (the base class says it)
        return len(self.statistics.mean)

    @property
    def scale(self) -> float:  # noqa: D102 (the base class says it)
        return float(self.statistics.scale)

    @property
    def reconstruction_error(self) -> float:  # noqa: D102 (the base class says it)
        return float(self.statistics.error)

    def x_size(self, size: Size) -> Size:  # noqa: D102 (the base class says it)
        return -(-size[0] // self.factor), -(-size[1] // self.factor)

    def fit(self, pixels: Tensor) -> Self:
        """This codec, or for one without channels an untrained one for those of these images, (N, H, W, C) uint8."""
        channels = pixels.shape[-1]
        if not self._image_channels:
            training = (self.noise, self.spectrum, self.equivariance, self.adversarial, self.pretrained)
            return type(self)(self.factor, self.channels, self.width, *training, image_channels=channels)
        check_channels(self, pixels)
        return self

    def standardise(self, pixels: Tensor) -> None:
        """Measure the statistics of x on images, (N, H, W, C) uint8: after training."""
        self.statistics.measure(self.latents, self.to_image, pixels)

    def latents(self, pixels: Tensor) -> Tensor:
        """Images (B, H, W, C), uint8 or floats from 0 to 255 -> the encoder's output, not yet standardised."""
        check_channels(self, pixels)
        assert self.encoder is not None
        image = pixels.permute(0, 3, 1, 2).float() / 127.5 - 1
        down, right = -image.shape[2] % self.factor, -image.shape[3] % self.factor
        image = F.pad(image, (0, right, 0, down), mode="replicate") if down or right else image
        margin = self._margin * self.factor
        return apply_in_tiles(self.encoder, image, side=TILE, margin=margin, scale=(1, self.factor))

    def encode(self, pixels: Tensor) -> Tensor:  # noqa: D102 (the base class says it)
        return cast(Tensor, self.statistics(self.latents(pixels)))

    def to_image(self, x: Tensor) -> Tensor:  # noqa: D102 (the base class says it)
        assert self.decoder is not None
        side = TILE // self.factor
        image = apply_in_tiles(self.decoder, x.float(), side=side, margin=self._margin, scale=(self.factor, 1))
        return image / 2 + 0.5

    def edges(self) -> list[nn.Module]:
        """The layers that face images and x, which Muon leaves to AdamW."""
        assert self.encoder is not None
        assert self.decoder is not None
        return [layer for part in (self.encoder, self.decoder) for layer in (part.conv_in, part.conv_out)]

    @property
    def _resolutions(self) -> int:
        return self.factor.bit_length() - 1

    @property
    def _margin(self) -> int:
        return reach(self._resolutions, DECODER_BLOCKS)

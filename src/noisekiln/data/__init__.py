"""Images from folders, archives and arrays, in memory or memory-mapped, in an order that resumes exactly."""

from noisekiln.data.channels import with_channels
from noisekiln.data.dataset import Altered, DataSet, Skipped, Split
from noisekiln.data.image_file import read_image_file, read_transparency
from noisekiln.data.load import load
from noisekiln.data.order import batch_order
from noisekiln.data.pairs import load_pairs
from noisekiln.errors import DataError

__all__ = ["Altered", "DataError", "DataSet", "Skipped", "Split", "batch_order", "load", "load_pairs"]
__all__ += ["read_image_file", "read_transparency", "with_channels"]

"""Images from folders, archives and arrays, in memory or memory-mapped, in an order that resumes exactly."""

from .dataset import DataSet, Images, Skipped
from .errors import DataError
from .load import load
from .order import batch_order
from .pairs import load_pairs
from .picture import read_picture, read_transparency

__all__ = ["DataError", "DataSet", "Images", "Skipped", "batch_order", "load", "load_pairs"]
__all__ += ["read_picture", "read_transparency"]

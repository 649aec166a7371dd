"""Well-known data sets that do not come with noisekiln: where to get them, and what to give then."""

import re

from noisekiln.errors import DataError

CIFAR = "https://www.cs.toronto.edu/~kriz"
IDX = (
    "train-images-idx3-ubyte.gz, train-labels-idx1-ubyte.gz, t10k-images-idx3-ubyte.gz and t10k-labels-idx1-ubyte.gz "
    "from {0} into a folder {1}, and give that folder: no unpacking is needed"
)
REMEDIES = {
    **dict.fromkeys(
        ("cifar", "cifar10"),
        f"Download {CIFAR}/cifar-10-python.tar.gz and give that file, cifar-10-python.tar.gz: no unpacking is needed",
    ),
    "cifar100": f"Download {CIFAR}/cifar-100-python.tar.gz and give that file, cifar-100-python.tar.gz: "
    "no unpacking is needed",
    "mnist": f"Download {IDX.format('https://ossci-datasets.s3.amazonaws.com/mnist/', 'mnist')}",
    **dict.fromkeys(
        ("fashionmnist", "fmnist"),
        "Download "
        + IDX.format("https://github.com/zalandoresearch/fashion-mnist/tree/master/data/fashion", "fashion-mnist"),
    ),
}
ADDRESS = re.compile(r"(https?|s3|gs|ftp|hf):", re.IGNORECASE)


def not_downloaded(source: str) -> DataError | None:
    """The error for the name of a well-known data set, or an address, in place of a path; None for other names."""
    if ADDRESS.match(source):
        return DataError(
            source, "this is an address, and noisekiln downloads nothing", "Download the images and give their folder"
        )
    remedy = REMEDIES.get(re.sub("[^a-z0-9]", "", source.lower()))
    if remedy is None:
        return None
    return DataError(source, "this data set does not come with noisekiln, which downloads nothing", remedy)

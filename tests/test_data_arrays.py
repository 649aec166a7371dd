"""Arrays in memory and in .npy, .npz and idx files."""

import gzip
import io
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from noisekiln.data import DataError, load

FASHION = Path("/usr/share/datasets/fashion-mnist")
STACK = np.random.default_rng(0).integers(0, 256, (5, 8, 6, 3), np.uint8)
GREY = STACK[..., 0]


def npz(folder: Path, **arrays: object) -> Path:
    np.savez(folder / "set.npz", **arrays)
    return folder / "set.npz"


@pytest.mark.parametrize(
    ("train", "label", "test", "test_label"),
    [
        ("train_images", "train_labels", "test_images", "test_labels"),
        ("x_train", "y_train", "x_test", "y_test"),
        ("train", "labels", "test", "test_labels"),
        ("train_images", "train_labels", "val_images", "val_labels"),
    ],
)
def test_npz_with_two_parts(tmp_path: Path, train: str, label: str, test: str, test_label: str):
    path = npz(tmp_path, **{train: STACK, label: [[2], [2], [5], [5], [5]], test: STACK[:2], test_label: [5, 2]})
    data = load(path)
    assert np.array_equal(data.train.pixels, STACK)
    assert data.train.labels.tolist() == [0, 0, 1, 1, 1]
    assert data.held_out.labels.tolist() == [1, 0]
    assert data.class_names == ("2", "5")


def test_npz_with_class_names_keeps_empty_classes(tmp_path: Path):
    path = npz(tmp_path, images=GREY, labels=[0, 2, 2, 0, 0], class_names=["a", "b", "c"])
    data = load(path)
    assert data.class_names == ("a", "b", "c")
    assert data.train.labels.tolist() == [0, 2, 2, 0, 0]
    with pytest.raises(DataError, match="labels run from 0 to 2, but there are 2 class names"):
        load(npz(tmp_path, images=GREY, labels=[0, 2, 2, 0, 0], class_names=["a", "b"]))


def test_npz_with_names_as_labels(tmp_path: Path):
    data = load(npz(tmp_path, images=GREY, labels=["b", "a", "b", "b", "a"]))
    assert data.class_names == ("a", "b")
    assert data.train.labels.tolist() == [1, 0, 1, 1, 0]


@pytest.mark.parametrize(
    "captions",
    [
        np.frombuffer("a\nb\nc\nd\né".encode(), np.uint8),
        np.array("a\nb\nc\nd\né"),
        np.array(["a", "b", "c", "d", "é"]),
        np.char.encode(["a", "b", "c", "d", "é"], "utf-8"),
    ],
)
def test_npz_captions(tmp_path: Path, captions: np.ndarray):
    assert load(npz(tmp_path, images=STACK, captions=captions)).train.captions == ("a", "b", "c", "d", "é")


def test_npz_with_one_unknown_array(tmp_path: Path):
    data = load(npz(tmp_path, whatever=STACK))
    assert np.array_equal(data.train.pixels, STACK)
    assert 'The array "whatever" is read as the images.' in data.notes


def test_npz_of_jpeg_bytes(tmp_path: Path):
    files = []
    for i in range(3):
        file = io.BytesIO()
        Image.new("RGB", (8, 8), (80 * i, 0, 0)).save(file, "JPEG", quality=100)
        files.append(np.frombuffer(file.getvalue(), np.uint8))
    offsets = np.cumsum([0, *map(len, files)])
    path = npz(tmp_path, train_jpeg=np.concatenate(files), train_offsets=offsets, train_labels=np.uint8([0, 1, 1]))
    data = load(path)
    assert np.abs(data.train.pixels[:, 4, 4, 0].astype(int) - [0, 80, 160]).max() < 4
    assert data.train.labels.tolist() == [0, 1, 1]


def test_npz_that_cannot_be_used(tmp_path: Path):
    objects = np.empty(2, object)
    objects[:] = [GREY[0], GREY[1]]
    with pytest.raises(DataError, match="Python objects, which can run code"):
        load(npz(tmp_path, images=objects))
    with pytest.raises(DataError, match=r"none of its arrays is named as images \(a, b\)"):
        load(npz(tmp_path, a=np.zeros(3), b=np.zeros(4)))
    (tmp_path / "broken.npz").write_bytes(b"PK\3\4 nonsense")
    with pytest.raises(DataError, match="it was cut off"):
        load(tmp_path / "broken.npz")


def test_counts_must_agree(tmp_path: Path):
    with pytest.raises(DataError, match="5 images but 2 labels"):
        load(npz(tmp_path, images=STACK, labels=[0, 1]))
    with pytest.raises(DataError, match="5 images but 2 captions"):
        load(npz(tmp_path, images=STACK, captions=["a", "b"]))
    with pytest.raises(DataError, match="one of its two parts has labels"):
        load(npz(tmp_path, train_images=STACK, train_labels=[0] * 5, test_images=STACK))
    with pytest.raises(DataError, match="not one class per image"):
        load(npz(tmp_path, images=STACK, labels=np.eye(5)))


@pytest.mark.parametrize("array", [STACK, GREY, STACK[..., :1], GREY.astype(bool)])
def test_npy(tmp_path: Path, array: np.ndarray):
    np.save(tmp_path / "a.npy", array)
    pixels = load(tmp_path / "a.npy").train.pixels
    expected = array.astype(np.uint8) * (255 if array.dtype == bool else 1)
    assert np.array_equal(pixels, expected if array.ndim == 4 else expected[..., None])


def test_channels_first_is_understood():
    data = load(STACK.transpose(0, 3, 1, 2))
    assert np.array_equal(data.train.pixels, STACK)
    assert any("(images, channels, height, width)" in note for note in data.notes)


def test_floats():
    unit = STACK / 255
    assert np.array_equal(load(unit).train.pixels, STACK)
    data = load((2 * unit - 1).astype(np.float32))
    assert np.array_equal(data.train.pixels, STACK)
    assert "Values of -1 to 1 were scaled to 0 to 255." in data.notes
    for wrong in (STACK.astype(float), unit * np.nan, unit * -3):
        with pytest.raises(DataError, match="unclear which values are black and white"):
            load(wrong)


def test_parts_share_their_range(tmp_path: Path):
    data = load(npz(tmp_path, x_train=2 * (GREY / 255) - 1, x_test=np.zeros((1, 8, 6))))
    assert data.held_out.pixels[0, 0, 0, 0] == 128  # 0 of -1..1, though alone it would be 0 of 0..1


def test_whole_numbers():
    assert np.array_equal(load(STACK.astype(np.int64)).train.pixels, STACK)
    data = load(GREY.astype(np.uint16) * 16)
    assert np.abs(data.train.pixels[..., 0].astype(int) - GREY).max() <= 1
    assert "Values of 0 to 4095 were scaled to 0 to 255." in data.notes
    with pytest.raises(DataError, match="unclear which value is black"):
        load(GREY.astype(int) - 300)


def test_fourth_channel_is_transparency():
    rgba = np.concatenate([STACK, np.zeros_like(STACK[..., :1])], -1)
    data = load(rgba)
    assert (data.train.pixels == 255).all()
    assert data.channels == 3


@pytest.mark.parametrize("shape", [(8, 8), (5, 8, 8, 2), (5, 3, 8, 8, 3), (0, 8, 8), (5, 2, 8), (512, 512, 3)])
def test_shapes_that_are_no_images(shape: tuple[int, ...]):
    with pytest.raises(DataError, match=r"not a stack of images|holds no images|an empty sequence"):
        load(np.zeros(shape, np.uint8))


def test_arrays_are_fitted_too():
    assert load(np.zeros((2, 100, 80), np.uint8)).size == (64, 48)
    assert load(np.zeros((2, 64, 9, 3), np.uint8)).size == (64, 9)
    assert load(STACK, size=(4, 5)).train.pixels.shape == (5, 4, 5, 3)


def test_sequences(tmp_path: Path):
    Image.fromarray(STACK[0]).save(tmp_path / "a.png")
    lazy = Image.open(tmp_path / "a.png")
    data = load([lazy, STACK[0], tmp_path / "a.png", str(tmp_path / "a.png")])
    assert (data.train.pixels == STACK[0]).all()
    for wrong, message in (
        ([], "empty sequence"),
        ([3], "something of the type int is not an image"),
        (7, "neither a path nor a sequence"),
    ):
        with pytest.raises(DataError, match=message):
            load(wrong)


def test_unknown_file(tmp_path: Path):
    (tmp_path / "a.xyz").write_text("x")
    with pytest.raises(DataError, match=r"not a known data set\. Give one of: .*a folder of images"):
        load(tmp_path / "a.xyz")


def test_npy_of_objects(tmp_path: Path):
    np.save(tmp_path / "a.npy", np.array([{}, 1], object), allow_pickle=True)
    with pytest.raises(DataError, match="cannot read it safely"):
        load(tmp_path / "a.npy")
    whole = (tmp_path / "a.npy").read_bytes()
    for damaged in (whole.replace(b"}", b"("), whole[:40], b"\x93NUMPY\x01\0\xff\xff" + b"'" * 70_000):
        (tmp_path / "a.npy").write_bytes(damaged)
        with pytest.raises(DataError, match="cannot read it safely") as caught:
            load(tmp_path / "a.npy")
        assert len(str(caught.value)) < 600


def idx(path: Path, array: np.ndarray) -> None:
    data = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes() + array.tobytes()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)


@pytest.mark.parametrize(("end", "dot"), [("", "-"), (".gz", "-"), ("", ".")])
def test_idx(tmp_path: Path, end: str, dot: str):
    labels = np.arange(5, dtype=np.uint8) % 2
    idx(tmp_path / f"train-images{dot}idx3-ubyte{end}", GREY)
    idx(tmp_path / f"train-labels{dot}idx1-ubyte{end}", labels)
    one = load(tmp_path / f"train-images{dot}idx3-ubyte{end}")
    assert np.array_equal(one.train.pixels[..., 0], GREY)
    assert one.train.labels.tolist() == labels.tolist()
    idx(tmp_path / f"t10k-images{dot}idx3-ubyte{end}", GREY[:2])
    idx(tmp_path / f"t10k-labels{dot}idx1-ubyte{end}", labels[:2])
    both = load(tmp_path)
    assert (len(both.train), len(both.held_out), both.class_names) == (5, 2, ("0", "1"))


def test_idx_files_called_test(tmp_path: Path):
    idx(tmp_path / "train-images-idx3-ubyte", GREY)
    idx(tmp_path / "test-images-idx3-ubyte", GREY[:2])
    assert len(load(tmp_path).held_out) == 2


@pytest.mark.parametrize("damage", ["first bytes", "later ones", "one pixel"])
def test_idx_files_that_are_not_what_was_compressed(tmp_path: Path, damage: str):
    path = tmp_path / "train-images-idx3-ubyte.gz"
    idx(path, GREY)
    content, compressor = gzip.decompress(path.read_bytes()), zlib.compressobj(0, wbits=31)  # as it is, in blocks
    if damage == "first bytes":
        path.write_bytes(path.read_bytes()[:10] + b"\xff" * 90)
    elif damage == "later ones":
        path.write_bytes(compressor.compress(content[:100]) + compressor.flush(zlib.Z_FULL_FLUSH) + b"\xff" * 90)
    else:
        packed = bytearray(compressor.compress(content) + compressor.flush())
        packed[100] ^= 1
        path.write_bytes(packed)
    for place in (tmp_path, path):
        with pytest.raises(DataError, match=None if damage == "first bytes" else "damaged"):
            load(place)


def test_idx_without_labels_and_cut_short(tmp_path: Path):
    path = tmp_path / "train-images-idx3-ubyte"
    idx(path, GREY)
    data = load(path)
    assert data.train.labels is None
    assert "There is no file of labels for the images." in data.notes
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(DataError, match="ends before"):
        load(path)
    broken = tmp_path / "train-images-idx3-ubyte.gz"
    idx(broken, GREY)
    broken.write_bytes(broken.read_bytes()[:-30])
    with pytest.raises(DataError):
        load(broken)


@pytest.mark.parametrize("inside", ["raw", "MNIST/raw", "FashionMNIST/raw"])
def test_idx_where_torchvision_keeps_it(tmp_path: Path, inside: str):
    (tmp_path / inside).mkdir(parents=True)
    idx(tmp_path / inside / "train-images-idx3-ubyte", GREY)
    assert np.array_equal(load(tmp_path).train.pixels[..., 0], GREY)


def test_idx_files_that_promise_too_much(tmp_path: Path):
    path = tmp_path / "train-images-idx3-ubyte"
    path.write_bytes(bytes([0, 0, 8, 3]) + b"\xff" * 12 + b"x" * 100)
    with pytest.raises(DataError, match=r"promises .* but it ends before"):
        load(path)
    damaged = bytearray(gzip.compress(bytes([0, 0, 8, 3]) + np.array(GREY.shape, ">u4").tobytes() + GREY.tobytes()))
    damaged[20:60] = b"\xff" * 40
    (tmp_path / "a.gz").write_bytes(damaged)
    with pytest.raises(DataError):
        load(tmp_path / "a.gz")


@pytest.mark.skipif(not FASHION.is_dir(), reason="needs Debian's dataset-fashion-mnist")
def test_fashion_mnist():
    data = load(FASHION)
    assert data.train.pixels.shape == (60_000, 28, 28, 1)
    assert len(data.held_out) == 10_000
    assert data.class_names[0] == "t-shirt"
    assert data.class_names[9] == "ankle boot"
    assert np.bincount(data.train.labels).tolist() == [6000] * 10

"""`nk.train` takes what people have in memory: every kind is read as the same images, labels and captions."""

import io
import itertools

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset, IterableDataset, RandomSampler, Subset, TensorDataset

from noisekiln.data import DataError, load
from noisekiln.data.rows import ENTRY
from noisekiln.images import Images
from noisekiln.plan.task_data import read_images

COUNT = 20
PIXELS = np.random.default_rng(0).integers(0, 256, (COUNT, 8, 8, 3), dtype=np.uint8)
PIXELS[0, 0, 0], PIXELS[0, 0, 1] = 0, 255  # so that the range of floats is known
LABELS = np.arange(COUNT) % 3
CAPTIONS = [f"a cat number {number % 4}" for number in range(COUNT)]
FIRST = torch.from_numpy(PIXELS).permute(0, 3, 1, 2)  # channels first
PIL = [Image.fromarray(image) for image in PIXELS]


class Rows(Dataset):
    """A data set of torch as people write it: no IndexError at its end."""

    classes = ["cat", "dog", "cow"]  # noqa: RUF012 (as torchvision has it)

    def __init__(self, row):
        self.row = row

    def __len__(self):
        return COUNT

    def __getitem__(self, number):
        return self.row(number)


class Endless(IterableDataset):
    def __iter__(self):
        return iter((FIRST[number].float() / 255, int(LABELS[number])) for number in range(COUNT))

    def __len__(self):
        return COUNT


class HuggingFace(Rows):
    """A stand-in for a data set of Hugging Face."""

    class Names:
        names = ["cat", "dog", "cow"]  # noqa: RUF012

    classes = None
    features = {"label": Names}  # noqa: RUF012


def png(number):
    file = io.BytesIO()
    PIL[number].save(file, "PNG")
    return file.getvalue()


PLAIN = {
    "array": PIXELS,
    "floats": PIXELS / 255,
    "both signs": torch.from_numpy(PIXELS) / 127.5 - 1,
    "channels first": FIRST,
    "floats, channels first": FIRST.float() / 255,
    "gradients": (FIRST.float() / 255).requires_grad_(),
    "images": Images.of(torch.from_numpy(PIXELS)),
    "list of images": list(Images.of(torch.from_numpy(PIXELS))),
    "PIL": PIL,
    "array of objects": np.array([*PIL, None], dtype=object)[:COUNT],
    "tuples of one": [(image,) for image in PIL],
    "bytes of files": [{"image": {"bytes": png(number), "path": None}} for number in range(COUNT)],
    "data set": Rows(lambda number: PIL[number]),
    "tensors of torch": TensorDataset(FIRST),
    "loader": DataLoader(TensorDataset(FIRST), batch_size=6, shuffle=True),
    "generator": PIL,
}
NUMBERED = {
    "pair of arrays": (PIXELS, LABELS),
    "list of two": [PIXELS, LABELS],
    "pair of tensors": (FIRST, torch.from_numpy(LABELS)),
    "one-hot": (PIXELS, np.eye(3)[LABELS]),
    "one-hot pairs": [(PIL[i], torch.eye(3)[LABELS[i]]) for i in range(COUNT)],
    "rows of one, as of Keras": (PIXELS, LABELS[:, None]),
    "pairs with rows of one, as of MedMNIST": [(PIL[i], LABELS[i : i + 1]) for i in range(COUNT)],
    "loader of rows of one": DataLoader(TensorDataset(FIRST, torch.from_numpy(LABELS)[:, None]), batch_size=6),
    "columns of Keras": {"x_train": PIXELS, "y_train": LABELS},
    "list and list": (PIL, LABELS.tolist()),
    "pairs": list(zip(PIL, LABELS, strict=True)),
    "lists of two": [[image, int(label)] for image, label in zip(PIXELS, LABELS, strict=True)],
    "pairs of tensors": [(FIRST[i].float() / 255, torch.tensor(LABELS[i])) for i in range(COUNT)],
    "columns": {"x": PIXELS, "y": LABELS},
    "two tensors of torch": TensorDataset(FIRST, torch.from_numpy(LABELS)),
    "iterable": Endless(),
}
NAMED = {
    "data set of torch": Rows(lambda number: (FIRST[number].float() / 255, int(LABELS[number]))),
    "subset": Subset(Rows(lambda number: (PIL[number], LABELS[number])), range(COUNT)),
    "loader": DataLoader(Rows(lambda number: (FIRST[number], int(LABELS[number]))), batch_size=6, shuffle=True),
    "rows": HuggingFace(lambda number: {"image": PIL[number], "label": int(LABELS[number])}),
    "loader of rows": DataLoader(Rows(lambda number: {"image": FIRST[number], "label": int(LABELS[number])}), 6),
    "names": list(zip(PIL, np.array(["cat", "dog", "cow"])[LABELS].tolist(), strict=True)),
}
CAPTIONED = {
    "pairs": list(zip(PIL, CAPTIONS, strict=True)),
    "array and list": (PIXELS, CAPTIONS),
    "columns": {"img": FIRST, "text": CAPTIONS},
    "rows": [{"image": image, "caption": text} for image, text in zip(PIL, CAPTIONS, strict=True)],
    "lists of one": Rows(lambda number: {"image": PIL[number], "captions": [CAPTIONS[number]]}),
}


@pytest.fixture(scope="module")
def expected():
    return load(PIXELS, labels=LABELS, captions=CAPTIONS)


def assert_pixels(data, expected):
    assert np.array_equal(data.train.pixels, expected.train.pixels)
    assert np.array_equal(data.held_out.pixels, expected.held_out.pixels)


@pytest.mark.parametrize("kind", PLAIN)
def test_images_of_any_kind_are_the_same_images(kind):
    data = load((image for image in PIL) if kind == "generator" else PLAIN[kind])
    assert_pixels(data, load(PIXELS))
    assert (data.train.labels, data.train.captions, data.altered) == (None, None, ())


@pytest.mark.parametrize("kind", NUMBERED)
def test_labels_come_with_the_images(kind, expected):
    data = load(NUMBERED[kind])
    assert_pixels(data, expected)
    assert np.array_equal(data.train.labels, expected.train.labels)
    assert data.class_names == ("0", "1", "2")
    assert not data.altered


@pytest.mark.parametrize("kind", NAMED)
def test_names_of_classes_come_with_the_data_set(kind, expected):
    data = load(NAMED[kind])
    assert_pixels(data, expected)
    names = [data.class_names[label] for label in data.train.labels]
    assert names == [("cat", "dog", "cow")[label] for label in expected.train.labels]


@pytest.mark.parametrize("kind", CAPTIONED)
def test_captions_come_with_the_images(kind):
    data = load(CAPTIONED[kind])
    assert data.train.labels is None
    assert data.train.captions == load(PIXELS, captions=CAPTIONS).train.captions


def test_several_captions_of_an_image_are_lines():
    rows = Rows(lambda number: {"image": PIL[number], "captions": [CAPTIONS[number], None, "a\n second"]})
    one_each = load(PIXELS, captions=CAPTIONS).train.captions
    assert load(rows).train.captions == tuple(f"{caption}\na second" for caption in one_each)


def test_entries_without_a_caption_have_an_empty_one():
    """The first, the last, or any between."""
    rows = [{"image": image, "caption": "a"} if 0 < i < 18 else {"image": image} for i, image in enumerate(PIL)]
    numbers = load(PIL, captions=list(map(str, range(COUNT)))).train.captions
    assert load(rows).train.captions == tuple("a" if 0 < int(number) < 18 else "" for number in numbers)


def test_labels_and_captions_may_be_given_apart(expected):
    data = load(FIRST, labels=torch.from_numpy(LABELS), captions=CAPTIONS)
    assert np.array_equal(data.train.labels, expected.train.labels)
    assert data.train.captions == expected.train.captions
    assert load(PIL, labels=["b", "a"] * 10).class_names == ("a", "b")


def test_other_columns_are_kept_or_named():
    data = load({"image": PIL, "label": LABELS.tolist(), "age": list(range(COUNT)), "box": [[1, 2]] * COUNT})
    assert list(data.train.columns) == ["age"]
    assert ["box" in note for note in data.altered] == [True]
    masks = load(Rows(lambda number: (PIL[number], {"boxes": number})))
    assert [note for note in masks.altered if "the second of each pair" in note]
    assert masks.train.labels is None


@pytest.mark.parametrize("kind", ["splits", "keras"])
def test_a_test_part_is_held_out(kind):
    part = (PIXELS, LABELS)
    other = (PIXELS[:6], LABELS[:6])
    data = load({"train": part, "test": other, "extra": []} if kind == "splits" else (part, other))
    assert len(data.train) == COUNT
    assert np.array_equal(data.held_out.pixels, PIXELS[:6])
    assert [note for note in data.altered if "extra" in note] or kind == "keras"


def test_a_loader_says_what_it_leaves_out_or_changes():
    dropped = load(DataLoader(Endless(), batch_size=6, drop_last=True))
    assert len(dropped.train) + len(dropped.held_out) == 18
    assert any("drops its last batch" in note for note in dropped.altered)
    own = DataLoader(
        TensorDataset(FIRST), 6, shuffle=True, collate_fn=lambda rows: torch.stack([row[0] for row in rows])
    )
    assert any("order of its own" in note for note in load(own).altered)
    replaced = DataLoader(TensorDataset(FIRST), 6, sampler=RandomSampler(FIRST, replacement=True))
    assert any("order of its own" in note for note in load(replaced).altered)
    assert not load(DataLoader(Endless(), batch_size=6)).altered


def test_random_transforms_are_noticed_even_if_they_leave_the_first_image():
    chance = np.random.default_rng(0)

    def row(number):
        flip = number > 0 and chance.random() < 0.5
        return FIRST[number].flip(-1) if flip else FIRST[number]

    assert any("random transforms" in note for note in load(Rows(row)).altered)


def test_of_three_the_third_may_be_the_caption():
    data = load(Rows(lambda number: (PIL[number], int(LABELS[number]), CAPTIONS[number])))
    assert data.train.captions == load(PIXELS, captions=CAPTIONS).train.captions
    assert data.class_names == ("cat", "dog", "cow")
    numbered = load(Rows(lambda number: (PIL[number], CAPTIONS[number], number)))
    assert numbered.train.labels is None
    assert list(numbered.train.columns) == ["number 3 of each entry"]


def test_arrays_of_several_sizes_are_scaled_by_one_range():
    images = [np.full((3, 10 + number % 2, 12), number / 19) for number in range(COUNT)]
    images[0][0, 0, 0] = -1
    data = load(images, size=8)
    assert int(data.train.pixels[0, -1, -1, -1]) == 128  # 0 in [-1, 1]
    assert data.train.pixels.max() == 255


@pytest.mark.parametrize(
    ("data", "words", "says"),
    [
        (3, {}, "`data`: int: this is neither a path nor a sequence of images. Give a folder, a file"),
        (None, {}, "`data`: NoneType"),
        ({1, 2}, {}, "`data`: set"),
        (b"abc", {}, "`data`: bytes"),
        ([], {}, "there is nothing to train on"),
        ({"image": []}, {}, "there is nothing to train on"),
        ({"a": [1], "b": [2]}, {}, r"no column holds images \(columns: a, b\)"),
        ({"cat": PIL, "dog": PIL}, {}, r"several columns hold images \(cat, dog\), and none of them is called `image`"),
        ([None], {}, r"image number 0: nothing \(None\) is not an image"),
        ([[]], {}, "something of the type list is not an image"),
        (PIXELS[0, 0], {}, "is not a stack of images"),
        (PIXELS.astype(float), {}, "unclear which values are black and white"),
        ((FIRST / 255 - 0.45) / 0.22, {}, "not normalized by mean and deviation"),
        (PIXELS, {"labels": [1, 2]}, "there are 20 images and 2 values here, so they cannot be paired"),
        (PIXELS, {"labels": "cat"}, "a str is not one for each image"),
        (PIXELS, {"captions": LABELS}, "'0' is no text. Give captions as texts"),
        ("portraits", {"labels": LABELS}, "they belong to images in memory, and 'portraits' is a path"),
        (Rows(lambda number: 1 // 0), {}, "image number 0: reading it raised ZeroDivisionError"),
        ({"image": PIL, "label": [1]}, {}, "`label`: there are 20 images and 1 value here"),
    ],
)
def test_what_cannot_be_read_is_refused_in_words(data, words, says):
    with pytest.raises(DataError, match=says):
        load(data, **words)


def test_an_iterator_without_an_end_is_refused(monkeypatch):
    monkeypatch.setattr("noisekiln.data.rows.LIMIT", 20 * ENTRY)
    with pytest.raises(DataError, match=r"the first 17 of them take more than .* or there is no end of them"):
        load(itertools.repeat(PIL[0]))


def test_pairs_of_a_task_have_no_labels_in_memory():
    with pytest.raises(ValueError, match="`labels`: `task=translate` is trained on pairs of images in a folder"):
        read_images("anything", "translate", labels=[1])

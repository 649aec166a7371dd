import tempfile
import unicodedata
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

from noisekiln.components.registry import names
from noisekiln.components.spec import build, describe
from noisekiln.conditioners.base import Conditioner
from noisekiln.conditioners.class_label import ClassLabel
from noisekiln.conditioners.text import Text
from noisekiln.conditions import NOTHING, Cond
from noisekiln.data import DataSet, Split
from noisekiln.model.adapter import rows_of
from tiny_encoders import save_encoder

EXAMPLES = {  # a fitted example of each, and conditions that it understands
    "class_label": (lambda: ClassLabel(("cat", "Dog", "7"), 6), ["cat", 2, "DOG"]),
    "text": (lambda: Text(("a", "red", "hat"), 8, 5, 64, 1), ["a red hat", "Red!", "hat, a zebra"]),
    "pretrained_text": (lambda: unfitted("pretrained_text").fit(CAPTIONED), ["a red hat", "Red!", "hat, a zebra"]),
}


@cache
def encoder():
    """A folder with a tiny text encoder."""
    return save_encoder("bert", Path(tempfile.mkdtemp()))


def unfitted(name):
    return build(Conditioner, f"pretrained_text(model={str(encoder())!r})" if name == "pretrained_text" else name)


every_conditioner = pytest.mark.parametrize("name", names("conditioners"))


def test_each_has_an_example_here():
    assert set(names("conditioners")) == set(EXAMPLES)


@every_conditioner
def test_rows_are_independent(name):
    torch.manual_seed(0)
    make, values = EXAMPLES[name]
    conditioner = make().eval()
    ids = conditioner.encode(values)
    assert len(ids) == 3
    together = conditioner(ids).vector
    assert together.shape == (3, conditioner.sizes.vector)
    for i, value in enumerate(values):
        assert torch.equal(conditioner.encode([value])[0], ids[i])
        torch.testing.assert_close(conditioner(ids[i : i + 1]).vector[0], together[i])


@every_conditioner
def test_nothing_is_a_condition_of_its_own(name):
    torch.manual_seed(0)
    make, values = EXAMPLES[name]
    conditioner = make()
    nothing = conditioner.nothing(3)
    ids = conditioner.encode(values)
    assert nothing.shape == ids.shape
    assert nothing.dtype == ids.dtype
    silent = conditioner(nothing).vector
    assert bool(silent.isfinite().all())
    assert torch.equal(silent[0], silent[2])
    assert not any(torch.equal(nothing[i], ids[i]) for i in range(3))


@every_conditioner
def test_every_parameter_learns(name):
    make, values = EXAMPLES[name]
    conditioner = make()
    ids = torch.cat([conditioner.encode(values), conditioner.nothing(1)])
    conditioner(ids).vector.square().sum().backward()
    assert all(p.grad is not None for p in conditioner.parameters())


@every_conditioner
def test_conditions_are_dropped_by_their_share_and_the_generator_alone(name):
    make, values = EXAMPLES[name]
    conditioner = make()
    ids = conditioner.encode(values).repeat(1000, *[1] * (conditioner.encode(values).ndim - 1))
    nothing = conditioner.nothing(1)[0]
    mask = torch.rand(3000, generator=torch.Generator().manual_seed(1)) < 0.2
    dropped = conditioner.drop(ids, mask)
    gone = torch.tensor([torch.equal(row, nothing) for row in dropped])
    assert torch.equal(gone, mask)
    assert torch.equal(dropped[~gone], ids[~gone])


def data(labels=None, captions=None, names=()):
    images = Split(np.zeros((3, 4, 4, 1), np.uint8), labels, captions)
    return DataSet("three", images, None, names, (), (), "0" * 16)


CAPTIONED = data(None, ("a red hat", "", "a red shoe"))
DATA = {  # what each is fitted to, and what its conditions then are
    "class_label": (data(np.array([1, 0, 1]), None, ("cat", "dog")), ["dog", "cat", "dog"]),
    "text": (CAPTIONED, ["a red hat", None, "a red shoe"]),
    "pretrained_text": (CAPTIONED, ["a red hat", None, "a red shoe"]),
}


@every_conditioner
def test_it_is_fitted_to_data_that_have_something_for_it(name):
    found, values = DATA[name]
    new = unfitted(name)
    assert new.fit(data()) is None
    assert new.values(data().train, ()) is None
    assert new.needs
    fitted = new.fit(found)
    assert list(fitted.values(found.train, found.class_names)) == values
    assert describe(build(Conditioner, describe(fitted, include_defaults=True)), include_defaults=True) == describe(
        fitted, include_defaults=True
    )
    ids = fitted.encode_all(values)
    for row, value in zip(ids, values, strict=True):
        assert torch.equal(row, fitted.nothing(1)[0] if value is None else fitted.encode([value])[0])
    sizes, cond = fitted.sizes, fitted(ids)
    assert cond.vector is None or cond.vector.shape[-1] == sizes.vector
    assert (cond.tokens.shape[-1] if cond.tokens is not None else 0) == sizes.tokens
    assert fitted.kind in fitted.describe(values[0]) or "prompt" in fitted.describe(values[0])


def test_requested_classes_and_words_are_kept():
    found = DATA["class_label"][0]
    fitted = ClassLabel(("Dog", "Cat", "cow")).fit(found)
    assert fitted.names == ("Dog", "Cat", "cow")
    assert fitted.encode_all(fitted.values(found.train, found.class_names)).tolist() == [0, 1, 0]
    with pytest.raises(ValueError, match="lacks classes of three: cat"):
        ClassLabel(("dog", "cow")).fit(found)
    found = DATA["text"][0]
    fitted = Text(("hat", "shoe"), length=2).fit(found)
    assert (fitted.words, fitted.length) == (("hat", "shoe"), 2)
    assert Text().fit(found).length == 16


@every_conditioner
def test_previews_need_images_or_none(name):
    found, _ = DATA[name]
    fitted = unfitted(name).fit(found)
    shown = fitted.preview(found.train, found.class_names, 5)
    assert len(shown) == 5
    assert all(value is None or bool(fitted.encode([value]).isfinite().all()) for value in shown)
    alone = fitted.preview(None, found.class_names, 5)
    assert alone is None or alone == shown


@pytest.mark.parametrize("name", ["class_label", "text"])
def test_the_rows_of_its_table_are_its_entries(name):
    """Adapters train and store rows of the table, which are found by their entry."""
    found, _ = DATA[name]
    fitted = unfitted(name).fit(found)
    parameter, entries = fitted.table()
    assert len(fitted.get_parameter(parameter)) == len(entries)
    named = tuple(entry for entry in entries if entry)
    assert set(named) == set(fitted.choices) | set(fitted.vocabulary)
    assert torch.equal(rows_of(fitted, named), fitted.encode(named).view(len(named), -1)[:, 0].long())


def test_classes_go_by_name_or_number():
    label = ClassLabel(("cat", "Dog", "7"))
    assert label.encode(["cat", "dog", "DOG", 0, 1, "1", "7"]).tolist() == [0, 1, 1, 0, 1, 1, 2]
    assert label.nothing(2).tolist() == [3, 3]


def test_classes_go_by_name_in_any_encoding_of_accents():
    nfc, nfd = (unicodedata.normalize(form, "café") for form in ("NFC", "NFD"))
    label = ClassLabel((nfd, "the", "STRASSE"))
    assert label.encode([nfc, nfd, nfc.upper(), "straße"]).tolist() == [0, 0, 0, 2]
    assert label.extended(ClassLabel((nfc, "new"))).names == (nfd, "the", "STRASSE", "new")
    assert label.fit(data(np.array([0, 0, 0]), None, (nfc,))).names == label.names


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ("dgo", "There is no class called 'dgo'. Did you mean 'Dog'? Known classes: cat, Dog"),
        (3, "There is no class number 3; the model has 3 classes: 0 cat, 1 Dog, 2 7. Use one of these."),
        (-1, "There is no class number -1"),
        (2.5, "2.5 is neither the name nor the number of a class. Give a name, or a whole number from 0 to 2."),
        ("12", "There is no class number 12"),
        (["cat"], "['cat'] is neither the name nor the number of a class"),
        ({"a": 1}, "{'a': 1} is neither the name nor the number of a class"),
        (b"cat", "b'cat' is neither the name nor the number of a class"),
    ],
)
def test_an_unknown_class_is_an_error_that_lists_the_known_ones(value, says):
    with pytest.raises(ValueError) as caught:
        ClassLabel(("cat", "Dog", "7")).encode([value])
    assert says in str(caught.value)


def test_classes_whose_names_are_their_numbers_are_listed_once():
    with pytest.raises(ValueError, match=r"has 3 classes: 0, 1, 2 cat\. Use one"):
        ClassLabel(("0", "1", "cat")).encode([3])


def test_conditions_are_joined_slot_by_slot():
    first, second = Cond(vector=torch.ones(2, 3)), Cond(vector=torch.zeros(1, 3))
    both = Cond.cat([first, second])
    assert both.vector.shape == (3, 3)
    assert both.tokens is None
    assert Cond.cat([NOTHING, NOTHING]) == NOTHING


def test_the_vector_of_a_prompt_keeps_its_size_with_more_words():
    """Their sum over the root of their number: independent words have the variance of one."""
    text = Text(tuple("abcdefgh"), 64, 4)
    with torch.no_grad():
        for convolve in text.convolutions:
            convolve.weight.zero_()
            convolve.bias.zero_()
        vectors = text.vectors.weight.detach()
        condition = text(text.encode(["a b c d", "b"]))
    first = text.encode(["a b c d"])[0, :, 0].long()
    torch.testing.assert_close(condition.vector[0], vectors[first].sum(0) / 2)
    torch.testing.assert_close(condition.vector[1], vectors[text.encode(["b"])[0, 0, 0].long()])

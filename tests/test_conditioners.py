import re
import unicodedata
import warnings
from collections import Counter
from itertools import chain

import numpy as np
import pytest
import torch

from noisekiln.components.registry import find, names
from noisekiln.components.spec import build, describe
from noisekiln.conditioners.base import Conditioner
from noisekiln.conditioners.class_label import ClassLabel
from noisekiln.conditioners.text import Text, split_words
from noisekiln.conditions import NOTHING, Cond
from noisekiln.data import DataSet, Split, load
from noisekiln.model.adapter import rows_of
from noisekiln.model.model import Model
from noisekiln.plan.conditioning import about_conditions, choose_cond

EXAMPLES = {  # a fitted example of each, and conditions that it understands
    "class_label": (lambda: ClassLabel(("cat", "Dog", "7"), 6), ["cat", 2, "DOG"]),
    "text": (lambda: Text(("a", "red", "hat"), 6, 5), ["a red hat", "Red!", "hat, a zebra"]),
}
every_conditioner = pytest.mark.parametrize("name", names("conditioners"))


def test_each_has_an_example_here():
    assert set(names("conditioners")) == set(EXAMPLES)


@every_conditioner
def test_ids_are_integers_and_rows_are_independent(name):
    torch.manual_seed(0)
    make, values = EXAMPLES[name]
    conditioner = make().eval()
    ids = conditioner.encode(values)
    assert ids.dtype == torch.int64
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


DATA = {  # what each is fitted to, and what its conditions then are
    "class_label": (data(np.array([1, 0, 1]), None, ("cat", "dog")), ["dog", "cat", "dog"]),
    "text": (data(None, ("a red hat", "", "a red shoe")), ["a red hat", None, "a red shoe"]),
}


@every_conditioner
def test_it_is_fitted_to_data_that_have_something_for_it(name):
    found, values = DATA[name]
    unfitted = find(Conditioner, name)()
    assert unfitted.fit(data()) is None
    assert unfitted.values(data().train, ()) is None
    assert unfitted.needs
    fitted = unfitted.fit(found)
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
    assert Text().fit(found).length == 3


@every_conditioner
def test_previews_need_images_or_none(name):
    found, _ = DATA[name]
    fitted = find(Conditioner, name)().fit(found)
    shown = fitted.preview(found.train, found.class_names, 5)
    assert len(shown) == 5
    assert all(value is None or bool((fitted.encode([value]) >= 0).all()) for value in shown)
    alone = fitted.preview(None, found.class_names, 5)
    assert alone is None or alone == shown


@every_conditioner
def test_the_rows_of_its_table_are_its_entries(name):
    """Adapters train and store rows of the table, which are found by their entry."""
    found, _ = DATA[name]
    fitted = find(Conditioner, name)().fit(found)
    parameter, entries = fitted.table()
    assert len(fitted.get_parameter(parameter)) == len(entries)
    named = tuple(entry for entry in entries if entry)
    assert set(named) == set(fitted.choices) | set(fitted.vocabulary)
    assert torch.equal(rows_of(fitted, named), fitted.encode(named).view(len(named), -1)[:, 0])


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
    ],
)
def test_an_unknown_class_is_an_error_that_lists_the_known_ones(value, says):
    with pytest.raises(ValueError) as caught:
        ClassLabel(("cat", "Dog", "7")).encode([value])
    assert says in str(caught.value)


def test_a_vocabulary_holds_what_was_read_twice():
    text = Text(width=8).fit(data(captions=("A red hat.", "a blue hat", "the Hat's brim is red-ish")))
    assert text.words == ("a", "red", "hat")
    assert text.length == 6
    assert text.unknown_words("a Zebra in a red hat") == ["zebra"]
    assert torch.equal(text.encode(["zebra Hat"]), text.encode(["hat"]))


def test_words_are_split_from_their_punctuation():
    assert split_words("A red-haired PERSON's hat, 2 of 3; größer!") == [
        "a", "red", "haired", "person's", "hat", "2", "of", "3", "größer",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("caption", "words"),
    [
        ("红色的汽车car 2024年", "红 色 的 汽 车 car 2024 年"),
        ("赤いカメラ、ねこ。", "赤 い カ メ ラ ね こ"),
        ("แมวน้ำ", "แ ม ว น ้ ำ"),
        ("𠮷野家", "𠮷 野 家"),
        ("안녕 세상", "안녕 세상"),
        ("हिन्दी में", "हिन्दी में"),  # vowel signs are no letters for Unicode
        ("cafe\u0301s THE\u0301", "cafés thé"),
        ("Привет, l'été don't", "привет l'été don't"),
        ("שָׁלוֹם وَ", "שָׁלוֹם وَ"),
    ],
)
def test_words_of_other_scripts(caption, words):
    """Where words have no spaces between them, each character is one; elsewhere accents are within words."""
    assert split_words(caption) == split_words(caption.upper()) == words.split()


def test_words_with_spaces_are_split_as_before():
    captions = load("bundled:portraits").train.captions
    before = [re.findall(r"\w+(?:'\w+)?", caption.lower()) for caption in captions]
    assert list(map(split_words, captions)) == before
    fitted = Text().fit(data(captions=captions))
    assert fitted.words == tuple(word for word, _ in Counter(chain(*before)).most_common())
    assert fitted.left_out(data(captions=captions).train, ()) == []


def test_captions_without_words_to_learn_are_none():
    for captions in (("", "", ""), ("...", "", "!"), ("one", "two", "three"), None):
        assert Text().fit(data(captions=captions)) is None
    assert Text().values(data(captions=("", "", "")).train, ()) is None
    assert Text(("hat",)).fit(data(captions=("one", "", ""))).words == ("hat",)


def test_captions_that_are_cut_are_counted():
    long = " ".join(f"tag{i}" for i in range(70))
    captions = (f"{long} once", long, "tag1")
    fitted = Text(width=8).fit(data(captions=captions))
    assert fitted.length == 64
    cut, rare = fitted.left_out(data(captions=captions).train, ())
    assert cut.startswith("2 of 3 captions are longer than the 64 words that are read, up to 70, and cut; ")
    assert cut.endswith("`cond=text(length=70)` reads all")
    assert rare == "of 71 words, 1 is too rare in the captions to be learned, such as 'once'"
    assert fitted.cut_from(long).startswith("the prompt has 70 known words, and this model reads the first 64: ")
    assert fitted.cut_from(long).endswith("it is cut after 'tag63'")
    assert fitted.cut_from("tag1 " * 64 + "zebra") == ""
    whole = Text(width=8, length=70).fit(data(captions=captions))
    assert whole.left_out(data(captions=captions).train, ()) == [rare]


def test_what_is_ignored_in_a_prompt_is_said_in_few_lines():
    text = Text(("red", "hat"), 6, 2)
    assert text.ignored(["red hat", "the hat"]) == []
    cut, zebra, rde = text.ignored(["red red hat zebra", "rde hat"])
    assert "it is cut after 'red'" in cut
    assert "the word 'zebra' is in fewer than two training captions; it is ignored" in zebra
    assert "Did you mean 'red'?" in rde
    (many,) = text.ignored(["one two three four five six"])
    assert (
        "6 words are each in fewer than two training captions; they are ignored: one, two, three, four and 2 more"
        in many
    )
    assert ClassLabel(("a", "b")).ignored(["a"]) == []


def test_a_sample_in_python_warns_of_ignored_words(monkeypatch):
    from noisekiln import api

    class Written(Model):  # whose samples are its conditions
        conditioner = Text(("red", "hat"), 6, 2)
        save = check_conditions = None

        def generate(self, conditions, **options):
            return conditions

    monkeypatch.setattr("noisekiln.model.model.finished_images", lambda progress: progress)
    monkeypatch.setattr(api, "finished_images", lambda progress: torch.zeros(1, 4, 4, 1, dtype=torch.uint8))
    monkeypatch.setattr(api.editing, "edit", lambda model, image, **options: None)
    model = Written()
    for call in (
        lambda text: model.sample([text, None]),
        lambda text: api.generate(model, text),
        lambda text: api.edit(model, None, condition=text),
    ):
        with pytest.warns(UserWarning, match="the word 'zebra'") as caught:
            call("zebra")
        assert caught[0].filename == __file__
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            call("red hat")
    model.sample(3)


def captioned(captions, labels=None):
    """As many images as captions."""
    count = len(captions)
    images = Split(np.zeros((count, 4, 4, 1), np.uint8), labels, tuple(captions))
    return DataSet("d", images, None, ("cats", "dogs") if labels is not None else (), (), (), "0" * 16)


def test_the_conditions_that_most_images_have_are_chosen():
    labels = np.arange(20) % 2
    one, half = ["a cat a cat"] + [""] * 19, ["a cat"] * 10 + [""] * 10
    assert choose_cond("auto", captioned(half, labels)) == "text"
    assert choose_cond("auto", captioned([*half[1:], ""], labels)) == "class_label"
    assert choose_cond("auto", captioned(one, labels)) == "class_label"
    assert choose_cond("auto", captioned(one)) == "text"  # all that there is
    assert choose_cond("auto", captioned(["a", "b"])) == "none"
    assert choose_cond("text", captioned(one, labels)) == "text"
    with pytest.raises(ValueError, match="`cond=text` needs captions in which a word occurs twice"):
        choose_cond("text", captioned(["a", "b"]))


def test_conditions_that_are_not_chosen_are_said():
    labels = np.arange(20) % 2
    one = captioned(["a cat a cat"] + [""] * 19, labels)
    label = ClassLabel().fit(one)
    assert about_conditions("class_label", one, label, auto=True) == [
        "the captions of 1 of 20 images are not used: the classes are trained (`cond=text` trains the captions)"
    ]
    assert about_conditions("class_label", one, label, auto=False) == []
    both = captioned(["a cat"] * 20, labels)
    assert about_conditions("text", both, Text().fit(both), auto=True) == [
        "the classes of 20 of 20 images are not used: the captions are trained (`cond=class_label` trains the classes)"
    ]
    alone = captioned(["one", "two"])
    (line,) = about_conditions("none", alone, None, auto=True)
    assert line.startswith(
        "the captions of 2 of 2 images are not used: the images are trained without conditions (they "
    )
    assert "would need captions in which a word occurs twice or more" in line


def test_a_prompt_is_read_up_to_its_length():
    text = Text(("a", "red", "hat"), 6, 3)
    assert torch.equal(text.encode(["a red hat a a a"]), text.encode(["a red hat"]))
    assert torch.equal(text.encode([""]), text.nothing(1))


@pytest.mark.parametrize("prompt", [5, 2.5, b"a red hat", ["a", "red"]])
def test_a_prompt_is_text(prompt):
    with pytest.raises(ValueError, match=f"{re.escape(repr(prompt))} is not text"):
        Text(("a", "red", "hat"), 6, 3).encode_all(["a hat", None, prompt])


def test_padding_has_no_effect():
    torch.manual_seed(0)
    short, long = Text(("a", "red", "hat"), 6, 3), Text(("a", "red", "hat"), 6, 9)
    long.load_state_dict(short.state_dict())
    prompt = ["a red hat", "hat"]
    torch.testing.assert_close(short(short.encode(prompt)).vector, long(long.encode(prompt)).vector)
    cond = long(long.encode(prompt))
    assert cond.mask.sum(1).tolist() == [3, 1]
    assert not bool(cond.tokens[~cond.mask].any())


def test_word_order_matters_and_a_prompt_of_unknown_words_is_empty():
    torch.manual_seed(0)
    text = Text(("red", "hat", "blue", "shirt"), 16, 6)
    one, other = text(text.encode(["red hat blue shirt", "blue hat red shirt"])).vector
    assert not torch.allclose(one, other)
    assert torch.equal(text.encode(["zebra"]), text.nothing(1))


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
    first = text.encode(["a b c d"])[0].long()
    torch.testing.assert_close(condition.vector[0], vectors[first].sum(0) / 2)
    torch.testing.assert_close(condition.vector[1], vectors[text.encode(["b"])[0, 0].long()])

"""Captions and prompts: words, vocabulary, what is ignored, and when captions are the conditions of a run."""

import re
import warnings
from collections import Counter
from itertools import chain

import numpy as np
import pytest
import torch

from noisekiln.conditioners.class_label import ClassLabel
from noisekiln.conditioners.language.split_words import split_words
from noisekiln.conditioners.text import Text
from noisekiln.data import DataSet, Split, load
from noisekiln.model.model import Model
from noisekiln.plan.conditioning import about_conditions, choose_cond


def captioned(captions, labels=None):
    """As many images as captions."""
    count = len(captions)
    images = Split(np.zeros((count, 4, 4, 1), np.uint8), labels, tuple(captions))
    return DataSet("d", images, None, ("cats", "dogs") if labels is not None else (), (), (), "0" * 16)


def test_a_vocabulary_holds_what_was_read_twice():
    text = Text(width=8).fit(captioned(("A red hat.", "a blue hat", "the Hat's brim is red-ish")))
    assert text.words == ("a", "red", "hat")
    assert text.length == 16, "prompts may be longer than the captions"
    assert text.unknown_words("a Zebra in a red hat") == ["zebra"]
    without_letters = Text(width=8, buckets=0).fit(captioned(("a red hat", "a red hat")))
    assert torch.equal(without_letters.encode(["zebra Hat"]), without_letters.encode(["hat"]))


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
    fitted = Text().fit(captioned(captions))
    assert fitted.words == tuple(word for word, _ in Counter(chain(*before)).most_common())
    assert fitted.left_out(captioned(captions).train, ()) == []


def test_captions_without_words_to_learn_are_none():
    for captions in (("", "", ""), ("...", "", "!"), ("one", "two", "three")):
        assert Text().fit(captioned(captions)) is None
    assert Text().values(captioned(("", "", "")).train, ()) is None
    assert Text(("hat",)).fit(captioned(("one", "", ""))).words == ("hat",)


def test_captions_that_are_cut_are_counted():
    long = " ".join(f"tag{i}" for i in range(70))
    captions = (f"{long} once", long, "tag1")
    fitted = Text(width=8).fit(captioned(captions))
    assert fitted.length == 64
    cut, rare = fitted.left_out(captioned(captions).train, ())
    assert cut.startswith("2 of 3 captions are longer than the 64 words that are read, up to 71, and cut; ")
    assert cut.endswith("`cond=text(length=71)` reads all")
    learned = "of 71 words, 1 is too rare in the captions to be learned"
    assert rare == f"{learned}, and known by the letters alone, such as 'once'"
    assert fitted.cut_from(long).startswith("the prompt has 70 words, and this model reads the first 64: ")
    assert fitted.cut_from(long).endswith("it is cut after 'tag63'")
    assert "it is cut after 'tag1'" in fitted.cut_from("tag1 " * 64 + "zebra")
    without_letters = Text(width=8, buckets=0).fit(captioned(captions))
    assert without_letters.cut_from("tag1 " * 64 + "zebra") == ""
    assert without_letters.left_out(captioned(captions).train, ())[1] == f"{learned}, such as 'once'"
    whole = Text(width=8, length=71).fit(captioned(captions))
    assert whole.left_out(captioned(captions).train, ()) == [rare]


def test_what_is_ignored_in_a_prompt_is_said_in_few_lines():
    text = Text(("red", "hat"), 6, 2)
    assert text.ignored(["red hat", "the hat"]) == []
    cut, zebra, rde = text.ignored(["red red hat zebra", "rde hat"])
    assert "it is cut after 'red'" in cut
    assert "the word 'zebra' is in fewer than two training captions; it is ignored" in zebra
    assert "Did you mean 'red'?" in rde
    with_letters = Text(("red", "hat"), 8, 2, buckets=64)
    read, guessed = with_letters.ignored(["hats zebra"])
    assert read.startswith("words that no caption has are read as known ones that mean the same or are spelled alike: ")
    assert read.endswith(": 'hats' as 'hat'")
    assert "'zebra' is in fewer than two training captions; it is guessed from the letters. " in guessed
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
    monkeypatch.setattr(api, "single_model", lambda model: model)
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

import pytest
import torch

from noisekiln.components.registry import find, names
from noisekiln.conditioners.base import Conditioner
from noisekiln.conditioners.class_label import ClassLabel
from noisekiln.conditioners.text import Text, split_words
from noisekiln.conditions import NOTHING, Cond

WISHES = {  # a fitted example of each, and wishes that it understands
    "class_label": (lambda: ClassLabel(("cat", "Dog", "7"), 6), ["cat", 2, "DOG"]),
    "text": (lambda: Text(("a", "red", "hat"), 6, 5), ["a red hat", "Red!", "hat, a zebra"]),
}
every_conditioner = pytest.mark.parametrize("name", names("conditioners"))


def test_each_has_an_example_here():
    assert set(names("conditioners")) == set(WISHES)


@every_conditioner
def test_ids_are_integers_and_rows_are_independent(name):
    torch.manual_seed(0)
    make, wishes = WISHES[name]
    conditioner = make().eval()
    ids = conditioner.encode(wishes)
    assert ids.dtype == torch.int64
    assert len(ids) == 3
    together = conditioner(ids).vector
    assert together.shape == (3, conditioner.width)
    for i, wish in enumerate(wishes):
        assert torch.equal(conditioner.encode([wish])[0], ids[i])
        torch.testing.assert_close(conditioner(ids[i : i + 1]).vector[0], together[i])


@every_conditioner
def test_nothing_is_a_wish_of_its_own(name):
    torch.manual_seed(0)
    make, wishes = WISHES[name]
    conditioner = make()
    nothing = conditioner.nothing(3)
    ids = conditioner.encode(wishes)
    assert nothing.shape == ids.shape
    assert nothing.dtype == ids.dtype
    silent = conditioner(nothing).vector
    assert bool(silent.isfinite().all())
    assert torch.equal(silent[0], silent[2])
    assert not any(torch.equal(nothing[i], ids[i]) for i in range(3))


@every_conditioner
def test_every_parameter_learns(name):
    make, wishes = WISHES[name]
    conditioner = make()
    ids = torch.cat([conditioner.encode(wishes), conditioner.nothing(1)])
    conditioner(ids).vector.square().sum().backward()
    assert all(p.grad is not None for p in conditioner.parameters())


@every_conditioner
def test_wishes_are_dropped_by_their_share_and_the_generator_alone(name):
    make, wishes = WISHES[name]
    conditioner = make()
    ids = conditioner.encode(wishes).repeat(1000, *[1] * (conditioner.encode(wishes).ndim - 1))
    nothing = conditioner.nothing(1)[0]
    dropped = conditioner.drop(ids, 0.2, torch.Generator().manual_seed(1))
    gone = torch.tensor([torch.equal(row, nothing) for row in dropped])
    assert float(gone.float().mean()) == pytest.approx(0.2, abs=0.03)
    assert torch.equal(dropped[~gone], ids[~gone])
    assert torch.equal(dropped, conditioner.drop(ids, 0.2, torch.Generator().manual_seed(1)))
    assert torch.equal(conditioner.drop(ids, 0.0, torch.Generator()), ids)
    assert torch.equal(conditioner.drop(ids, 1.0, torch.Generator()), conditioner.nothing(3000))


@every_conditioner
def test_it_says_what_it_is_trained_on(name):
    assert find(Conditioner, name).reads in {"labels", "captions"}


def test_classes_go_by_name_or_number():
    label = ClassLabel(("cat", "Dog", "7"))
    assert label.encode(["cat", "dog", "DOG", 0, 1, "1", "7"]).tolist() == [0, 1, 1, 0, 1, 1, 2]
    assert label.nothing(2).tolist() == [3, 3]


@pytest.mark.parametrize(
    ("wish", "says"),
    [
        ("dgo", "There is no class called 'dgo'. Did you mean 'Dog'? There are: cat, Dog"),
        (3, "There is no class number 3; the model was trained on 3: 0 cat, 1 Dog, 2 7."),
        (-1, "There is no class number -1"),
        ("12", "There is no class number 12"),
    ],
)
def test_a_class_that_there_is_not_is_answered_with_those_that_there_are(wish, says):
    with pytest.raises(ValueError) as caught:
        ClassLabel(("cat", "Dog", "7")).encode([wish])
    assert says in str(caught.value)


def test_a_vocabulary_holds_what_was_read_twice():
    text = Text.fit(["A red hat.", "a blue hat", "the Hat's brim is red-ish"], width=8)
    assert text.words == ("a", "red", "hat")
    assert text.length == 6
    assert text.unknown("a Zebra in a red hat") == ["zebra"]
    assert torch.equal(text.encode(["zebra Hat"]), text.encode(["hat"]))


def test_words_are_split_from_their_punctuation():
    assert split_words("A red-haired PERSON's hat, 2 of 3; größer!") == [
        "a", "red", "haired", "person's", "hat", "2", "of", "3", "größer",
    ]  # fmt: skip


def test_a_prompt_is_read_up_to_its_length():
    text = Text(("a", "red", "hat"), 6, 3)
    assert torch.equal(text.encode(["a red hat a a a"]), text.encode(["a red hat"]))
    assert torch.equal(text.encode([""]), text.nothing(1))


def test_padding_says_nothing():
    torch.manual_seed(0)
    short, long = Text(("a", "red", "hat"), 6, 3), Text(("a", "red", "hat"), 6, 9)
    long.load_state_dict(short.state_dict())
    prompt = ["a red hat", "hat"]
    torch.testing.assert_close(short(short.encode(prompt)).vector, long(long.encode(prompt)).vector)
    cond = long(long.encode(prompt))
    assert cond.mask.sum(1).tolist() == [3, 1]
    assert not bool(cond.tokens[~cond.mask].any())


def test_the_order_of_words_matters_and_an_unknown_word_alone_is_silent():
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

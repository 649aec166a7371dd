"""Prompts and captions: weights of phrases, what is not wanted, parts of captions, letters of words."""

import numpy as np
import pytest
import torch

import noisekiln as nk
from conftest import TINY
from noisekiln.conditioners.class_label import ClassLabel
from noisekiln.conditioners.language.captions import captions_of, clauses_of, shorter_captions
from noisekiln.conditioners.language.letter_groups import MOST_GROUPS, hashed_groups, letter_groups
from noisekiln.conditioners.language.prompt import Caption, numbers_without_weight, read_prompt, with_negative
from noisekiln.conditioners.language.spelling import meant_word
from noisekiln.conditioners.language.synonyms import ADJECTIVES, NOUNS, synonyms_of
from noisekiln.conditioners.text import Text
from noisekiln.data import DataSet, Split, load
from noisekiln.plan.build import make_learner
from noisekiln.plan.condition_choices import ConditionChoices
from noisekiln.plan.defaults import resolve
from noisekiln.plan.settings import Settings
from noisekiln.plan.stored_ids import StoredIds
from noisekiln.plan.training_batches import TrainingBatches
from noisekiln.runs.start_notes import start_notes

WORDS = ("a", "red", "hat", "blue", "shirt", "hair")


def data_of(captions):
    images = Split(np.zeros((len(captions), 4, 4, 1), np.uint8), None, tuple(captions))
    return DataSet("d", images, None, (), (), (), "0" * 16)


def phrases(text):
    return [(part.strip(" ,"), weight) for part, weight in read_prompt(text).phrases if part.strip(" ,")]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a red hat", [("a red hat", 1)]),
        ("a person with (red hair:1.3), a hat", [("a person with", 1), ("red hair", 1.3), ("a hat", 1)]),
        ("red hair:1.3, a hat", [("red hair", 1.3), ("a hat", 1)]),
        ("a hat, red hair: .5", [("a hat", 1), ("red hair", 0.5)]),
        ("(red hair : 2)", [("red hair", 2)]),
        ("(a hat:0.5) red:1.5, blue", [("a hat", 0.5), ("red", 1.5), ("blue", 1)]),
        ("(red hair:1.2:1.3)", [("red hair:1.2", 1.3)]),
        ("", []),
        ("(red hair), [blue hat]", [("(red hair), [blue hat]", 1)]),  # no number, no weight
        (r"\(red hair:1.3\)", [(r"\(red hair:1.3\)", 1)]),
        ("red hair:2, 16:9, at 12:30", [("red hair:2, 16:9, at 12:30", 1)]),
        ("(red:10), (red:-1), (red:x), (red:)", [("(red:10), (red:-1), (red:x), (red:)", 1)]),
        (Caption("a (ratio:1.5), red:1.3"), [("a (ratio:1.5), red:1.3", 1)]),
    ],
)
def test_weights_of_phrases(text, expected):
    assert phrases(text) == expected


def test_a_prompt_is_read_in_linear_time():
    long = (
        "(" * 50_000,
        "(a:" * 20_000,
        "a:" * 30_000,
        "a," * 30_000 + "b:1.3",
        "(a:" + "1." * 30_000,
        "(a" + ":1" * 9_999,
    )
    for text in long:
        assert read_prompt(text).text
        assert len(numbers_without_weight(text)) <= 1


def test_a_number_that_is_no_weight_is_said():
    for text, said in (
        ("((a:1.2) b:1.3)", "b:1.3"),
        ("a (red hair:1.3", "hair:1.3"),
        ("a red:1.5, hat:99.0", "hat:99.0"),
    ):
        assert numbers_without_weight(text) == [said], "of nested and of open brackets, and of clauses"
    text = Text(WORDS, 8, 16, 64)
    assert numbers_without_weight(r"(a:1.3) (a: 2 ) (a:.5) \(a:10) (a:x) (a) 16:10") == []
    line, *unknown = text.ignored(["a (red hair:10), (hat:-1), (red:1,3)\nNegative prompt: (blue:1.)"])
    assert len(unknown) == 3, "the numbers 10, 1 and 3 are words"
    assert line.startswith("'(red hair:10)', '(hat:-1)', '(red:1,3)', '(blue:1.)': the number is read as a word, ")
    assert line.endswith("a weight is from 0 to below 10, with a point, as in (red hair:1.3)")


def test_a_negative_prompt_that_is_cut_is_said():
    text = Text(WORDS, 8, 2, 64)
    (cut,) = text.ignored([with_negative("red hat", "blue (shirt:0.5) hair")])
    assert cut == "the negative prompt has 3 words, and this model reads the first 2: it is cut after 'shirt'"
    both = text.ignored([with_negative("a red hat", "a blue hat"), "a red hat"])
    assert [line.partition(" has")[0] for line in both] == ["the prompt", "the negative prompt"]


def test_captions_in_memory_share_their_words(monkeypatch):
    """Rows of batches are those of the conditioner, and a word of a caption takes four bytes."""
    monkeypatch.setattr("noisekiln.plan.stored_ids.ENCODED_AT_ONCE", 3)
    things = ("hat", "shirt", "zebra")
    captions = [Caption(f"{colour} {thing}") for colour in ("a red", "a blue", "") for thing in things]
    values = [*captions, None]
    for text in (Text(WORDS, 8, 16, 64), Text(WORDS, 8, 3), ClassLabel(tuple(captions))):
        stored, ids = StoredIds(text, values), text.encode_all(values)
        places = torch.tensor([9, 0, 3, 3, 8])
        assert torch.equal(stored[places], ids[places])
        assert stored[places].dtype == ids.dtype
    text = Text(WORDS, 8, 16, 64)
    stored = StoredIds(text, values)
    assert stored.table.shape == (7, 2 + MOST_GROUPS)  # six words and none
    assert stored.words.nbytes == len(values) * 16 * 4


def test_what_is_not_wanted_follows_on_its_own_line():
    text = with_negative("a (red hat:1.5)", "blue, shirt:1.2")
    assert read_prompt(text).negative == "blue, shirt:1.2"
    assert phrases(text)[0] == ("a", 1)
    assert with_negative("a hat", " ") == "a hat"
    assert Text(WORDS, 8, 4).describe(text) == {"prompt": "a (red hat:1.5)", "negative_prompt": "blue, shirt:1.2"}
    assert Text(WORDS, 8, 4).describe("a hat") == {"prompt": "a hat"}


def test_weights_multiply_the_words():
    torch.manual_seed(0)
    text = Text(WORDS, 8, 8, 64, 1)
    for layer in text.attention:
        torch.nn.init.normal_(layer.attention.out.weight)
    plain, weighted = text(text.encode(["a red hat, blue", "a (red hat:1.5), (blue:0.25)"])).tokens
    factors = torch.tensor([1, 1.5, 1.5, 0.25])
    torch.testing.assert_close(weighted[:4], plain[:4] * factors[:, None])
    assert torch.equal(text.encode(["a (red:0) hat"]), text.encode(["a hat"]))
    pooled = text(text.encode(["a (red hat:1.5), (blue:0.25)"])).vector[0]
    torch.testing.assert_close(pooled, (plain[:4] * factors[:, None]).sum(0) / 2)


def test_letters_of_a_word():
    assert letter_groups("hat") == ("<h", "<ha", "<hat", "ha", "hat", "hat>", "at", "at>", "t>")
    long = letter_groups("donaudampfschiff")
    assert len(long) == MOST_GROUPS
    assert (long[0], long[-1]) == ("<d", "f>")
    # The same on every machine, or saved models would read other letters.
    assert hashed_groups("hat", 1000)[:3] == (915, 704, 993)
    assert all(1 <= bucket <= 7 for bucket in hashed_groups("größer\ud800", 7))


def trained_letters(seed=0):
    """A text encoder whose letters say something: those of its words, as training would leave them."""
    torch.manual_seed(seed)
    text = Text(width=32).fit(data_of(["a red hat, blue shirt"] * 2))
    seen = {bucket for word in text.words for bucket in hashed_groups(word, text.buckets)}
    with torch.no_grad():
        for bucket in seen:
            text.groups.weight[bucket].normal_()
    return text


def test_an_unseen_word_is_read_by_its_letters():
    text = trained_letters()
    with torch.no_grad():
        known = text._vectors_of(text.encode(["hat", "shirt", "red", "blue"]))[:, 0]
        own = known - text.vectors(text.encode(["hat", "shirt", "red", "blue"])[:, 0, 0])
        hats, bluue, strange = text._vectors_of(text.encode(list(map(Caption, ("hats", "bluue", "qqqqqq")))))[:, 0]
        for vector, same in ((hats, 0), (bluue, 3)):
            alike = torch.cosine_similarity(vector[None], own)
            assert alike.argmax() == same
            assert alike[same] > 0.5
        assert not strange.any(), "letters that no caption had say nothing"
        assert not torch.equal(text.encode([Caption("hats")]), text.encode(["hat"]))


def test_a_misspelt_word_of_a_prompt_is_read_as_the_one_that_was_meant():
    words = ("green", "fish", "purple", "shirt", "with", "fins", "red", "grey")
    text = Text(words, 8, 6, 64, 1)
    meant, written = ("green fish", "purple shirt", "red fins"), ("gren fsh", "purpel shirts", "redd finss")
    assert torch.equal(text.encode(written), text.encode(meant))
    assert not torch.equal(text.encode([Caption("gren fsh")]), text.encode(["green fish"])), (
        "data are taken as they are"
    )
    for other in ("blue", "screen", "x", "魚", "wash"):
        assert meant_word(other, words) is None
    old = Text(words, 8, 6)  # of an earlier version
    assert not old.encode(["gren"]).any()


def test_a_synonym_of_a_prompt_is_read_as_the_known_word():
    words = ("a", "red", "hat", "navy", "blue", "white", "shirts", "tan")
    text = Text(words, 8, 6, 64, 1)
    meant, written = ("red hat", "blue shirts", "navy"), ("crimson cap", "azure blouse", "navy")
    assert torch.equal(text.encode(written), text.encode(meant))
    assert text.meant_word("navy") is None, "a known word stands for itself"
    assert text.meant_word("emerald") is None, "no caption is green"
    assert not torch.equal(text.encode([Caption("crimson")]), text.encode(["red"])), "data are taken as they are"
    (note,) = text.ignored(["a crimson cap"])
    assert "'crimson' as 'red', 'cap' as 'hat'" in note
    old = Text(words, 8, 6)  # of an earlier version
    assert not old.encode(["crimson"]).any()


def test_a_plural_is_its_own_word_before_it_is_a_synonym():
    assert synonyms_of(("cat", "kitten"))["kittens"] == "kitten"
    assert synonyms_of(("hat", "caps"))["cap"] == "caps"
    assert synonyms_of(("cats",)) | {"kitten": "cats", "cat": "cats"} == synonyms_of(("cats",))
    assert synonyms_of(("blue", "cyan"))["turquoise"] == "cyan", "the nearest of several"
    assert "reds" not in synonyms_of(("red",)), "adjectives have no plural"
    assert (
        not {"top", "jet", "cross", "briefs", "cardinal", "olive"}
        & synonyms_of(("shirt", "black", "angry", "short")).keys()
    )


def test_no_word_stands_twice_in_a_line_of_synonyms():
    for line in (ADJECTIVES + NOUNS).replace("\n\n", "\n").strip().split("\n"):
        assert len(set(line.split())) == len(line.split()) > 1, line


def test_letters_are_not_trained_to_say_something_before_they_are_seen():
    text = Text(width=32).fit(data_of(["a red hat"] * 2))
    assert not text.groups.weight.any()
    text(text.encode(["hat"])).vector.sum().backward()
    assert set(text.groups.weight.grad.any(1).nonzero().flatten().tolist()) <= set(hashed_groups("hat", text.buckets))
    assert text.groups.weight.grad.any()


def test_words_are_blurred_by_their_share_and_by_the_generator_alone():
    text = Text(WORDS, 8, 4, 64, 1)
    ids = text.encode(["a red hat", "shirt"]).repeat(500, 1, 1)
    assert text.blur(ids, 0.0, torch.Generator()).equal(ids)
    one, again = (text.blur(ids, 0.3, torch.Generator().manual_seed(1)) for _ in range(2))
    assert torch.equal(one, again)
    assert one.dtype == ids.dtype
    assert not torch.equal(one, text.blur(ids, 0.3, torch.Generator().manual_seed(2)))
    is_word = ids[..., 1] > 0
    unknown = (one[..., 0] == 0) & is_word
    assert abs(float(unknown.sum() / is_word.sum()) - 0.3) < 0.05
    assert torch.equal(one[~unknown], ids[~unknown])
    there = ids[..., 2:][unknown] > 0
    assert abs(float((one[..., 2:] == ids[..., 2:])[unknown][there].float().mean()) - 0.5) < 0.1
    assert Text(WORDS, 8, 4).blur(ids, 0.3, torch.Generator()) is ids


def test_an_encoder_of_an_earlier_version_gives_what_it_gave():
    """Its spec names neither buckets nor layers; this was its whole forward."""
    torch.manual_seed(0)
    text = Text(("red", "hat", "blue"), 16, 5)
    assert list(text.state_dict()) == [
        "empty_prompt_vector", "vectors.weight",
        *(f"convolutions.{i}.{name}" for i in range(2) for name in ("weight", "bias")),
    ]  # fmt: skip
    numbers = torch.tensor([[1, 2, 3, 2, 0], [0, 0, 0, 0, 0]])
    with torch.no_grad():
        text.empty_prompt_vector.normal_()
        is_word = (numbers != 0).unsqueeze(1)
        words = text.vectors(numbers).transpose(1, 2)
        for convolve in text.convolutions:
            words = words + torch.nn.functional.silu(convolve(words)) * is_word
        count = is_word.sum(-1)
        pooled = (words * is_word).sum(-1) / count.clamp(min=1).sqrt() + text.empty_prompt_vector * (count == 0)
        cond = text(text.encode(["red hat, zebra, blue hat", ""]))
    assert torch.equal(cond.vector, pooled)
    assert torch.equal(cond.tokens, words.transpose(1, 2))
    assert text.unknown_words_are == "ignored"


def test_without_tokens_it_is_a_vector():
    torch.manual_seed(0)
    text, vector = Text(WORDS, 8, 8, 64, 1), Text(WORDS, 8, 8, 64, 1, tokens=False)
    vector.load_state_dict(text.state_dict())
    ids = text.encode(["a red hat", "zebra"])
    assert torch.equal(vector(ids).vector, text(ids).vector)
    assert (vector(ids).tokens, vector.sizes.tokens, vector.fit(data_of(["a hat"] * 2)).tokens) == (None, 0, False)


def test_clauses_and_lines_of_captions():
    assert captions_of("a hat\n\n two hats \n") == ("a hat", "two hats")
    assert clauses_of("a hat, red; 1,000 of 1.5 m. It is new.") == ["a hat", "red", "1,000 of 1.5 m", "It is new."]
    assert clauses_of("红色的头发，蓝色的衬衫。") == ["红色的头发", "蓝色的衬衫"]
    assert shorter_captions("a red hat", 4, "seed") == ()
    parts = shorter_captions("a, b, c, d", 50, "seed")
    assert parts == shorter_captions("a, b, c, d", 50, "seed") != shorter_captions("a, b, c, d", 50, "other")
    assert len(parts) == len(set(parts)) == 14, "all that keep one clause at least, and lose one"
    for part in parts:
        kept = part.split(", ")
        assert kept == sorted(kept)
        assert 1 <= len(kept) <= 3


def test_one_of_several_captions_is_drawn_and_parts_by_their_share():
    text = Text(WORDS, 8, 4)
    conditions = [[Caption("a, b"), Caption("c")], [None], [Caption("d")]]
    choices = ConditionChoices.of(text, conditions, parts=True)
    generator = torch.Generator().manual_seed(0)
    drawn = [choices.values[i] for i in choices.draw(np.zeros(4000, np.int64), 0.2, generator)]
    share = {value: drawn.count(value) / 4000 for value in set(drawn)}
    assert set(share) == {"a, b", "c", "a", "b"}
    assert abs(share["c"] - 0.4) < 0.03
    assert abs(share["a, b"] - 0.4) < 0.03
    others = [choices.values[i] for i in choices.draw(np.array([1, 2] * 50), 0.2, generator)]
    assert others == [None, "d"] * 50
    before = generator.get_state()
    single = ConditionChoices.of(ClassLabel(("a", "b")), [[[1]], [[2]]], parts=True)  # hashable or not
    assert single.draw(np.array([1, 0]), 0.5, generator).tolist() == [1, 0]
    assert torch.equal(generator.get_state(), before), "nothing to draw, so no run of classes changes"


def test_a_batch_has_a_caption_or_a_part_of_it(captioned):
    data = load(str(captioned))
    several = tuple(f"{text}, of wool\nanother {text}" for text in data.train.captions)
    data = DataSet("d", Split(data.train.pixels, captions=several), None, (), (), (), "0" * 16)
    settings = resolve(Settings(images=16, backbone=TINY, cond_dropout=0.0, caption_dropout=0.5), data)
    batches = TrainingBatches(make_learner(settings, data), data, settings)
    text, rows = batches.diffusion.conditioner, batches.places(0, 16)
    drawn = {tuple(batches(0, 16, torch.Generator().manual_seed(seed))[1][0, :, 1].tolist()) for seed in range(20)}
    assert len(drawn) > 2, "captions and parts differ in their number of words"
    assert drawn <= {tuple(text.encode([each])[0, :, 1].tolist()) for each in batches.choices.values}
    whole = settings.replace(caption_dropout=0.0)
    ids = TrainingBatches(make_learner(whole, data), data, whole)(0, 16, torch.Generator().manual_seed(0))[1]
    first, second = (text.encode([several[row].split("\n")[i] for row in rows]) for i in range(2))
    assert all(torch.equal(row, a) or torch.equal(row, b) for row, a, b in zip(ids, first, second, strict=True))


def test_guidance_leads_away_from_a_negative_prompt(text_run):
    """The estimate without the condition becomes that of the negative prompt."""
    model = nk.load(text_run)
    text = model.conditioner
    wanted, negative = "a red picture", "blue"
    assert torch.equal(text.encode_negative([None, wanted, with_negative("", negative)])[:2], text.nothing(2))
    assert torch.equal(text.encode_negative([with_negative(wanted, negative)]), text.encode([negative]))
    same = model.sample([with_negative(wanted, wanted)], guidance=5.0, steps=2)
    assert torch.equal(same, model.sample([wanted], guidance=1.0, steps=2)), "nothing is left to lead away from"
    both = model.sample([with_negative(wanted, negative), wanted], guidance=5.0, steps=2)
    assert not torch.equal(both[0], model.sample([wanted], guidance=5.0, steps=2)[0])
    assert torch.equal(both[1], model.sample([wanted] * 2, guidance=5.0, steps=2)[1])


def test_a_negative_prompt_on_the_command_line(text_run, class_run, cli, tmp_path):
    wanted = ("sample", text_run, "-n", 1, "--steps", 2, "--out", tmp_path / "out", "--negative", "blue")
    result = cli(*wanted, "--prompt", "a red picture")
    assert result.code == 0, result.err
    (record,) = nk_records(tmp_path / "out")
    assert (record["prompt"], record["negative_prompt"]) == ("a red picture", "blue")
    again = cli("sample", "--again", tmp_path / "out" / "00000.png", "--run", text_run, "--out", tmp_path / "again")
    assert "its pixels are those of" in again.flat
    assert cli(*wanted).code == 0, "a negative prompt may stand alone"
    result = cli("sample", class_run, "-n", 1, "--out", tmp_path / "none", "--negative", "blue")
    assert result.code == 2
    assert "--negative blue was given, but this model's conditions are of the kind 'class'" in result.flat


def nk_records(folder):
    import json

    return json.loads((folder / "samples.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize(("caption", "noted"), [("a dot, Left of a line", True), ("a leftover", False)])
def test_mirroring_images_whose_captions_name_sides_is_noted(caption, noted):
    lines = start_notes(Settings(flip=True), data_of([caption] * 2), None, None, before=1, now=1)
    assert any("those that say 'left' become wrong" in line for line in lines) is noted
    assert not start_notes(Settings(), data_of([caption] * 2), None, None, before=1, now=1)

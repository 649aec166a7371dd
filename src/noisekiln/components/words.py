"""Words of the field that have another name here, each with an exact answer; they stand in `words.yaml`."""

from functools import cache
from pathlib import Path

FILE = Path(__file__).with_suffix(".yaml")


def as_name(word: str) -> str:
    """A word as the table writes it: "DPM++ 2M" is "dpmpp_2m", "--learning-rate" is "learning_rate"."""
    plain = word.lower().replace("++", "pp")
    return "_".join("".join(sign if sign.isalnum() else " " for sign in plain).split())


def answer(kind: str, word: str) -> str | None:
    """What a word of the field is called here, as a sentence; None if the table does not have it.

    Args:
        kind: What the word should name, in the plural, as messages say it: "samplers".
        word: The word.
    """
    found = tables().get(kind, {}).get(as_name(word)) if len(word) < 100 else None
    return None if found is None else f"It {found}."


@cache
def tables() -> dict[str, dict[str, str]]:
    """The answers: kind -> word -> answer."""
    import yaml  # only now: the help of the command line needs none of this

    content = yaml.safe_load(FILE.read_text(encoding="utf-8"))
    return {
        kind: {word: found for found, words in answers.items() for word in str(words).split(", ")}
        for kind, answers in content.items()
    }

"""Largest numbers of a request: larger ones would fill the memory or never end, so they are refused at once."""

MOST_IMAGES = 1_000_000  # sampled by one request, whose conditions and seeds are lists
MOST_STEPS = 10_000  # of sampling, each with a level
MOST_BLOCKS = 1_000  # of a network
LONGEST_MINUTES = 60 * 24 * 3660  # ten years


def check_at_most(name: str, value: int, most: int) -> None:
    """Raise ValueError if a number is larger than `most`.

    Args:
        name: Name of the setting or the argument.
        value: Its value.
        most: The largest value that is possible.
    """
    if value > most:
        shown = f"{value:,}" if value < 10**30 else "a number of more than 30 digits"
        raise ValueError(f"`{name}`: {shown} was given, and at most {most:,} are possible. Give fewer.")

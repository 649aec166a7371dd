"""Names of files as text that can be printed and stored."""


def printable_name(name: str) -> str:
    r"""A file's name with the bytes that are not UTF-8 as `\xe9`: such a name can neither be printed nor stored."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")

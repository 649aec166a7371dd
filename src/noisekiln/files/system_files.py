"""Files that file managers leave in every folder they show: they belong to no person and to no program."""

from pathlib import Path

from noisekiln.files.atomic import is_draft

NAMES = frozenset(
    {
        *(".ds_store", ".localized", "icon\r", ".appledouble", ".fseventsd", ".spotlight-v100", ".trashes"),  # macOS
        *("thumbs.db", "ehthumbs.db", "desktop.ini"),  # Windows
        *(".directory", ".nomedia"),  # KDE, Android
        *("@eadir", "#recycle"),  # network storage
        ".ipynb_checkpoints",  # Jupyter
    }
)


def is_system_file(name: str) -> bool:
    """Whether a file or folder of this name was left by a file manager; "._NAME" is macOS's companion of NAME."""
    return name.lower() in NAMES or name.startswith("._")


def entries_of(folder: Path) -> list[Path]:
    """What a folder holds apart from such files, and from drafts of a process that was killed; sorted.

    Raises:
        OSError: If it is not a folder, or cannot be read.
    """
    return sorted(entry for entry in folder.iterdir() if not is_system_file(entry.name) and not is_draft(entry))

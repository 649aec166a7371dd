"""Files that systems and file managers leave in any folder: they belong to no person and to no program."""

from pathlib import Path

from noisekiln.files.atomic import is_draft

NAMES = frozenset(
    {
        *(".ds_store", ".localized", "icon\r", ".appledouble", ".fseventsd", ".spotlight-v100", ".trashes"),  # macOS
        *("thumbs.db", "ehthumbs.db", "desktop.ini"),  # Windows
        *("$recycle.bin", "recycler", "recycled", "system volume information", "found.000", "$extend"),
        *("lost+found", ".directory"),  # Linux, KDE
        *(".nomedia", "lost.dir"),  # Android
        *("@eadir", "#recycle", "@recycle", "@recently-snapshot", "#snapshot", "~snapshot", "@tmp", "@sharebin"),  # NAS
        "_gsdata_",  # GoodSync
        ".ipynb_checkpoints",  # Jupyter
    }
)


def is_system_file(name: str) -> bool:
    """Whether a file or folder of this name was left by a system; "._NAME" is macOS's companion of NAME."""
    return name.lower() in NAMES or name.startswith("._")


def entries_of(folder: Path) -> list[Path]:
    """What a folder holds apart from such files, and from drafts of a process that was killed; sorted.

    Raises:
        OSError: If it is not a folder, or cannot be read.
    """
    return sorted(entry for entry in folder.iterdir() if not is_system_file(entry.name) and not is_draft(entry))

"""Links in a folder to places outside of it: whatever writes into the folder would write there."""

import os
from pathlib import Path


def check_no_link_leaves(folder: Path) -> None:
    """Check that no link in a folder, or in the folders in it, leads out of it; the folder itself may be a link.

    Raises:
        ValueError: If one does, before anything is written.
    """
    inside = os.path.realpath(folder)  # where Path.resolve raises an error for a link to itself, this leads nowhere
    for place, folders, files in os.walk(folder):
        for link in filter(Path.is_symlink, (Path(place, name) for name in (*folders, *files))):
            target = Path(os.path.realpath(link))
            if not target.is_relative_to(inside):
                raise ValueError(
                    f"{link} is a link to {target}, outside of {folder}, and a command that writes into this folder "
                    "would write there. Remove the link, or move what it leads to into the folder."
                )

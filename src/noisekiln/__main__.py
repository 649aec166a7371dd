"""``python -m noisekiln``."""

from noisekiln.cli import main

main()

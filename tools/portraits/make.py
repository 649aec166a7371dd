"""Makes the bundled set of captioned portraits: `npm ci`, then `python make.py`; see README.md."""

from __future__ import annotations

import argparse
import io
import subprocess
import tempfile
import zipfile
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
BUNDLED = HERE.parents[1] / "src" / "noisekiln" / "data" / "bundled"
LIMIT = 1_000_000  # bytes: what a package may reasonably carry


def main() -> None:
    """Draws the portraits with node, packs them and refuses a file that is too large."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=10_000, help="how many portraits")
    parser.add_argument("--out", type=Path, default=BUNDLED / "portraits.npz", help="where the set goes")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        palette = BUNDLED / "portraits.json"
        subprocess.run(["node", HERE / "draw.mjs", str(options.count), palette, folder], check=True, cwd=HERE)
        packed = pack(Path(folder))
    if len(packed) > LIMIT:
        raise SystemExit(f"{options.count} portraits take {len(packed):,} bytes, over {LIMIT:,}: lower --count")
    options.out.write_bytes(packed)
    print(f"{options.out}: {options.count:,} portraits, {len(packed):,} bytes")


def pack(folder: Path) -> bytes:
    """The drawn pixels and captions as the bytes of an .npz: `images` (N, 16, 16, 3), `captions` joined by newlines."""
    arrays = {
        "images": np.fromfile(folder / "pixels.rgb", np.uint8).reshape(-1, 16, 16, 3),
        "captions": np.fromfile(folder / "captions.txt", np.uint8),
    }
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name, array in arrays.items():
            member = io.BytesIO()
            np.save(member, array, allow_pickle=False)
            # a fixed date (ZipInfo's own): the same portraits give the same bytes
            archive.writestr(zipfile.ZipInfo(f"{name}.npy"), member.getvalue(), zipfile.ZIP_DEFLATED, 9)
    return packed.getvalue()


if __name__ == "__main__":
    main()

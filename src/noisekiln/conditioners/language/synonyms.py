"""Synonyms: a word that no caption has, and that another word of the captions stands for."""

from collections.abc import Sequence
from functools import lru_cache

# Each line holds words that may stand for each other in a prompt, the most usual one first. A word may be on several
# lines; earlier ones have priority. Names of things that also name a colour (rose, salmon, peach) are left out.
SYNONYMS = """
red crimson scarlet ruby vermilion vermillion carmine cardinal reddish
red maroon burgundy claret oxblood
green emerald jade olive chartreuse viridian verdant greenish
green teal lime khaki
blue azure navy cobalt sapphire cerulean ultramarine indigo bluish
blue turquoise cyan teal aqua aquamarine
yellow golden gold mustard ochre yellowish
orange amber tangerine ginger vermilion
purple violet lilac lavender mauve indigo amethyst magenta aubergine purplish
pink rosy fuchsia magenta pinkish
brown chestnut auburn brunette hazel chocolate mahogany russet sepia umber bronze brownish
black ebony inky jet onyx obsidian blackish
white snowy ivory milky alabaster whitish
grey gray silver silvery charcoal slate ashen greyish grayish
blonde blond flaxen platinum golden fair
tan beige sandy taupe tanned
beige cream ecru ivory
orange copper
light pale bright fair
dark dusky deep
big large huge giant great enormous massive
small little tiny mini miniature wee
long lengthy
short cropped brief
tall high
wide broad
thin slim slender narrow skinny
thick fat chubby stout
old aged elderly ancient
young youthful
happy smiling cheerful joyful glad merry
sad unhappy gloomy sorrowful
angry furious cross mad
beautiful pretty lovely gorgeous handsome
hat cap beanie bonnet headgear
hood cowl
glasses spectacles eyeglasses specs
sunglasses shades
beard whiskers goatee stubble
moustache mustache
shirt tee tshirt blouse top jersey
sweater jumper pullover cardigan
jacket coat blazer parka
trousers pants slacks jeans
dress gown frock
shoe boot sneaker trainer footwear
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
mouse rat
frog toad
lorry truck
car automobile auto vehicle
bicycle bike cycle
motorcycle motorbike
airplane aeroplane plane aircraft jet airliner
ship boat vessel
train locomotive
house home cottage building
street road
forest wood woods woodland
sea ocean
stone rock boulder
hill mountain
flower blossom bloom
picture image photo photograph
drawing sketch
round circular circle
square quadratic
triangle triangular
left leftward leftwards
right rightward rightwards
"""


@lru_cache(maxsize=64)
def synonyms_of(known: Sequence[str]) -> dict[str, str]:
    """For each listed word that is not known, the known word that may stand for it; plurals in -s are found too."""
    found: dict[str, str] = {}
    vocabulary = set(known)
    for line in SYNONYMS.split("\n"):
        words = line.split()
        both = [*words, *(f"{word}s" for word in words)]
        stands = next((word for word in both if word in vocabulary), None)
        if stands is not None:
            for word in both:
                if word not in vocabulary:
                    found.setdefault(word, stands)
    return found

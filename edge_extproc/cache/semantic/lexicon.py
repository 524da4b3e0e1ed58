"""What the verifiers know of words. It is data: openers of questions, groups of words for the same thing, opposites,
numbers, units and times. All are in lower case.

A group contains only words that may replace each other in any question without changing its answer. A doubtful pair
does not belong here: the price of leaving it out is a call to a provider.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

Words = tuple[str, ...]


def _split(text: str) -> tuple[str, ...]:
    return tuple(text.split())


def _rows(text: str) -> Iterator[Words]:
    for row in text.strip().splitlines():
        yield _split(row)


def _openers() -> dict[Words, Words]:
    """Polite or longer beginnings, to the question word that they stand for."""
    polite = ("", "please ", "can you ", "could you ", "can you please ", "could you please ")
    asking = (
        *(f"{start}tell me" for start in polite),
        "do you know",
        "i want to know",
        "i need to know",
        "i would like to know",
        "i wonder",
        "i was wondering",
    )
    explaining = [f"{start}{verb}" for start in polite for verb in ("explain", "explain to me", "show me")]
    openers: dict[Words, Words] = {}
    for start in (*asking, *explaining):
        openers[_split(f"{start} how to")] = ("how",)
        for word in ("how", "why", "what", "when", "where", "who"):
            openers[_split(f"{start} {word}")] = (word,)
        openers[_split(f"{start} which")] = ("what",)
    for start in asking:
        for determiner in DETERMINERS:
            openers[_split(f"{start} {determiner}")] = ("what", "is", "the") if determiner == "the" else ()
        for word in ("if", "whether"):
            openers[_split(f"{start} {word}")] = ("whether",)
    for subject in ("i", "we", "one"):
        for verb in ("do", "does", "can", "could"):
            openers[_split(f"how {verb} {subject}")] = ("how",)
    for text in ("how to", "what is the way to", "what are the steps to", "what is the procedure to"):
        openers[_split(text)] = ("how",)
    for text in ("how come", "what is the reason that", "what is the reason why", "for what reason"):
        openers[_split(text)] = ("why",)
    for text in ("in what place", "in which place"):
        openers[_split(text)] = ("where",)
    for text in ("what person", "which person"):
        openers[_split(text)] = ("who",)
    openers[("which",)] = ("what",)
    return {opener: word for opener, word in openers.items() if word}


DETERMINERS = frozenset(_split("a an the my our"))
"""Which of them is used makes no other question. That there is one may: vitamin A."""

OPENERS: Mapping[Words, Words] = _openers()
LONGEST_OPENER = max(map(len, OPENERS))

QUESTION_WORDS = frozenset(_split("how why what when where who whose whom which whether"))

# At the beginning of a question they ask whether something is so.
AUXILIARIES = frozenset(
    _split("is are am was were do does did can could may might must shall should will would has have had")
)
PRONOUNS = frozenset(_split("i you he she it we they there one"))

PREPOSITIONS = _split(
    "of in on at to from for with without by using via as before after between under over into during until since about"
)

# Forms of one verb that follow from the subject alone.
VERB_FORMS: Mapping[str, str] = {"are": "is", "am": "is", "does": "do"}

# A question with one of them may be about words, of which each counts as it is written.
ABOUT_WORDS = frozenset(
    _split(
        """
        synonym synonyms antonym antonyms opposite mean means meaning meanings word words spell spelled spelling
        define definition definitions translate translated translation pronounce pronounced pronunciation
        etymology difference differences differ differs vs versus compare comparison rhyme rhymes letter letters
        syllable syllables say says said called plural noun verb adjective adverb pronoun tense grammar
        grammatical sentence sentences phrase phrases article preposition anagram palindrome abbreviation
        acronym stand stands slang idiom keyword keywords reserved english french german spanish italian
        portuguese dutch polish russian ukrainian chinese mandarin japanese korean arabic hebrew hindi turkish
        greek latin swedish norwegian danish finnish czech hungarian romanian thai vietnamese
        """
    )
)

CONTRACTIONS: Mapping[str, Words] = {
    "can't": ("can", "not"),
    "cannot": ("can", "not"),
    "won't": ("will", "not"),
    "shan't": ("shall", "not"),
    "i'm": ("i", "am"),
    "i'd": ("i", "would"),
    "i've": ("i", "have"),
    "i'll": ("i", "will"),
    "you're": ("you", "are"),
    "we're": ("we", "are"),
    "they're": ("they", "are"),
    "it's": ("it", "is"),
    "what's": ("what", "is"),
    "where's": ("where", "is"),
    "who's": ("who", "is"),
    "how's": ("how", "is"),
    "when's": ("when", "is"),
    "why's": ("why", "is"),
    "that's": ("that", "is"),
    "there's": ("there", "is"),
    "let's": ("let", "us"),
    "dont": ("do", "not"),
    "doesnt": ("does", "not"),
    "didnt": ("did", "not"),
    "isnt": ("is", "not"),
    "cant": ("can", "not"),
    **{
        f"{verb}n't": (verb, "not")
        for verb in _split("do does did is are was were has have had could should would might must need")
    },
}

_GROUPS = """
delete remove erase
deleting removing erasing
deleted removed erased
purchase buy
purchasing buying
repair fix
repairing fixing
begin start
quickly fast rapidly
picture photo photograph
pictures photos photographs
automobile car
automobiles cars
telephone phone
television tv
refrigerator fridge
needed required necessary
permitted allowed
obtain get
assist help
difficult hard
simple easy
frequently often
nearly almost
use utilize utilise
using utilizing utilising
colour color
colours colors
centre center
organise organize
organisation organization
optimise optimize
normalise normalize
initialise initialize
serialise serialize
analyse analyze
behaviour behavior
favourite favorite
neighbour neighbor
licence license
catalogue catalog
dialogue dialog
grey gray
directory folder
directories folders
db database
config configuration
info information
javascript js
typescript ts
postgresql postgres
"""


def _synonyms() -> dict[str, str]:
    found: dict[str, str] = {}
    for first, *others in _rows(_GROUPS):
        for word in others:
            found.setdefault(word, first)
    return found


SYNONYMS: Mapping[str, str] = _synonyms()
"""A word to the first one of its group."""

# Each paragraph is one property, and the words of its two sides.
_OPPOSITES = """
increase raise grow gain add enlarge maximize maximise expand
| decrease lower shrink lose subtract reduce minimize minimise contract

enable activate allow permit accept include show open lock start connect import encrypt encode push
| disable deactivate deny forbid reject exclude hide close unlock stop disconnect export decrypt decode pop

before earlier prior first start beginning previous
| after later following last end ending next

above over more most maximum max higher highest upper greater
| below under less least minimum min lower lowest smaller fewer fewest

best better good safe legal possible true right correct positive
| worst worse bad unsafe dangerous illegal impossible false wrong incorrect negative

always everyone everything all every each everywhere
| never nobody nothing none no nowhere

with inside in into to on
| without outside out from off

buy win love like attack early hot big large long fast high strong heavy light new young full rich public
| sell lose hate dislike defend late cold small little short slow low weak light dark old empty poor private

left north east up forward input read upload send sender client male ascending horizontal
| right south west down backward output write download receive receiver server female descending vertical

pros advantages benefits strengths success profit
| cons disadvantages drawbacks weaknesses failure loss

synchronous sync static mutable optional
| asynchronous async dynamic immutable required mandatory
"""


def _opposites() -> dict[str, tuple[int, int]]:
    sides: dict[str, tuple[int, int]] = {}
    for number, row in enumerate(_OPPOSITES.split("\n\n")):
        plus, _, minus = row.partition("|")
        for sign, words in ((1, plus), (-1, minus)):
            for word in words.split():
                sides[word] = (number, sign)
    return sides


OPPOSITES: Mapping[str, tuple[int, int]] = _opposites()
"""A word to the number of its property and its side."""

NEGATIONS = frozenset(_split("not no never none nobody nothing neither nor without nowhere hardly barely scarcely"))
# Prefixes that make the opposite of a word.
NEGATIVE_PREFIXES = _split("un in im il ir dis non non- anti de mis under over pre post")

SCOPE_WORDS = frozenset(
    _split(
        "all any some every each both either only just even except most many much few fewer several more less least "
        "always often sometimes usually rarely before after during until since between among within outside inside "
        "under over above below with without to from by at on than and or if unless because than first last next "
        "previous best worst can could may might must should will would was were did had has have been i you he she "
        "we they his her their your its him them us me"
    )
)

_NUMBERS = _split(
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen twenty"
)
NUMBER_WORDS: Mapping[str, str] = {
    **{word: str(value) for value, word in enumerate(_NUMBERS)},
    **{word: str(10 * value) for value, word in enumerate(_split("thirty forty fifty sixty seventy eighty ninety"), 3)},
    "hundred": "100",
    "thousand": "1000",
    "million": "1000000",
    "billion": "1000000000",
    "dozen": "12",
    "half": "1/2",
    "quarter": "1/4",
    "once": "1x",
    "twice": "2x",
    "thrice": "3x",
    "double": "2x",
    "triple": "3x",
    "single": "1",
    "pair": "2",
    **{
        word: f"{value}."
        for value, word in enumerate(
            _split("first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth"), 1
        )
    },
}

_UNITS = """
km kilometer kilometers kilometre kilometres kms
m meter meters metre metres
cm centimeter centimeters centimetre centimetres
mm millimeter millimeters millimetre millimetres
mi mile miles
ft foot feet
inch inches
yd yard yards
kg kilogram kilograms kilo kilos
g gram grams
mg milligram milligrams
ton tons
tonne tonnes
lb lbs
pound pounds
oz ounce ounces
l liter liters litre litres
ml milliliter milliliters millilitre millilitres
gal gallon gallons
cup cups
tbsp tablespoon tablespoons
tsp teaspoon teaspoons
celsius centigrade
fahrenheit
kelvin
s sec secs second seconds
ms millisecond milliseconds
min mins minute minutes
h hr hrs hour hours
day days
week weeks
month months
year years
decade decades
century centuries
b byte bytes
bit bits
kb kilobyte kilobytes
kib kibibyte kibibytes
mb megabyte megabytes
mib mebibyte mebibytes
gb gigabyte gigabytes
gib gibibyte gibibytes
tb terabyte terabytes
tib tebibyte tebibytes
hz hertz
khz kilohertz
mhz megahertz
ghz gigahertz
w watt watts
kw kilowatt kilowatts
kwh
v volt volts
a amp amps ampere amperes
j joule joules
kj kilojoule kilojoules
cal calorie calories
kcal
pa pascal pascals
bar bars
psi
mph
kmh kph
knot knots
percent % percentage
usd $ dollar dollars
eur € euro euros
gbp £ sterling
jpy ¥ yen
inr ₹ rupee rupees
chf franc francs
cny yuan
degree degrees °
radian radians
acre acres
hectare hectares
"""
UNITS: Mapping[str, str] = {
    # A letter alone may mean something else: 5 m may be five meters, minutes or millions.
    word: word if len(word) == 1 and word.isalpha() else row[0] if len(row[0]) > 1 or len(row) == 1 else row[1]
    for row in _rows(_UNITS)
    for word in row
}
"""A unit, in any spelling, to one of them."""

_MONTHS = """
january jan
february feb
march
april apr
june jun
july jul
august aug
september sep sept
october oct
november nov
december dec
monday mon mondays
tuesday tue tues tuesdays
wednesday wed wednesdays
thursday thu thurs thursdays
friday fri fridays
saturday saturdays
sunday sundays
today
tonight
yesterday
tomorrow
now currently nowadays
current present
latest newest
recent recently
ago
last
next
this
morning
afternoon
evening
night
noon midday
midnight
am
pm
spring
summer
autumn fall
winter
weekend weekends
christmas
easter
bc bce
ad ce
"""
TIME_WORDS: Mapping[str, str] = {word: row[0] for row in _rows(_MONTHS) for word in row}
"""A word of time to the first one of its group. `May` needs its capital (verifiers/dates.py)."""

_LANGUAGES = {
    "en": "the is are what how do does of and to in for can i my you with why when where who which should a an tell me",
    "de": "der die das ist sind was wie und ich nicht ein eine von mit für auf warum wann wo wer kann man dem den zu",
    "fr": "le la les est sont que quoi comment et je ne pas un une des avec pour sur pourquoi quand où qui du au quel",
    "es": "el la los las es son qué cómo y yo no un una de con para por cuándo dónde quién del al cuál en que",
    "it": "il lo la gli è sono che cosa come e io non un una di con per perché quando dove chi del al qual nel",
    "pt": "o a os as é são que como e eu não um uma de com para por quando onde quem do da no na qual em",
    "nl": "de het is zijn wat hoe en ik niet een van met voor op waarom wanneer waar wie kan men te dat",
    "pl": "jest są co jak i nie w na z do dlaczego kiedy gdzie kto czy się to",
    "sv": "är vad hur och jag inte en ett av med för på varför när var vem kan man att det",
    "tr": "ne nasıl ve ben değil bir ile için neden zaman nerede kim mı mi bu",
}
LANGUAGE_WORDS: Mapping[str, frozenset[str]] = {name: frozenset(words.split()) for name, words in _LANGUAGES.items()}

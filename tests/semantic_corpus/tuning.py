"""The part of the corpus by which the verifiers were made."""

from __future__ import annotations

WORDS = {
    "do": ["delete", "rename", "compress", "encrypt", "share"],
    "thing": ["a file", "a folder", "a table", "a branch", "a column"],
    "tool": ["Python", "Excel", "Git", "PostgreSQL", "Linux"],
    "country": ["France", "Japan", "Brazil", "Kenya", "Canada"],
    "fact": ["capital", "population", "currency", "national anthem"],
    "person": ["Einstein", "Mozart", "Napoleon", "Cleopatra"],
    "food": ["rice", "lentils", "pasta", "potatoes"],
    "illness": ["measles", "mumps", "malaria", "influenza"],
    "n": ["2", "5", "12", "40", "100"],
    "word_n": ["three", "seven", "eleven"],
    "length": ["kilometers", "miles", "meters", "feet"],
    "weight": ["kilograms", "pounds", "ounces", "grams"],
    "money": ["euros", "dollars", "yen", "rupees"],
    "month": ["January", "April", "June", "October"],
    "day": ["Monday", "Wednesday", "Sunday"],
    "year": ["1914", "1969", "2008", "2021"],
    "call": ["`sort()`", "`pop()`", "`split()`", "`join()`"],
    "flag": ["--force", "--soft", "-v", "-rf"],
    "option": ["max_retries", "min_retries", "timeout_ms", "poolSize"],
    "language": ["French", "German", "Spanish", "Polish"],
    "safe": ["safe", "legal", "possible", "common"],
    "act": ["take aspirin with coffee", "park on a bridge", "feed bread to ducks", "freeze cooked rice"],
}

ADVERSARIAL = {
    "negation": [
        ("Is it {safe} to {act}?", "Is it not {safe} to {act}?"),
        ("Why is it {safe} to {act}?", "Why isn't it {safe} to {act}?"),
        ("How do I {do} {thing} in {tool}?", "How do I not {do} {thing} in {tool}?"),
        ("Which people should {act}?", "Which people should never {act}?"),
        ("How do I {do} {thing} with {tool}?", "How do I {do} {thing} without {tool}?"),
    ],
    "polarity": [
        ("Is it {safe} to {act}?", "Is it un{safe} to {act}?"),
        ("How do I enable {option}?", "How do I disable {option}?"),
        ("How can I increase the {fact} of {country}?", "How can I decrease the {fact} of {country}?"),
        ("What are the advantages of {tool}?", "What are the disadvantages of {tool}?"),
        ("What is the best {food} recipe?", "What is the worst {food} recipe?"),
    ],
    "number": [
        ("How many {length} are {n} {weight}?", "How many {length} are {n2} {weight}?"),
        ("Give me {n} facts about {country}", "Give me {n2} facts about {country}"),
        ("Name {word_n} rivers in {country}", "Name {word_n2} rivers in {country}"),
        ("What is {n} plus {n2}?", "What is {n2} plus {n2}?"),
        ("Who won the first match in {country}?", "Who won the second match in {country}?"),
    ],
    "unit": [
        ("How many {length} are in {n} {length2}?", "How many {weight} are in {n} {length2}?"),
        ("Convert {n} {weight} to grams", "Convert {n} {weight2} to grams"),
        ("I have {n} {money}. Is that a lot?", "I have {n} {money2}. Is that a lot?"),
        ("How far is {n} km on foot?", "How far is {n} mi on foot?"),
        ("Is {n}GB enough?", "Is {n}MB enough?"),
    ],
    "date": [
        ("What happened in {country} in {year}?", "What happened in {country} in {year2}?"),
        ("Is the museum in {country} open on {day}?", "Is the museum in {country} open on {day2}?"),
        ("How is the weather in {country} in {month}?", "How is the weather in {country} in {month2}?"),
        ("What did {person} do yesterday?", "What did {person} do tomorrow?"),
        ("Is {day} 2024-03-05 a holiday?", "Is {day} 2024-05-03 a holiday?"),
    ],
    "entity": [
        ("What is the {fact} of {country}?", "What is the {fact} of {country2}?"),
        ("When was {person} born?", "When was {person2} born?"),
        ("How do I {do} {thing} in {tool}?", "How do I {do} {thing} in {tool2}?"),
        ("what is the {fact} of {country}", "what is the {fact} of {country2}"),
    ],
    "order": [
        ("Convert {money} to {money2}", "Convert {money2} to {money}"),
        ("Did {person} meet {person2} first?", "Did {person2} meet {person} first?"),
        ("How far is {country} from {country2}?", "How far is {country2} from {country}?"),
        ("Is {country} larger than {country2}?", "Is {country2} larger than {country}?"),
        ("Do I cook {food} before {food2}?", "Do I cook {food2} before {food}?"),
    ],
    "scope": [
        ("Are all {food} healthy?", "Are some {food} healthy?"),
        ("Who can {do} {thing}?", "Who must {do} {thing}?"),
        ("What was the {fact} of {country}?", "What is the {fact} of {country}?"),
        ("Does {person} only eat {food}?", "Does {person} also eat {food}?"),
        ("How do I {do} {thing} before Monday?", "How do I {do} {thing} until Monday?"),
        ("How do I find his {food}?", "How do I find her {food}?"),
    ],
    "word": [
        ("What are the symptoms of {illness}?", "What are the symptoms of {illness2}?"),
        ("How do I {do} {thing}?", "How do I {do2} {thing}?"),
        ("How do I cook {food}?", "How do I store {food}?"),
        ("What is the {fact} of {country}?", "What is the {fact2} of {country}?"),
        ("Why do people like {food}?", "Why do dogs like {food}?"),
        ("Tell me a joke about {food}", "What is a joke about {food}?"),
    ],
    "code": [
        ("What does {call} return in {tool}?", "What does {call2} return in {tool}?"),
        ("What does git reset {flag} do?", "What does git reset {flag2} do?"),
        ("How do I set {option} in {tool}?", "How do I set {option2} in {tool}?"),
        ("Is x <= {n} true?", "Is x < {n} true?"),
        ("Why does `a[{n}]` fail?", "Why does `a[{n2}]` fail?"),
    ],
    "quotation": [
        ('How do I say "good {food}" in {language}?', 'How do I say "bad {food}" in {language}?'),
        ("Who said 'know {person}'?", "Who said 'know {person2}'?"),
        ("How do you spell {food}?", "How do you spell {food2}?"),
    ],
    "language": [
        ("What is the {fact} of {country}?", "Was ist the {fact} of {country}?"),
        ("How do I cook {food}?", "Comment cuire {food} ?"),
        ("Translate hello to {language}", "Translate hello to {language2}"),
        ("Answer in {language}: who was {person}?", "Answer in {language2}: who was {person}?"),
    ],
}

PARAPHRASES = [
    [
        "How do I {do} {thing} in {tool}?",
        "How can I {do} {thing} in {tool}?",
        "how to {do} {thing} in {tool}",
        "Could you tell me how to {do} {thing} in {tool}?",
        "In {tool}, how do I {do} {thing}?",
        "I want to {do} {thing} in {tool}. How does that work?",
    ],
    [
        "What is the {fact} of {country}?",
        "What's the {fact} of {country}?",
        "Tell me the {fact} of {country}.",
        "What is {country}'s {fact}?",
        "Do you know what the {fact} of {country} is?",
        "{country}: {fact}?",
    ],
    [
        "Is it {safe} to {act}?",
        "Can you tell me whether it is {safe} to {act}?",
        "Do you know if it is {safe} to {act}?",
        "Would it be {safe} if I {act}?",
    ],
    [
        "What are the symptoms of {illness}?",
        "Please tell me what the symptoms of {illness} are.",
        "Which symptoms does {illness} have?",
    ],
    [
        "Convert {n} km to miles",
        "convert {n} kilometers to miles",
        "How many miles are {n} km?",
    ],
]

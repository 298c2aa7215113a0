"""Minimal pairs of English grammar, generated from small templates: one sentence right, one wrong, one word apart.

In the manner of BLiMP (Warstadt et al. 2020), but written here, so that it ships with the project. Pure: a seed
gives the same pairs everywhere.
"""

import itertools
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

Pairs = Iterator[tuple[str, str]]

PEOPLE_PLURAL = ("students", "teachers", "doctors", "farmers", "neighbors", "drivers", "singers", "children")
PEOPLE_SINGULAR = ("student", "teacher", "doctor", "farmer", "neighbor", "driver", "singer", "child")
PLACES = ("near the river", "in the village", "behind the school", "from the city", "on the bridge")
WOMEN = ("Mary", "Susan", "Linda", "Karen", "Helen", "Sarah")
MEN = ("John", "David", "Peter", "Robert", "Thomas", "George")
REFLEXIVE_VERBS = ("hurt", "blamed", "helped", "saw", "described", "defended")
THINGS = (("book", "books"), ("letter", "letters"), ("window", "windows"), ("picture", "pictures"), ("chair", "chairs"))
THING_VERBS = ("found", "sold", "cleaned", "bought", "noticed", "moved")
PARTICIPLES = (
    ("written", "wrote", "the long report"),
    ("broken", "broke", "the old vase"),
    ("taken", "took", "the last train"),
    ("forgotten", "forgot", "the whole story"),
    ("eaten", "ate", "the fresh bread"),
    ("driven", "drove", "the new car"),
    ("chosen", "chose", "the right answer"),
    ("stolen", "stole", "the silver ring"),
)
POLARITY_TAILS = (
    "ever visited the museum",
    "ever seen the ocean",
    "ever read this newspaper",
    "ever climbed that mountain",
    "ever eaten at the station",
)


@dataclass(frozen=True, slots=True)
class Pair:
    """One minimal pair of a phenomenon."""

    phenomenon: str
    sentence_good: str
    sentence_bad: str


def generate(pairs_per_phenomenon: int = 80, seed: int = 0) -> dict[str, list[Pair]]:
    """Pairs by phenomenon, distinct, in an order drawn with `seed`.

    Raises:
        ValueError: more pairs asked than the templates can make.
    """
    return {name: _draw(name, list(make()), pairs_per_phenomenon, seed) for name, make in PHENOMENA.items()}


def _draw(name: str, sentences: list[tuple[str, str]], count: int, seed: int) -> list[Pair]:
    if count > len(sentences):
        raise ValueError(f"{name}: {count} pairs asked, the templates make {len(sentences)}")
    chosen = random.Random(f"{seed}:{name}").sample(sentences, count)
    return [Pair(name, good, bad) for good, bad in chosen]


def _subject_verb() -> Pairs:
    for (singular, plural), place, tail in itertools.product(
        zip(PEOPLE_SINGULAR, PEOPLE_PLURAL, strict=True), PLACES, ("waiting for the bus", "very tired today")
    ):
        yield f"The {plural} {place} are {tail}.", f"The {plural} {place} is {tail}."
        yield f"The {singular} {place} is {tail}.", f"The {singular} {place} are {tail}."


def _anaphor() -> Pairs:
    for names, right, wrong in ((WOMEN, "herself", "himself"), (MEN, "himself", "herself")):
        for name, verb, tail in itertools.product(names, REFLEXIVE_VERBS, ("", " last year")):
            yield f"{name} {verb} {right}{tail}.", f"{name} {verb} {wrong}{tail}."


def _determiner_noun() -> Pairs:
    for person, verb, (singular, plural) in itertools.product(MEN[:3] + WOMEN[:2], THING_VERBS, THINGS):
        yield f"{person} {verb} these {plural}.", f"{person} {verb} this {plural}."
        yield f"{person} {verb} that {singular}.", f"{person} {verb} those {singular}."


def _irregular_form() -> Pairs:
    for person, (participle, past, thing) in itertools.product(PEOPLE_SINGULAR, PARTICIPLES):
        yield f"The {person} has {participle} {thing}.", f"The {person} has {past} {thing}."
        yield f"The {person} {past} {thing} yesterday.", f"The {person} {participle} {thing} yesterday."


def _negative_polarity() -> Pairs:
    for plural, tail in itertools.product(PEOPLE_PLURAL, POLARITY_TAILS):
        yield f"No {plural} have {tail}.", f"Some {plural} have {tail}."
        yield f"The {plural} have not {tail}.", f"The {plural} have really {tail}."


def _pronoun_case() -> Pairs:
    pronouns = (("he", "him"), ("she", "her"), ("they", "them"))
    for name, verb, (subject, object_) in itertools.product(MEN + WOMEN, ("invited", "thanked", "visited"), pronouns):
        yield f"{name} {verb} {object_} after the meeting.", f"{name} {verb} {subject} after the meeting."


PHENOMENA: dict[str, Callable[[], Pairs]] = {
    "subject-verb-agreement": _subject_verb,
    "anaphor-agreement": _anaphor,
    "determiner-noun-agreement": _determiner_noun,
    "irregular-forms": _irregular_form,
    "negative-polarity": _negative_polarity,
    "pronoun-case": _pronoun_case,
}

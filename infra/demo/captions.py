"""What may truly be said of a drawing, in varied words.

A caption carries what it claims, so that training can tell of any caption and any drawing whether the
one is true of the other: "a record player" is true of every drawing that has one, not of one alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from infra.demo.canvas import Rng

NOUNS: Mapping[str, tuple[str, ...]] = {
    "vinyl": (
        "vinyl record",
        "record",
        "vinyl",
        "LP",
        "vinyl disc",
        "gramophone record",
        "12-inch record",
        "vinyl LP",
        "long-playing record",
    ),
    "turntable": ("turntable", "record player", "deck", "DJ turntable", "phonograph", "hi-fi deck"),
    "plate": ("plate", "dish", "dinner plate"),
    "clock": ("clock", "wall clock", "round clock"),
    "wheel": ("wheel", "tyre", "car wheel"),
    "cd": ("CD", "compact disc", "silver disc"),
    "speaker": ("speaker", "loudspeaker", "hi-fi speaker"),
    "radio": ("radio", "table radio", "old radio"),
    "laptop": ("laptop", "computer", "notebook computer"),
    "plant": ("plant", "potted plant", "house plant"),
    "book": ("book", "closed book"),
    "sleeve": ("record sleeve", "album cover", "empty sleeve"),
    "poster": ("poster", "framed poster", "picture on a wall"),
    "cassette": ("cassette", "cassette tape", "music cassette"),
    "mug": ("mug", "cup of coffee", "coffee mug"),
    "pan": ("pan", "frying pan", "cooking pan"),
    "camera": ("camera", "photo camera"),
}
_PLACES: Mapping[str, tuple[str, ...]] = {
    "wooden table": ("on a wooden table", "on wood", "on wooden boards"),
    "plain background": ("on a plain background", "on a plain surface"),
    "carpet": ("on a carpet", "on the carpet"),
    "cloth": ("on a patterned cloth", "on a striped cloth"),
    "tiled floor": ("on tiles", "on a tiled floor"),
    "marble": ("on marble", "on a marble top"),
    "grass": ("on grass", "on the lawn"),
    "room": ("in a room", "in front of a wall"),
}
_VIEWS: Mapping[str, tuple[str, ...]] = {
    "above": ("seen from above", "from above", "from the top"),
    "angle": ("seen at an angle", "from the side", "seen from the front"),
}
_PREFIXES = ("", "", "a photo of ", "a picture of ", "an image of ", "a photograph of ")


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """What a drawing shows."""

    things: tuple[str, ...]
    """Keys of `NOUNS`, what the drawing is of first."""
    arrangement: str = ""
    """Of records: "on the platter", "beside", "half out", "several", or nothing special."""
    record_colour: str = ""
    plinth_colour: str = ""
    place: str = ""
    view: str = ""

    def facts(self) -> frozenset[str]:
        """Return everything that a caption may claim of it."""
        facts = set(self.things)
        if "vinyl" in facts:
            facts |= {f"vinyl {self.record_colour}", self.arrangement}
        if "turntable" in facts:
            facts.add(f"turntable {self.plinth_colour}")
        return frozenset(facts | {f"place {self.place}", f"view {self.view}"})


@dataclass(frozen=True, slots=True)
class Caption:
    """Words, and what they claim."""

    words: str
    claims: frozenset[str] = field(default_factory=frozenset)
    denies: frozenset[str] = field(default_factory=frozenset)

    def says_nothing(self) -> bool:
        """Say whether it is true of every drawing: "a photo"."""
        return not self.claims and not self.denies

    def is_true_of(self, facts: frozenset[str]) -> bool:
        """Say whether all that is claimed is among the facts, and nothing that is denied."""
        return self.claims <= facts and not self.denies & facts


def describe(rng: Rng, contents: Contents) -> Caption:
    """Return a true caption: sometimes all there is to say, sometimes one thing of many."""
    things = contents.things
    if "vinyl" in things and "turntable" in things:
        said = _both(rng, contents)
    elif "vinyl" in things:
        said = _record(rng, contents)
    elif "turntable" in things:
        said = _turntable(rng, contents)
    else:
        said = _something_else(rng, contents)
    words, claims = said.words, set(said.claims)
    if rng.random() < 0.3 and contents.view:
        words = f"{words}, {_one(rng, _VIEWS[contents.view])}"
        claims.add(f"view {contents.view}")
    elif rng.random() < 0.35 and contents.place:
        words = f"{words} {_one(rng, _PLACES[contents.place])}"
        claims.add(f"place {contents.place}")
    prefix = _one(rng, _PREFIXES) if words.startswith(("a ", "an ")) else ""
    return Caption(prefix + words, frozenset(claims), said.denies)


def _record(rng: Rng, contents: Contents) -> Caption:
    name = f"vinyl {contents.record_colour}"
    noun, colour = _one(rng, NOUNS["vinyl"]), contents.record_colour
    choice = rng.random()
    if contents.arrangement == "half out" and choice < 0.6:
        form = _one(
            rng,
            (
                f"{_a(noun)} half out of its sleeve",
                f"{_a(colour)} disc half out of its sleeve",
                f"{_a(noun)} in an open sleeve",
                f"{_a(noun)} sliding out of its cover",
            ),
        )
        claimed = {name} if colour in form else set[str]()
        return Caption(form, frozenset({"vinyl", "half out"} | claimed))
    if contents.arrangement == "several" and choice < 0.6:
        form = _one(rng, ("several {}s", "a pile of {}s", "some {}s", "{}s")).format(noun)
        return Caption(form, frozenset({"vinyl", "several"}))
    if choice < 0.3:
        return Caption(f"{_a(colour)} {noun}", frozenset({"vinyl", name}))
    if choice < 0.4:
        return Caption(f"a round {colour} disc with grooves", frozenset({"vinyl", name}))
    if choice < 0.5:
        without = f"{_a(noun)} without {_a(_one(rng, NOUNS['turntable']))}"
        return Caption(without, frozenset({"vinyl"}), frozenset({"turntable"}))
    return _with_another(rng, contents, _a(noun), "vinyl")


def _turntable(rng: Rng, contents: Contents) -> Caption:
    noun, claims = _one(rng, NOUNS["turntable"]), {"turntable"}
    choice = rng.random()
    if choice < 0.35:
        form = _one(
            rng,
            (
                f"{_a(noun)} without {_a(_one(rng, NOUNS['vinyl']))}",
                f"an empty {noun}",
                f"{_a(noun)} with nothing on its platter",
                f"{_a(noun)}, no record on it",
            ),
        )
        return Caption(form, frozenset(claims), frozenset({"vinyl"}))
    if choice < 0.6:
        form = f"{_a(contents.plinth_colour)} {noun}"
        return Caption(form, frozenset(claims | {f"turntable {contents.plinth_colour}"}))
    return _with_another(rng, contents, _a(noun), "turntable")


def _both(rng: Rng, contents: Contents) -> Caption:
    if rng.random() < 0.3:
        alone = _one(rng, ("vinyl", "turntable"))
        return Caption(_a(_one(rng, NOUNS[alone])), frozenset({alone}))
    player, disc = _one(rng, NOUNS["turntable"]), _one(rng, NOUNS["vinyl"])
    claims = {"vinyl", "turntable"}
    if rng.random() < 0.3:
        return Caption(f"{_a(player)} and {_a(disc)}", frozenset(claims))
    if contents.arrangement == "on the platter":
        forms: tuple[str, ...] = (
            f"{_a(player)} with {_a(disc)} on it",
            f"{_a(disc)} on {_a(player)}",
            f"{_a(disc)} playing on {_a(player)}",
            f"{_a(player)} playing {_a(disc)}",
        )
    else:
        forms = (
            f"{_a(player)} with {_a(disc)} beside it",
            f"{_a(disc)} next to {_a(player)}",
            f"{_a(disc)} lying near {_a(player)}",
        )
    return Caption(_one(rng, forms), frozenset(claims | {contents.arrangement}))


def _something_else(rng: Rng, contents: Contents) -> Caption:
    neither = frozenset({"vinyl", "turntable"})
    if rng.random() < 0.12:
        form = _one(
            rng,
            (
                "something else",
                "no record and no turntable",
                "neither a record nor a record player",
                "an object that is not a vinyl record",
                "something that is not a turntable",
            ),
        )
        return Caption(form, frozenset(), neither)
    thing = contents.things[int(rng.integers(min(2, len(contents.things))))]
    noun = _one(rng, NOUNS[thing])
    if rng.random() < 0.15:
        form = f"{_a(noun)}, {_one(rng, ('no record', 'no vinyl record', 'not a turntable'))}"
        return Caption(form, frozenset({thing}), neither)
    others = [name for name in contents.things if name != thing]
    if others and rng.random() < 0.5:
        other = _one(rng, tuple(others))
        return Caption(f"{_a(noun)} and {_a(_one(rng, NOUNS[other]))}", frozenset({thing, other}))
    return Caption(_a(noun), frozenset({thing}))


def _with_another(rng: Rng, contents: Contents, words: str, claim: str) -> Caption:
    """Name the thing, and at times one of the other things beside it."""
    if len(contents.things) < 2 or rng.random() < 0.6:
        return Caption(words, frozenset({claim}))
    other = _one(rng, contents.things[1:])
    return Caption(f"{words} with {_a(_one(rng, NOUNS[other]))}", frozenset({claim, other}))


def _a(noun: str) -> str:
    """Put the indefinite article before the noun."""
    article = "an" if noun[0] in "aeiou" or noun.startswith("LP") else "a"
    return f"{article} {noun}"


def _one(rng: Rng, choices: tuple[str, ...]) -> str:
    return choices[int(rng.integers(len(choices)))]

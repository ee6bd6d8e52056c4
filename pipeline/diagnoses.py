"""Words that tables state for diagnoses and reads, and the class of a study that each belongs to."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

DIAGNOSIS = "diagnosis"
"""The default of `cohort.target`."""


def text_set(text: str) -> frozenset[str]:
    """Return the words of a text."""
    return frozenset(text.split())


_PHRASES = (
    (r"\bmild(?:ly)? cognitive(?:ly)? (?:impairment|impaired|disorder|decline|deficits?)\b", "mci"),
    (
        r"\b(?:subjective|significant) (?:cognitive|memory) (?:decline|impairment|complaints?|concerns?)\b",
        "smc",
    ),
    (
        r"\b(?:no|non|not|without|w o) (?:mci|cognitive(?:ly)? (?:impairment|impaired|deficits?)|dementia)\b",
        "cn",
    ),
    (
        r"\b(?:non|not|no) ?demented\b|\bnot (?:cognitively )?impaired\b|\bun ?impaired\b|\bno impairment\b",
        "cn",
    ),
    (r"\bneuro ?typical\b", "cn"),
    (r"\b(?:normal|healthy) (?:cognition|cognitive (?:function|status|ageing|aging)|ageing|aging)\b", "cn"),
    (r"\b(?:cog|cogn|cognitive(?:ly)?|clinically|neurologically) (?:normals?|healthy|intact)\b", "cn"),
    (r"\bnon amnestic\b", "amnestic"),
    (r"\balzheimer s\b|\balzheimers?\b", "alzheimer"),
    (r"\bdemented\b|\bdementias\b", "dementia"),
)
"""Spellings of one meaning, the longer ones first."""
_HEADS = {
    "CN": text_set(
        "cn hc nc nl cu ctl ctr ctrl ctrls control controls ctls hcs ncs cns cus normal normals "
        "healthy hv nci noci smc scd scc smd sci hoa ohc nondemented"
    ),
    "MCI": text_set("mci emci lmci amci namci smci pmci mcis"),
    "AD": text_set("ad alzheimer dat add dementia sdat ads eoad load"),
}
_FILLERS = {
    "CN": text_set(
        "elderly older old young adult adults subject subjects volunteer volunteers participant "
        "participants person people individual individuals age matched group aged baseline stable "
        "cognitively cognitive cognition memory"
    ),
    "MCI": text_set(
        "due to ad alzheimer disease early late amnestic single multi multiple domain domains stable "
        "progressive of the type with baseline group patient patients subject subjects prodromal "
        "syndrome clinical likely probable high intermediate likelihood stage"
    ),
    "AD": text_set(
        "disease with due to of the type probable clinical mild moderate severe early late onset typical "
        "amnestic sporadic syndrome patient patients subject subjects group baseline stage senile"
    ),
}
_DETAILS = {
    "SMC": {"smc", "scd", "scc", "smd", "sci"},
    "EMCI": {"emci"},
    "LMCI": {"lmci"},
}


def spelling(text: str) -> str:
    """Return a text in lower case without accents and punctuation; ``+`` and ``-`` at its end stay.

    Examples
    --------
    >>> spelling(" Alzheimer’s_Disease "), spelling("CN+"), spelling("T-")
    ('alzheimer s disease', 'cn+', 't-')
    """
    plain = "".join(
        c for c in unicodedata.normalize("NFKD", text.strip().lower()) if not unicodedata.combining(c)
    )
    end = plain[-1:] if plain[-1:] in ("+", "-") and len(plain) > 1 else ""
    return " ".join(re.findall(r"\w+", plain.replace("_", " "))) + end


def diagnosis_in(text: str) -> tuple[str, str] | None:
    """Return what a diagnosis in words means: CN, MCI or AD, and SMC, EMCI or LMCI where it is one of them.

    A text with a word that is not known means nothing: of ``non-AD dementia`` or ``AD or MCI`` it is not
    guessed. A change means what it leads to.

    Examples
    --------
    >>> [diagnosis_in(text) for text in ("HC", "MCI due to AD", "Significant Memory Concern")]
    [('CN', 'CN'), ('MCI', 'MCI'), ('CN', 'SMC')]
    >>> [diagnosis_in(text) for text in ("early MCI", "MCI to Dementia", "Frontotemporal dementia")]
    [('MCI', 'EMCI'), ('AD', 'AD'), None]
    """
    bare = spelling(re.sub(r"^\s*\d{1,2}\s*[-:=.)]\s*(?=[A-Za-z])", "", text))  # 1 = CN
    for pattern, meaning in _PHRASES:
        bare = re.sub(pattern, meaning, bare)
    if bare.endswith(("+", "-")):
        return None
    if " to " in bare and "due to" not in bare:
        before, _, bare = bare.rpartition(" to ")
        if diagnosis_in(re.sub(r"^(stable|conversion|reversion) ", "", before)) is None:
            return None
    tokens = bare.split()
    heads = {name for name, known in _HEADS.items() if known.intersection(tokens)}
    meant = "MCI" if heads == {"MCI", "AD"} else next(iter(heads)) if len(heads) == 1 else ""
    if not meant or set(tokens) - _HEADS[meant] - _FILLERS[meant]:
        return None
    if meant == "MCI" and heads == {"MCI", "AD"} and not {"due", "with", "prodromal", "of"} & set(tokens):
        return None
    if "mci" in tokens and {"early", "late"} & set(tokens):
        return meant, "EMCI" if "early" in tokens else "LMCI"
    return meant, next((detail for detail, known in _DETAILS.items() if known.intersection(tokens)), meant)


_STATUS = {
    "negative": text_set("negative neg - normal no absent"),
    "positive": text_set("positive pos + abnormal elevated yes present"),
}


def status_in(text: str) -> str | None:
    """Return ``"negative"`` or ``"positive"`` of a read or status in words, of whichever marker; None else.

    Examples
    --------
    >>> [status_in(text) for text in ("Neg", "T+", "Abeta-negative", "tau positive", "AD")]
    ['negative', 'positive', 'negative', 'positive', None]
    """
    bare = text.strip().lower().replace("−", "-").replace("–", "-")
    sign = re.fullmatch(r"(?:[\w ]*\W?)?([+-])", bare)
    words = {sign[1]} if sign else set(spelling(bare).split())
    found = [name for name, known in _STATUS.items() if words & known]
    return found[0] if len(found) == 1 and not words & {"not", "equivocal", "or"} else None


@dataclass(frozen=True)
class ClassWords:
    """The classes of a study, and which words belong to each.

    Parameters
    ----------
    names : tuple of str
        In the order of their labels.
    merge : mapping of str to tuple of str
        Words of a class, in any spelling of one meaning. A class has its own name besides, unless another
        class lists it.
    target : str
        What the classes are of; words of a diagnosis have meanings of their own.
    """

    names: tuple[str, ...]
    merge: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    target: str = DIAGNOSIS

    def class_of(self, stated: str, meaning: str | None = None) -> str | None:
        """Return the class of a word, None where it belongs to none.

        Parameters
        ----------
        stated : str
            As a table has it; empty where the table has codes.
        meaning : str, optional
            CN, MCI or AD, where it is known.

        Examples
        --------
        >>> words = ClassWords(("CN", "impaired"), {"CN": ("CN", "SMC"), "impaired": ("MCI", "AD")})
        >>> [words.class_of(text) for text in ("HC", "subjective memory complaints", "LMCI", "FTD")]
        ['CN', 'CN', 'impaired', None]
        """
        exact, meanings = self._words()
        for text in filter(None, (stated, meaning)):
            if spelling(text) in exact:
                return exact[spelling(text)]
        for text in filter(None, (stated, meaning)):
            general, special = self._meanings(text)
            for one in (special, general):
                if one and one in meanings:
                    return meanings[one]
        return None

    def _words(self) -> tuple[dict[str, str], dict[str, str]]:
        """Return the class of each spelling, and of each meaning that one class alone has."""
        listed = [(name, word) for name in self.names for word in self.merge.get(name, ())]
        others = {spelling(word) for _, word in listed}
        listed += [(name, name) for name in self.names if spelling(name) not in others]
        exact = {spelling(word): name for name, word in listed}
        claims: dict[str, set[str]] = {}
        for name, word in listed:
            if special := self._meanings(word)[1]:
                claims.setdefault(special, set()).add(name)
        return exact, {word: next(iter(names)) for word, names in claims.items() if len(names) == 1}

    def _meanings(self, text: str) -> tuple[str | None, str | None]:
        if self.target == DIAGNOSIS:
            return diagnosis_in(text) or (None, None)
        return status_in(text), status_in(text)

    def knows(self, text: str) -> bool:
        """Return whether a word has a meaning of its own, whichever classes the study has."""
        return self._meanings(text)[0] is not None

    def repeated(self) -> list[str]:
        """Return words that two classes list."""
        words = Counter(spelling(word) for name in self.merge for word in {*self.merge[name]})
        return [word for word, count in words.items() if count > 1]


def classes_of(given: tuple[str, ...], merge: Mapping[str, tuple[str, ...]], target: str) -> tuple[str, ...]:
    """Return the class names of a study of scans: those given, else what merging leaves of the usual ones.

    Examples
    --------
    >>> classes_of((), {"impaired": ("MCI", "AD")}, "diagnosis")
    ('CN', 'impaired')
    >>> classes_of((), {}, "visual_read")
    ('negative', 'positive')
    """
    if given:
        return given
    usual = ("CN", "MCI", "AD") if target == DIAGNOSIS else () if merge else ("negative", "positive")
    into = {spelling(word): name for name, words in merge.items() for word in words}
    return tuple(dict.fromkeys([*(into.get(spelling(name), name) for name in usual), *merge]))

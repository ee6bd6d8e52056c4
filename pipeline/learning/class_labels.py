"""Which class of a study each scan of a cohort belongs to; the cohort's table keeps every diagnosis."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

from pipeline.diagnoses import DIAGNOSIS, ClassWords
from pipeline.errors import CohortError
from pipeline.scan import STATED, Cohort, Fact, Scan


def with_classes(cohort: Cohort, words: ClassWords) -> tuple[Cohort, Counter[str]]:
    """Return a cohort whose scans have the classes of a study, and the words that belong to none, counted.

    Parameters
    ----------
    cohort : Cohort
        As its table states it.
    words : ClassWords

    Returns
    -------
    cohort : Cohort
        A scan of none of the classes has no label. True probabilities are those of the classes alone.
    left_out : Counter
        Scans by the word they state.

    Raises
    ------
    CohortError
        If the target is no column of the table.
    """
    if words.target != DIAGNOSIS and not any(words.target in scan.facts for scan in cohort.scans):
        columns = sorted({name for scan in cohort.scans for name in scan.facts})
        raise CohortError(
            f"cohort.target is {words.target}, which no scan of the cohort's table states; "
            f"its columns are {', '.join(columns)}",
            hint=f"name the table that has it: cohort.labels: {{file: TABLE.csv, diagnosis: {words.target}}}",
        )
    known: dict[tuple[str, str | None], str | None] = {}
    left_out: Counter[str] = Counter()
    scans = []
    for scan in cohort.scans:
        stated, meaning = _stated(scan, words.target)
        if (stated, meaning) not in known:
            known[stated, meaning] = words.class_of(stated, meaning)
        label = known[stated, meaning]
        if label is None and (stated or meaning):
            left_out[stated or str(meaning)] += 1
        scans.append(replace(scan, diagnosis=label, posterior=_posterior(scan, cohort.class_names, words)))
    return Cohort(tuple(scans), words.names), left_out


def silent_scans(cohort: Cohort, words: ClassWords) -> frozenset[str]:
    """Return the ids of scans about which neither the source nor a table states anything, class or not."""
    return frozenset(scan.scan_id for scan in cohort.scans if not any(_stated(scan, words.target)))


def _stated(scan: Scan, target: str) -> tuple[str, str | None]:
    if target == DIAGNOSIS:
        return _text(scan.facts.get(STATED)), scan.diagnosis
    return _text(scan.facts.get(target)), None


def _text(value: Fact) -> str:
    """Return a cell as it is written: a table of numbers with gaps reads 1 as 1.0."""
    if value is None:
        return ""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value).strip()


def _posterior(scan: Scan, names: tuple[str, ...], words: ClassWords) -> tuple[float, ...] | None:
    """Return the true probabilities of a study's classes, given that it is one of them."""
    if scan.posterior is None or words.target != DIAGNOSIS:
        return None
    shares = dict.fromkeys(words.names, 0.0)
    for name, share in zip(names, scan.posterior, strict=False):
        label = words.class_of(name, name)
        if label is not None:
            shares[label] += share
    total = sum(shares.values())
    same = words.names == names[: len(words.names)] and not words.merge
    if same and len(names) == len(words.names):
        return scan.posterior
    return tuple(share / total for share in shares.values()) if total > 0 else None


def in_words(left_out: Counter[str], words: ClassWords) -> list[str]:
    """Return a sentence for each word that belongs to no class, and the line that counts unknown ones.

    A word of a known meaning is left out on purpose, by `cohort.classes`: no class is proposed for it.
    """
    known = {word for word in left_out if words.knows(word)}
    shown = []
    for word, count in sorted(left_out.most_common(_SHOWN), key=lambda item: item[0] not in known):
        scans, they_are = ("scan states", "it is") if count == 1 else ("scans state", "they are")
        end = f": {they_are} left out" if word in known else ""
        shown.append(f"{count} {scans} {word!r}, which belongs to none of {', '.join(words.names)}{end}.")
    if len(left_out) > _SHOWN:
        shown.append(f"{len(left_out) - _SHOWN} more words belong to no class.")
    unknown = [word for word in left_out if word not in known]
    if unknown:
        which = f"{unknown[0]!r}, write it" if len(unknown) == 1 else "unknown words, write each"
        lists = {name: list(words.merge.get(name, (name,))) for name in words.names}
        shown.append(f"To count {which} into the list of its class: {merge_line(lists)}.")
    return shown


def merge_line(lists: Mapping[str, Sequence[str]]) -> str:
    """Return the line of a study that unites words in classes."""
    classes = (f"{quoted(name)}: [{', '.join(map(quoted, own))}]" for name, own in lists.items())
    return f"cohort.merge: {{{', '.join(classes)}}}"


_SHOWN = 10


def quoted(word: str) -> str:
    """Return a word as YAML takes it for text."""
    return word if word.replace(" ", "").isalpha() and word.lower() not in _OF_YAML else f'"{word}"'


_OF_YAML = frozenset({"yes", "no", "true", "false", "on", "off", "null", "y", "n"})

"""One acquisition is one scan, however many reconstructions and processing levels of it are in a source."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import replace
from datetime import date

from pipeline.ingest.acquired import Acquired
from pipeline.ingest.adni_levels import LEVELS, level_of
from pipeline.ingest.found import FoundScan
from pipeline.ingest.headers import SeriesHeader
from pipeline.ingest.planes import acquisition_moment
from pipeline.ingest.stated_kind import attenuation_corrected
from pipeline.ingest.vocabulary import names_no_attenuation, series_words, tracer_of

OTHER_LEVELS = "other processing levels of a scan that is taken"
OTHER_RECONSTRUCTIONS = "other reconstructions of a scan that is taken"
_SETTLED = "ingest.prefer"


def acquired_of(headers: Sequence[SeriesHeader]) -> Acquired:
    """Return when the images of a series were acquired, and what distinguishes their reconstruction."""
    firsts = [header.first_frame() for header in headers]
    moments = [(acquisition_moment(first), first.number("ActualFrameDuration") or 0.0) for first in firsts]
    known = [(moment.local, moment.local + ms / 1000.0) for moment, ms in moments if moment is not None]
    uids = {
        (header.text(name) or "")
        for header in headers
        for name in ("FrameOfReferenceUID", "StudyInstanceUID")
    }
    first = firsts[0]
    return Acquired(
        start_s=min((start for start, _ in known), default=None),
        end_s=max((end for _, end in known), default=None),
        frames=len({start for start, _ in known}),
        shared=frozenset(uids - {""}),
        corrected=attenuation_corrected(first),
        derived=(first.text("ImageType") or "").upper().startswith("DERIVED"),
        method=" ".join(filter(None, (first.text("ReconstructionMethod"), first.text("ConvolutionKernel")))),
        grid=_grid_of(firsts),
        places=frozenset(
            tuple(round(mm, 2) for mm in place)
            for one in firsts
            if (place := one.numbers("ImagePositionPatient")) is not None
        ),
    )


def _grid_of(headers: Sequence[SeriesHeader]) -> tuple[float, ...]:
    """Return rows, columns, pixel spacing and orientation; empty where images differ."""
    keywords = ("Rows", "Columns", "PixelSpacing", "ImageOrientationPatient")
    grids = {tuple(header.numbers(keyword) for keyword in keywords) for header in headers}
    grid = next(iter(grids)) if len(grids) == 1 else (None,)
    return () if None in grid else tuple(round(value, 4) for part in grid if part for value in part)


def one_per_acquisition(
    scans: Sequence[FoundScan], ignored: Counter[str], prefer: Sequence[str] = ()
) -> list[FoundScan]:
    """Leave one scan of each acquisition: as the user prefers, else by processing level and by rank.

    Scans of one person, day and tracer are of one acquisition where their times overlap and they share study
    or frame of reference; where a level of ADNI's processing is named, all of them are.

    Parameters
    ----------
    scans : sequence of FoundScan
    ignored : Counter
        Counts those that are left out.
    prefer : sequence of str
        Words of a series' name, method or BIDS entity; the first that one of the scans has decides.
    """
    visits: dict[tuple[str, date | None], list[FoundScan]] = defaultdict(list)
    for scan in scans:
        visits[scan.subject_label, scan.scan_date].append(scan)
    chosen = []
    for (_, day), together in visits.items():
        for group in [[scan] for scan in together] if day is None else _by_tracer(together):
            chosen += _one_each(group, ignored, prefer)
    return chosen


def _one_each(group: list[FoundScan], ignored: Counter[str], prefer: Sequence[str]) -> list[FoundScan]:
    if len(group) > 1 and not any(_has(scan, word) for scan in group for word in prefer):
        best = min(LEVELS.index(level_of(scan.description)) for scan in group)
        taken = [scan for scan in group if LEVELS.index(level_of(scan.description)) == best]
        if len(taken) < len(group):
            ignored[OTHER_LEVELS] += len(group) - len(taken)
        group = taken
    return [choose(acquisition, ignored, prefer) for acquisition in _acquisitions(group, prefer)]


def choose(scans: Sequence[FoundScan], ignored: Counter[str], prefer: Sequence[str] = ()) -> FoundScan:
    """Return the scan that is taken of one acquisition, with a note that states the choice."""
    if len(scans) == 1:
        return scans[0]
    word = next((word for word in prefer if any(_has(scan, word) for scan in scans)), None)
    able = [scan for scan in scans if word is None or _has(scan, word)]
    taken = min(able, key=_rank)
    ignored[OTHER_RECONSTRUCTIONS] += len(scans) - 1
    named = series_words(f"{taken.description} {_method(taken)}".strip()) or "the first"
    why = f"by {_SETTLED}" if word is not None else f"set {_SETTLED} for another"
    note = f"{len(scans)} reconstructions of this acquisition are in the source; taken: {named} ({why})"
    return replace(taken, notes=(*taken.notes, note))


def _has(scan: FoundScan, word: str) -> bool:
    text = f"{scan.description} {_method(scan)} {scan.image_id} {scan.files[0].name if scan.files else ''}"
    return _plain(word) in _plain(text)


def _plain(text: str) -> str:
    return re.sub(r"[\W_]+", " ", text.lower()).strip()


def _method(scan: FoundScan) -> str:
    return scan.acquired.method if scan.acquired is not None else ""


def _rank(scan: FoundScan) -> tuple[object, ...]:
    """Order reconstructions: corrected for attenuation, as the scanner made them, in frames, iterative."""
    acquired = scan.acquired or Acquired()
    words = _plain(f"{scan.description} {acquired.method} {scan.image_id} {scan.files[0].name}")
    uncorrected = acquired.corrected is False or names_no_attenuation(words)
    return (
        uncorrected,
        acquired.derived,
        -acquired.frames,
        -bool(re.search(r"\bdyn", words)),
        bool(re.search(r"\b(fbp|fore|filtered back|dift)", words)),
        words,
        scan.identity,
    )


def _acquisitions(group: Sequence[FoundScan], prefer: Sequence[str]) -> list[list[FoundScan]]:
    """Return the scans of each acquisition, by time and by what their headers share."""
    found: list[list[FoundScan]] = []
    for scan in sorted(group, key=lambda one: (_start(one), one.identity)):
        same = next((one for one in found if any(_are_one(scan, other, prefer) for other in one)), None)
        if same is None:
            found.append([scan])
        else:
            same.append(scan)
    return found


def _start(scan: FoundScan) -> float:
    start = scan.acquired.start_s if scan.acquired is not None else None
    return float("inf") if start is None else start


def _are_one(a: FoundScan, b: FoundScan, prefer: Sequence[str]) -> bool:
    first, second = a.acquired, b.acquired
    if first is None or second is None or not first.shared & second.shared:
        # Levels of ADNI's processing have UIDs of their own.
        levels = {level_of(scan.description) for scan in (a, b)}
        return bool(prefer) and len(levels) > 1
    if None in (first.start_s, first.end_s, second.start_s, second.end_s):
        return True
    return _overlap(first, second)


def _overlap(first: Acquired, second: Acquired) -> bool:
    a, b = first.start_s or 0.0, second.start_s or 0.0
    return a == b or (a < (second.end_s or b) and b < (first.end_s or a))


def _by_tracer(scans: Sequence[FoundScan]) -> list[list[FoundScan]]:
    groups: dict[str, list[FoundScan]] = defaultdict(list)
    for scan in scans:
        groups[scan.tracer or tracer_of(scan.description) or ""].append(scan)
    # An original that states no tracer belongs to the one tracer of the day that is stated.
    if "" in groups and len(groups) == 2:
        nameless = groups.pop("")
        next(iter(groups.values())).extend(nameless)
    return list(groups.values())

"""The plan of a cohort: which subject is scanned when, where and how, and which scans are spoiled on purpose.

The plan is drawn at once from the seed and holds everything that decides a scan, so that scans can then be
made in any order, by any number of processes, with the same bytes.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, replace

import numpy as np

from models.arrays import Floats
from pipeline.config import PhantomSettings
from pipeline.phantom.population import (
    PRESETS,
    Latents,
    Preset,
    class_at,
    later_stage,
    posterior,
    rank_of,
    sample_classes,
)

SPOILED_RULES = (
    "missing-slices",
    "wrong-tracer",
    "truncated-file",
    "not-attenuation-corrected",
    "outside-window",
)
CUT_RULE = "reference-coverage"
"""The field of view ends above the lower cerebellum: only where scanners vary."""
BROKEN_RULES = ("wrong-attenuation-map", "attenuation-only-claimed")
"""What a broken reconstruction does without a word in the header: it dims the front, which passes every check
of quality, or all but the rim, of which checks warn."""
VENDORS = ("SIEMENS", "GE MEDICAL SYSTEMS", "Philips")
_SITES = 12
_DYNAMIC_SHARE = 0.15
FIRST_IMAGE_ID, IMAGE_ID_STEP = 1_000_001, 17
DRAWN_AT = dt.date(2018, 1, 1)
"""Day at which the ages of subjects are drawn."""
COHORT_STREAM, BATCH_STREAM = 0, 5
"""Streams of random numbers, beside those that make the scans."""


@dataclass(frozen=True)
class Subject:
    """A made-up person; nothing here depends on the class."""

    index: int
    ptid: str
    male: bool
    birth: dt.date
    education_years: int
    height_m: float
    weight_kg: float
    vendor: str
    older_phase: bool
    """Enrolled in ADNI2, whose tables state diagnoses as DXCHANGE instead of DIAGNOSIS."""

    @property
    def rid(self) -> int:
        """ADNI's roster id: the number after ``_S_``."""
        return int(self.ptid.rsplit("_", 1)[1])


@dataclass(frozen=True)
class PlannedScan:
    """One scan before it is made.

    Parameters
    ----------
    image_id : int
        ADNI's ImageUID.
    start : datetime
        Local time at which the first frame starts.
    after_injection_s : float
        Seconds from injection to `start`.
    frames_s : tuple of float
        Length of each frame; one for a static scan.
    label : int
        Index into the preset's class names.
    posterior : tuple of float
        P(class | stage, subtype), exact.
    spoiled : str
        The rule this scan breaks on purpose, of `SPOILED_RULES` or `BROKEN_RULES`; empty for a sound scan.
    """

    image_id: int
    subject: Subject
    visit: int
    start: dt.datetime
    after_injection_s: float
    frames_s: tuple[float, ...]
    dose_bq: float
    latents: Latents
    label: int
    posterior: tuple[float, ...]
    diagnosed_on: dt.date
    spoiled: str = ""


def plan_cohort(settings: PhantomSettings, seed: int) -> tuple[PlannedScan, ...]:
    """Draw subjects, visits and spoiled scans.

    Raises
    ------
    ConfigError
        If the scans cannot be spread over the subjects, one to three each.
    """
    settings.check_visits()
    preset = PRESETS[settings.preset]
    rng = np.random.default_rng([seed, COHORT_STREAM])
    labels, stages, typical = sample_classes(preset, settings.subjects, rng)
    visits = _visits_per_subject(settings.subjects, settings.scans, rng)
    scans: list[PlannedScan] = []
    for k in range(settings.subjects):
        subject = draw_subject(k, rng)
        first = draw_latents((float(stages[k]), bool(typical[k])), rng)
        scans += _draw_visits(preset, subject, first, int(labels[k]), int(visits[k]), rng)
    scans = [replace(s, image_id=FIRST_IMAGE_ID + IMAGE_ID_STEP * n) for n, s in enumerate(scans)]
    chosen = rng.permutation(len(scans))[: round(settings.spoiled * len(scans))]
    # What spoils the files of the atlas's own brain stays as it was.
    varied = settings.anatomy == "people" or settings.anatomies is not None
    rules = (*SPOILED_RULES, CUT_RULE) if varied else SPOILED_RULES
    for n, where in enumerate(chosen):
        scans[where] = spoil(scans[where], rules[n % len(rules)])
    return tuple(scans)


def _visits_per_subject(subjects: int, scans: int, rng: np.random.Generator) -> list[int]:
    """Spread the scans beyond the first over a random third of the subjects, more of them where they must."""
    extra = scans - subjects
    returning = max(subjects // 3, -(-extra // 2))
    thrice = max(extra - returning, extra // 8)
    twice = extra - 2 * thrice
    visits = [3] * thrice + [2] * twice + [1] * (subjects - thrice - twice)
    return [int(v) for v in rng.permutation(visits)]


def draw_subject(index: int, rng: np.random.Generator) -> Subject:
    """Draw a person; the index makes the roster number."""
    site = int(rng.integers(_SITES))
    male = bool(rng.random() < 0.48)
    height_m = float(np.clip(rng.normal(1.76 if male else 1.62, 0.07), 1.4, 2.0))
    # Rosters grew past four digits: every eighth PTID has five.
    rid = 10_000 + index if index % 8 == 7 else 4_000 + index
    age = float(np.clip(rng.normal(73.0, 7.0), 55.0, 92.0))
    return Subject(
        index=index,
        ptid=f"{2 + 9 * site:03d}_S_{rid:04d}",
        male=male,
        birth=DRAWN_AT - dt.timedelta(days=round(365.25 * age)),
        education_years=int(np.clip(round(rng.normal(16.0, 2.5)), 8, 20)),
        height_m=height_m,
        weight_kg=round(float(np.clip(rng.normal(26.5, 3.5), 18.0, 38.0)) * height_m**2, 1),
        vendor=VENDORS[site % len(VENDORS)],
        older_phase=bool(rng.random() < 0.15),
    )


def draw_latents(drawn: tuple[float, bool], rng: np.random.Generator) -> Latents:
    """Draw what an image shows beside stage and subtype, which are drawn with the class."""
    asymmetry = float(rng.normal(0.0, 0.08))
    return Latents(*drawn, asymmetry, capacity=0.9 * float(rng.lognormal(0.0, 0.25)))


def _draw_visits(
    preset: Preset, subject: Subject, first: Latents, label: int, visits: int, rng: np.random.Generator
) -> list[PlannedScan]:
    latents = first
    year = 2015 if subject.older_phase else 2017
    day = dt.date(year, 3, 1) + dt.timedelta(days=int(rng.integers(700)))
    rank = None
    scans = []
    for visit in range(visits):
        if visit:
            years = float(rng.uniform(1.0, 2.2))
            day += dt.timedelta(days=round(365.25 * years))
            latents = replace(latents, stage=later_stage(latents.stage, years, rng))
        p = posterior(preset, np.array([latents.stage]), np.array([latents.typical]))[0]
        if rank is None:
            rank = rank_of(p, label, rng)
        scans.append(plan_scan(subject, visit, day, (latents, class_at(p, rank), p), rng))
    return scans


def plan_scan(
    subject: Subject,
    visit: int,
    day: dt.date,
    person: tuple[Latents, int, Floats],
    rng: np.random.Generator,
) -> PlannedScan:
    """Plan one scan of a person with these latents, class and posterior; the image id is given later."""
    latents, label, p = person
    after_s, frames_s = _draw_frames(rng)
    return PlannedScan(
        image_id=0,
        subject=subject,
        visit=visit,
        start=dt.datetime.combine(day, dt.time(9)) + dt.timedelta(seconds=int(rng.integers(6 * 3600))),
        after_injection_s=after_s,
        frames_s=frames_s,
        dose_bq=370e6 * float(np.clip(rng.normal(1.0, 0.05), 0.9, 1.1)),
        latents=latents,
        label=label,
        posterior=tuple(float(x) for x in p),
        diagnosed_on=day + dt.timedelta(days=int(rng.integers(-75, 76))),
    )


def _draw_frames(rng: np.random.Generator) -> tuple[float, tuple[float, ...]]:
    """Return seconds from injection to the first frame, and the length of each frame."""
    long = rng.random() < 0.5
    frames = 6 if long else 4
    after_s = (75.0 if long else 80.0) * 60 + float(rng.integers(-60, 61))
    if rng.random() < _DYNAMIC_SHARE:
        return after_s, (300.0,) * frames
    return after_s, (300.0 * frames,)


def spoil(scan: PlannedScan, rule: str) -> PlannedScan:
    """Plan a scan so that it breaks a rule."""
    scan = replace(scan, spoiled=rule)
    if rule == "outside-window":
        # Flow, not binding, is what the first half hour shows.
        return replace(scan, after_injection_s=600.0, frames_s=(1200.0,))
    if rule == "wrong-tracer":
        return replace(scan, after_injection_s=1800.0, frames_s=(1800.0,))
    return scan

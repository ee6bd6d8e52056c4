"""One planned scan made in memory: whose brain it is, what it takes up and what the scanner sees of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pipeline.config import PhantomSettings
from pipeline.phantom.anatomy import Rendering, draw_glucose_uptake, draw_uptake, render
from pipeline.phantom.brain_labels import list_people
from pipeline.phantom.cohort import PlannedScan
from pipeline.phantom.people import paint_person
from pipeline.phantom.scanner import Acquisition, acquire, with_wrong_map

# Streams of random numbers: what belongs to a subject, and what belongs to a scan.
_SUBJECT_UPTAKE, _SCAN_UPTAKE, _SUBJECT_HEAD, _SCAN_SCANNER = 1, 2, 3, 4
_PEOPLE = 6


def make_scan(
    scan: PlannedScan, seed: int, settings: PhantomSettings | None = None
) -> tuple[Rendering, Acquisition]:
    """Make one planned scan in memory.

    Parameters
    ----------
    settings : PhantomSettings, optional
        Whose brain it is; the atlas's own without them.

    Returns
    -------
    Rendering
        What is in the head.
    Acquisition
        What the scanner saw of it.

    Raises
    ------
    InputError
        If the label volume of a real person cannot be painted.
    """
    subject, own = scan.subject.index, scan.image_id
    if scan.spoiled == "wrong-tracer":
        uptake = draw_glucose_uptake([seed, _SCAN_UPTAKE, own])
    else:
        uptake = draw_uptake(scan.latents, [seed, _SUBJECT_UPTAKE, subject], [seed, _SCAN_UPTAKE, own])
    person = person_of(scan, settings, seed) if settings else None
    rendering = paint_person(person, uptake, [seed, _SUBJECT_HEAD, subject]) if person else render(uptake)
    acquisition = acquire(
        with_wrong_map(rendering) if scan.spoiled == "wrong-attenuation-map" else rendering,
        scan.subject.vendor,
        scan.frames_s,
        [seed, _SUBJECT_HEAD, subject],
        [seed, _SCAN_SCANNER, own],
        attenuation_corrected=scan.spoiled not in ("not-attenuation-corrected", "attenuation-only-claimed"),
    )
    return rendering, acquisition


def person_of(scan: PlannedScan, settings: PhantomSettings, seed: int) -> Path | None:
    """Return the label volume that is a subject's brain; None for the atlas's own.

    People are dealt to the subjects in an order drawn from the seed, again from the first where they are
    fewer: without a look at class, stage, age or sex.

    Raises
    ------
    InputError
        If the folder is missing or holds none.
    """
    if settings.anatomies is None:
        return None
    people = list_people(settings.anatomies)
    order = np.random.default_rng([seed, _PEOPLE]).permutation(len(people))
    return people[int(order[scan.subject.index % len(people)])]

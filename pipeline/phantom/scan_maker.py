"""One planned scan made in memory: whose brain it is, what it takes up and what the scanner sees of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pipeline.config import PhantomSettings
from pipeline.phantom.anatomy import Rendering, Uptake, draw_glucose_uptake, draw_uptake, render
from pipeline.phantom.brain_labels import list_people
from pipeline.phantom.cohort import PlannedScan
from pipeline.phantom.conditions import UNCORRECTED, Conditions, draw_conditions
from pipeline.phantom.real_people import paint_person
from pipeline.phantom.scanner import Acquisition, acquire, with_wrong_map
from pipeline.phantom.variation import Variation, draw_variation
from pipeline.phantom.warped import paint_warped

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
    settings = settings or PhantomSettings()
    head_seed, scanner_seed = [seed, _SUBJECT_HEAD, subject], [seed, _SCAN_SCANNER, own]
    rendering = _render(scan, uptake, settings, seed, head_seed)
    plain = settings.anatomy == "affine" and settings.anatomies is None
    acquisition = acquire(
        with_wrong_map(rendering) if scan.spoiled == "wrong-attenuation-map" else rendering,
        scan.subject.vendor,
        scan.frames_s,
        head_seed,
        scanner_seed,
        Conditions(scan.spoiled not in UNCORRECTED) if plain else draw_conditions(scanner_seed, scan.spoiled),
    )
    return rendering, acquisition


def _render(
    scan: PlannedScan, uptake: Uptake, settings: PhantomSettings, seed: int, head_seed: list[int]
) -> Rendering:
    """Paint the brain that the settings ask for; the scan's class has no part in it."""
    if person := person_of(scan, settings, seed):
        return paint_person(person, uptake, head_seed)
    if settings.anatomy == "affine":
        return render(uptake)
    return paint_warped(uptake, variation_of(scan, seed))


def variation_of(scan: PlannedScan, seed: int) -> Variation:
    """Return the anatomy of a planned scan where `anatomy` is `people`."""
    age = (scan.start.date() - scan.subject.birth).days / 365.25
    head_seed = [seed, _SUBJECT_HEAD, scan.subject.index]
    return draw_variation(head_seed, age, scan.latents.stage, scan.latents.asymmetry)


def person_of(scan: PlannedScan, settings: PhantomSettings, seed: int) -> Path | None:
    """Return the label volume that is a subject's brain; None for the atlas's own.

    People are assigned to the subjects in an order drawn from the seed, again from the first where they are
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

"""The plan of a batch: new subjects who follow a cohort, and from whom they may differ."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace

import numpy as np

from pipeline.config import BatchSettings, PhantomSettings
from pipeline.errors import InputError
from pipeline.phantom.cohort import (
    BATCH_STREAM,
    BROKEN_RULES,
    DRAWN_AT,
    FIRST_IMAGE_ID,
    IMAGE_ID_STEP,
    SPOILED_RULES,
    PlannedScan,
    draw_latents,
    draw_subject,
    plan_scan,
    spoil,
)
from pipeline.phantom.population import PRESETS, Preset, posterior, sample_classes
from pipeline.phantom.scanner import NEW_SCANNER

_FIRST_YEAR = 2024


def plan_batch(settings: PhantomSettings, seed: int, number: int) -> tuple[PlannedScan, ...]:
    """Draw new subjects who are scanned once each, in the month of a batch.

    Where the batch has a prevalence of its own, classes are drawn from it and the posterior is the one that
    holds at it: p(k | stage) of the preset times new over old share of k, made to sum to one. Who is scanned
    on the new scanner or reconstructed wrongly is drawn without looking at the class.

    Parameters
    ----------
    number : int
        From 1; the first batch comes in January 2024, after every visit of the cohort.

    Raises
    ------
    InputError
        If there is no such batch, or its prevalence does not fit the preset.
    """
    batch, before = _batch(settings, number), sum(b.scans for b in settings.batches[: number - 1])
    preset = _at_prevalence(PRESETS[settings.preset], batch)
    rng = np.random.default_rng([seed, BATCH_STREAM, number])
    first_day = dt.date(_FIRST_YEAR + (number - 1) // 12, (number - 1) % 12 + 1, 1)
    labels, stages, typical = sample_classes(preset, batch.scans, rng)
    posteriors = posterior(preset, stages, typical)
    scans = []
    for k in range(batch.scans):
        drawn = draw_subject(settings.subjects + before + k, rng)
        born = drawn.birth + (first_day - DRAWN_AT)
        subject = replace(drawn, birth=born, older_phase=False)
        latents = draw_latents((float(stages[k]), bool(typical[k])), rng)
        day = first_day + dt.timedelta(days=int(rng.integers(28)))
        scan = plan_scan(subject, 0, day, (latents, int(labels[k]), posteriors[k]), rng)
        scans.append(replace(scan, image_id=FIRST_IMAGE_ID + IMAGE_ID_STEP * (settings.scans + before + k)))
    return tuple(_change(scans, batch, rng))


def _batch(settings: PhantomSettings, number: int) -> BatchSettings:
    if not 1 <= number <= len(settings.batches):
        raise InputError(
            f"There is no batch {number}: phantom.batches plans {len(settings.batches)}",
            where="phantom.batches",
            hint="add the batch to phantom.batches, or choose a planned one",
        )
    return settings.batches[number - 1]


def _at_prevalence(preset: Preset, batch: BatchSettings) -> Preset:
    shares = batch.prevalence or preset.prevalence
    classes = len(preset.class_names)
    if len(shares) != classes or min(shares) <= 0 or abs(sum(shares) - 1) > 1e-6:
        raise InputError(
            f"The prevalence is {list(shares)}. Expected {classes} shares above 0 that sum to 1",
            where="phantom.batches",
            hint=f"give a share for each of {', '.join(preset.class_names)}",
        )
    return replace(preset, prevalence=tuple(shares))


def _change(scans: list[PlannedScan], batch: BatchSettings, rng: np.random.Generator) -> list[PlannedScan]:
    """Give some scans to the new scanner, and break or spoil others."""
    moved = set(rng.permutation(len(scans))[: round(batch.new_scanner * len(scans))].tolist())
    vendor = NEW_SCANNER.vendor
    changed = [
        replace(s, subject=replace(s.subject, vendor=vendor)) if n in moved else s
        for n, s in enumerate(scans)
    ]
    order = rng.permutation(len(scans)).tolist()
    broken, spoiled = round(batch.broken * len(scans)), round(batch.spoiled * len(scans))
    for rules, chosen in (
        (BROKEN_RULES, order[:broken]),
        (SPOILED_RULES, order[broken : broken + spoiled]),
    ):
        for n, where in enumerate(chosen):
            changed[where] = spoil(changed[where], rules[n % len(rules)])
    return changed

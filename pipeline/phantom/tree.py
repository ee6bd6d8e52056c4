"""A cohort on disk: ADNI's download tree, its tables, and the truth of every scan beside them."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import as_completed
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np

from pipeline.config import PhantomSettings
from pipeline.errors import InputError, TaucalError
from pipeline.files import exclusive, read_json, write_json, write_text, written_whole
from pipeline.phantom.anatomy import Rendering
from pipeline.phantom.batch import plan_batch
from pipeline.phantom.brain_labels import fingerprint_of_people, read_person
from pipeline.phantom.cohort import PlannedScan, plan_cohort
from pipeline.phantom.decoys import has_decoys, write_decoys
from pipeline.phantom.dicom_writer import WATERMARK, folder_of, write_series
from pipeline.phantom.population import PRESETS
from pipeline.phantom.scan_maker import make_scan, person_of
from pipeline.phantom.scanner import Acquisition
from pipeline.phantom.tables import EXPORT_DATE, demographics_table, diagnosis_table, truth_table
from pipeline.processes import worker_pool

Progress = Callable[[int, int], None]
_FORMAT = 2
_README = f"""{WATERMARK}: every scan and every person below this folder was made up by taucal.

<PTID>/<series>/<date>/I<id>/*.dcm   PET images, laid out as an ADNI download; beside some of them lie an MR,
                                    a CT and an amyloid PET of three slices, to be left alone
tables/DXSUM_*, PTDEMOG_*           diagnoses and demographics, in ADNI's columns
tables/PHANTOM_TRUTH.csv            class, exact class probabilities, and what was spoiled on purpose
truth/I<id>.json                    where template space lies in the scan, and its true regional SUVR
"""
_README_OF_PEOPLE = """
Anatomies differ by more than an affine map. Regions are the person's own: those of the atlas, warped and
thinned (warp_mm in truth/ states by how much), or those of a label volume (anatomy in truth/ names it, as
ANATOMY in the table does; head_to_native_mm leads from its own millimetres, its brain moved to the template).
"""


def write_cohort(
    settings: PhantomSettings,
    out: Path,
    seed: int,
    progress: Progress | None = None,
) -> Path:
    """Write a synthetic AV1451 cohort as an ADNI download; go on where an earlier call stopped.

    Parameters
    ----------
    settings : PhantomSettings
        The number of workers changes the time it takes, never a byte.
    out : Path
        New, empty, or left by an earlier call with the same settings and seed.
    seed : int
        Decides everything.
    progress : callable, optional
        Called as ``progress(done, total)`` in scans.

    Returns
    -------
    Path
        `out`.

    Raises
    ------
    InputError
        If the folder cannot be written to, holds something else or another cohort, is being written by
        another process, or the scans cannot be spread over the subjects.
    TaucalError
        If the disk is full; what was finished stays.
    """
    scans = plan_cohort(settings, seed)
    _check_people(scans, settings, seed)
    with _writing(out):
        _claim_cohort(out, settings, seed)
        _write_tables(scans, settings, seed, out / "tables")
        _write_decoys(scans, out)
        _write_missing(scans, out, seed, settings, progress)
    return out


def write_batch(
    settings: PhantomSettings,
    out: Path,
    seed: int,
    number: int,
    progress: Progress | None = None,
) -> Path:
    """Add a batch of new subjects to a cohort on disk; go on where an earlier call stopped.

    The batch brings tables of its own beside those that are there, so the tables together list everyone.

    Parameters
    ----------
    settings, out, seed
        Those of the cohort; `settings.batches` defines the batch.
    number : int
        From 1. Batches may be added in any order.
    progress : callable, optional
        Called as ``progress(done, total)`` in scans of the batch.

    Returns
    -------
    Path
        `out`.

    Raises
    ------
    InputError
        As `write_cohort`, or if there is no such batch.
    TaucalError
        If the disk is full; what was finished stays.
    """
    scans = plan_batch(settings, seed, number)
    _check_people(scans, settings, seed)
    with _writing(out):
        _claim_cohort(out, settings, seed)
        batch = settings.batches[number - 1].model_dump(mode="json")
        _claim(out / f"phantom-batch{number:02d}.json", {"synthetic": True, "batch": number, **batch})
        _write_tables(scans, settings, seed, out / "tables", f"_batch{number:02d}")
        _write_missing(scans, out, seed, settings, progress)
    return out


def _writing(out: Path) -> AbstractContextManager[None]:
    return exclusive(out.parent / f".{out.name}.lock", "cohort", wait=False)


def _check_people(scans: tuple[PlannedScan, ...], settings: PhantomSettings, seed: int) -> None:
    """Read every label volume that will be painted, before anything is written."""
    for path in sorted({path for scan in scans if (path := person_of(scan, settings, seed))}):
        read_person(path)


def _write_missing(
    scans: tuple[PlannedScan, ...],
    out: Path,
    seed: int,
    settings: PhantomSettings,
    progress: Progress | None,
) -> None:
    missing = [s for s in scans if not (out / folder_of(s)).is_dir()]
    done = len(scans) - len(missing)
    if progress:
        progress(done, len(scans))
    for _ in _write_all(missing, out, seed, settings):
        done += 1
        if progress:
            progress(done, len(scans))


def _write_tables(
    scans: tuple[PlannedScan, ...], settings: PhantomSettings, seed: int, folder: Path, ending: str = ""
) -> None:
    preset = PRESETS[settings.preset]
    truth = truth_table(scans, preset)
    if settings.anatomies:
        truth["ANATOMY"] = [_name_of(person_of(scan, settings, seed)) for scan in scans]
    tables = {
        f"DXSUM_{EXPORT_DATE}{ending}.csv": diagnosis_table(scans, preset),
        f"PTDEMOG_{EXPORT_DATE}{ending}.csv": demographics_table(scans),
        f"PHANTOM_TRUTH{ending}.csv": truth,
    }
    for name, table in tables.items():
        with written_whole(folder / name) as beside:
            table.to_csv(beside, index=False)


def _name_of(person: Path | None) -> str:
    return person.name.removesuffix(".gz").removesuffix(".nii") if person else ""


def _claim_cohort(out: Path, settings: PhantomSettings, seed: int) -> None:
    """Make the folder the cohort's, or see that it already is."""
    manifest = out / "phantom.json"
    occupied = out.exists() and (not out.is_dir() or any(not p.name.startswith(".") for p in out.iterdir()))
    if occupied and not manifest.is_file():
        raise InputError(
            "The folder holds other files. A new phantom needs an empty folder",
            where=str(out),
            hint="choose another folder",
        )
    ours = {
        "synthetic": True,
        "format": _FORMAT,
        "seed": seed,
        "settings": settings.model_dump(mode="json", exclude={"workers", "batches", "anatomies"}),
    }
    if settings.anatomies:
        # What the volumes hold counts, not where they lie.
        ours["people"] = fingerprint_of_people(settings.anatomies)
    if _claim(manifest, ours):
        varied = settings.anatomy == "people" or settings.anatomies is not None
        write_text(out / "README.txt", _README + _README_OF_PEOPLE if varied else _README)


def _claim(manifest: Path, ours: dict[str, object]) -> bool:
    """Write down what a folder holds, unless it says so already; return whether it is new."""
    if not manifest.is_file():
        write_json(manifest, ours)
        return True
    if read_json(manifest) != ours:
        raise InputError(
            "The folder holds a phantom with other settings or another seed",
            where=str(manifest.parent),
            hint="choose another folder, or delete this one",
        )
    return False


def _write_all(scans: list[PlannedScan], out: Path, seed: int, settings: PhantomSettings) -> Iterator[None]:
    if settings.workers == 1 or len(scans) < 2:
        for scan in scans:
            _write_scan(scan, out, seed, settings)
            yield
        return
    with worker_pool(min(settings.workers, len(scans))) as pool:
        for future in as_completed([pool.submit(_write_scan, scan, out, seed, settings) for scan in scans]):
            future.result()
            yield


def _write_decoys(scans: tuple[PlannedScan, ...], out: Path) -> None:
    for scan in filter(has_decoys, scans):
        try:
            write_decoys(scan, out)
        except OSError as error:
            raise _does_not_fit(out, error) from error


def _write_scan(scan: PlannedScan, out: Path, seed: int, settings: PhantomSettings) -> None:
    """Make one scan; its folder appears last and whole."""
    target = out / folder_of(scan)
    unfinished = target.with_name(f".tmp-{target.name}")
    rendering, acquisition = make_scan(scan, seed, settings)
    truth = _truth(scan, rendering, acquisition)
    if rendering.warp is not None:
        length = np.linalg.norm(rendering.warp, axis=0)
        truth["warp_mm"] = {"mean": round(float(length.mean()), 6), "largest": round(float(length.max()), 6)}
    if person := person_of(scan, settings, seed):
        truth["anatomy"] = _name_of(person)
        truth["head_to_native_mm"] = truth.pop("template_to_native_mm")
    try:
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(parents=True)
        write_series(scan, acquisition, unfinished)
        write_json(out / "truth" / f"I{scan.image_id}.json", truth)
        unfinished.rename(target)
    except OSError as error:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise _does_not_fit(target, error) from error


def _does_not_fit(target: Path, error: OSError) -> TaucalError:
    return TaucalError(
        f"The scan cannot be written ({error.strerror})",
        where=str(target),
        hint="free space or make the folder writable, then run the same command again: it continues here",
    )


def _truth(scan: PlannedScan, rendering: Rendering, acquisition: Acquisition) -> dict[str, object]:
    return {
        "synthetic": True,
        "image_id": scan.image_id,
        "spoiled": scan.spoiled,
        "template_to_native_mm": [np.round(m, 9).tolist() for m in acquisition.template_to_native],
        "regional_suvr": {name: round(value, 6) for name, value in rendering.regional.items()},
        "resolution_mm": round(acquisition.resolution_mm, 6),
    }

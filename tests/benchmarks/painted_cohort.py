"""A cohort of painted phantom scans that `taucal compare` reads: no DICOM, no registration.

    python tests/benchmarks/painted_cohort.py data/painted --scans 300
    taucal compare configs/compare_phantom.yaml --set cohort.path=data/painted

The scans are those of `cross_fitting.py` (point spread of 5 to 8 mm, correlated noise), one a subject, with
their true posterior.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import nibabel as nib
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent))

from cross_fitting import PRESET, paint_suvr

from flows.ingestion.ingest_tables import COHORT_TABLE
from pipeline.atlas import AFFINE
from pipeline.phantom.population import posterior, sample_classes
from pipeline.scan import Cohort, Scan


def write(folder: Path, scans: int, seed: int) -> Path:
    """Write volumes and the cohort's table; volumes that are there are left as they are."""
    rng = np.random.default_rng([seed, 99])
    labels, stages, typical = sample_classes(PRESET, scans, rng)
    truth = posterior(PRESET, stages, typical)
    found = []
    for n in range(scans):
        path = folder / "volumes" / f"{n:05d}.nii"
        if not path.is_file():
            path.parent.mkdir(parents=True, exist_ok=True)
            suvr = paint_suvr(n, seed, float(stages[n]), bool(typical[n])).astype(np.float32)
            nib.save(nib.Nifti1Image(suvr, AFFINE), path)
        diagnosis = PRESET.class_names[labels[n]]
        shares = tuple(truth[n].tolist())
        found.append(Scan(f"{n:05d}", "M0", path.resolve(), diagnosis=diagnosis, posterior=shares))
    table = folder / COHORT_TABLE
    table.parent.mkdir(parents=True, exist_ok=True)
    Cohort(tuple(found), PRESET.class_names).write_tsv(table)
    return table


def main() -> None:
    """Write the cohort."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--scans", type=int, default=300)
    parser.add_argument("--seed", type=int, default=5)
    asked = parser.parse_args()
    print(write(asked.folder, asked.scans, asked.seed))


if __name__ == "__main__":
    main()

"""Scans normalised by dcccpy, read in the same regions: used by `anatomies.py` and `warp_peers.py`.

Published mean errors of its SUVR on real flortaucipir scans, against processing with MRI, are 1.4 to 2.1 %
(README of DCCCSlicer). Its program DCCCcore brings a scan to the MNI space of SPM, by networks for rigid and
for elastic alignment (the wheel for Linux holds the method ``rigid_voxelmorph``). The result is read in
taucal's atlas, whose MNI space is a slightly other one.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

import nibabel as nib
import numpy as np
from scipy import ndimage

from pipeline.atlas import AFFINE, SHAPE
from pipeline.imaging.input_checks import ASSUMED_RESOLUTION_MM
from pipeline.imaging.space import coarse_volume, smoothing_sigma_mm
from pipeline.imaging.suvr import composites, regional_table, to_suvr
from pipeline.scan import FloatArray, Volume

RUNTIME = "dcccpy_linux_runtime/vendor/dccccore/linux-x86_64"


def normalised_by_dcccpy(scan: Volume, packages: str) -> FloatArray:
    """Return a scan on the template grid, smoothed to 8 mm before.

    Parameters
    ----------
    scan : Volume
        3D; `facts` may hold ``resolution_mm``.
    packages : str
        Folder that holds ``dcccpy_linux_runtime``.

    Raises
    ------
    RuntimeError
        If the program ends without an image.
    """
    home = Path(packages) / RUNTIME
    own_mm = float(str(scan.facts.get("resolution_mm", ASSUMED_RESOLUTION_MM)))
    smooth = coarse_volume(scan, 2.0, smoothing_sigma_mm(own_mm, 8.0))
    with tempfile.TemporaryDirectory() as folder:
        given, made = Path(folder) / "scan.nii", Path(folder) / "normalised.nii"
        nib.save(nib.Nifti1Image(np.nan_to_num(smooth.array).astype(np.float32), smooth.affine), given)
        paths = {"--input": given, "--output": made, "--config": home / "assets/configs/config.toml"}
        ended = subprocess.run(
            [str(home / "DCCCcore"), "normalize", *(str(word) for pair in paths.items() for word in pair)],
            cwd=home,
            env=os.environ | {"LD_LIBRARY_PATH": str(home)},
            capture_output=True,
            text=True,
            check=False,
        )
        if ended.returncode or not made.exists():
            raise RuntimeError(f"DCCCcore ended with {ended.returncode}: {ended.stdout}{ended.stderr}")
        image = nib.load(made)
        there = np.linalg.inv(image.affine) @ AFFINE
        places = there[:3, :3] @ np.indices(SHAPE).reshape(3, -1) + there[:3, 3:]
        values = np.asarray(image.dataobj, dtype=np.float32)
    return np.asarray(ndimage.map_coordinates(values, places, order=1).reshape(SHAPE))


def read_by_dcccpy(scan: Volume, packages: str) -> Mapping[str, float]:
    """Return SUVR in the atlas's regions, named as `Normalised.region_values` does."""
    suvr = to_suvr(normalised_by_dcccpy(scan, packages))
    regions = regional_table(suvr)
    values = dict(zip(regions["side"] + "_" + regions["region"], regions["suvr"].astype(float), strict=True))
    return values | {f"composite_{name}": value for name, value in composites(suvr).items()}


def processor_seconds() -> float:
    """Return the seconds of this process and of those it has waited for."""
    return sum(os.times()[:4])

"""The template space, its tissue maps and its regions: one definition for phantom, SUVR and reports.

The template is the MNI152 2009a symmetric space that nilearn ships, resampled to a 96 x 112 x 96 grid of
2 mm whose left and right halves are mirror images. Cortical regions are the grey voxels nearest to each
region's published centre, mirrored left and right: coarse, but the same for every scan and free of any MRI.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Literal

import nibabel as nib
import nilearn
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import cKDTree

SPACE = "MNI152NLin2009aSym"
SPACING_MM = 2.0
SHAPE = (96, 112, 96)
AFFINE: NDArray[np.float64] = np.array(
    [[SPACING_MM, 0, 0, -95], [0, SPACING_MM, 0, -126], [0, 0, SPACING_MM, -80], [0, 0, 0, 1]], dtype=np.float64
)
AFFINE.flags.writeable = False

REFERENCE = "inferior_cerebellar_grey"
META_ROI_DEFINITIONS: dict[str, tuple[str, ...]] = {
    "Mayo": ("amygdala", "entorhinal", "fusiform", "parahippocampal", "inferior_temporal", "middle_temporal"),
    "ADNI": ("amygdala", "entorhinal", "fusiform", "inferior_temporal", "middle_temporal"),
}
META_ROI = "Mayo"
META_ROI_CUTOFFS = (1.19, 1.34)
"""Published cut-offs of the temporal meta-ROI span this band; 1.25 is Mayo's."""

BRAAK_STAGES = ("I/II", "III/IV", "V/VI")

_SUBCORTICAL_RADIUS_MM = {
    "putamen": 11.0, "pallidum": 6.0, "caudate": 9.0, "thalamus": 10.0, "accumbens": 5.0,
    "ventral_dc": 6.0, "choroid_plexus": 5.0, "midbrain": 6.0,
}  # fmt: skip
_SPARED_CONTAMINATED = ("hippocampus",)


@dataclass(frozen=True)
class Region:
    """One region of the published table; SUVR moments are after blurring, against inferior cerebellar grey.

    `kind` is ``"target"`` (tau is read there), ``"offtarget"`` (binds without tau) or ``"background"``.
    `centre_mm` is MNI with x on the right; None for background tissue. `onset` is the stage at which the
    phantom's tau reaches the region; None where it never does.
    """

    name: str
    kind: Literal["target", "offtarget", "background"]
    centre_mm: tuple[float, float, float] | None
    negative_mean: float
    negative_sd: float
    positive_mean: float | None
    positive_sd: float | None
    p99: float | None
    braak: str | None
    onset: float | None


@dataclass(frozen=True, eq=False)
class Atlas:
    """Tissue maps and labels on the template grid.

    Parameters
    ----------
    labels : ndarray of int16, shape (96, 112, 96)
        Index into `names`; 0 is outside.
    names : tuple of str
        ``"left_entorhinal"``, ``"right_entorhinal"``, ...; ``names[0]`` is ``"outside"``.
    grey, white : ndarray of float32
        Tissue probabilities in [0, 1].
    brain : ndarray of bool
        Grey, white and what they enclose.
    """

    labels: NDArray[np.int16]
    names: tuple[str, ...]
    grey: NDArray[np.float32]
    white: NDArray[np.float32]
    brain: NDArray[np.bool_]

    def mask(self, region: str, side: Literal["left", "right"] | None = None) -> NDArray[np.bool_]:
        """Return where a region is: one side, or both together.

        Raises
        ------
        KeyError
            If there is no such region.
        """
        wanted = [region] if region in self.names else [f"{s}_{region}" for s in ([side] if side else ["left", "right"])]
        found = [k for k, name in enumerate(self.names) if name in wanted]
        if not found:
            raise KeyError(region)
        mask: NDArray[np.bool_] = np.isin(self.labels, found)
        return mask

    @property
    def reference(self) -> NDArray[np.bool_]:
        """Inferior cerebellar grey matter."""
        return self.mask(REFERENCE)

    def regions_of(self, kind: str) -> tuple[str, ...]:
        """Names of the regions of one kind that exist on this grid, without side."""
        return tuple(r.name for r in load_regions() if r.kind == kind and f"left_{r.name}" in self.names)


@functools.lru_cache(maxsize=1)
def load_regions() -> tuple[Region, ...]:
    """Read the region table that ships beside this module."""
    with resources.files("pipeline").joinpath("atlas_regions.tsv").open(encoding="utf-8") as stream:
        table = pd.read_csv(stream, sep="\t", na_values=["n/a"], keep_default_na=False)

    def value(x: object) -> float | None:
        return None if pd.isna(x) else float(x)  # type: ignore[call-overload, arg-type]

    return tuple(
        Region(
            name=row.region,
            kind=row.kind,
            centre_mm=None if pd.isna(row.x_mm) else (float(row.x_mm), float(row.y_mm), float(row.z_mm)),
            negative_mean=float(row.negative_mean),
            negative_sd=float(row.negative_sd),
            positive_mean=value(row.positive_mean),
            positive_sd=value(row.positive_sd),
            p99=value(row.p99),
            braak=None if pd.isna(row.braak) else str(row.braak),
            onset=value(row.onset),
        )
        for row in table.itertuples()
    )


def braak_composite(stage: str) -> tuple[str, ...]:
    """Target regions of a Braak composite; the hippocampus is left out, choroid plexus spills into it.

    Examples
    --------
    >>> braak_composite("I/II")
    ('entorhinal',)
    """
    return tuple(r.name for r in load_regions() if r.braak == stage and r.name not in _SPARED_CONTAMINATED)


@functools.lru_cache(maxsize=1)
def load_atlas() -> Atlas:
    """Build the atlas from nilearn's bundled maps; about half a second, once a process."""
    grey, white = _tissue("gm"), _tissue("wm")
    brain = ndimage.binary_fill_holes(ndimage.binary_closing(grey + white > 0.25, iterations=2))
    x, y, z = _coordinates()
    names = ["outside"]
    labels = np.zeros(SHAPE, dtype=np.int16)

    def add(name: str, where: NDArray[np.bool_]) -> None:
        names.append(name)
        labels[where & (labels == 0)] = len(names) - 1

    cerebellum = (y < -40) & (z < -35) | (y < -40) & (z < -18 + 0.25 * (y + 40)) & (np.abs(x) < 50) & (y > -92)
    for region in load_regions():
        if region.name in _SUBCORTICAL_RADIUS_MM and region.centre_mm is not None:
            near = _distance(region.centre_mm, np.abs(x), y, z) <= _SUBCORTICAL_RADIUS_MM[region.name]
            add(f"left_{region.name}", near & brain & (x < 0) & _nearest_subcortical(region.name))
            add(f"right_{region.name}", near & brain & (x > 0) & _nearest_subcortical(region.name))
    add(REFERENCE, (grey > 0.6) & cerebellum & (z < -35))
    add("cerebellar_grey", (grey > 0.5) & cerebellum)
    targets = [r for r in load_regions() if r.kind == "target" and r.centre_mm is not None]
    cortex = (grey > 0.4) & (grey >= white) & ~cerebellum & (labels == 0) & brain & ~_brainstem(x, y, z)
    tree = cKDTree(np.array([r.centre_mm for r in targets]))
    nearest = np.full(SHAPE, -1)
    nearest[cortex] = tree.query(np.column_stack([np.abs(x)[cortex], y[cortex], z[cortex]]))[1]
    for k, region in enumerate(targets):
        add(f"left_{region.name}", (nearest == k) & (x < 0))
        add(f"right_{region.name}", (nearest == k) & (x > 0))
    add("white_matter", (white > 0.6) & ~cerebellum)
    inside = brain & (grey + white < 0.35)
    add("lateral_ventricle", inside & (np.abs(x) < 26) & (y > -48) & (y < 36) & (z > -4) & (z < 32))
    return Atlas(labels, tuple(names), grey, white, brain)


def _tissue(kind: Literal["gm", "wm"]) -> NDArray[np.float32]:
    folder = Path(nilearn.__file__).parent / "datasets" / "data"
    image = nib.load(folder / f"mni_icbm152_{kind}_tal_nlin_sym_09a_converted.nii.gz")
    fine = np.asanyarray(image.dataobj).astype(np.float32) / 255.0
    to_fine = np.linalg.inv(image.affine) @ AFFINE
    # Half a template voxel of blur before taking every second voxel, so that thin cortex is not aliased.
    fine = ndimage.gaussian_filter(fine, 0.6)
    coarse = ndimage.affine_transform(fine, to_fine[:3, :3], to_fine[:3, 3], SHAPE, order=1, prefilter=False)
    mirrored: NDArray[np.float32] = ((coarse + coarse[::-1]) / 2).astype(np.float32)
    return mirrored


def _coordinates() -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    i, j, k = np.indices(SHAPE, dtype=np.float64)
    return tuple(SPACING_MM * a + AFFINE[n, 3] for n, a in enumerate((i, j, k)))  # type: ignore[return-value]


def _distance(
    centre: tuple[float, float, float], x: NDArray[np.float64], y: NDArray[np.float64], z: NDArray[np.float64]
) -> NDArray[np.float64]:
    return np.sqrt((x - centre[0]) ** 2 + (y - centre[1]) ** 2 + (z - centre[2]) ** 2)


def _nearest_subcortical(name: str) -> NDArray[np.bool_]:
    x, y, z = _coordinates()
    centres = {r.name: r.centre_mm for r in load_regions() if r.name in _SUBCORTICAL_RADIUS_MM and r.centre_mm}
    mine = _distance(centres[name], np.abs(x), y, z) / _SUBCORTICAL_RADIUS_MM[name]
    others = [_distance(c, np.abs(x), y, z) / _SUBCORTICAL_RADIUS_MM[n] for n, c in centres.items() if n != name]
    nearest: NDArray[np.bool_] = mine <= np.min(others, axis=0)
    return nearest


def _brainstem(x: NDArray[np.float64], y: NDArray[np.float64], z: NDArray[np.float64]) -> NDArray[np.bool_]:
    stem: NDArray[np.bool_] = (np.abs(x) < 14) & (y > -45) & (y < -12) & (z < -14)
    return stem

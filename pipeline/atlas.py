"""The template space, its tissue maps and its regions: one definition for phantom, SUVR and reports.

The template is the MNI152 2009a symmetric space that nilearn ships, resampled to a 96 x 112 x 96 grid of
2 mm whose left and right halves are mirror images. Gyri and nuclei are those of the Desikan-Killiany
parcellation of the same space (see `pipeline.parcellation`), averaged over left and right; a gyrus is the
core of its grey matter, where a scanner's blur mixes in least of its surroundings. What the parcellation
lacks - cerebellum, midbrain, choroid plexus - is drawn from published coordinates and the tissue maps.
"""

from __future__ import annotations

import functools
import math
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

from pipeline.parcellation import NUCLEI, published_shares

SPACE = "MNI152NLin2009aSym"
SPACING_MM = 2.0
SHAPE = (96, 112, 96)
AFFINE: NDArray[np.float64] = np.array(
    [[SPACING_MM, 0, 0, -95], [0, SPACING_MM, 0, -126], [0, 0, SPACING_MM, -80], [0, 0, 0, 1]],
    dtype=np.float64,
)
AFFINE.flags.writeable = False

REFERENCE = "inferior_cerebellar_grey"
META_ROI_DEFINITIONS: dict[str, tuple[str, ...]] = {
    "Mayo": ("amygdala", "entorhinal", "fusiform", "parahippocampal", "inferior_temporal", "middle_temporal"),
    "ADNI": ("amygdala", "entorhinal", "fusiform", "inferior_temporal", "middle_temporal"),
}
META_ROI = "Mayo"

BRAAK_STAGES = ("I/II", "III/IV", "V/VI")

_SUBCORTICAL_SEMIAXES_MM = {
    "ventral_dc": (6.0, 8, 5), "choroid_plexus": (5.5, 8, 6), "midbrain": (6.0, 7, 7),
}  # fmt: skip
_PARTLY = 0.05
_REACH_MM = 4.0
"""A voxel farther than this from any gyrus of the parcellation belongs to none."""
_CORE = 0.6
"""Grey matter probability at the edge of a gyrus: at .4, more than half of a voxel is something else."""
_TENTORIUM_X = (1.0, 7.0, 15.0, 23.0, 31.0, 39.0, 47.0, 55.0)
_TENTORIUM_Y = (-90.0, -80.0, -70.0, -60.0, -50.0, -40.0, -30.0)
_TENTORIUM_Z = (
    (-22, -16, -6, 2, 2, -4, -12),
    (-20, -18, -10, -3, -1, -4, -14),
    (-20, -17, -13, -11, -12, -16, -24),
    (-21, -18, -16, -16, -17, -22, -28),
    (-20, -20, -19, -19, -20, -25, -31),
    (-20, -20, -19, -20, -23, -28, -34),
    (-20, -20, -21, -23, -27, -31, -36),
    (-22, -22, -24, -27, -30, -32, -36),
)
"""Height in mm of the seam between cerebellum and cerebrum over (x, y), read off the tissue maps."""
_NO_SIDES = (REFERENCE, "cerebellar_grey", "white_matter", "lateral_ventricle")
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
        wanted = (
            [region]
            if region in self.names
            else [f"{s}_{region}" for s in ([side] if side else ["left", "right"])]
        )
        found = np.array([name in wanted for name in self.names])
        if not found.any():
            raise KeyError(region)
        return np.asarray(found[self.labels])

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
        return None if pd.isna(x) else float(x)  # type: ignore[arg-type]

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
    middle = SHAPE[0] // 2
    names = ["outside"]
    labels = np.zeros(SHAPE, dtype=np.int16)
    for name, where in _label_right_half(grey[middle:], white[middle:], brain[middle:]).items():
        own_names = [name, name] if name in _NO_SIDES else [f"left_{name}", f"right_{name}"]
        names.extend(dict.fromkeys(own_names))
        labels[middle - 1 :: -1][where] = names.index(own_names[0])
        labels[middle:][where] = names.index(own_names[1])
    for array in (labels, grey, white, brain):
        array.flags.writeable = False
    return Atlas(labels, tuple(names), grey, white, brain)


def _label_right_half(
    grey: NDArray[np.float32], white: NDArray[np.float32], brain: NDArray[np.bool_]
) -> dict[str, NDArray[np.bool_]]:
    """Return where each region is, disjoint, in the half with x > 0; the left half is its mirror image."""
    x, y, z = _right_half_mm()
    gyri = [r.name for r in load_regions() if r.kind == "target" and r.name not in NUCLEI]
    (gyrus, nearby), (nucleus, number) = (
        published_shares(gyri, AFFINE, SHAPE),
        published_shares(list(NUCLEI), AFFINE, SHAPE),
    )
    core = brain & (nucleus > 0.6)
    deep = {name: core & (number == k) for k, name in enumerate(NUCLEI)}
    for name in ("hippocampus", "amygdala"):
        deep[name] &= grey > _CORE
    near_nucleus = (nucleus > gyrus) & (nucleus > _PARTLY)
    depth = {
        r.name: _ellipsoid(r.centre_mm, _SUBCORTICAL_SEMIAXES_MM[r.name])
        for r in load_regions()
        if r.name in _SUBCORTICAL_SEMIAXES_MM and r.centre_mm is not None
    }
    deepest = np.min(list(depth.values()), axis=0)
    free = brain & ~np.any(list(deep.values()), axis=0)
    deep |= {name: (d <= 1.0) & (d == deepest) & free for name, d in depth.items()}
    table = np.array(_TENTORIUM_Z, dtype=np.float64)
    column = np.interp(x, _TENTORIUM_X, np.arange(table.shape[0]))
    row = np.interp(y, _TENTORIUM_Y, np.arange(table.shape[1]))
    tentorium = ndimage.map_coordinates(table, np.broadcast_arrays(column, row), order=1)
    stem = (y > -45) & (y < -12) & (z < -14) & ((x < 14) | (x < 22) & (z < -26))
    below = (y < -30) & (z < tentorium)
    cerebellum = below & ~stem & (grey > 0.6) & (grey > white)
    taken = np.any(list(deep.values()), axis=0)
    cortex = brain & (grey > _CORE) & ~below & ~stem & (deepest > 1.35) & ~near_nucleus & ~taken
    lateral = (x < 26) & (y > -48) & (y < 36) & (z > -4) & (z < 32)
    return {
        **deep,
        REFERENCE: cerebellum & (z < -35),
        "cerebellar_grey": cerebellum & (z >= -35),
        **_gyri(cortex, gyri, gyrus, nearby),
        "white_matter": (white > 0.6) & ~below & ~taken,
        "lateral_ventricle": brain & (grey + white < 0.35) & lateral & ~taken & ~below,
    }


def _gyri(
    cortex: NDArray[np.bool_], names: list[str], share: NDArray[np.float32], number: NDArray[np.int16]
) -> dict[str, NDArray[np.bool_]]:
    """Give each cortical voxel to the gyrus that fills most of its surroundings, or to the nearest one."""
    (inner,) = ndimage.find_objects(share > _PARTLY, max_label=1)
    margin = math.ceil(_REACH_MM / SPACING_MM)
    box = tuple(slice(max(span.start - margin, 0), span.stop + margin) for span in inner)
    distance, nearest = ndimage.distance_transform_edt(share[box] <= _PARTLY, return_indices=True)
    owner = np.full(cortex.shape, -1, dtype=number.dtype)
    owner[box] = np.where(distance * SPACING_MM <= _REACH_MM, number[box][tuple(nearest)], -1)
    return {name: cortex & (owner == k) for k, name in enumerate(names)}


def _tissue(kind: Literal["gm", "wm"]) -> NDArray[np.float32]:
    """Read a 1 mm probability map and average it onto the 2 mm grid, left and right made equal."""
    folder = Path(nilearn.__file__).parent / "datasets" / "data"
    image = nib.load(folder / f"mni_icbm152_{kind}_tal_nlin_sym_09a_converted.nii.gz")
    first = np.rint(np.linalg.inv(image.affine)[:3] @ AFFINE[:, 3]).astype(int) - 1
    fine: NDArray[np.float32] = _cut_out(np.asarray(image.dataobj), first).astype(np.float32) / np.float32(
        255
    )
    # A triangle over three 1 mm voxels before taking every second one, so that thin cortex is not aliased.
    for axis, count in enumerate(SHAPE):
        ahead = (slice(None),) * axis
        before, centre, after = (fine[(*ahead, slice(start, start + 2 * count, 2))] for start in range(3))
        fine = ((before + 2 * centre + after) / 4).astype(np.float32)
    return np.ascontiguousarray((fine + fine[::-1]) / 2, dtype=np.float32)


def _cut_out(whole: NDArray[np.uint8], first: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Return the 1 mm voxels from `first` that the grid averages; 0 where the map ends before."""
    part = np.zeros([2 * count + 1 for count in SHAPE], dtype=whole.dtype, order="F")
    starts = np.maximum(first, 0)
    ends = np.minimum(first + part.shape, whole.shape)
    target = tuple(slice(a - f, b - f) for f, a, b in zip(first, starts, ends, strict=True))
    part[target] = whole[tuple(slice(a, b) for a, b in zip(starts, ends, strict=True))]
    return part


def _right_half_mm() -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """World coordinates of the half with x > 0, three arrays that broadcast to its shape."""
    i, j, k = np.ogrid[SHAPE[0] // 2 : SHAPE[0], : SHAPE[1], : SHAPE[2]]
    x, y, z = (SPACING_MM * a + AFFINE[axis, 3] for axis, a in enumerate((i, j, k)))
    return x, y, z


def _ellipsoid(
    centre: tuple[float, float, float], semiaxes: tuple[float, float, float]
) -> NDArray[np.float64]:
    """Distance from a centre in units of the semi-axes: 1 on the surface."""
    offsets = zip(_right_half_mm(), centre, semiaxes, strict=True)
    scaled: NDArray[np.float64] = np.sqrt(sum(((a - c) / s) ** 2 for a, c, s in offsets))
    return scaled

"""Label volumes of real people painted with tau uptake, as a scanner would show them, beside the truth.

A person's regions are those of their own labels (BrainCOLOR numbering; `../shared/data/anatomies`). The means
that are painted hold at the common resolution: what one would read in that person's own labels from a scan
without noise. Fluid, skull, soft tissue, face and neck are drawn around the brain, where labels are missing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial.transform import Rotation

from pipeline.atlas import META_ROI_DEFINITIONS, load_regions
from pipeline.phantom.anatomy import draw_uptake
from pipeline.phantom.population import Latents
from pipeline.scan import Frame, Volume

Matrix = NDArray[np.float64]
ANATOMIES = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "anatomies"
COMMON_MM, SCANNER_MM = 8.0, 6.5
FWHM = 2.3548
PATTERNS = ("negative", "braak", "one_sided", "focal")

# Label of the right side; the left one is the next number unless given.
LABELS: dict[str, tuple[int, ...]] = {
    "amygdala": (31,), "hippocampus": (47,), "entorhinal": (116,), "fusiform": (122, 160),
    "inferior_temporal": (132,), "middle_temporal": (154,), "parahippocampal": (170,),
    "superior_temporal": (200,), "temporal_pole": (202,), "insula": (102, 172),
    "isthmus_cingulate": (166,), "precuneus": (168,), "inferior_parietal": (106,), "supramarginal": (194,),
    "superior_parietal": (198,), "cuneus": (114,), "pericalcarine": (108,), "lingual": (134,),
    "lateral_occipital": (128, 144, 156, 196), "precentral": (182,), "postcentral": (176,),
    "superior_frontal": (190, 152), "rostral_middle_frontal": (142,), "pars_opercularis": (162,),
    "pars_triangularis": (204,), "pars_orbitalis": (164,),
    "caudate": (36,), "putamen": (57,), "pallidum": (55,), "thalamus": (59,), "ventral_dc": (61,),
}  # fmt: skip
_ALSO: dict[str, tuple[int, ...]] = {
    "rostral_anterior_cingulate": (100, 186), "lateral_orbitofrontal": (104, 136, 146, 178),
    "medial_orbitofrontal": (124, 140), "frontal_pole": (120,), "posterior_cingulate": (138,),
    "pars_opercularis": (118, 112), "supramarginal": (174, 184), "superior_temporal": (180,),
    "paracentral": (148, 150), "superior_frontal": (192,), "transverse_temporal": (206,),
}  # fmt: skip
"""Painted like these regions, but not compared: the two namings cut the cortex differently there."""
_ACCUMBENS = {"right": 23, "left": 30}
_CEREBELLAR_GREY, _CEREBELLAR_WHITE, _BRAINSTEM = (38, 39, 71, 72, 73), (40, 41), (35,)
_WHITE = (44, 45, *range(81, 96), 63, 64, 69, 75, 76)
_FLUID = (1, 4, 11, 15, 42, 43, 46, 49, 50, 51, 52)
_VENTRICLES = (49, 50, 51, 52)
FOCI = (
    ("inferior_temporal", "middle_temporal"),
    ("lateral_occipital",),
    ("inferior_parietal",),
    ("fusiform",),
)


@dataclass(frozen=True, eq=False)
class Person:
    """Labels on an isotropic grid with room for the head, and what is known of the person."""

    name: str
    labels: NDArray[np.int16]
    affine: Matrix
    age: float
    ventricles_ml: float


@dataclass(frozen=True, eq=False)
class Painted:
    """A scan of a person and its truth.

    `truth` holds means in the person's own labels at 8 mm over the reference, `sharp` those before any blur;
    `matrix` maps the label volume's mm to the scanner's.
    """

    person: Person
    pattern: str
    volume: Volume
    truth: dict[str, float]
    sharp: dict[str, float]
    matrix: Matrix
    raised: tuple[str, ...] = ()
    """Regions in which focal tau was painted."""


def people(dataset: str) -> Iterator[Person]:
    """Yield the people of ``"ixi_first"``, ``"ixi_second"`` (every second one) or ``"oasis"``."""
    if dataset == "oasis":
        folder = ANATOMIES / "oasis1_miccai2012"
        ages = pd.read_csv(folder / "subjects.tsv", sep="\t").set_index("scan")["age"]
        for path in sorted(folder.glob("*_glm.nii.gz")):
            yield read_person(path, float(ages[int(path.name[:4])]))
        return
    folder = ANATOMIES / "ixi_dlmuse"
    ages = pd.read_csv(folder / "people.tsv", sep="\t").set_index("subject")["age"]
    first = 0 if dataset == "ixi_first" else 1
    for path in sorted(folder.glob("*.nii.gz"))[first::2]:
        yield read_person(path, float(ages[path.name.removesuffix("_T1_DLMUSE.nii.gz")]))


def read_person(path: Path, age: float) -> Person:
    """Bring labels to RAS+ with 40 mm of room around, 60 mm below."""
    image = nib.as_closest_canonical(nib.load(path))
    labels = np.asarray(image.dataobj).astype(np.int16)
    spacing = float(np.linalg.norm(image.affine[:3, 0]))
    where = np.argwhere(labels > 0)
    low, high = where.min(axis=0), where.max(axis=0) + 1
    labels = labels[tuple(slice(a, b) for a, b in zip(low, high, strict=True))]
    below, above = np.array([40, 40, 60]) / spacing, np.array([40, 40, 25]) / spacing
    pad = [(round(b), round(a)) for b, a in zip(below, above, strict=True)]
    labels = np.pad(labels, pad)
    affine = np.diag([spacing] * 3 + [1.0])
    affine[:3, 3] = -spacing * (np.array(labels.shape) - 1) / 2
    ventricles = float(np.isin(labels, _VENTRICLES).sum()) * spacing**3 / 1000
    return Person(path.name.split("_")[0], labels, affine, age, ventricles)


def compartments(person: Person) -> tuple[NDArray[np.int16], list[str]]:
    """Return the index of each voxel's compartment, and the compartments' names."""
    names, number = ["air"], np.zeros(int(person.labels.max()) + 1, dtype=np.int16)

    def add(name: str, labels: tuple[int, ...]) -> None:
        if name not in names:
            names.append(name)
        number[[k for k in labels if k < len(number)]] = names.index(name)

    for table in (LABELS, _ALSO):
        for region, right in table.items():
            add(f"right_{region}", right)
            add(f"left_{region}", tuple(k + 1 for k in right))
    for side, label in _ACCUMBENS.items():
        add(f"{side}_accumbens", (label,))
    for name, labels in (
        ("white_matter", _WHITE),
        ("cerebellar_white", _CEREBELLAR_WHITE),
        ("brainstem", _BRAINSTEM),
        ("csf", _FLUID),
        ("cerebellar_grey", _CEREBELLAR_GREY),
    ):
        add(name, labels)
    index = number[person.labels]
    names += ["inferior_cerebellar_grey", "meninges", "skull", "soft_tissue"]
    cerebellum = index == names.index("cerebellar_grey")
    heights = np.nonzero(cerebellum)[2]
    lower = np.arange(index.shape[2]) < np.median(heights)
    index[cerebellum & lower] = names.index("inferior_cerebellar_grey")
    return _head_around(index, names, float(person.affine[0, 0])), names


def _head_around(index: NDArray[np.int16], names: list[str], spacing: float) -> NDArray[np.int16]:
    brain = (index > 0) & (index != names.index("csf"))
    reach = round(12 / spacing)
    coarse = round(4 / spacing)
    small = brain[::coarse, ::coarse, ::coarse]
    closed = ndimage.binary_closing(np.pad(small, 4), iterations=max(1, reach // coarse))[4:-4, 4:-4, 4:-4]
    hull = ndimage.zoom(closed.astype(np.float32), coarse, order=1, grid_mode=True, mode="nearest") > 0.5
    hull = np.pad(hull, [(0, max(0, n - m)) for n, m in zip(brain.shape, hull.shape, strict=True)])
    hull = hull[tuple(slice(n) for n in brain.shape)] | brain
    depth = ndimage.distance_transform_edt(~hull) * spacing
    where = np.argwhere(brain) * spacing
    low, high = where.min(axis=0), where.max(axis=0)
    x, y, z = (a * spacing for a in np.ogrid[tuple(map(slice, brain.shape))])
    x, y = x - (low[0] + high[0]) / 2, y - (low[1] + high[1]) / 2
    neck = (np.hypot(x / 60, (y + 10) / 62) < 1) & (z < low[2] + 10)
    face = (x / 62) ** 2 + ((y - 45) / 58) ** 2 + ((z - low[2] - 10) / 50) ** 2 < 1
    drawn = np.zeros_like(index)
    drawn[(depth <= 15) & (z > low[2] - 12) | neck | face] = names.index("soft_tissue")
    drawn[(depth <= 10) & (z > low[2] - 8)] = names.index("skull")
    drawn[depth <= 5] = names.index("meninges")
    drawn[depth <= 2] = names.index("csf")
    return np.where(index > 0, index, drawn).astype(np.int16)


def uptake_of(
    pattern: str, rng: np.random.Generator
) -> tuple[dict[str, float], dict[str, float], tuple[str, ...]]:
    """Return SUVR without tau, what tau adds, and the regions of focal tau; sided names.

    ``braak``: stage .35 to .9 of the phantom's population; ``one_sided``: one hemisphere far ahead;
    ``focal``: one group of regions on one side, all else negative.
    """
    stage = float(rng.uniform(0.35, 0.9))
    seeds = [int(rng.integers(2**31))], [int(rng.integers(2**31))]
    side = "left" if rng.random() < 0.5 else "right"
    focus = FOCI[int(rng.integers(len(FOCI)))]
    height = float(rng.uniform(0.8, 1.6))
    asymmetry = 0.6 if pattern == "one_sided" else float(rng.normal(0, 0.08))
    latents = Latents(
        stage if pattern in ("braak", "one_sided") else 0.0, True, asymmetry, float(rng.uniform(0.35, 0.8))
    )
    drawn = draw_uptake(latents, *seeds)
    raised = tuple(f"{side}_{region}" for region in focus) if pattern == "focal" else ()
    tau = dict.fromkeys(raised, height) if raised else drawn.tau
    return drawn.background, tau, raised


def paint(person: Person, pattern: str, seed: int, *, tau_free: bool = False) -> Painted:
    """Scan a person; `tau_free` gives the same scan without the tau, down to the noise and the pose."""
    rng = np.random.default_rng([seed, PATTERNS.index(pattern)])
    background, tau, raised = uptake_of(pattern, rng)
    index, names = compartments(person)
    skull, soft = 0.45 * float(rng.lognormal(0, 0.25)), 0.5 * float(rng.lognormal(0, 0.25))
    meninges = 0.75 * float(rng.lognormal(0, 0.2))
    given = {"csf": 0.55, "cerebellar_white": 1.05, "brainstem": 1.15} | background
    given |= {"skull": skull, "soft_tissue": soft, "meninges": meninges}
    wanted = np.array([given.get(n, 0.0) + (0.0 if tau_free else tau.get(n, 0.0)) for n in names])
    solved = _solved(names)
    intensity = wanted.copy()
    spacing = float(person.affine[0, 0])
    counts = np.maximum(np.bincount(index.ravel(), minlength=len(names)), 1)
    for _ in range(3):
        seen = ndimage.gaussian_filter(
            intensity.astype(np.float32)[index], COMMON_MM / FWHM / spacing, truncate=3.0
        )
        means = np.bincount(index.ravel(), seen.ravel(), minlength=len(names)) / counts
        intensity[solved] = np.maximum(intensity + wanted - means, 0.0)[solved]
    image = intensity.astype(np.float32)[index]
    seen = ndimage.gaussian_filter(image, COMMON_MM / FWHM / spacing)
    truth = _means(seen, person.labels, index == names.index("inferior_cerebellar_grey"))
    volume, matrix = _scan(image, person, rng)
    return Painted(
        person,
        pattern,
        volume,
        truth,
        _means(image, person.labels, index == names.index("inferior_cerebellar_grey")),
        matrix,
        raised,
    )


def _solved(names: list[str]) -> NDArray[np.bool_]:
    known = {r.name for r in load_regions()}
    return np.array([n.partition("_")[2] in known or n == "inferior_cerebellar_grey" for n in names])


def _means(
    image: NDArray[np.float32], labels: NDArray[np.int16], reference: NDArray[np.bool_]
) -> dict[str, float]:
    """SUVR of the compared regions, sided and both together, and of the meta-ROI."""
    counts = np.bincount(labels.ravel(), minlength=256).astype(float)
    sums = np.bincount(labels.ravel(), image.ravel(), minlength=256)
    one = float(image[reference].mean(dtype=np.float64))
    of = {f"right_{region}": list(right) for region, right in LABELS.items()}
    of |= {f"left_{region}": [k + 1 for k in right] for region, right in LABELS.items()}
    of |= {region: of[f"right_{region}"] + of[f"left_{region}"] for region in LABELS}
    of["meta_roi"] = [k for region in META_ROI_DEFINITIONS["Mayo"] for k in of[region]]
    return {name: float(sums[k].sum() / max(counts[k].sum(), 1) / one) for name, k in of.items()}


def _scan(image: NDArray[np.float32], person: Person, rng: np.random.Generator) -> tuple[Volume, Matrix]:
    """Put a head into a scanner of 2.04 x 2.04 x 3 mm: pose 4 degrees and 5 mm, 6.5 mm FWHM, noise."""
    shape, voxel = (112, 112, 70), np.array([2.03642, 2.03642, 3.0])
    affine = np.diag([-voxel[0], -voxel[1], voxel[2], 1.0])
    affine[:3, 3] = np.array([0.0, 0.0, 3.0]) - affine[:3, :3] @ (np.array(shape) - 1) / 2
    pose = np.eye(4)
    pose[:3, :3] = Rotation.from_euler("xyz", rng.normal(0, 4.0, 3), degrees=True).as_matrix()
    pose[:3, 3] = rng.normal(0, 5.0, 3)
    spacing = float(person.affine[0, 0])
    sigma = np.sqrt((SCANNER_MM / FWHM) ** 2 - spacing**2 / 6) / spacing
    blurred = ndimage.gaussian_filter(image, sigma)
    to_labels = np.linalg.inv(person.affine) @ np.linalg.inv(pose) @ affine
    seen = ndimage.affine_transform(blurred, to_labels[:3, :3], to_labels[:3, 3], shape, order=1)
    grain = ndimage.gaussian_filter(rng.standard_normal(shape, dtype=np.float32), 4.25 / FWHM / voxel)
    grain *= rng.uniform(0.15, 0.2) / grain.std()
    seen = np.maximum(seen + grain * np.sqrt((seen + 0.05) / 1.05), 0)
    facts = {"scan_after_injection_s": 4800.0, "resolution_mm": SCANNER_MM, "tracer": "AV1451"}
    volume = Volume((5000 * seen).astype(np.float32), affine, "Bq/mL", (Frame(0.0, 1200.0),), facts)
    return volume, pose


def without_tau(painted: Painted, seed: int) -> Painted:
    """Return the same scan of the same person without tau."""
    return replace(paint(painted.person, painted.pattern, seed, tau_free=True), raised=painted.raised)

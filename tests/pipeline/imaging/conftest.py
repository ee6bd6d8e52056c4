"""A small head with a known pose: what registration and SUVR are measured against."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from pipeline.atlas import AFFINE, SHAPE, load_atlas, load_regions
from pipeline.scan import Frame, Volume

FWHM = 2.355


@dataclass(frozen=True, eq=False)
class Head:
    """A scan and where it truly lies: `matrix` maps template mm to native mm."""

    volume: Volume
    matrix: NDArray[np.float64]
    truth: NDArray[np.float32]

    def error_mm(self, matrix: NDArray[np.float64]) -> NDArray[np.float64]:
        """Distance between a found and the true place of every second brain voxel."""
        voxels = np.argwhere(load_atlas().brain)[::2]
        points = np.c_[voxels, np.ones(len(voxels))] @ AFFINE.T
        return np.linalg.norm((points @ (matrix - self.matrix).T)[:, :3], axis=1)


def build_truth(tau: float) -> NDArray[np.float32]:
    """SUVR on the template grid: `tau` 0 is the negative mean of each region, 1 the positive mean."""
    atlas = load_atlas()
    moments = {r.name: r for r in load_regions()}
    image = np.zeros(SHAPE, np.float32)
    distance = ndimage.distance_transform_edt(~atlas.brain) * 2.0
    below = AFFINE[2, 2] * np.indices(SHAPE)[2] + AFFINE[2, 3]
    image[(distance > 6) & (distance <= 14) & (below > -75)] = 0.9
    image[(distance > 0) & (distance <= 6)] = 0.45
    image[atlas.brain] = 0.7
    tissue = atlas.grey + atlas.white
    image = np.where(atlas.brain, 0.65 + tissue * 0.35 + atlas.white * 0.25, image)
    for k, name in enumerate(atlas.names[1:], start=1):
        region = moments.get(name.removeprefix("left_").removeprefix("right_"))
        value = 1.0 if region is None else region.negative_mean
        if region is not None and region.positive_mean is not None:
            value += tau * (region.positive_mean - region.negative_mean)
        image[atlas.labels == k] = value
    return image.astype(np.float32)


def random_matrix(
    rng: np.random.Generator, tilt_deg: float = 0.0, shift_mm: float = 5.0
) -> NDArray[np.float64]:
    """A head of another size in another pose: template mm to native mm."""
    angles = np.deg2rad(rng.normal(0, 4, 3)) + np.array([np.deg2rad(tilt_deg), 0, 0])
    matrix = np.eye(4)
    for axis, angle in enumerate(angles):
        i, j = [(1, 2), (2, 0), (0, 1)][axis]
        turn = np.eye(4)
        turn[i, i] = turn[j, j] = np.cos(angle)
        turn[i, j], turn[j, i] = -np.sin(angle), np.sin(angle)
        matrix = turn @ matrix
    shape = np.eye(4)
    shape[:3, :3] = np.diag(1 + rng.normal(0, 0.04, 3)) + np.triu(rng.normal(0, 0.015, (3, 3)), 1)
    matrix = matrix @ shape
    matrix[:3, 3] = rng.normal(0, shift_mm, 3)
    return matrix


def native_grid(
    spacing_mm: tuple[float, float, float],
    extent_mm: tuple[float, float, float],
    centre_mm: tuple[float, ...],
) -> tuple[tuple[int, ...], NDArray[np.float64]]:
    """Shape and affine of a scanner's grid; x runs right to left as DICOM's does."""
    shape = tuple(round(e / s) for e, s in zip(extent_mm, spacing_mm, strict=True))
    affine = np.diag([-spacing_mm[0], -spacing_mm[1], spacing_mm[2], 1.0])
    affine[:3, 3] = np.array(centre_mm) - affine[:3, :3] @ (np.array(shape) - 1) / 2
    return shape, affine


def neck_and_face(to_template: NDArray[np.float64], shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Where a neck and a face lie that reach beyond the template's grid."""
    places = np.tensordot(AFFINE @ to_template, np.array([*np.indices(shape), np.ones(shape)]), axes=1)
    x, y, z = places[:3]
    distance = ndimage.distance_transform_edt(~load_atlas().brain) * 2.0
    outside = ndimage.affine_transform(
        distance, to_template[:3, :3], to_template[:3, 3], shape, order=1, cval=99.0
    )
    neck = (z < -65) & ((x / 60) ** 2 + ((y + 25) / 62) ** 2 < 1)
    face = (x / 62) ** 2 + ((y - 35) / 62) ** 2 + ((z + 62) / 52) ** 2 < 1
    return (neck | face) & (outside > 8)


def build_head(
    seed: int = 0,
    *,
    tau: float = 0.0,
    tilt_deg: float = 0.0,
    resolution_mm: float = 6.0,
    noise: float = 0.15,
    spacing_mm: tuple[float, float, float] = (2.5, 2.5, 3.0),
    extent_mm: tuple[float, float, float] = (260.0, 260.0, 220.0),
    neck: bool = True,
    truth: NDArray[np.float32] | None = None,
) -> Head:
    """Put a head into a scanner: pose, resolution, correlated noise, 5 kBq/mL."""
    rng = np.random.default_rng(seed)
    matrix = random_matrix(rng, tilt_deg)
    shape, affine = native_grid(spacing_mm, extent_mm, (0.0, -18.0, 0.0))
    truth = build_truth(tau) if truth is None else truth
    to_template = np.linalg.inv(AFFINE) @ np.linalg.inv(matrix) @ affine
    image = ndimage.affine_transform(truth, to_template[:3, :3], to_template[:3, 3], shape, order=1)
    image = np.maximum(image, 0.8 * neck_and_face(to_template, shape)) if neck else image
    sigma = np.array([resolution_mm / FWHM / s for s in spacing_mm])
    image = ndimage.gaussian_filter(image, sigma)
    grain = ndimage.gaussian_filter(rng.normal(size=shape), sigma)
    image = image + noise * np.sqrt(np.maximum(image, 0.05)) * grain / grain.std()
    facts = {"scan_after_injection_s": 80 * 60.0, "resolution_mm": resolution_mm, "tracer": "AV1451"}
    volume = Volume(
        (5000 * np.maximum(image, 0)).astype(np.float32), affine, "Bq/mL", (Frame(0.0, 1200.0),), facts
    )
    return Head(volume, matrix, truth)


@pytest.fixture(scope="session")
def true_suvr():
    """The function that gives the SUVR of a head on the template grid."""
    return build_truth


@pytest.fixture(scope="session")
def make_head():
    """The function that builds a head in a scanner."""
    return build_head


@pytest.fixture(scope="session")
def head() -> Head:
    """One tau-negative head."""
    return build_head(1)

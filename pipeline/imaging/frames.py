"""Which frames of a scan count, and how the head moved between them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from pipeline.config import ImagingSettings
from pipeline.errors import RefusedScan
from pipeline.imaging.alignment import LinearModel, align, build_model
from pipeline.imaging.space import Matrix, coarse_volume, gaussian
from pipeline.scan import FloatArray, Frame, Volume

TOLERANCE_MIN = 5.0
"""ADNI's frames run from 75 to 105 minutes, the label's scan from about 80: both are the usual window."""
_GRID_MM = 4.0
_SIGMA_MM = 3.0
_MOST_CHANGE = 2.0
"""From 75 to 105 minutes activity falls by a fifth, without decay correction by a third."""
WINDOW_TRACER = "AV1451"
"""The tracer whose window `ImagingSettings.window_start_min` sets."""


@dataclass(frozen=True)
class Window:
    """The frames that are averaged.

    Parameters
    ----------
    frames : tuple of int
        Their indices.
    weights : tuple of float
        Their shares of time; they sum to 1.
    start_min, end_min : float or None
        Minutes after injection from the first one's start to the last one's end; None where unknown.
    overlap : float or None
        Share of that time that lies in the window of the settings; None where unknown.
    """

    frames: tuple[int, ...]
    weights: tuple[float, ...]
    start_min: float | None = None
    end_min: float | None = None
    overlap: float | None = None


def choose_window(volume: Volume, settings: ImagingSettings) -> Window:
    """Choose the frames whose middle lies in the window after injection.

    Where none has its middle there, the frames that touch the window are taken. A scan whose times are
    unknown is averaged whole, unless its activity shows early frames; quality control warns of it. The window
    is AV1451's: a scan of another tracer, asked for by name, is averaged whole.

    Parameters
    ----------
    volume : Volume
        3D or 4D; ``facts["scan_after_injection_s"]`` holds seconds from injection to the start of the scan.

    Raises
    ------
    RefusedScan
        Rule ``"outside-window"`` where the scan is known to lie outside the window, ``"frame-times"`` where
        the times that are stated do not fit the frames, or none are and the frames are not all late.

    Examples
    --------
    >>> frames = tuple(Frame(300.0 * k, 300.0) for k in range(6))
    >>> scan = Volume(np.zeros((2, 2, 2, 6)), np.eye(4), "Bq/mL", frames, {"scan_after_injection_s": 4500})
    >>> choose_window(scan, ImagingSettings()).frames
    (1, 2, 3, 4)
    """
    count = volume.array.shape[3] if volume.array.ndim == 4 else 1
    doubt = volume.facts.get("frames_in_doubt")
    if doubt:
        raise RefusedScan(
            "frame-times",
            f"The frame times do not fit the image: {doubt}",
            hint="correct FrameTimesStart and FrameDuration in the sidecar",
        )
    after = volume.facts.get("scan_after_injection_s")
    if not volume.frames or not isinstance(after, int | float):
        _check_late(volume.array, count)
        weights = (
            _window(volume.frames, tuple(range(count))).weights if volume.frames else (1.0 / count,) * count
        )
        return Window(tuple(range(count)), weights)
    spans = [_minutes(frame, float(after)) for frame in volume.frames]
    if volume.facts.get("tracer", WINDOW_TRACER) != WINDOW_TRACER:
        whole = _window(volume.frames, tuple(range(count)))
        return replace(whole, start_min=spans[0][0], end_min=spans[-1][1], overlap=1.0)
    low, high = settings.window_start_min, settings.window_end_min
    chosen = tuple(k for k, (start, end) in enumerate(spans) if low <= (start + end) / 2 <= high)
    chosen = chosen or tuple(k for k, span in enumerate(spans) if _shared(span, (low, high)) > 0)
    wide = (low - TOLERANCE_MIN, high + TOLERANCE_MIN)
    chosen = chosen or tuple(k for k, span in enumerate(spans) if _shared(span, wide) > 0)
    if not chosen:
        seen = f"{spans[0][0]:.4g}-{spans[-1][1]:.4g}"
        raise RefusedScan(
            "outside-window",
            f"The scan covers {seen} min after injection, outside the window of {low:g}-{high:g} min",
            hint="check the injection and scan times in the header; if another window was planned, whoever "
            "runs the study sets it in imaging.window_start_min and imaging.window_end_min",
            measured=f"{seen} min",
        )
    total = sum(spans[k][1] - spans[k][0] for k in chosen)
    inside = sum(_shared(spans[k], (low, high)) for k in chosen)
    weights = _window(volume.frames, chosen).weights
    return Window(chosen, weights, spans[chosen[0]][0], spans[chosen[-1]][1], inside / total)


def _check_late(array: FloatArray, count: int) -> None:
    """Refuse frames of unknown time whose activity shows that some are of the first minutes."""
    if count < 2:
        return
    means = [float(np.nanmean(array[..., k], dtype=np.float64)) for k in range(count)]
    ratio = max(means) / min(means) if min(means) > 0 else np.inf
    if ratio > _MOST_CHANGE:
        raise RefusedScan(
            "frame-times",
            f"The time of the {count} frames after injection is not known, and their activity differs "
            f"{ratio:.3g}-fold, as in a scan from the injection on (late: up to {_MOST_CHANGE:g}-fold)",
            hint="state FrameTimesStart, FrameDuration, ScanStart and InjectionStart in the sidecar, or give "
            "the late frames alone",
            measured=f"{ratio:.3g}-fold",
        )


def _minutes(frame: Frame, after_s: float) -> tuple[float, float]:
    return (after_s + frame.start_s) / 60.0, (after_s + frame.end_s) / 60.0


def _shared(a: tuple[float, float], b: tuple[float, float]) -> float:
    return max(0.0, min(a[1], b[1]) - max(a[0], b[0]))


def _window(frames: tuple[Frame, ...], chosen: tuple[int, ...]) -> Window:
    total = sum(frames[k].duration_s for k in chosen)
    return Window(chosen, tuple(frames[k].duration_s / total for k in chosen))


@dataclass(frozen=True, eq=False)
class Realigned:
    """The frames of a window and their motion.

    Parameters
    ----------
    arrays : tuple of ndarray, shape (x, y, z)
        The chosen frames, untouched.
    matrices : tuple of ndarray, shape (4, 4)
        Millimetres of the average to millimetres of each frame.
    motion_mm : float
        Largest distance that a point 80 mm from the middle of the head moved between two frames.
    average : Volume
        Time-weighted average: the frame itself where there is one, else realigned on a 4 mm grid.
    """

    arrays: tuple[NDArray[np.float32], ...]
    matrices: tuple[Matrix, ...]
    motion_mm: float
    average: Volume


def realign(volume: Volume, window: Window) -> Realigned:
    """Align the frames of a window rigidly to their mean, twice.

    The frames are not resampled here: the one resampling to the template also corrects their motion.
    """
    stack = volume.array if volume.array.ndim == 4 else volume.array[..., None]
    arrays = tuple(np.ascontiguousarray(stack[..., k]) for k in window.frames)
    identity = np.eye(4)
    if len(arrays) == 1:
        alone = Volume(arrays[0], volume.affine, volume.unit, facts=volume.facts)
        return Realigned(arrays, (identity,), 0.0, alone)
    sharp = [coarse_volume(Volume(a, volume.affine, volume.unit), _GRID_MM) for a in arrays]
    smooth = [f.with_array(gaussian(f.array, _SIGMA_MM, _GRID_MM)) for f in sharp]
    matrices = [identity] * len(arrays)
    for _ in range(2):
        model = _frame_model(_average(smooth, window.weights, matrices))
        matrices = [align(model, f, m, "rigid", 8).matrix for f, m in zip(smooth, matrices, strict=True)]
    average = _average(sharp, window.weights, matrices)
    return Realigned(arrays, tuple(matrices), _motion_mm(average, matrices), average)


def _frame_model(mean: Volume) -> LinearModel:
    """Return a model of the mean frame, compared in and around the head where its slope is known."""
    known = np.isfinite(mean.array)
    image = np.where(known, mean.array, np.float32(0))
    head = image > 0.2 * np.percentile(image[known], 98)
    near = ndimage.binary_dilation(head, iterations=2) & ndimage.binary_erosion(known)
    return build_model(np.array([image, known], dtype=np.float32), mean.affine, near)


def _average(coarse: list[Volume], weights: tuple[float, ...], matrices: list[Matrix]) -> Volume:
    total = np.zeros(coarse[0].array.shape, dtype=np.float32)
    grid = coarse[0].affine
    for frame, weight, matrix in zip(coarse, weights, matrices, strict=True):
        voxels = np.linalg.inv(grid) @ matrix @ grid
        moved = ndimage.affine_transform(
            frame.array, voxels[:3, :3], voxels[:3, 3], order=1, mode="nearest", prefilter=False
        )
        total += np.float32(weight) * moved
    return Volume(total, grid, coarse[0].unit)


def _motion_mm(mean: Volume, matrices: list[Matrix]) -> float:
    bright = np.nan_to_num(np.maximum(mean.array - 0.2 * np.nanpercentile(mean.array, 98), 0))
    middle = mean.affine @ np.array([*ndimage.center_of_mass(bright), 1.0])
    around = np.vstack([middle + np.append(80.0 * s * e, 0.0) for e in np.eye(3) for s in (-1.0, 1.0)])
    places = np.array([around @ m.T for m in matrices])
    between = places[:, None] - places[None]
    return float(np.linalg.norm(between[..., :3], axis=-1).max())

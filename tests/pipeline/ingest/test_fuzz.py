"""Mutated real headers: whatever the bytes, only named errors come out, and soon."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.errors import TaucalError
from pipeline.ingest.dicom import read_series
from pipeline.ingest.nifti import read_nifti
from pipeline.ingest.sidecar import understand
from pipeline.ingest.sources import Found, find_scans
from pipeline.scan import Volume


def _told(attempt: Callable[..., Any], *what: Any) -> Any:
    """Return what came out: a result or a named error; anything else is a crash and passes through."""
    try:
        return attempt(*what)
    except TaucalError as error:
        return error


def _mutate(data: bytes, seed: int, changes: int) -> bytes:
    rng = np.random.default_rng(seed)
    changed = bytearray(data)
    # Most of a file is pixels; its header is where parsers break.
    for place in rng.integers(128, min(len(data), 2600), changes):
        changed[place] = rng.integers(0, 256)
    if rng.random() < 0.2:
        changed = changed[: rng.integers(1, len(changed))]
    return bytes(changed)


@pytest.mark.parametrize("source", ["pet_ge_suv_crop/dicom", "pet_transcodes/rle", "pet_transcodes/jpegls"])
@settings(max_examples=120, deadline=4000, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32), changes=st.integers(1, 40))
def test_mutated_dicom_gives_a_volume_or_a_named_error(shared_data, tmp_path_factory, source, seed, changes):
    files = sorted(shared_data(source).iterdir())[:4]
    folder = tmp_path_factory.mktemp("fuzz")
    for n, path in enumerate(files):
        data = path.read_bytes()
        (folder / path.name).write_bytes(_mutate(data, seed + n, changes) if n != 1 else data)
    volume = _told(read_series, folder)
    assert isinstance(volume, TaucalError) or np.isfinite(volume.array).all()
    assert isinstance(_told(find_scans, folder), (TaucalError, Found))


@settings(max_examples=120, deadline=4000, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32), changes=st.integers(1, 40))
def test_a_mutated_multi_frame_image_gives_a_volume_or_a_named_error(
    make_enhanced, tmp_path_factory, seed, changes
):
    folder = tmp_path_factory.mktemp("fuzz")
    path = make_enhanced(folder).folder / "enhanced.dcm"
    path.write_bytes(_mutate(path.read_bytes(), seed, changes))
    volume = _told(read_series, folder)
    assert isinstance(volume, TaucalError) or np.isfinite(volume.array).all()


@settings(max_examples=100, deadline=4000, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32), changes=st.integers(1, 30))
def test_mutated_nifti_gives_a_volume_or_a_named_error(tmp_path_factory, seed, changes):
    folder = tmp_path_factory.mktemp("fuzz")
    nib.save(nib.Nifti1Image(np.ones((4, 5, 6), np.int16), np.diag([2, 2, 2, 1.0])), folder / "a.nii")
    data = bytearray((folder / "a.nii").read_bytes())
    rng = np.random.default_rng(seed)
    for place in rng.integers(0, 352, changes):
        data[place] = rng.integers(0, 256)
    (folder / "a.nii").write_bytes(bytes(data))
    assert isinstance(_told(read_nifti, folder / "a.nii"), (TaucalError, Volume))


_JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
_KEYS = [
    *("Units", "TracerName", "Radiopharmaceutical", "InjectedRadioactivity", "InjectedRadioactivityUnits"),
    *(
        "ScanStart",
        "InjectionStart",
        "FrameTimesStart",
        "FrameDuration",
        "FrameDurationUnits",
        "Manufacturer",
    ),
    *(
        "AttenuationCorrection",
        "ImageDecayCorrected",
        "TaucalFacts",
        "SeriesDescription",
        "TracerRadionuclide",
    ),
]


@settings(max_examples=300, deadline=None)
@given(
    told=st.dictionaries(st.sampled_from(_KEYS), _JSON), name=st.text(max_size=20), frames=st.integers(1, 4)
)
def test_any_sidecar_is_understood_or_refused_by_name(told, name, frames):
    read = _told(understand, told, name, frames)
    assert isinstance(read, TaucalError) or len(read.frames) in (0, frames)

"""A scan of the dataset, and where its files are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

from pipeline.scan import Fact


@dataclass(frozen=True)
class ConvertedScan:
    """A scan of the dataset.

    Parameters
    ----------
    subject, session : str
        Pseudonyms without the BIDS prefixes.
    tracer : str
        Canonical name.
    path : Path
        The image, ``..._pet.nii.gz``; the sidecar lies beside it.
    facts : mapping
        As `pipeline.ingest.acquisition` lists them, and age, sex, site, visit, days_to_diagnosis.
    diagnosis : str or None
    posterior : tuple of float or None
    acquired_on : str
        The shifted date, ISO; empty where unknown.
    warnings : tuple of str
        About the image.
    label_notes : tuple of str
        Why the scan has no diagnosis: nothing that is wrong with the image.
    stated : str
        The diagnosis in the words of the source; empty where it has codes.
    reads : mapping of str to str
        Visual reads and the status of markers, by column of the source.
    """

    subject: str
    session: str
    tracer: str
    path: Path
    facts: Mapping[str, Fact] = field(default_factory=dict)
    diagnosis: str | None = None
    posterior: tuple[float, ...] | None = None
    acquired_on: str = ""
    warnings: tuple[str, ...] = ()
    label_notes: tuple[str, ...] = ()
    stated: str = ""
    reads: Mapping[str, str] = field(default_factory=dict)

    @property
    def scan_id(self) -> str:
        """``sub-<subject>_ses-<session>``."""
        return f"sub-{self.subject}_ses-{self.session}"

    @property
    def stem(self) -> str:
        """The image's name without ``_pet.nii.gz``: what derivatives start with."""
        return self.path.name.removesuffix("_pet.nii.gz")

    @property
    def companions(self) -> tuple[Path, ...]:
        """Files written with the image."""
        return (sidecar_of(self.path),)

    def to_dict(self, bids: Path) -> dict[str, Any]:
        """Return JSON-able values, with the path relative to the dataset."""
        values = {**asdict(self), "facts": dict(self.facts), "path": self.path.relative_to(bids).as_posix()}
        return {
            key: value
            for key, value in values.items()
            if value or key not in ("label_notes", "stated", "reads")
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], bids: Path) -> Self:
        """Return what `to_dict` was made from."""
        posterior = values["posterior"]
        return cls(
            **{
                **values,
                "path": bids / values["path"],
                "posterior": None if posterior is None else tuple(posterior),
                "warnings": tuple(values["warnings"]),
                "label_notes": tuple(values.get("label_notes", ())),
            }
        )


def sidecar_of(image: Path) -> Path:
    """Return the JSON beside an image."""
    return image.with_name(image.name.removesuffix(".gz").removesuffix(".nii") + ".json")

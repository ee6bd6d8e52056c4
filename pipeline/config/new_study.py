"""A first study file for one's own scans, with comments."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

_TEXT = """\
# A study of your own scans. `taucal` reads this file; configs/README.md explains every setting.
# Relative paths count from the folder in which you type `taucal`. A wrong key or value is an error that
# names the nearest right one.
#
#   taucal ingest {source_shell} --out {dataset_shell}
#   taucal train {file_shell}
#   taucal report SCAN --study {file_shell} --out reports
#   taucal status --study {file_shell}
name: {name}
seed: 2026                # fixes split, first weights, order and augmentation
output: {output}

cohort:
  path: {dataset}         # the BIDS dataset that `taucal ingest` writes
  classes: {classes}
  # A class can unite several words:  merge: {{impaired: [MCI, AD]}}, with classes: [CN, impaired]
{labels}
ingest:
  source: {source}        # DICOM, NIfTI, BIDS-PET or an ADNI tree; the layout is recognised
  tracer: AV1451          # scans of another tracer are refused, with the reason
  max_days_to_diagnosis: 180

# A small network on volumes of 4 mm, for a CPU and some hundred scans. With a GPU and more scans, try
# spacing_mm: 2 and name: densenet121 with options: {{norm: instance}}, as in configs/adni.yaml.
preprocessing: {{spacing_mm: 4, suvr_max: 4}}
network: {{name: small_cnn}}
training:
  loss: {{name: gce}}       # `taucal compare` compares it with others on your scans
  epochs: 30
  patience: 10            # stop after 10 epochs without a better validation NLL
  batch_size: 16
  learning_rate: 1.0e-3

# Prediction sets hold the true class in at least 90 % of the scans of each class; an answer is given
# where the highest probability reaches a limit: with 95 % certainty, at most a fifth of these are wrong.
decision: {{coverage: 0.9, max_risk: 0.2}}

# For `taucal retrain` and `taucal serve`: cron lines in UTC; null turns one off.
retrain: {{require_approval: true}}
serve:
  {{ingest: "0 2 * * *", reports: "0 4 * * *", shift: "0 5 * * 1", week: "30 5 * * 1", retrain: "0 6 1 * *"}}
"""
_LABELS = "  labels: {{file: {file}}}   # its columns are recognised by their names\n"
_NO_LABELS = (
    "  # Diagnoses come from the tables of ADNI or BIDS in the source. Another table has a column of\n"
    "  # scans or subjects, and one of diagnoses:  labels: {file: diagnoses.csv}\n"
)


def new_study_text(file: Path, source: Path, classes: Sequence[str], labels: Path | None = None) -> str:
    """Return a commented study file; dataset and output are in its folder, as ``bids`` and ``study``.

    Parameters
    ----------
    file : Path
        Where the text will be written.
    source : Path
        Folder of scans.
    classes : sequence of str
        Names of the classes, in order.
    labels : Path, optional
        Table of diagnoses.

    Examples
    --------
    >>> text = new_study_text(Path("data/mine/taucal.yaml"), Path("scans"), ["CN", "AD"])
    >>> [line for line in text.splitlines() if line.startswith("output")]
    ['output: "data/mine/study"']
    """
    import shlex

    folder = file.parent
    dataset = folder / "bids"
    return _TEXT.format(
        name=_quoted(folder.resolve().name or "study"),
        output=_quoted(folder / "study"),
        dataset=_quoted(dataset),
        source=_quoted(source),
        classes="[" + ", ".join(map(_quoted, classes)) + "]",
        labels=_NO_LABELS if labels is None else _LABELS.format(file=_quoted(labels)),
        source_shell=shlex.quote(str(source)),
        dataset_shell=shlex.quote(str(dataset)),
        file_shell=shlex.quote(str(file)),
    )


def _quoted(value: object) -> str:
    """Return a text as a string of YAML, of which those of JSON are a part."""
    return json.dumps(str(value), ensure_ascii=False)

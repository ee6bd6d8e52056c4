"""One study is one YAML file: everything that decides its results."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Self

import yaml
from pydantic import Field, model_validator

from pipeline.config import data_settings as data
from pipeline.config import learning_settings as learning
from pipeline.config import operation_settings as operation
from pipeline.config.addresses import without_password
from pipeline.config.conflicts import conflicts
from pipeline.config.section import Count, Section, Seed


class Study(Section):
    """Everything that decides a result; two runs of one study give the same numbers on CPU.

    Examples
    --------
    >>> study = Study(name="tiny", output="data/tiny", cohort={"path": "data/tiny/bids"})
    >>> study.training.loss.name
    'gce'
    """

    name: Annotated[str, Field(min_length=1)]
    """Of the study, in pages, runs and notices."""
    seed: Seed = 2026
    """Fixes split, first weights, order and augmentation."""
    output: Path
    """Folder that everything is written to."""
    cohort: data.CohortSettings
    labels: Annotated[
        data.ReadLabelSettings, Field(exclude_if=lambda labels: labels == data.ReadLabelSettings())
    ] = data.ReadLabelSettings()
    ingest: data.IngestSettings = data.IngestSettings()
    imaging: data.ImagingSettings = data.ImagingSettings()
    imbalance: data.ImbalanceSettings = data.ImbalanceSettings()
    split: data.SplitSettings = data.SplitSettings()
    preprocessing: data.PreprocessingSettings = data.PreprocessingSettings()
    augmentation: data.AugmentationSettings = data.AugmentationSettings()
    network: learning.NetworkSettings = learning.NetworkSettings()
    training: learning.TrainingSettings = learning.TrainingSettings()
    ensemble: Count = 1
    """Networks trained from other initial weights, their probabilities averaged."""
    calibration: learning.CalibrationSettings = learning.CalibrationSettings()
    decision: learning.DecisionSettings = learning.DecisionSettings()
    evaluation: learning.EvaluationSettings = learning.EvaluationSettings()
    tracking: operation.TrackingSettings = operation.TrackingSettings()
    phantom: data.PhantomSettings = data.PhantomSettings()
    compare: operation.CompareSettings = operation.CompareSettings()
    curve: Annotated[
        operation.CurveSettings, Field(exclude_if=lambda curve: curve == operation.CurveSettings())
    ] = operation.CurveSettings()
    dask: operation.DaskSettings = operation.DaskSettings()
    retrain: operation.RetrainSettings = operation.RetrainSettings()
    asked: Annotated[operation.AskedReports | None, Field(exclude_if=lambda asked: asked is None)] = None
    """Set by `taucal report` alone."""
    serve: operation.ServeSettings = operation.ServeSettings()
    notify: operation.NotifySettings = operation.NotifySettings()
    report: operation.ReportSettings = operation.ReportSettings()

    @model_validator(mode="after")
    def _settings_go_together(self) -> Self:
        if found := conflicts(self):
            raise ValueError("\n".join(found))
        return self

    def learning_settings(self) -> dict[str, Any]:
        """Return the settings that decide what is learned: not where it is written or how it is compared."""
        places = {"name", "output", "cohort", "tracking", "phantom", "ingest"}
        others = {"compare", "curve", "dask", "retrain", "serve", "notify", "report", "asked"}
        settings = self.model_dump(mode="json", exclude=places | others)
        return {**settings, "imaging": self.imaging.processing(), "network": self.network.learned()}

    def without_places(self) -> Study:
        """Return the study without the folders of scans, whom it writes to and where models are stored.

        A folder's name can identify people; an address can hold a secret.
        """
        ingest = self.ingest.model_copy(update={"source": None, "more_sources": (), "key_file": None})
        tracking = self.tracking.model_copy(update={"uri": None, "artifacts": None})
        labels = self.cohort.labels
        if labels is not None:
            labels = labels.model_copy(update={"file": Path(f"labels{labels.file.suffix}")})
        cohort = self.cohort.model_copy(update={"labels": labels})
        silent = {
            "cohort": cohort,
            "imaging": self.imaging.model_copy(update={"centaur_masks": None}),
            "network": self.network.without_place(),
            "notify": operation.NotifySettings(),
            "dask": operation.DaskSettings(),
            "asked": None,
        }
        return self.model_copy(update={"ingest": ingest, "tracking": tracking, **silent})

    def for_worker(self) -> Study:
        """Return the study for a process that trains: without places, but with the file of given weights."""
        return self.without_places().model_copy(update={"network": self.network})

    def to_yaml(self) -> str:
        """Return the resolved study, defaults included, as a file `load_study` reads.

        The password of a database is left out: the file lies in a folder that is shared.
        """
        tree = self.model_dump(mode="json")
        if self.tracking.uri:
            tree["tracking"]["uri"] = without_password(self.tracking.uri)
        return yaml.safe_dump(tree, sort_keys=False)

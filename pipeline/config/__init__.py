"""The settings of a study, section by section, and how its YAML file is read."""

from pipeline.config.addresses import without_password
from pipeline.config.data_settings import (
    PRESET_CLASSES,
    AugmentationSettings,
    BatchSettings,
    CohortSettings,
    ImagingSettings,
    ImbalanceSettings,
    IngestSettings,
    LabelSettings,
    PhantomSettings,
    PreprocessingSettings,
    ReadLabelSettings,
    SplitSettings,
)
from pipeline.config.learning_settings import (
    CalibrationSettings,
    DecisionSettings,
    EvaluationSettings,
    LossSettings,
    NetworkSettings,
    TrainingSettings,
)
from pipeline.config.moved_study import check_not_moved, dataset_hint
from pipeline.config.operation_settings import (
    AskedReports,
    CompareSettings,
    DaskSettings,
    EmailSettings,
    GateSettings,
    NotifySettings,
    ReportSettings,
    RetrainSettings,
    ServeSettings,
    TauThresholds,
    TrackingSettings,
)
from pipeline.config.purposes import Purpose, check_purpose
from pipeline.config.study import Study
from pipeline.config.study_file import SHIPPED, load_study, shipped_study

__all__ = [
    "PRESET_CLASSES",
    "SHIPPED",
    "AskedReports",
    "AugmentationSettings",
    "BatchSettings",
    "CalibrationSettings",
    "CohortSettings",
    "CompareSettings",
    "DaskSettings",
    "DecisionSettings",
    "EmailSettings",
    "EvaluationSettings",
    "GateSettings",
    "ImagingSettings",
    "ImbalanceSettings",
    "IngestSettings",
    "LabelSettings",
    "LossSettings",
    "NetworkSettings",
    "NotifySettings",
    "PhantomSettings",
    "PreprocessingSettings",
    "Purpose",
    "ReadLabelSettings",
    "ReportSettings",
    "RetrainSettings",
    "ServeSettings",
    "SplitSettings",
    "Study",
    "TauThresholds",
    "TrackingSettings",
    "TrainingSettings",
    "check_not_moved",
    "check_purpose",
    "dataset_hint",
    "load_study",
    "shipped_study",
    "without_password",
]

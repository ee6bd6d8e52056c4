"""The settings of a study, section by section, and how its YAML file is read."""

from pipeline.config.addresses import without_password
from pipeline.config.conflicts import Purpose, check_purpose
from pipeline.config.data_settings import (
    PRESET_CLASSES,
    AugmentationSettings,
    BatchSettings,
    CohortSettings,
    ImagingSettings,
    ImbalanceSettings,
    IngestSettings,
    PhantomSettings,
    PreprocessingSettings,
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
from pipeline.config.operation_settings import (
    CompareSettings,
    DaskSettings,
    EmailSettings,
    GateSettings,
    NotifySettings,
    RetrainSettings,
    ServeSettings,
    TrackingSettings,
)
from pipeline.config.study import Study
from pipeline.config.study_file import SHIPPED, load_study, shipped_study

__all__ = [
    "PRESET_CLASSES",
    "SHIPPED",
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
    "LossSettings",
    "NetworkSettings",
    "NotifySettings",
    "PhantomSettings",
    "PreprocessingSettings",
    "Purpose",
    "RetrainSettings",
    "ServeSettings",
    "SplitSettings",
    "Study",
    "TrackingSettings",
    "TrainingSettings",
    "check_purpose",
    "load_study",
    "shipped_study",
    "without_password",
]

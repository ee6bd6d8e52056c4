"""How comparisons run, where models are stored, and how they are replaced on a schedule."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from pipeline.config.learning_settings import LossSettings
from pipeline.config.section import Count, Fraction, NotNegative, Positive, Section, Seed


class TrackingSettings(Section):
    """Where runs and models are stored."""

    uri: str | None = None
    """SQLAlchemy address (``postgresql+psycopg://USER@HOST/DATABASE``) or MLflow server; a SQLite file in the
    output folder where not given. Passwords belong in ``PGPASSWORD`` or ``~/.pgpass``: no written study keeps
    one."""
    artifacts: str | None = None
    """Folder or address of models and files, fixed when the experiment is made; where not given,
    ``mlartifacts`` beside the SQLite file or in the output folder. An MLflow server has its own."""
    experiment: str = "taucal"
    model_name: str = "taucal"
    keep_reports_days: Count | None = None
    """Reports and predictions recorded in MLflow are deleted after so many days; none keeps all. The files in
    the folders of reports stay."""


class CompareSettings(Section):
    """Losses x seeds x folds, all else equal."""

    losses: tuple[LossSettings, ...] = (LossSettings(name="ce"), LossSettings(name="gce"))
    seeds: tuple[Seed, ...] = (0, 1, 2)
    folds: Count = 1
    """Subject-grouped test folds; 1 is the one split of the study, or the published one."""
    baseline: str = "ce"
    calibrators: Annotated[tuple[str, ...], Field(min_length=1)] = ("temperature", "adaptive_temperature")
    """Calibrators after which losses are compared, fitted on the calibration part; figures show the last."""
    undo_weighting: bool = True
    """Whether calibrators get logits at the class shares of training; no for a balanced test part."""
    runner: Literal["local", "processes", "dask"] = "local"
    workers: Count = 2
    retries: Annotated[int, Field(ge=0)] = 1
    """How often a cell that failed is tried again."""


class DaskSettings(Section):
    """The Dask cluster of `runner: dask`; worker processes of this machine where nothing is given."""

    address: str | None = None
    """Of a scheduler that runs already, ``tcp://HOST:PORT``."""
    jobqueue: Literal["SLURM", "PBS", "SGE", "LSF"] | None = None
    """Ask this queue for workers, by dask-jobqueue."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Of the queue: ``queue``, ``cores``, ``memory``, ``walltime``, ``job_extra_directives`` ..."""


class GateSettings(Section):
    """What a challenger must show to replace the champion, on scans from which neither learned.

    The NLL decides; the other margins are guards, which fail where the challenger is worse by more than the
    margin and by more than chance explains. tests/benchmarks/gate.py shows what these numbers do.
    """

    negative_log_likelihood: NotNegative = 0.035
    """How much worse the NLL may be."""
    classwise_ece: NotNegative = 0.03
    """How much worse the classwise calibration error above its noise may be."""
    balanced_accuracy: NotNegative = 0.05
    """How much worse the prior-corrected balanced accuracy may be."""
    level: Annotated[float, Field(ge=0.5, lt=1)] = 0.8
    """Of the one-sided limits of the NLL on the test part."""
    guard_level: Annotated[float, Field(ge=0.5, lt=1)] = 0.99
    """Of the one-sided limits of the guards."""
    waiting: Annotated[float, Field(ge=0, lt=0.5)] = 0.05
    """Chance of a wrong decision, beside 1 - level, that all looks at later scans share."""
    draws: Count = 2000


class RetrainSettings(Section):
    """When the champion is replaced, and who says so."""

    gate: GateSettings = GateSettings()
    shift_level: Fraction = 0.01
    """Chance that a period in which nothing has changed is called changed."""
    growth: Positive | None = 0.5
    """Also retrain where labelled scans have grown by this share since the champion; none never does."""
    require_approval: bool = False
    """Stop before the move until `taucal promote --approve`."""
    wait_months: NotNegative = 3
    """How long a challenger about which the test part decides nothing is scored on later scans; 0: not."""
    wait: bool = False
    """Wait for a retraining that runs already, or refuse at once; a scheduled one waits."""
    who: str | None = None
    """Name recorded in the audit log; where not given, the login of who typed the command, or "schedule"."""
    accept_smaller: bool = False
    """Go on where the cohort has fewer labelled scans than the champion was made from and tested on."""


class ServeSettings(Section):
    """Schedules as cron lines, in UTC; one that is null is not started."""

    ingest: str | None = "0 2 * * *"
    shift: str | None = "0 5 * * 1"
    retrain: str | None = "0 6 1 * *"
    reports: str | None = "0 4 * * *"
    host: str = "127.0.0.1"
    prefect_port: Annotated[int, Field(ge=0, lt=65536)] = 4200
    mlflow_port: Annotated[int, Field(ge=0, lt=65536)] = 5000


class EmailSettings(Section):
    """A mail server that takes messages of this machine."""

    host: str
    port: Annotated[int, Field(ge=1, lt=65536)] = 25
    sender: str
    to: tuple[str, ...]
    starttls: bool = False
    user: str | None = None
    password_env: str | None = None
    """Environment variable that holds the password; never the password itself."""


class NotifySettings(Section):
    """Receivers of notices about failures, promotions and shifts."""

    webhook: str | None = None
    """Gets a POST of JSON: event, study, time, facts."""
    email: EmailSettings | None = None
    urls: tuple[str, ...] = ()
    """Addresses of chat, push and mail services in the form of apprise, as in ``slack://TOKENS``."""

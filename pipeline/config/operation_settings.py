"""How comparisons run, where models are stored, and how they are replaced on a schedule."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

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
    """Experiment of MLflow."""
    model_name: str = "taucal"
    """Registered model of MLflow."""
    keep_reports_days: Count | None = None
    """Reports and predictions recorded in MLflow are deleted after so many days; none keeps all. The files in
    the folders of reports stay."""


class CompareSettings(Section):
    """Losses x seeds x folds x batch sizes, all else equal."""

    losses: tuple[LossSettings, ...] = (
        LossSettings(name="ce"),
        LossSettings(name="gce", options={"weight": 0.5}, label="gce w=0.5"),
        LossSettings(name="gce", options={"weight": 1.0}, label="gce w=1"),
    )
    """The losses. One whose main option is not stated is tuned, see `tune`."""
    seeds: tuple[Seed, ...] = (0, 1, 2)
    """Each loss is trained with each."""
    folds: Count | None = None
    """Subject-grouped test folds; 5 where not given, or 1 where the cohort has a published split. 1 is the
    one split of the study. Below 1,000 labelled scans, a fold's calibrators are fitted on the scans that the
    other folds held out (`calibration.scheme`)."""
    batch_sizes: tuple[Annotated[int, Field(ge=2)], ...] = ()
    """All losses are compared at each of these; at `training.batch_size` where none is given."""
    tune: bool = True
    """Whether a loss whose main option is not stated is trained with three values of it for the first seed;
    the least validation NLL after temperature scaling chooses, fold by fold."""
    baseline: str = "ce"
    """Name or label of the loss that others are compared with."""
    calibrators: Annotated[tuple[str, ...], Field(min_length=1)] = ("temperature", "adaptive_temperature")
    """Calibrators after which losses are compared, fitted on the calibration part; figures show the last."""
    undo_weighting: bool = True
    """Whether calibrators get logits at the class shares of training; no for a balanced test part."""
    runner: Literal["local", "processes", "dask"] = "local"
    """In this process, in processes of this machine, or on the cluster of section `dask`."""
    workers: Count = 2
    """Processes that train."""
    retries: Annotated[int, Field(ge=0)] = 1
    """How often a cell that failed is tried again."""


class CurveSettings(Section):
    """The learning curve of `taucal curve`; seeds, folds, calibrators and runner are those of `compare`."""

    shares: Annotated[tuple[Annotated[float, Field(gt=0, le=1)], ...], Field(min_length=2)] = (
        0.25, 0.5, 0.75, 1.0,
    )  # fmt: skip
    """Of the training subjects, ascending to 1; a smaller share is a part of a larger one."""


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
    """Confidence of the one-sided limits of the NLL on the test part."""
    guard_level: Annotated[float, Field(ge=0.5, lt=1)] = 0.99
    """Confidence of the one-sided limits of the guards."""
    waiting: Annotated[float, Field(ge=0, lt=0.5)] = 0.05
    """Chance of a wrong decision, beside 1 - level, that all looks at later scans share."""
    champions_luck: Annotated[float, Field(ge=0, le=1)] = 1
    """Share of a champion's expected luck on the scans that chose it that is allowed for; 0: none."""
    draws: Count = 2000
    """Bootstrap draws, of subjects."""


class RetrainSettings(Section):
    """When the champion is replaced, and who decides."""

    gate: GateSettings = GateSettings()
    """What a new model must show."""
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
    """Go on where the cohort has fewer labelled scans than the champion was made from and tested on, or none
    of them."""


class TauThresholds(Section):
    """When a report calls a scan tau-positive; a threshold holds for the pipeline that it was found with.

    Two thresholds with an uncertain zone between them, as in Gogola et al. 2023,
    doi 10.2967/jnumed.123.265941. Over 23 cohorts Weigand et al. 2022, doi 10.1186/s13195-022-00986-w, found
    no agreed cut-off of flortaucipir: take your own where you have scans to find it with.
    """

    uncertain_from: Positive = 1.19
    """SUVR of the temporal meta-ROI; a scan below it is tau-negative."""
    positive_from: Positive = 1.34
    """SUVR of the temporal meta-ROI; a scan at or above it is tau-positive."""
    region_z: Positive = 2.0
    """A region counts as raised from so many SD above the cognitively normal training scans."""
    source: str = "published cut-offs, which differ by method"
    """Where the two thresholds come from; printed beside them."""
    holds_for: str = "other processing than this"
    """The processing that the thresholds were found with; printed beside them."""

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.uncertain_from > self.positive_from:
            raise ValueError(
                f"uncertain_from is {self.uncertain_from}, above positive_from, {self.positive_from}. "
                "Expected the lower of the two thresholds"
            )
        return self


class ReportSettings(Section):
    """What the report of a scan compares it with, and how readers answer."""

    tau: TauThresholds = TauThresholds()
    """When a report calls a scan tau-positive."""
    typical_scans: bool = True
    """Whether training stores a typical negative and a typical positive scan of the training cohort with the
    classifier, to be shown beside each scan. They are brains of people, without skull and name: set it to
    false where the classifier leaves the place that may see them."""
    viewer: bool = True
    """Whether each report gets a page beside it that shows all slices of the scan, with SUVR and region at a
    cross-hair. It works offline and holds no answer of the model; it adds about 0.6 MB and 0.1 s a scan."""
    blind_reads: bool = False
    """Whether `taucal read` and the form ask for the reader's own read before they show the model's answer.
    The report of a scan holds that answer: a reader who has opened it is not blind."""


class AskedReports(Section):
    """What `taucal report` was asked for: its flow reads it from a private file, which is removed then."""

    scans: tuple[Path, ...]
    out: Path
    place: Path
    """YAML file or output folder of the study."""
    model: str = "@champion"
    prevalence: dict[str, float] | None = None
    key_file: Path | None = None
    pdf: bool = True
    dicom: bool = False
    send: str | None = None


class ServeSettings(Section):
    """Schedules as cron lines, in UTC; one that is null is not started."""

    ingest: str | None = "0 2 * * *"
    """When new scans are ingested."""
    shift: str | None = "0 5 * * 1"
    """When new scans are tested for shift."""
    retrain: str | None = "0 6 1 * *"
    """When it is retrained, if that is needed."""
    reports: str | None = "0 4 * * *"
    """When scans without a report get one."""
    week: str | None = "30 5 * * 1"
    """When the weekly page is written."""
    host: str = "127.0.0.1"
    """Address that the pages of Prefect and MLflow listen on."""
    prefect_port: Annotated[int, Field(ge=0, lt=65536)] = 4200
    """Of Prefect's page; 0 takes a free one."""
    mlflow_port: Annotated[int, Field(ge=0, lt=65536)] = 5000
    """Of MLflow's page; 0 takes a free one."""
    reads_port: Annotated[int, Field(ge=0, lt=65536)] | None = 5001
    """Of the form for readers, on 127.0.0.1 whatever `host` is; null serves none."""


class EmailSettings(Section):
    """A mail server that takes messages of this machine."""

    host: str
    """Name of the server."""
    port: Annotated[int, Field(ge=1, lt=65536)] = 25
    """Of the server."""
    sender: str
    """Address that mails come from."""
    to: tuple[str, ...]
    """Addresses that get them."""
    starttls: bool = False
    """Whether the connection is encrypted by STARTTLS."""
    user: str | None = None
    """Name to log in with; null does not log in."""
    password_env: str | None = None
    """Environment variable that holds the password; never the password itself."""


class NotifySettings(Section):
    """Receivers of notices about failures, promotions and shifts."""

    webhook: str | None = None
    """Gets a POST of JSON: event, study, time, facts."""
    email: EmailSettings | None = None
    """Gets a mail."""
    urls: tuple[str, ...] = ()
    """Addresses of chat, push and mail services in the form of apprise, as in ``slack://TOKENS``."""

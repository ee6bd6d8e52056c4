"""Ingest: a folder of scans becomes one de-identified BIDS-PET dataset with SUVR and a cohort table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from prefect import flow

from flows.ingestion.ingest_tables import (
    DatasetTables,
    IngestResult,
    ScanDone,
    read_outcomes,
    result_of,
    stored_key_check,
    write_tables,
)
from flows.ingestion.scan_jobs import ScanJob, ingest_scans
from flows.ingestion.source_folders import check_emptied, find_all, find_missing, first_of
from flows.running.console import say, show_table
from flows.running.doors import name_run, opened, report_crash
from flows.running.job_runs import JobRuns
from flows.running.jobs import Runner
from flows.running.locks import locked
from flows.running.task_runs import log_shared, shared_progress, show_rows
from pipeline.config import DaskSettings, ImagingSettings, IngestSettings, Study, dataset_hint
from pipeline.diagnoses import ClassWords
from pipeline.errors import ConfigError, InputError
from pipeline.files import remove_unfinished
from pipeline.ingest.archives import remove_left_over
from pipeline.ingest.deidentify import Pseudonymiser, key_beside, load_or_make_key
from pipeline.ingest.found import Found, NoScans
from pipeline.ingest.known_headers import remembered_headers
from pipeline.ingest.people import Person
from pipeline.ingest.records import assign_sessions, read_records
from pipeline.ingest.same_scans import as_known, compare_people, refuse_copies, release_copies
from pipeline.ingest.source_map import known_subjects, log_failures, remember_sources
from pipeline.wording import counts_of

_NO_CLUSTER = DaskSettings()
_SHOWN = 1000
"""Most scans of a table in Prefect."""


@flow(name="ingest", flow_run_name=name_run, validate_parameters=False, on_crashed=[report_crash])
def ingest(study: str) -> IngestResult:
    """Take new scans of a study's sources to SUVR; a scan that is done already is skipped.

    Parameters
    ----------
    study : str
        Path of a resolved study file.
    """
    with opened(study) as resolved:
        return ingest_study(resolved)


def ingest_study(study: Study) -> IngestResult:
    """Ingest the sources of a study into its dataset.

    Raises
    ------
    ConfigError
        If the study names no source.
    InputError
        If a source is not there, there is nothing to read and nothing was read before, the folder cannot be
        written, or another ingest is writing it and `ingest.wait` is not set. With `ingest.prune`, if
        a source holds no scan at all: all that came from it would be removed.
    """
    given = study.ingest
    if given.source is None:
        raise ConfigError(
            "The study names no source to ingest",
            where="ingest.source",
            hint="set ingest.source to the folder of scans",
        )
    sources = (given.source, *given.more_sources)
    _check_places(study, sources)
    result = _ingest(sources, study.cohort.path, given, study.imaging, study.cohort.words, study.dask)
    if result.without_label:
        say(_label_sentence(study, result))
    log_shared(
        f"{result.accepted} scans accepted, {result.warned} with a warning, {result.refused} refused; "
        f"{result.scans} scans are in the cohort."
    )
    return result


def _check_places(study: Study, sources: Sequence[Path]) -> None:
    """Refuse an ingest that would make a trained study's dataset again elsewhere, or has no source."""
    given, bids = study.ingest, study.cohort.path
    stored, key = study.output / "study.yaml", given.key_file or key_beside(bids)
    if stored.is_file() and not bids.is_dir() and not key.is_file():
        raise InputError(
            f"The dataset that this study was trained on is not at {bids}, nor is its key {key}. An ingest "
            "would start another one, in which everybody has another pseudonym",
            where="cohort.path",
            hint=dataset_hint(study, stored),
        )
    for source in sources:
        if not source.exists():
            raise InputError(
                f"There is no such folder or archive: {source}",
                where="ingest.source" if source == given.source else "ingest.more_sources",
                hint="if it was moved, correct it in the study file; without ingest.source, `taucal retrain` "
                "uses the scans of the dataset alone",
            )


def _label_sentence(study: Study, result: IngestResult) -> str:
    """Return where scans get their label about which no source states anything."""
    problem = f"No {study.cohort.target} in the source for {result.without_label} of {result.scans} scans"
    if study.cohort.labels is not None:
        return f"{problem}; they get theirs from cohort.labels when the study is trained."
    return (
        f"{problem}. A study gives scans theirs from a table when it is trained: "
        "cohort.labels: {file: TABLE.csv}."
    )


def _ingest(
    source: Path | Sequence[Path],
    bids: Path,
    settings: IngestSettings,
    imaging: ImagingSettings,
    classes: tuple[str, ...] | ClassWords,
    dask: DaskSettings = _NO_CLUSTER,
) -> IngestResult:
    given = [source] if isinstance(source, Path) else list(source)
    folders = list({folder.resolve(): folder for folder in given}.values())
    key_file = settings.key_file or key_beside(bids)
    with ExitStack() as archives, remembered_headers(key_file):
        return _ingest_open(folders, bids, settings, imaging, (_words_of(classes), dask), archives)


def _ingest_open(
    folders: Sequence[Path],
    bids: Path,
    settings: IngestSettings,
    imaging: ImagingSettings,
    study: tuple[ClassWords, DaskSettings],
    archives: ExitStack,
) -> IngestResult:
    words, dask = study
    found, empty = find_all(folders, bids, settings, archives)
    # A folder that cannot be written is refused before the key is made or a scan is read.
    with locked(bids.parent / f".{bids.name}.lock", "dataset", wait=settings.wait) as waited:
        if waited:
            # More may have come to the sources meanwhile.
            found, empty = find_all(folders, bids, settings, archives)
        remove_unfinished(bids)
        remove_left_over(bids.parent)
        key_file = settings.key_file or key_beside(bids)
        names = _names_of(bids, key_file)
        held = {names.code("source", str(folder.resolve())): one for folder, one in found.items()}
        done: list[ScanDone] = []
        pruned = 0
        for nothing in empty:
            check_emptied(nothing, names.code("source", str(nothing.source.resolve())), bids, settings)
        for place, given_scans in held.items():
            known, records = known_subjects(key_file), read_records(bids)
            one = replace(given_scans, scans=tuple(as_known(given_scans.scans, known, records, bids, names)))
            pruned += find_missing(one, place, bids, names, prune=settings.prune)
            one = _checked(one, known, place, bids, names)
            jobs = _jobs_of(one, place, bids, settings, imaging, names)
            remember_sources(key_file, [job.found for job in jobs], names)
            with shared_progress("ingest") as tick:
                runner = _runner(settings, dask, len(jobs))
                done += ingest_scans(jobs, runner, tick, JobRuns(_titles(len(jobs)), len(jobs)))
        copies = refuse_copies(bids, {o.scan for o in read_outcomes(bids)[0] if o.verdict != "refused"})
        done = [replace(scan, outcome=copies.get(scan.record, scan.outcome)) for scan in done]
        log = log_failures(key_file, {s.outcome.scan: (s.place, s.trace) for s in done if s.trace})
        tables = write_tables(held, bids, words, _check_of(names))
        result = replace(
            result_of(done, tables, held.values(), bids, pruned), empty=tuple(one.where for one in empty)
        )
        _show(result, done, log)
        _show_in_prefect(done)
        _show_dataset(empty, tables)
        return result


def _words_of(classes: tuple[str, ...] | ClassWords) -> ClassWords:
    return classes if isinstance(classes, ClassWords) else ClassWords(classes)


def _names_of(bids: Path, key_file: Path) -> Pseudonymiser:
    """Return the pseudonyms of a dataset; under another key, everybody in it would be there twice."""
    hint = "name the key of this dataset by --key-file, or restore it; or ingest into another folder"
    if not key_file.exists() and any(record is not None for record in read_records(bids).values()):
        raise InputError("The key of this dataset is missing", where=str(key_file), hint=hint)
    names = Pseudonymiser(load_or_make_key(key_file, bids))
    if stored_key_check(bids) not in ("", _check_of(names)):
        raise InputError("This is not the key that the dataset was made with", where=str(key_file), hint=hint)
    return names


def _check_of(names: Pseudonymiser) -> str:
    return names.code("key", "dataset")


def _checked(
    found: Found, known: Mapping[str, set[Person]], place: str, bids: Path, names: Pseudonymiser
) -> Found:
    """Say what was found; mark the scans that are another person's than their label says."""
    left_alone = counts_of(found.ignored) or "nothing"
    say(f"Found {len(found.scans)} PET series ({found.layout} layout); left alone: {left_alone}.")
    if found.unopened:
        shown = ", ".join(map(str, found.unopened[:5])) + (" ..." if len(found.unopened) > 5 else "")
        say(f"{len(found.unopened)} folders or files cannot be opened; what is in them is left out: {shown}.")
    scans, shared = compare_people(found.scans, known, read_records(bids), place, bids, names)
    if shared and found.layout != "adni":
        say(
            f"{len(shared)} subjects of this source are in the dataset from another one; they are taken as "
            f"the same people: {first_of([f'sub-{subject}' for subject in shared])}."
        )
    return replace(found, scans=tuple(scans))


def _jobs_of(
    found: Found, place: str, bids: Path, settings: IngestSettings, imaging: ImagingSettings,
    names: Pseudonymiser,
) -> list[ScanJob]:  # fmt: skip
    release_copies(bids)
    return [
        ScanJob(scan, bids, names.key, settings.tracer, settings.max_days_to_diagnosis, imaging, place)
        for scan in assign_sessions(found.scans, read_records(bids), bids, names)
    ]


def _runner(settings: IngestSettings, dask: DaskSettings, scans: int) -> Runner:
    alone = settings.runner == "processes" and (settings.workers == 1 or scans < 3)
    return Runner("local" if alone else settings.runner, settings.workers, retries=1, dask=dask)


def _show(result: IngestResult, done: Sequence[ScanDone], log: Path | None) -> None:
    """Say what became of the scans of these sources, with the input of each refused one: console only."""
    rules = Counter(s.outcome.rule for s in done if s.outcome.verdict == "warned")
    why = f" ({', '.join(f'{rule}: {count}' for rule, count in rules.most_common())})" if rules else ""
    say(f"{result.accepted} accepted, {result.warned} with a warning{why}, {result.refused} refused.")
    refused = [scan for scan in done if scan.outcome.verdict == "refused"]
    if refused:
        rows = [
            [s.outcome.scan, s.place, s.outcome.stage, s.outcome.rule, s.outcome.measured]
            for s in refused[:12]
        ]
        more = f" (first 12 of {result.refused})" if result.refused > 12 else ""
        show_table(f"Refused scans{more}", ["scan", "input", "stage", "rule", "measured"], rows)
    changed = [f"{scan.outcome.scan} {scan.changed}" for scan in done if scan.changed]
    if changed:
        say(f"The diagnosis of {len(changed)} scans changed: {first_of(changed)}.")
    if log is not None:
        say(f"{result.failed} failed unexpectedly; tracebacks are in {log}.")


def _show_in_prefect(done: Sequence[ScanDone]) -> None:
    """Add tables of what became of the scans to the flow run, by pseudonym."""
    outcomes = [scan.outcome for scan in done]
    refused = [
        {"scan": o.scan, "stage": o.stage, "rule": o.rule, "measured": o.measured}
        for o in outcomes
        if o.verdict == "refused"
    ]
    others = [{"scan": o.scan, "verdict": o.verdict} for o in outcomes if o.verdict != "refused"]
    for key, rows in (("refused-scans", refused), ("accepted-scans", others)):
        more = f"; the first {_SHOWN}" if len(rows) > _SHOWN else ""
        show_rows(key, rows[:_SHOWN], f"{len(rows)} {key.replace('-', ' ')} of the sources{more}")


def _titles(scans: int) -> list[str]:
    """Return names of at most fifty tasks of at least twenty scans."""
    size = max(20, -(-scans // 50))
    return [f"ingest scans {n + 1}-{min(n + size, scans)}" for n in range(0, scans, size)]


def _show_dataset(empty: Sequence[NoScans], tables: DatasetTables) -> None:
    for nothing in empty:
        say(f"{nothing.where}: {nothing.problem}. The dataset keeps its {tables.scans} scans.")
    for sentence in tables.left_out:
        say(sentence)
    if tables.gone:
        say(f"Files of {len(tables.gone)} scans are missing; no table lists them: {first_of(tables.gone)}.")

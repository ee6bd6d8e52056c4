"""Settings that cannot work together are refused together, with their keys and the fix."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from pipeline.config import PRESET_CLASSES, Study, check_purpose, load_study, shipped_study
from pipeline.errors import ConfigError
from pipeline.phantom.population import PRESETS

MINIMAL = {"name": "x", "output": "out", "cohort": {"path": "bids"}}


def test_the_defaults_go_together():
    assert Study(**MINIMAL).cohort.classes == ("CN", "MCI", "AD")


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"network": {"name": "densnet121"}}, r"network\.name.*'densnet121'.*Did you mean 'densenet121'"),
        (
            {
                "network": {"name": "densenet121", "spatial_dims": 2},
                "cohort": {"kind": "cifar10", "path": "x"},
            },
            r"network\.name.*'densenet121'.*",
        ),
        ({"training": {"loss": {"name": "gcee"}}}, r"training\.loss\.name.*Did you mean 'gce'"),
        (
            {"compare": {"losses": [{"name": "ce"}, {"name": "focl"}]}},
            r"compare\.losses.*Did you mean 'focal'",
        ),
        (
            {"network": {"options": {"widht": 8}}},
            r"network\.options: there is no 'widht'.*Did you mean 'width'",
        ),
        ({"network": {"options": {"width": True}}}, r"network\.options\.width: .*found true"),
        (
            {"training": {"loss": {"name": "focal", "options": {"gama": 2}}}},
            r"training\.loss\.options: there is no 'gama'\. Did you mean 'gamma'",
        ),
        (
            {"compare": {"losses": [{"name": "ce"}, {"name": "gce", "options": {"gamma": 2}}]}},
            r"compare\.losses\.1\.options: there is no 'gamma'",
        ),
        ({"serve": {"ingest": "nonsense"}}, r"serve\.ingest: 'nonsense' is not a cron line.*0 2 \* \* \*"),
        ({"serve": {"week": "30 5 * * 8"}}, r"serve\.week: '30 5 \* \* 8' is not a cron line"),
        ({"serve": {"shift": "0 2 * *"}}, r"serve\.shift"),
        ({"serve": {"retrain": "0 24 * * *"}}, r"serve\.retrain"),
        ({"serve": {"reports": "0 2 * * someday"}}, r"serve\.reports"),
        ({"calibration": {"candidates": ["ats"]}}, r"calibration\.candidates.*Known:.*adaptive_temperature"),
        ({"compare": {"calibrators": ["platt"]}}, r"compare\.calibrators: there is no 'platt'"),
        (
            {"network": {"spatial_dims": 2, "name": "resnet18"}},
            r"network\.spatial_dims: 2 does not fit.*bids",
        ),
        ({"cohort": {"path": "x", "kind": "cifar10"}}, r"network\.spatial_dims: 3 does not fit.*set it to 2"),
        ({"cohort": {"path": "x", "classes": ["CN"]}}, r"cohort\.classes: only CN"),
        ({"cohort": {"path": "x", "classes": ["CN", "AD", "CN"]}}, r"cohort\.classes: CN appears twice"),
        ({"cohort": {"path": "x", "image_size": 32}}, r"cohort\.image_size.*remove it"),
        ({"augmentation": {"flip": True}}, r"augmentation\.flip.*remove both"),
        ({"imaging": {"window_start_min": 100, "window_end_min": 80}}, r"imaging\.window_start_min: 100"),
        ({"training": {"micro_batch": 32, "batch_size": 16}}, r"training\.micro_batch: 32.*16 or less"),
        ({"calibration": {"candidates": []}}, r"calibration\.candidates: the list is empty"),
        ({"calibration": {"candidates": ["vector", "vector"]}}, r"calibration\.candidates: vector appears"),
        ({"compare": {"losses": [{"name": "gce"}]}}, r"compare\.baseline: 'ce' is not among.*\(gce\)"),
        ({"compare": {"losses": [{"name": "ce"}, {"name": "ce"}]}}, r"compare\.losses: ce appears twice"),
        (
            {"compare": {"losses": [{"name": "ce"}, {"name": "gce", "label": "../x"}]}},
            r"compare\.losses: \.\./x cannot name a folder",
        ),
        ({"compare": {"seeds": [1, 2, 1]}}, r"compare\.seeds: 1 appears twice"),
        ({"compare": {"seeds": []}}, r"compare\.seeds: the list is empty"),
        (
            {"cohort": {"path": "x", "kind": "medmnist"}, "compare": {"folds": 3}},
            r"compare\.folds: 3 folds.*medmnist.*set it to 1",
        ),
        (
            {"phantom": {"batches": [{"prevalence": [0.5, 0.5]}]}},
            r"phantom\.batches\.0\.prevalence.*CN, MCI, AD",
        ),
        ({"dask": {"address": "tcp://x:1", "jobqueue": "SLURM"}}, r"dask\.address, dask\.jobqueue"),
        (
            {"cohort": {"path": "data/bids"}, "ingest": {"source": "data"}},
            r"ingest\.source, cohort\.path: the folders data and data/bids overlap.*beside each other",
        ),
        ({"serve": {"mlflow_port": 4200}}, r"serve\.prefect_port, serve\.mlflow_port: both are 4200"),
        (
            {"cohort": {"path": "x", "kind": "medmnist"}, "labels": {"from_reads": True}},
            r"labels\.from_reads: a cohort of kind medmnist has no scans that are read; remove",
        ),
        ({"serve": {"reads_port": 5000}}, r"serve\.mlflow_port, serve\.reads_port: both are 5000"),
    ],
)
def test_what_cannot_work_is_refused_with_key_and_fix(section, message):
    with pytest.raises(ValidationError, match=message):
        Study(**{**MINIMAL, **section})


@pytest.mark.parametrize(
    "line", ["*/15 2-4,6 1 JAN mon-fri", "@daily", "0 2 L * *", "0 0 * * 7", "5 4 * * sun#2", None]
)
def test_cron_lines_of_all_forms_are_accepted(line):
    assert Study(**MINIMAL, serve={"ingest": line}).serve.ingest == line


@pytest.mark.parametrize(
    ("section", "key"),
    [
        ({"seed": True}, "seed"),
        ({"training": {"epochs": True}}, "training.epochs"),
        ({"training": {"ema_decay": True}}, "training.ema_decay"),
        ({"decision": {"coverage": False}}, "decision.coverage"),
        ({"compare": {"seeds": [0, True]}}, "compare.seeds"),
        ({"phantom": {"batches": [{"scans": True}]}}, "phantom.batches.0.scans"),
        ({"cohort": {"path": "x", "image_size": True}}, "cohort.image_size"),
    ],
)
def test_true_is_no_number(section, key):
    with pytest.raises(ValidationError, match="should be a number, not true or false") as error:
        Study(**{**MINIMAL, **section})
    assert ".".join(map(str, error.value.errors()[0]["loc"])) == key


def test_all_conflicts_are_named_at_once_and_without_the_whole_study(tmp_path):
    path = tmp_path / "s.yaml"
    path.write_text(
        "name: x\noutput: out\ncohort: {path: bids, classes: [CN]}\ncompare: {seeds: [1, 1]}\n"
        "serve: {mlflow_port: 4200}\n"
    )
    with pytest.raises(ConfigError) as error:
        load_study(path)
    lines = str(error.value).splitlines()
    assert [line.split(":")[0].strip() for line in lines[1:]] == [
        "cohort.classes", "compare.seeds", "serve.prefect_port, serve.mlflow_port",
    ]  # fmt: skip
    assert "Value error" not in str(error.value)


def test_the_presets_have_these_classes():
    assert {name: preset.class_names for name, preset in PRESETS.items()} == PRESET_CLASSES


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("cohort.classes=[CN,MCI]", r"cohort\.classes: CN, MCI are not.*three_class.*\[CN, MCI, AD\]"),
        ("phantom.preset=five_class", r"phantom\.preset: five_class has classes.*Set it to three_class or"),
        ("ingest.source=null", r"ingest\.source"),
    ],
)
def test_a_demo_learns_the_classes_of_its_phantom(override, message):
    study = load_study(shipped_study("demo"), (override,))
    with pytest.raises(ConfigError, match=message):
        check_purpose(study, "demo")


@pytest.mark.parametrize("preset", ["three_class", "three_class_clinical"])
def test_the_fix_for_another_preset_is_right(preset):
    classes = f"[{', '.join(PRESET_CLASSES[preset])}]"
    study = load_study(shipped_study("demo"), (f"phantom.preset={preset}", f"cohort.classes={classes}"))
    check_purpose(study, "demo")


def test_what_a_study_is_used_for_decides_what_it_needs():
    rarer = Study(**MINIMAL, imbalance={"ratio": 20})
    images = Study(**{**MINIMAL, "cohort": {"path": "x", "kind": "cifar10"}}, network={"spatial_dims": 2})
    for study in (rarer, images):
        check_purpose(study, "compare")
    check_purpose(rarer, "train")
    with pytest.raises(ConfigError, match=r"imbalance\.ratio: 20"):
        check_purpose(rarer, "retrain")
    with pytest.raises(ConfigError, match=r"cohort\.kind.*cifar10.*taucal compare"):
        check_purpose(images, "train")
    with pytest.raises(ConfigError, match=r"phantom\.batches"):
        check_purpose(load_study(shipped_study("demo")), "year")


@pytest.mark.parametrize("name", ["adni", "cifar10_lt", "compare_adrenal", "compare_phantom", "demo", "year"])
def test_every_shipped_study_serves_its_purpose(name):
    purpose = {"adni": "retrain", "demo": "demo", "year": "year"}.get(name, "compare")
    check_purpose(load_study(shipped_study(name)), purpose)
    assert {p.stem for p in Path("configs").glob("*.yaml")} <= {
        "adni", "cifar10_lt", "compare_adrenal", "compare_phantom", "demo", "year",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("cohort", "folds", "fix"),
    [
        ({"path": "bids"}, 1, r"Set compare\.folds to 2"),
        ({"path": "x", "kind": "medmnist"}, None, r"Set calibration\.scheme to split"),
    ],
)
def test_a_comparison_of_one_split_cannot_be_cross_fitted(cohort, folds, fix):
    study = Study(
        name="x", output="out", cohort=cohort, calibration={"scheme": "cross_fit"}, compare={"folds": folds}
    )
    with pytest.raises(ConfigError, match=r"calibration\.scheme, compare\.folds: one split has no.*" + fix):
        check_purpose(study, "compare")


def test_a_comparison_of_several_folds_can_be_cross_fitted():
    study = Study(name="x", output="out", cohort={"path": "bids"}, calibration={"scheme": "cross_fit"})
    check_purpose(study, "compare")


def test_an_ensemble_is_not_cross_fitted():
    with pytest.raises(ValidationError, match=r"calibration\.scheme, ensemble: cross-fitting averages"):
        Study(name="x", output="out", cohort={"path": "b"}, calibration={"scheme": "cross_fit"}, ensemble=3)

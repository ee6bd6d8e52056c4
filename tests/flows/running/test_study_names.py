"""A misspelt name is told before any work."""

from __future__ import annotations

import pytest

from flows.running.study_names import check_names
from pipeline.config import Study
from pipeline.errors import ConfigError

MINIMAL = {"name": "x", "output": "out", "cohort": {"path": "bids"}}


def test_the_defaults_name_what_there_is():
    check_names(Study(**MINIMAL))


@pytest.mark.parametrize(
    ("section", "told"),
    [
        ({"network": {"name": "densnet121"}}, r"network\.name.*'densnet121'.*did you mean 'densenet121'"),
        (
            {"network": {"name": "densenet121", "spatial_dims": 2}},
            r"network\.name.*'densenet121'.*Known: resnet18, resnet32, resnet50, small_cnn",
        ),
        ({"training": {"loss": {"name": "gcee"}}}, r"training\.loss\.name.*did you mean 'gce'"),
        (
            {"compare": {"losses": [{"name": "ce"}, {"name": "focl"}]}},
            r"compare\.losses.*did you mean 'focal'",
        ),
        ({"calibration": {"candidates": ["ats"]}}, r"calibration\.candidates.*Known: adaptive_temperature"),
    ],
)
def test_a_name_that_is_not_there_is_refused_with_the_nearest(section, told):
    with pytest.raises(ConfigError, match=told):
        check_names(Study(**MINIMAL, **section))

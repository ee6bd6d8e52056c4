"""Answers of a model that MLflow serves, in the ledger beside those of reports and `taucal predict`.

Imported in the serving process, from the code that travels with the model.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.files import digest_of_path
from pipeline.tracking.answer_trace import AnsweredScan
from pipeline.tracking.ledger import record_answer
from pipeline.tracking.store import Store

_log = logging.getLogger(__name__)
_ADDRESS = "MLFLOW_TRACKING_URI"


@dataclass(frozen=True)
class ServedLedger:
    """Where a served model records its answers, and as which version.

    Parameters
    ----------
    version, run_id : str
        Of the registered model, and of its training run.
    """

    store: Store
    version: str
    run_id: str

    @classmethod
    def of(cls, folder: Path) -> ServedLedger | None:
        """Return the ledger of the store that ``MLFLOW_TRACKING_URI`` names; None where it names none.

        Parameters
        ----------
        folder : Path
            Of the model as MLflow has stored it, with its ``MLmodel``.
        """
        address = os.environ.get(_ADDRESS)
        if not address:
            return None
        try:
            return cls._found(address, folder)
        except Exception as error:  # noqa: BLE001 - the model answers all the same
            _log.warning("Answers are not recorded in MLflow: %s", type(error).__name__)
            return None

    @classmethod
    def _found(cls, address: str, folder: Path) -> ServedLedger | None:
        import mlflow
        from mlflow.models import Model

        stored = Model.load(str(folder))
        client = mlflow.MlflowClient(tracking_uri=address, registry_uri=address)
        versions = client.search_model_versions(f"run_id = '{stored.run_id}'")
        mine = [found for found in versions if (found.source or "").endswith(str(stored.model_id))]
        if not mine:
            return None
        run = client.get_run(stored.run_id)
        experiment = client.get_experiment(run.info.experiment_id)
        store = Store(address, experiment.name, mine[0].name, experiment.artifact_location)
        return cls(store, str(mine[0].version), str(stored.run_id))

    def record(self, path: Path, answer: Mapping[str, Any], measured: Mapping[str, Any]) -> None:
        """Record an answer about a scan, whose pseudonym is made of its bytes: there is no key here."""
        try:
            digest = digest_of_path(path)
            scan = AnsweredScan(
                "served", f"scan-{digest}", digest, self.version, self.run_id, answer, measured=measured
            )
            record_answer(self.store, scan)
        except Exception as error:  # noqa: BLE001 - the answer itself is there
            _log.warning("An answer is not recorded in MLflow: %s", type(error).__name__)

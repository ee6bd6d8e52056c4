"""Import this to load what a worker needs for its first scan: for `pipeline.processes.preload`.

Maps and models that are built once a process, a second or two of it, are built once for all workers that are
forked from a server which has imported this, and stand in memory once.
"""

from __future__ import annotations

import flows.ingestion.scan_jobs  # noqa: F401 - jobs are defined there
import pipeline.phantom.tree  # noqa: F401 - and there
from pipeline.imaging.head import five_tissue_model, region_model, template_image
from pipeline.imaging.measures import cortex, deep_white_matter
from pipeline.phantom.anatomy import load_model

for build in (template_image, five_tissue_model, region_model, cortex, deep_white_matter, load_model):
    build()

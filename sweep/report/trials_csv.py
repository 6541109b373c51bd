"""The trials of a report as CSV."""

from __future__ import annotations

import csv
import io

from sweep.report.content import Report


def to_csv(report: Report) -> str:
    """All trials of all stages; a setting that a stage did not search is empty there."""
    columns = dict.fromkeys(key for stage in report.stages for trial in stage.trials for key in trial)
    out = io.StringIO()
    writer = csv.DictWriter(out, ["stage", *columns], lineterminator="\n")
    writer.writeheader()
    writer.writerows({"stage": stage.name, **trial} for stage in report.stages for trial in stage.trials)
    return out.getvalue()

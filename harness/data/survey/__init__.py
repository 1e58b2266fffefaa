"""Check of a whole data set before training: counts, errors and suspicious properties."""

from harness.data.survey.report import Finding, Memory, Report, SplitReport
from harness.data.survey.take import survey

__all__ = ["Finding", "Memory", "Report", "SplitReport", "survey"]

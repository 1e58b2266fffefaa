"""What is in a data set, looked at as a whole before anything is trained: counts, what is wrong, what is suspicious."""

from harness.data.survey.report import Finding, Memory, Report, SplitReport
from harness.data.survey.take import survey

__all__ = ["Finding", "Memory", "Report", "SplitReport", "survey"]

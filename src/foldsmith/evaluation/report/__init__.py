"""The cross-validation report: one self-contained HTML file made from the held-out predictions of a run."""

from foldsmith.evaluation.report.page import Evidence, write_report

__all__ = ["Evidence", "write_report"]

"""The cross-validation report: one self-contained HTML file made from the evidence of a run."""

from foldsmith.evaluation.report.evidence import Evidence
from foldsmith.evaluation.report.page import write_report
from foldsmith.evaluation.report.pictures import Pictures

__all__ = ["Evidence", "Pictures", "write_report"]

"""The cross-validation report: one self-contained HTML file made from the evidence of a run."""

from foldsmith.report.evidence import Evidence
from foldsmith.report.page import write_report
from foldsmith.report.pictures import Pictures

__all__ = ["Evidence", "Pictures", "write_report"]

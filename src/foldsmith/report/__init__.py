"""The cross-validation report of a run: one self-contained HTML file."""

from foldsmith.report.evidence import Evidence
from foldsmith.report.mending import Mendable
from foldsmith.report.page import write_report
from foldsmith.report.pictures import Pictures

__all__ = ["Evidence", "Mendable", "Pictures", "write_report"]

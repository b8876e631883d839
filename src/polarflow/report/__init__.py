"""The report of a run: one HTML file that needs no network, made from Dataset and summary."""

from ._page import write_report as write_report

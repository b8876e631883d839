"""Reports, of a run and of a path from saddle to saddle: one HTML file that needs no network."""

from ._page import write_report as write_report
from ._path_page import write_path_report as write_path_report

"""Rows of JSON Lines, JSON, CSV and Parquet files: one reader of each, for every command that reads one."""

from __future__ import annotations

from pts.data_files.files import LINES, SUFFIXES, good_rows, read_rows
from pts.data_files.json_text import json_line, parse_json
from pts.data_files.plain_text import read_text
from pts.data_files.rows import BadRow, FileRow, Row
from pts.data_files.values import field_text, id_text, text_fault

__all__ = [
    "LINES",
    "SUFFIXES",
    "BadRow",
    "FileRow",
    "Row",
    "field_text",
    "good_rows",
    "id_text",
    "json_line",
    "parse_json",
    "read_rows",
    "read_text",
    "text_fault",
]

"""Files, hashes and caches: atomic, read back whole, keyed by inputs and code."""

from .code import hash_code
from .files import (
    FOLDER_REFUSALS,
    UNFIT,
    UNKNOWN_REQUEST,
    build_once,
    find_table,
    now_text,
    passing_over,
    read_arrays,
    read_json,
    read_table,
    reading,
    replace_folder,
    write_arrays,
    write_atomic,
    write_json,
    write_table,
)
from .hashes import TICK_NS, hash_file, hash_files, hash_text, name_apart, read_memo

__all__ = [
    "FOLDER_REFUSALS", "TICK_NS", "UNFIT", "UNKNOWN_REQUEST", "build_once", "find_table", "hash_code",
    "hash_file", "hash_files", "hash_text", "name_apart", "now_text", "passing_over", "read_arrays", "read_json",
    "read_memo", "read_table", "reading", "replace_folder", "write_arrays", "write_atomic", "write_json", "write_table",
]  # fmt: skip

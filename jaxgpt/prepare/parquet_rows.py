"""The rows of Parquet files."""

import itertools
from collections.abc import Iterator
from typing import Any

from jaxgpt.data.records import RECORD_BYTES, find_name
from jaxgpt.prepare import large_pages
from jaxgpt.prepare.broken import Broken, LineCounter, Records, describe_names, get_text
from jaxgpt.prepare.compression import UNREADABLE, describe
from jaxgpt.prepare.parquet import PAGE_BYTES, batch_rows, open_parquet
from jaxgpt.prepare.sources import Unit

TEXTS = ("string", "large_string", "string_view")
MAX_ROWS = 1 << 26  # in a row group of Parquet, the most that pyarrow writes


def read_parquet(unit: Unit, field: str, counter: LineCounter) -> Records:
    """The texts and broken rows of a unit's row groups, each with its number."""
    from pyarrow import ArrowException, set_memory_pool, system_memory_pool

    set_memory_pool(system_memory_pool())  # pyarrow's own keeps what a large page took
    try:
        with open_parquet(unit.name) as parquet:
            for group in range(unit.start, unit.end):
                for text in _read_row_group(parquet, group, unit.name, field):
                    counter.count += 1
                    yield counter.count, text
    except MemoryError:  # which one of Arrow's is, too
        raise
    except OverflowError as error:
        reason = f"{error}; write it with fewer columns and row groups, or as several files"
        yield counter.count + 1, Broken("metadata too large", reason)
    except (ArrowException, *UNREADABLE) as error:
        yield counter.count + 1, Broken("corrupt file", describe(error))


def _get_cell(value: Any, field: str) -> str | Broken:
    from pyarrow import BinaryScalar

    if isinstance(value, BinaryScalar) and value.is_valid and value.as_buffer().size > RECORD_BYTES:
        return Broken("text too long", f"more than {RECORD_BYTES:,} bytes")
    try:
        return get_text({field: value.as_py()}, field)
    except UnicodeDecodeError:
        return Broken("not UTF-8")


def _read_row_group(parquet: Any, group: int, path: str, field: str) -> Iterator[str | Broken]:
    from pyarrow import default_memory_pool, types

    schema, rows = parquet.schema_arrow, parquet.metadata.row_group(group)
    if rows.num_rows > MAX_ROWS:
        yield _too_large(f"{rows.num_rows:,} rows, more than {MAX_ROWS:,}")
        return
    name = find_name(field, schema.names)
    if schema.names.count(name) != 1:
        listed = ", ".join(f"{name!r:.200}" for name in schema.names[:99])
        yield from itertools.repeat(describe_names(field, schema.names, listed), rows.num_rows)
        return
    columns = [column for column in map(rows.column, range(rows.num_columns)) if column.path_in_schema == name]
    if not columns or types.is_nested(schema.field(name).type):  # a row may have any number of values
        kind = f"{schema.field(name).type}"
        yield from itertools.repeat(Broken("not a text", f"{field!r} is a {kind:.80}"), rows.num_rows)
        return
    try:
        batch_size = batch_rows(path, columns[0])
    except OverflowError:
        yield from _read_large_pages(parquet, group, path, name, field)
        return
    batches = parquet.iter_batches(batch_size, row_groups=[group], columns=[name])
    while batch := next(batches, None):
        column = batch.column(0)
        for value in column.dictionary_decode() if types.is_dictionary(column.type) else column:
            yield _get_cell(value, field)
        batch = column = value = None  # before the next is read
    default_memory_pool().release_unused()  # of the largest page


def _read_large_pages(parquet: Any, group: int, path: str, name: str, field: str) -> Iterator[str | Broken]:
    from pyarrow import types

    rows, kind, count = parquet.metadata.row_group(group), parquet.schema_arrow.field(name).type, 0
    number = [rows.column(number).path_in_schema for number in range(rows.num_columns)].index(name)
    is_optional = parquet.schema.column(number).max_definition_level > 0
    try:
        if str(kind.value_type if types.is_dictionary(kind) else kind) not in TEXTS:
            raise OverflowError(f"a page of more than {PAGE_BYTES:,} bytes, which are no texts")
        for text in large_pages.read_texts(path, rows.column(number), is_optional):
            count += 1
            yield get_text({field: None}, field) if text is None else text
    except OverflowError as error:
        yield from itertools.repeat(_too_large(str(error)), rows.num_rows - count)


def _too_large(reason: str) -> Broken:
    return Broken("row group too large", f"{reason}; write it with smaller pages and row groups")

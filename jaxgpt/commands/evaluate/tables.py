"""Results as a table."""

import rich.console
import rich.table


def print_table(table: rich.table.Table) -> None:
    terminal = rich.console.Console()
    if not terminal.is_terminal:
        terminal.width = 160  # a file has no width; a cut table would be useless
    terminal.print(table)

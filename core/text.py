"""Values and tables as people read them."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table

NONE = "-"


def as_text(value: object, number: str = ".6g") -> str:
    """A value in a table: yes or no for a bool, and "-" for None.

    number  the format of a float
    """
    if value is None:
        return NONE
    if isinstance(value, bool):
        return "yes" if value else "no"
    return format(value, number) if isinstance(value, float) else str(value)


def as_toml(value: object, number: str = ".6g") -> str:
    """A setting's value as an experiment file has it: true or false for a bool; text without quotes."""
    return str(value).lower() if isinstance(value, bool) else as_text(value, number)


def print_table(
    header: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    title: str = "",
    left: Sequence[int] = (0,),
    gap: int = 2,
    bold: int | None = None,
    spare: Sequence[str] = (),
    too_wide: str = "",
) -> None:
    """A table on stdout: drawn on a terminal, tab-separated elsewhere, without title.

    left      indices of the columns that are aligned on the left
    gap       blanks between two columns
    bold      index of the row that is printed in bold
    spare     columns to leave out, in this order, of a terminal that is too narrow
    too_wide  printed instead of a table that is too wide even so; "": its cells are cut
    """
    if not sys.stdout.isatty():
        print(*("\t".join(row) for row in (header, *rows)), sep="\n")
        return
    from rich.console import Console

    console, columns, unwanted = Console(), list(range(len(header))), list(spare)
    draw = partial(_drawn, header, rows, title=title, left=left, gap=gap, bold=bold)
    unbounded = console.options.update(width=10_000)
    while (wide := console.measure(draw(columns), options=unbounded).maximum > console.width) and unwanted:
        name = unwanted.pop(0)
        columns = [index for index in columns if header[index] != name]
    if wide and too_wide:
        print(too_wide)
    else:
        console.print(draw(columns))


def _drawn(
    header: Sequence[str],
    rows: Sequence[Sequence[str]],
    columns: Sequence[int],
    *,
    title: str,
    left: Sequence[int],
    gap: int,
    bold: int | None,
) -> Table:
    """These columns of the table, as print_table has it."""
    from rich.table import Table
    from rich.text import Text

    table = Table(title=title or None, title_justify="left", box=None, padding=(0, gap, 0, 0))
    table.header_style = "bold underline"
    for index in columns:
        table.add_column(Text(header[index]), justify="left" if index in left else "right", no_wrap=True)
    for number, row in enumerate(rows):  # as text: a name is the user's, and may look like markup
        table.add_row(*(Text(row[index]) for index in columns), style="bold" if number == bold else "")
    return table

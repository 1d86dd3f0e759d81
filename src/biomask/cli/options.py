"""Options that several commands share."""

from __future__ import annotations

from typing import Annotated

import typer

Device = Annotated[str, typer.Option("--device", help="auto, cpu, cuda, cuda:N or mps; what is asked for is used or refused.")]
Json = Annotated[str | None, typer.Option("--json", metavar="FILE", help="Also write the result as JSON; - is stdout.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Discard what an earlier run left in the output folder.")]
Ignore = Annotated[int | None, typer.Option("--ignore", metavar="VALUE", help="Label value of pixels where nothing is known.")]

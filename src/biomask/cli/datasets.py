"""`biomask datasets`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from biomask.cli.console import ConsoleProgress, check_json, show, write_json
from biomask.cli.options import Json

if TYPE_CHECKING:
    from biomask.public import Got, Offer

HELP = "Weights to begin with and data sets to try: list them, or fetch one from whoever offers it."

app = typer.Typer(help=HELP, invoke_without_command=True, rich_markup_mode=None)

KINDS = {"weights": "weights of torchvision", "data": "data sets"}


@app.callback(help=HELP)
def datasets(context: typer.Context, json: Json = None) -> None:
    if context.invoked_subcommand is not None:
        return
    check_json(json)
    from biomask import public

    offers = tuple(public.OFFERS.values())
    if not write_json([_entry(o) for o in offers], json):
        _print(offers)


@app.command("get")
def get_one(
    names: Annotated[list[str], typer.Argument(metavar="NAME", help="What to fetch, by the names that biomask datasets lists.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for it; nothing is kept elsewhere.")],
    json: Json = None,
) -> None:
    """Fetch weights as OUT/FILE.pth, or a data set as the folder OUT/NAME.

    A download that breaks off goes on where it stopped, also in a later run. What arrives is compared with its checksum where one
    is known; beside it, NAME.source.json says where it is from, its licence and its SHA-256.
    """
    check_json(json)
    from biomask import public

    for name in names:
        public.offer(name)  # a name that is spelt wrong is said before hours of downloads
    found = [public.get(name, out, progress=ConsoleProgress()) for name in names]
    if not write_json([g.to_json() for g in found], json):
        _print_got(found)


def _entry(o: Offer) -> dict[str, object]:
    return {"name": o.name, "kind": o.kind, "what": o.what, "licence": o.licence, "source": o.source, "megabytes": o.megabytes,
            "verified": o.verified, "urls": [f.url for f in o.files]}


def _print(offers: Sequence[Offer]) -> None:
    """One line an offer."""
    widest = max(len(o.name) for o in offers)
    show(f"  {'name':<{widest}} {'MB':>7}  what · licence")
    for kind, title in KINDS.items():
        show(title)
        for o in offers:
            if o.kind == kind:
                size = "" if o.megabytes is None else f"{o.megabytes:,}"
                show(f"  {o.name:<{widest}} {size:>7}  {o.what} · {o.licence}{'' if o.verified else ' · not verified'}")
    show("")
    show("MB: about, to download; not verified: nobody has published a checksum of it")
    show("nothing of it is biomask's: look at the licence before you use it")
    show("next: biomask datasets get NAME -o FOLDER")


def _print_got(found: Iterable[Got]) -> None:
    for got in found:
        for note in got.notes:
            show(f"note: {note}")
        show(f"{got.path}{' was there' if got.was_there else ''}: {got.offer.licence}, see {got.record.name}")
        show(f"next: {got.next}")

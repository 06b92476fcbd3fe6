"""Keys of vendors that are entered at run time."""

from typing import Annotated, Final

import typer

from polyroute.cli.desk import Desk, administrative

app: Final = typer.Typer(help="Enter, list and delete vendors' keys; rotate what seals them.", no_args_is_help=True)

Provider = Annotated[str, typer.Argument(help="vendor account of the configuration, or a vendor's own name")]
Name = Annotated[str, typer.Argument(help="name for people; an account has one key of a name")]


@app.command("put")
@administrative
def vendor_keys_put(desk: Desk, provider: Provider, name: Name = "main") -> None:
    """Enters a key, read from standard input, or replaces the one of that name."""
    from polyroute.cli import vault

    vault.put(desk, provider, name)


@app.command("list")
@administrative
def vendor_keys_list(desk: Desk, provider: Annotated[str, typer.Option(help="only this account's")] = "") -> None:
    """Lists keys, without their texts."""
    from polyroute.cli import vault

    vault.list_all(desk, provider)


@app.command("delete")
@administrative
def vendor_keys_delete(desk: Desk, provider: Provider, name: Name = "main") -> None:
    """Takes a key out."""
    from polyroute.cli import vault

    vault.delete(desk, provider, name)


@app.command("rotate")
@administrative
def vendor_keys_rotate(
    desk: Desk,
    forget_old: Annotated[bool, typer.Option("--forget-old", help="delete the old sealing keys at once")] = False,
) -> None:
    """Makes a new sealing key and seals every key anew; run it where the providers role is."""
    from polyroute.cli import vault

    vault.rotate(desk, forget_old=forget_old)

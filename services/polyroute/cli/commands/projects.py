"""Projects: units of billing and attribution."""

from typing import Annotated, Final

import typer

from polyroute.cli.desk import Desk, administrative

app: Final = typer.Typer(help="Create, list, change, suspend and delete projects.", no_args_is_help=True)

Project = Annotated[str, typer.Argument(help="its id")]
Name = Annotated[str, typer.Option(help="name for people")]
Filter = Annotated[str, typer.Option("--filter", help="such as 'name = \"search\"'; joined by AND")]

Deleted = Annotated[bool, typer.Option("--show-deleted", help="deleted ones as well")]
Force = Annotated[bool, typer.Option("--force", help="even with a subscription")]


@app.command("list")
@administrative
def projects_list(
    desk: Desk,
    account: Annotated[str, typer.Option(help="only this account's")] = "",
    filtered: Filter = "",
    deleted: Deleted = False,
) -> None:
    """Lists projects, newest first."""
    from polyroute.cli import tenants

    tenants.list_projects(desk, account, filtered, deleted=deleted)


@app.command("get")
@administrative
def projects_get(desk: Desk, project: Project) -> None:
    """Shows a project."""
    from polyroute.cli import tenants

    tenants.get_project(desk, project)


@app.command("create")
@administrative
def projects_create(
    desk: Desk, name: Name, account: Annotated[str, typer.Option(help="whose [default: the only account]")] = ""
) -> None:
    """Creates a project and prints its id."""
    from polyroute.cli import tenants

    tenants.create_project(desk, account, name)


@app.command("update")
@administrative
def projects_update(desk: Desk, project: Project, name: Name) -> None:
    """Gives a project another name."""
    from polyroute.cli import tenants

    tenants.update_project(desk, project, name)


@app.command("suspend")
@administrative
def projects_suspend(desk: Desk, project: Project) -> None:
    """Suspends a project: every call in it is refused within a second."""
    from polyroute.cli import tenants

    tenants.end_project(desk, "Suspend", project)


@app.command("resume")
@administrative
def projects_resume(desk: Desk, project: Project) -> None:
    """Ends the suspension of a project."""
    from polyroute.cli import tenants

    tenants.end_project(desk, "Resume", project)


@app.command("delete")
@administrative
def projects_delete(desk: Desk, project: Project, force: Force = False) -> None:
    """Deletes a project: its keys are revoked; what it spent stays in the ledger."""
    from polyroute.cli import tenants

    tenants.end_project(desk, "Delete", project, force=force)

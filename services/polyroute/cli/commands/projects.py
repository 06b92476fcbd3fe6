"""Projects: units of billing and attribution."""

from typing import Annotated, Final

import typer

from polyroute.cli.desk import Desk, administrative

app: Final = typer.Typer(help="Create, list and change projects.", no_args_is_help=True)

Project = Annotated[str, typer.Argument(help="its id")]
Name = Annotated[str, typer.Option(help="name for people")]
Filter = Annotated[str, typer.Option("--filter", help="such as 'name = \"search\"'; joined by AND")]


@app.command("list")
@administrative
def projects_list(
    desk: Desk, account: Annotated[str, typer.Option(help="only this account's")] = "", filtered: Filter = ""
) -> None:
    """Lists projects, newest first."""
    from polyroute.cli import tenants

    tenants.list_projects(desk, account, filtered)


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

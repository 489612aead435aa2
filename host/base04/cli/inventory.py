"""``base04 plugins``, ``base04 managers``, ``base04 graph``, ``base04 openapi``."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from base04.cli.output import JSONOption, print_json, print_table
from base04.cli.plugin_report import described, found_plugins, status, write_troubles
from base04.cli.plugin_timings import show_timings
from base04.cli.session import Session

if TYPE_CHECKING:
    from base04.resolution import Plan


def add_to(program: typer.Typer) -> None:
    """Add the commands."""
    for command in (plugins, managers, graph, openapi):
        program.command()(command)


def plugins(
    ctx: typer.Context,
    name: Annotated[str | None, typer.Argument(help="Show this one, with all that is wrong with it.")] = None,
    as_json: JSONOption = False,
    requirements: Annotated[
        bool, typer.Option("--requirements", help="Print what brings those that take part, for `pip install -r`.")
    ] = False,
    timings: Annotated[
        bool,
        typer.Option("--timings", help="Show how long hooks take in the running host, where it traces them."),
    ] = False,
) -> None:
    """List the plugins that are installed, with what they offer and what is wrong with them."""
    session: Session = ctx.obj
    if timings:
        show_timings(session, name, as_json=as_json)
        return
    manager = session.manager()
    if requirements:
        from base04.doctor import requirements as pinned

        sys.stdout.write("".join(f"{line}\n" for line in pinned(manager.blueprint)))
        return
    found = found_plugins(session, manager, name)
    if as_json:
        print_json({"plugins": found})
    elif name is not None:
        sys.stdout.write("".join(f"{line}\n" for line in described(found[0])))
    else:
        columns = ("plugin", "status", "from", "offers", "loaded in")
        rows = ((item["name"], status(item), _origin(item), _offers(item), _milliseconds(item)) for item in found)
        print_table(columns, rows, empty="There are no plugins.")
        for item in found:
            if item["reason"]:
                sys.stdout.write(f"\n{item['name']}: {item['reason']}\n{item['error']}")
        write_troubles(found)


def _milliseconds(item: Any) -> str:
    return f"{(item['load_time'] + item.get('collect_time', 0.0)) * 1000:.0f} ms"


def _origin(item: Any) -> str:
    return f"{item['distribution']} {item['version']}".strip() or str(item["target"])


def _offers(item: Any) -> str:
    contributes = item["contributes"]
    hooks = [name for name in contributes["hooks"] if not name.endswith("_providers")]
    packs = [f"pack {name}" for name in contributes["packs"]]
    return ", ".join([*contributes["providers"], *hooks, *packs])


def managers(ctx: typer.Context, as_json: JSONOption = False) -> None:
    """List the managers: provider, where it came from, what depends on it; with their health where a host runs."""
    session: Session = ctx.obj
    found = _managers(session)
    if as_json:
        print_json({"managers": found})
        return
    rows = (
        (
            item["manager"],
            item["provider"] + (f" (replaces {item['replaces']})" if item["replaces"] else ""),
            item["origin"],
            item["status"],
            ", ".join(item["depends_on"]),
            ", ".join(item["dependants"]),
        )
        for item in found
    )
    print_table(("manager", "provider", "from", "status", "needs", "needed by"), rows, empty="There are no managers.")


def _managers(session: Session) -> Any:
    if session.running_host() is not None:
        return session.ask("GET", "/managers")["managers"]
    from base04.inventory import describe_managers

    return describe_managers(session.manager().plan)


def graph(
    ctx: typer.Context,
    as_json: JSONOption = False,
    form: Annotated[
        Literal["text", "svg", "mermaid", "dot"], typer.Option("--format", help="How to draw it.")
    ] = "text",
) -> None:
    """Draw what depends on what: as a tree, as a picture, or for Mermaid or Graphviz to draw."""
    session: Session = ctx.obj
    plan = session.manager().plan
    if form == "text" and not as_json:
        sys.stdout.write("\n".join(_drawn(plan)) + "\n")
        return
    from base04.graph import describe_graph
    from base04.graph.drawing import FORMS

    described = describe_graph(plan)
    if as_json:
        print_json(described)
    else:
        sys.stdout.write(FORMS[form].draw(described))


def _drawn(plan: Plan) -> Iterator[str]:
    from base04.inventory import tree

    for depth, node, repeated in tree(plan):
        candidate = node.choice.candidate
        origin = "" if candidate.built_in else f", from {candidate.plugin.origin}"
        more = " ..." if repeated and plan.edges[node.key] else ""
        yield f"{'    ' * depth}{node.key} ({candidate.provider.name}{origin}){more}"


def openapi(ctx: typer.Context) -> None:
    """Print the OpenAPI 3.1 document of all actions."""
    session: Session = ctx.obj
    print_json(session.ask("GET", "/openapi.json", only=("action_discovery",)))

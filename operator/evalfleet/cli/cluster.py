"""`evalfleet cluster`: a real Kubernetes control plane and simulated spot nodes on this machine."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from evalfleet.cli.exits import Exit
from evalfleet.cli.output import Format, Output, fail, print_data, screen_width
from evalfleet.cli.table import DETAIL, Column, table

if TYPE_CHECKING:
    from evalfleet.local.cluster import ClusterConfig, LocalCluster

application = typer.Typer(help="A local Kubernetes control plane with host nodes (Linux).", no_args_is_help=True)
NODES = (
    Column("NODE"),
    Column("POOL", DETAIL),
    Column("CAPACITY", DETAIL),
    Column("GPUS", number=True),
    Column("STATE"),
    Column("PODS", number=True),
)

Folder = Annotated[
    Path | None, typer.Option("--dir", help="Folder of the cluster. Default: ~/.cache/evalfleet/cluster.")
]


@application.command()
def up(
    pool: Annotated[
        list[str] | None,
        typer.Option(
            help="name=spot,capacity=spot|on-demand,count=2,max=4,gpus=1,startup=5,idle=30,label.K=V,taint=K=V:E"
        ),
    ] = None,
    image: Annotated[
        list[str] | None, typer.Option(help="PREFIX=PYTHON: pods whose image begins with PREFIX run with PYTHON.")
    ] = None,
    folder: Folder = None,
    *,
    foreground: Annotated[bool, typer.Option("--foreground", help="Stay until Ctrl-C; end with this process.")] = False,
) -> None:
    """Start the control plane and the nodes; return when they are ready."""
    from evalfleet.local.cluster import ClusterError, ConfigError, start_cluster
    from evalfleet.local.cluster.binaries import BinariesMissingError

    try:
        config = _config(pool or [], image or [])
    except ConfigError as error:
        fail(str(error), Exit.USAGE)
    try:
        cluster = start_cluster(_folder(folder), config, _say, bound_to_caller=foreground)
    except (ClusterError, BinariesMissingError, OSError) as error:
        fail(str(error), Exit.CANNOT_SUCCEED)
    typer.echo(f"ready after {cluster.start_seconds:.1f} s. Use it with:\n  export KUBECONFIG={cluster.kubeconfig}")
    if foreground:
        _stay(cluster)


@application.command()
def down(folder: Folder = None) -> None:
    """Stop the cluster and delete its data. Nothing is left running."""
    from evalfleet.local.cluster import ClusterError, LocalCluster
    from evalfleet.local.cluster.control import ControlError

    cluster = LocalCluster(_folder(folder))
    try:
        cluster.status()
        cluster.stop()
    except (ControlError, ClusterError) as error:
        fail(str(error), Exit.CANNOT_SUCCEED)
    typer.echo("stopped")


@application.command()
def status(folder: Folder = None, output: Output = Format.TABLE) -> None:
    """Show servers, nodes and the pods on them."""
    state = _attached(folder).status()
    if not output.for_people:
        print_data(state, output)
        return
    servers = ", ".join(f"{name} ({pid})" for name, pid in state["servers"].items())
    typer.echo(f"kubeconfig  {state['kubeconfig']}\nsupervisor  {state['pid']}\nservers     {servers}")
    typer.echo(table(NODES, list(map(_node_row, state["nodes"])), screen_width(output)))
    for name, count in state["launching"].items():
        typer.echo(f"pool {name}: {count} node(s) starting")


@application.command()
def kubeconfig(folder: Folder = None, *, content: Annotated[bool, typer.Option("--content")] = False) -> None:
    """Print the path of the kubeconfig (`--content`: the file itself, which is a secret)."""
    path = _attached(folder).kubeconfig
    typer.echo(path.read_text() if content else str(path))


@application.command()
def reclaim(
    node: Annotated[str, typer.Argument(help="Name of the node.")],
    notice: Annotated[str, typer.Option(help="Time between notice and power-off, e.g. 30s, 2m; 0s: none.")] = "30s",
    folder: Folder = None,
    output: Output = Format.TABLE,
) -> None:
    """Take a node back as a cloud does: taint, eviction with DisruptionTarget, power off, node removed."""
    from evalfleet.local.cluster.control import ControlError

    cluster = _attached(folder)
    seconds = _seconds(notice)
    try:
        outcome = cluster.reclaim(node, seconds)
    except ControlError as error:
        fail(str(error), Exit.CANNOT_SUCCEED)
    if not output.for_people:
        print_data(outcome, output)
    else:
        text = "{node} is gone after {seconds:.1f} s: {evicted} pod(s) evicted, {killed} killed at the end"
        typer.echo(text.format(**outcome))


@application.command()
def binaries(
    names: Annotated[list[str] | None, typer.Argument(help="Default: what `up` needs; also: kwok, helm.")] = None,
) -> None:
    """Find, build or download the control-plane programs and print their paths."""
    from evalfleet.local.cluster.binaries import CONTROL_PLANE, RELEASES, BinariesMissingError, ensure_binaries

    wanted = names or list(CONTROL_PLANE)
    unknown = [name for name in wanted if name not in RELEASES]
    if unknown:
        fail(f"unknown program {unknown[0]}; known: {', '.join(RELEASES)}", Exit.USAGE)
    try:
        found = ensure_binaries(wanted, _say)
    except (BinariesMissingError, OSError) as error:
        fail(str(error), Exit.CANNOT_SUCCEED)
    for name in wanted:
        typer.echo(f"{name} {found[name]}")


def _config(pools: list[str], images: list[str]) -> "ClusterConfig":
    from evalfleet.local.cluster.config import DEFAULT_IMAGES, DEFAULT_POOLS, ClusterConfig, parse_image, parse_pool

    return ClusterConfig(
        pools=tuple(map(parse_pool, pools)) or DEFAULT_POOLS,
        images=(*DEFAULT_IMAGES, *map(parse_image, images)),
    )


def _folder(folder: Path | None) -> Path:
    from evalfleet.local.cluster import default_folder

    return (folder or default_folder()).absolute()


def _attached(folder: Path | None) -> "LocalCluster":
    from evalfleet.local.cluster import attach
    from evalfleet.local.cluster.control import ControlError

    try:
        return attach(_folder(folder))
    except ControlError as error:
        fail(str(error), Exit.CANNOT_SUCCEED)


def _stay(cluster: "LocalCluster") -> None:
    """Until Ctrl-C, SIGTERM or the end of the cluster."""
    import signal
    import time

    from evalfleet.local.cluster.control import ControlError

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, interrupt)
    try:
        typer.echo("running until Ctrl-C")
        while True:
            time.sleep(1)
            cluster.status()
    except KeyboardInterrupt:
        cluster.stop()
        typer.echo("stopped")
    except ControlError:
        fail(f"the cluster ended; its logs are in {cluster.folder / 'logs'}", Exit.CANNOT_SUCCEED)


def _seconds(text: str) -> float:
    units = {"ms": 0.001, "s": 1.0, "m": 60.0, "": 1.0}
    number = text.rstrip("ms")
    try:
        seconds = float(number) * units[text[len(number) :]]
    except (ValueError, KeyError):
        fail(f"--notice {text}: a time such as 30s or 2m is expected", Exit.USAGE)
    if seconds < 0:
        fail(f"--notice {text}: may not be negative", Exit.USAGE)
    return seconds


def _node_row(node: dict[str, Any]) -> list[str]:
    running = sum(not pod["finished"] for pod in node["pods"])
    state = "Reclaiming" if node["reclaiming"] else "Ready"
    return [node["name"], node["pool"], node["capacityType"], str(node["gpus"]), state, str(running)]


def _say(text: str) -> None:
    typer.echo(text, err=True)


def register(app: typer.Typer) -> None:
    """Add the command group."""
    app.add_typer(application, name="cluster")

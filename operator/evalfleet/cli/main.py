"""The `evalfleet` command; also `kubectl evalfleet` through the plugin name.

Exit codes are in `evalfleet.cli.exits`, for all commands.
"""

import importlib
import sys
import traceback

import typer

from evalfleet.cli.exits import Exit

COMMANDS = (
    *("run", "plan", "validate", "results", "demo"),
    *("get", "describe", "crds", "cluster", "operator"),
    *("simulate", "forecast"),
)
OWN_PACKAGES = ("evalfleet", "evalfleet_scaling", "evalfleet_worker")
"""What every installation holds: without one of them it is broken, and the traceback says where."""
ADVICE = (
    "pip install 'evalfleet[operator]' (look at clusters), 'evalfleet[lab]' (simulate, forecast, bench), "
    "'evalfleet[local]' (everything on one machine)"
)
BENCHMARKS = ("bench_capacity", "bench_fleet", "bench_forecast")

app = typer.Typer(
    name="evalfleet",
    help="Declare an evaluation, its deadline and its budget: it finishes on time, on the cheapest GPUs.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
bench = typer.Typer(help="Reproduce the published benchmark tables.", no_args_is_help=True)


def build() -> typer.Typer:
    """The application with every command registered; command modules import nothing heavy at their top."""
    for name in COMMANDS:
        importlib.import_module(f"evalfleet.cli.{name}").register(app)
    for name in BENCHMARKS:
        importlib.import_module(f"evalfleet.cli.{name}").register(bench)
    app.add_typer(bench, name="bench")
    return app


def main() -> None:
    """Entry point of the console scripts; a missing optional package is an error that says what to install."""
    try:
        build()()
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] in OWN_PACKAGES:
            raise
        print(f"error: the package {error.name} is not installed; {ADVICE}", file=sys.stderr)  # noqa: T201
        sys.exit(Exit.CANNOT_SUCCEED)
    except Exception:  # noqa: BLE001 - 1 would say that an evaluation ended without a full score
        traceback.print_exc()
        print("error: this is a fault of evalfleet: please report it with the lines above", file=sys.stderr)  # noqa: T201
        sys.exit(Exit.CANNOT_SUCCEED)


if __name__ == "__main__":
    main()

"""Settings of the operator process: EVALFLEET_* variables in, frozen values out; what nobody knows is refused."""

import difflib
import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, StringConstraints, ValidationError
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from evalfleet.api.wire import Name
from evalfleet.reconcile.job.state import Site

PREFIX = "EVALFLEET_"
OF_OTHERS = frozenset(
    {
        *("ACCELERATOR", "CACHE", "CLAIM_SETTINGS", "DEVICE", "ENGINE", "GRACE_SECONDS", "PROGRESS_ADDRESS"),
        *("RUN_SPEC", "TERMINATION_LIMIT", "TERMINATION_LOG", "THREADS", "WATCHDOG", "WITH_TORCH", "WORKER"),
        *("DATA", "TEST_PATIENCE"),
    }
)
"""Variables of worker processes and of tests, which an operator on the same machine inherits."""
UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
DURATION = re.compile(r"(?:[0-9]+(?:\.[0-9]+)?(?:ms|[smh]))+")
PART = re.compile(r"([0-9.]+)(ms|[smh])")


class SettingsError(ValueError):
    """The environment holds what is no setting; the message names each variable and what it may be."""


def _seconds(value: Any) -> Any:
    """`90`, `90s`, `1m30s`, `500ms`."""
    text = str(value).strip()
    if isinstance(value, str) and DURATION.fullmatch(text):
        return sum(float(number) * UNITS[unit] for number, unit in PART.findall(text))
    return value


def _listed(value: Any) -> Any:
    """`a,b` as people write it."""
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


def _absolute(value: str | None) -> str | None:
    if value is not None and not value.startswith("/"):
        raise ValueError("must be an absolute path")
    return value


Seconds = Annotated[float, BeforeValidator(_seconds), Field(gt=0, le=86400)]
"""A duration: seconds as a number, or with units."""
Names = Annotated[tuple[Name, ...], NoDecode, BeforeValidator(_listed)]
Address = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9.\[\]:-]*:[0-9]{1,5}$")]


class Settings(BaseSettings):
    """What an operator process is started with; made in code it reads no environment."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, frozen=True, extra="forbid", env_ignore_empty=True, use_attribute_docstrings=True
    )

    namespace: Name = "evalfleet-system"
    """Where it runs: holds its Lease and the spend ledgers."""
    watch_namespaces: Names = ()
    """Namespaces that it serves, separated by commas. Empty: all."""
    worker_image: Annotated[str, StringConstraints(min_length=1, max_length=512)] = "ghcr.io/evalfleet/worker:0.1.0"
    """Image of plan, work and finish pods where job and policy name none; runs keep the one they began with."""
    identity: Annotated[str, StringConstraints(min_length=1, max_length=253)] = "evalfleet"
    """Its name in the Lease. Unset in the environment: host name and process id."""
    http_address: Address = ":8080"
    """`HOST:PORT` of `/healthz`, `/readyz` and `/metrics`; without host every address of the pod."""
    host_cache: Annotated[str | None, AfterValidator(_absolute)] = None
    """Folder for models that all pods share, on host nodes of one machine. Unset: each pod has its own."""
    allow_file_uris: bool = False
    """Permit `file://` and `package://` addresses: on host nodes of one machine they mean the same to every pod."""
    simulated_gpus: bool = False
    """The GPUs of the pools are simulated, on host nodes of one machine: workers compute on its CPU."""
    leader_election: bool = True
    """Off only for a single local process."""
    log_format: Literal["plain", "json"] = "plain"
    """`json`: one object a line, with the object that it is about."""
    progress_seconds: Seconds = 2.0
    """How often workers are asked for progress."""
    resync_seconds: Seconds = 600.0
    """How often everything is listed again, beside the watches."""
    stuck_seconds: Seconds = 300.0
    """How long one reconciliation may run before `/healthz` gives the process up."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """What is given, and nothing else: `from_environment` gives the environment."""
        return (init_settings,)

    @classmethod
    def from_environment(cls, environment: Mapping[str, str], identity: str) -> "Settings":
        """Read EVALFLEET_* variables; unset and empty ones keep their default.

        Raises:
            SettingsError: an unknown variable, or a value that is none; all of them at once.
        """
        values = _Given(cls, environment)()
        try:
            settings = cls(**{"identity": identity, **values})
            problems = []
        except ValidationError as error:
            problems = [f"{_variable(problem['loc'])}: {problem['msg']}" for problem in error.errors()]
        problems += _unknown(environment)
        if problems:
            raise SettingsError("; ".join(problems))
        return settings

    @property
    def site(self) -> Site:
        """What reconciliation knows of them."""
        return Site(self.worker_image, self.host_cache, self.allow_file_uris, self.simulated_gpus)


class _Given(EnvSettingsSource):
    """The variables of a mapping instead of those of this process."""

    def __init__(self, settings: type[BaseSettings], environment: Mapping[str, str]) -> None:
        self._environment = environment
        super().__init__(settings)

    def _load_env_vars(self) -> Mapping[str, str | None]:
        return {name.lower(): value for name, value in self._environment.items() if value}


def _variable(location: tuple[Any, ...]) -> str:
    return f"{PREFIX}{str(location[0]).upper()}"


def _unknown(environment: Mapping[str, str]) -> Iterator[str]:
    """Variables that nobody reads: a setting that was misspelt does not silently keep its default."""
    known = {f"{PREFIX}{name.upper()}" for name in Settings.model_fields}
    services = tuple(name.removesuffix("SERVICE_HOST") for name in environment if name.endswith("_SERVICE_HOST"))
    for name in sorted(environment):
        if not name.upper().startswith(PREFIX) or name.upper() in known or name.removeprefix(PREFIX) in OF_OTHERS:
            continue
        if any(name.startswith((f"{service}SERVICE_", f"{service}PORT")) for service in services):
            continue  # what the kubelet tells of Services of the namespace
        close = difflib.get_close_matches(name.upper(), sorted(known), 1)
        yield f"{name} is no setting" + (f": did you mean {close[0]}?" if close else "")

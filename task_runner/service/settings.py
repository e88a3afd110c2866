"""Settings: from the environment (TASK_RUNNER_*), then from the TOML file that TASK_RUNNER_CONF names."""

from __future__ import annotations

import os
from typing import Annotated, Any, Literal

from pydantic import Field, PositiveFloat, ValidationError
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from task_runner.errors import Refused
from task_runner.model.constraints import Limit
from task_runner.model.terms import Word
from task_runner.model.walls import EngineName, Registry
from task_runner.service import traceoptions


def default_state_dir() -> str:
    """Where systemd says, else where the user's state belongs; root without systemd: /var/lib/task-runner."""
    if given := os.environ.get("STATE_DIRECTORY"):
        return given.split(":")[0]
    if os.geteuid() == 0 and "XDG_STATE_HOME" not in os.environ:
        return "/var/lib/task-runner"
    return os.path.join(os.environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state"), "task-runner")


DialectName = Literal["drove", "executor", "i3d"]


class Settings(BaseSettings):
    """Everything that can be set. doc/settings.md is generated from here (service/settingspage.py)."""

    model_config = SettingsConfigDict(env_prefix="TASK_RUNNER_", extra="ignore", frozen=True)

    state_dir: str = Field(default_factory=default_state_dir, description="Where everything is kept.")
    auth: Literal["token", "none"] = Field(
        "token", description="`token`: every request needs one. `none`: only on loopback or a Unix socket."
    )
    allowed_hosts: list[str] = Field(
        default_factory=list,
        description="Host names that requests may be addressed to, beside localhost and the machine's own name.",
    )
    plain_http: bool = Field(
        False, description="Allow a bind that is not loopback without TLS, because a proxy in front does TLS."
    )
    tls_certificate: str | None = Field(None, description="PEM file; with `tls_key` the server speaks HTTPS.")
    tls_key: str | None = Field(None, description="PEM file of the key.")
    max_running: int | None = Field(
        None, ge=1, description="Tasks that may run at once; the rest is `pending`. Unset: no limit."
    )
    max_starting: int = Field(16, ge=1, description="Launches on their way at once.")
    cpus: float | None = Field(
        None,
        gt=0,
        le=100_000,
        description="Processors that tasks may ask for in sum. Unset: those that the daemon may use, by its affinity "
        "and its cgroup.",
    )
    memory_mb: int | None = Field(
        None,
        ge=1,
        description="Memory in MiB that tasks may ask for in sum. Unset: that of the machine, or what the daemon's "
        "cgroup allows.",
    )
    gpus: int | None = Field(
        None,
        ge=0,
        le=1024,
        description="Graphics processors, given out by index from 0. Unset: those that NVIDIA's driver shows, if the "
        "package `nvidia-ml-py` is installed (extra `gpu`).",
    )
    pools: dict[Word, Annotated[int, Limit(ge=1)]] = Field(
        default_factory=dict, description="Named limits: so many of the tasks that name a pool run at once."
    )
    priority_seconds: float = Field(
        3600.0, ge=0, allow_inf_nan=False, description="One point of a task's priority is worth so long a wait."
    )
    heartbeat_seconds: float = Field(10.0, gt=0, description="How often a runner shows that it lives.")
    stalled_after_seconds: float = Field(
        35.0, gt=0, description="A runner silent for this long is called stalled. It must be more than two heartbeats."
    )
    scan_seconds: float = Field(10.0, gt=0, description="How often every active task is looked at unasked.")
    keep_finished_seconds: float = Field(
        14 * 86_400.0, gt=0, description="Finished tasks are removed after this time."
    )
    keep_outcome_seconds: dict[Literal["succeeded", "failed", "cancelled", "timed_out", "lost"], PositiveFloat] = Field(
        default_factory=dict,
        description="The same for tasks that ended in a certain way: `succeeded`, `failed`, `cancelled`, `timed_out`, "
        "`lost`.",
    )
    keep_finished_count: int = Field(1_000_000, ge=0, description="At most so many finished tasks are kept.")
    keep_finished_bytes: int | None = Field(
        None, ge=0, description="At most so many bytes of files of finished tasks are kept. Unset: no limit."
    )
    output_quota_bytes: int | None = Field(
        None,
        ge=0,
        description="The output of all tasks may take so many bytes on the disk. Beyond, that of the tasks that "
        "finished first is freed, and while this is not enough nothing new is started. Unset: no limit.",
    )
    tidy_seconds: float = Field(60.0, gt=0, description="How often it is looked for finished tasks to be removed.")
    templates_dir: str | None = Field(
        None,
        description="Directory with templates, `NAME.json` or `NAME.toml`; "
        "see [howto/templates.md](howto/templates.md).",
    )
    keep_events_count: int = Field(1_000_000, ge=0, description="At most so many events are kept.")
    idempotency_seconds: float = Field(86_400.0, gt=0, description="How long an idempotency key is remembered.")
    max_body_bytes: int = Field(4 * 1024 * 1024, ge=1024, description="The largest request body taken.")
    max_streams: int = Field(1000, ge=1, description="Output and event streams open at once.")
    audit_log: bool = Field(
        True,
        description="Keep `audit.log` in the state directory: who changed what, and who was refused; "
        "see [howto/tokens.md](howto/tokens.md).",
    )
    audit_max_bytes: int = Field(
        16 * 1024 * 1024, ge=4096, description="At this size the audit log goes on in a new file."
    )
    audit_keep: int = Field(4, ge=0, le=1000, description="So many of the earlier files are kept.")
    web_ui: bool = Field(True, description="Serve the web page at `/ui/`.")
    web_session_hours: float = Field(
        12.0, gt=0, le=24 * 366, description="A login to the web page ends so long after it was last used."
    )
    host_files: list[Annotated[str, Limit(pattern=r"^/")]] = Field(
        default_factory=list,
        description="Directories below which tasks may have files of this machine read for them: `hostPath` of a file, "
        "and `file:` URLs of the `download` machine.",
    )
    pass_environment: list[Annotated[str, Limit(min_length=1, pattern=r"^[^=\x00]+$")]] = Field(
        default_factory=list,
        description="Variables of the daemon's environment that every command finds beside the basic ones: names, "
        "where `*` stands for any characters. Never those that begin with `TASK_RUNNER_`, nor the basic ones, nor what "
        "systemd says to the daemon; not inside containers and sidecars.",
    )
    secrets_dir: str | None = Field(
        None, description="Directory with a file for each secret; see [howto/secrets.md](howto/secrets.md)."
    )
    notify_allow: list[str] | None = Field(
        None,
        description="Hosts that webhooks may name: host names or addresses, where `*` stands for any characters. "
        "Unset: any host.",
    )
    notify_give_up_seconds: float = Field(
        86_400.0, ge=0, description="How long it is tried to deliver a notification."
    )
    notify_connections: int = Field(
        32, ge=1, le=1000, description="Notifications on their way at once; at most a quarter of them to one host."
    )
    cgroups: Literal["auto", "off"] = Field(
        "auto",
        description="`auto`: every task gets a control group, where the daemon may make any. `off`: none does.",
    )
    default_user: str | None = Field(
        None, description="Tasks that name no `user` run as this one. Unset: as the daemon itself."
    )
    task_users: dict[str, list[str]] = Field(
        default_factory=dict,
        description="Users that tasks may name, by the name of the token that submits (`admin`; `*`: any): names, "
        "numbers, ranges of numbers (`2000-2999`), `@GROUP` for its members, or `*` for every user but root.",
    )
    allow_root: bool = Field(False, description="Tasks may name root, where `task_users` has it.")
    engines: dict[EngineName, str] = Field(
        default_factory=dict,
        description="Container engines by the path of their socket; the first one is the default. Unset: those that "
        "are found in the usual places.",
    )
    container_mounts: list[Annotated[str, Limit(pattern=r"^/")]] = Field(
        default_factory=list,
        description="Directories below which containers may mount; with `:ro` behind it, only for reading.",
    )
    container_devices: list[Annotated[str, Limit(pattern=r"^/dev/")]] = Field(
        default_factory=list, description="Devices that containers may have; `*` stands for any characters."
    )
    container_networks: list[str] = Field(
        default_factory=lambda: ["bridge", "none"],
        description="Networks that containers may use; the first one is the default.",
    )
    sidecars: bool = Field(
        False, description="Tasks may run inside the namespaces of other processes. Needs root."
    )
    forward_allow: list[str] | None = Field(
        None, description="Hosts that lines of output may be forwarded to, as for `notify_allow`. Unset: any host."
    )
    forward_ca: str | None = Field(
        None,
        description="PEM file of the authorities that are trusted where lines are forwarded by TLS. Unset: those that "
        "this machine trusts.",
    )
    dialects: list[DialectName] = Field(
        default_factory=list,
        description="Interfaces of other systems that are served beside `/v1`: `drove`, `executor`, `i3d`; "
        "see [dialects.md](dialects.md).",
    )
    dialect_binds: dict[DialectName, str] = Field(
        default_factory=dict,
        description="Addresses of their own for these, where nothing else is served: `HOST:PORT` or `unix:/PATH`.",
    )
    drove_tags: list[str] = Field(
        default_factory=list,
        description="Tags of this node, for placement policies of the `drove` dialect. With any, it takes only tasks "
        "that ask for one of them (`MATCH_TAG`).",
    )
    drove_pull: Literal["always", "missing"] = Field(
        "always",
        description="When the image of a task of the `drove` dialect is fetched. `always`, as Drove does: also where "
        "the engine has one of that name; not those named `localhost/…` or by a digest.",
    )
    drove_registries: dict[str, Registry] = Field(
        default_factory=dict,
        description="Who asks registries for the images of tasks of the `drove` dialect, by the registry's name: "
        '`{"registry.example": {"username": "ada", "passwordSecret": "NAME OF A SECRET"}}`.',
    )
    drove_args: bool = Field(True, description="Tasks of the `drove` dialect may have `args`.")
    executor_auth: Literal["token", "none"] = Field(
        "token",
        description="`none`: whoever reaches the address of the `executor` dialect, which must be its own, may run "
        "commands here; its clients know no tokens.",
    )
    executor_max_tasks: int | None = Field(
        None,
        ge=1,
        description="Tasks of the `executor` dialect that may be active at once; another one is refused, not queued. "
        "The task-executor itself has 1. Unset: no limit.",
    )
    executor_sidecar: bool = Field(
        False,
        description="Commands of the `executor` dialect run inside the main container, the process with "
        "`SANDBOX_MAIN_CONTAINER=` and its name in its environment. Needs `sidecars`.",
    )
    executor_main_container: Annotated[str, Limit(min_length=1, max_length=200, pattern=r"^[^\x00]+$")] = Field(
        "main", description="The name of that container."
    )
    executor_containers: bool = Field(True, description="Tasks of the `executor` dialect may be containers.")
    i3d_openapi: bool = Field(
        False,
        description="Answers of the `i3d` dialect are as i3D.net's OpenAPI description has them, and not as its "
        "documentation shows them; see [dialects.md](dialects.md#i3dnet).",
    )
    i3d_host_id: int | None = Field(
        None, ge=1, description="The number of this machine as a host, for clients of the `i3d` dialect that ask by it."
    )
    tracing: bool = Field(
        False,
        description="Traces of tasks are exported by OpenTelemetry, as the variables `OTEL_*` of the environment say; "
        "see [howto/tracing.md](howto/tracing.md). Needs the extra `otel`.",
    )
    tracing_waiting: int = Field(
        100_000,
        ge=1,
        description="So many ended attempts wait for a collector that takes no spans; then the oldest are dropped.",
    )
    lock_patience_seconds: float = Field(
        10.0, ge=0, description="How long to wait at start for an earlier daemon to let go of the state directory."
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        sources: list[PydanticBaseSettingsSource] = [init_settings, env_settings]
        if path := os.environ.get("TASK_RUNNER_CONF"):
            if not os.path.isfile(path):
                raise Refused(f"TASK_RUNNER_CONF: there is no file {path}")
            sources.append(TomlConfigSettingsSource(settings_cls, path))
        return tuple(sources)


def read(**given: Any) -> Settings:
    """The settings, each for itself. Raises Refused, which names the setting that is wrong."""
    try:
        return Settings(**{name: value for name, value in given.items() if value is not None})
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise Refused(f"settings: {faults}") from None
    except ValueError as error:
        raise Refused(f"settings: {error}") from None


def load(**given: Any) -> Settings:
    """The settings in force. Raises Refused, which names the setting that is wrong."""
    settings = read(**given)
    if settings.stalled_after_seconds <= 2 * settings.heartbeat_seconds:
        raise Refused("settings: stalled_after_seconds must be more than twice heartbeat_seconds")
    open_executor = settings.executor_auth == "none" and "executor" in settings.dialects
    if open_executor and "executor" not in settings.dialect_binds:
        raise Refused("settings: executor_auth = none needs an address of its own: set dialect_binds.executor")
    if settings.executor_sidecar and "executor" in settings.dialects and not settings.sidecars:
        raise Refused("settings: executor_sidecar lets tasks run inside another container: set sidecars = true, too")
    if settings.tracing:
        traceoptions.check(os.environ)
    return settings

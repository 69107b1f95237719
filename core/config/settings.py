"""Every setting of BountyCoder: its name, default, unit and meaning, in one frozen object.

A setting is an environment variable with the field's name in capitals. A secret may also come from
a file that the environment names. Only `Settings.from_environment` reads the environment, and it
reports all faults together.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal
from enum import StrEnum
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    field_validator,
    model_validator,
)

from core.config.environment import read_environment, secret_names
from core.config.secret_files import SUFFIX
from core.passwords.rules import password_fault

DEFAULT_ADMIN_EMAIL = "admin@bountycoder.com"
DEFAULT_ADMIN_PASSWORD = "admin123"  # noqa: S105 - production refuses it
DEVELOPMENT_SECRET = "development-only-secret-do-not-use"  # noqa: S105 - production refuses it
MIN_SECRET_LENGTH = 32
MIN_PASSWORD_LENGTH = 8
#: The database that `bountycoder up` creates in its own PostgreSQL: production refuses this name.
EMBEDDED_DATABASE = "bountycoder_embedded"


class AppEnv(StrEnum):
    DEVELOPMENT = "development"
    PRODUCTION = "production"


class EngineKind(StrEnum):
    TRANSFORMERS = "transformers"
    ECHO = "echo"


class PromptMode(StrEnum):
    CHAT = "chat"
    RAW = "raw"


class CacheBilling(StrEnum):
    """The tokens that a completion of the response cache counts."""

    FREE = "free"
    FULL = "full"


class Attention(StrEnum):
    AUTO = "auto"
    FLASH = "flash_attention_2"
    CPU_FLASH = "cpu_flash"
    SDPA = "sdpa"


#: `*` is not allowed: each page that may call is named.
_ORIGIN = re.compile(r"https?://[a-z0-9.-]+(:[0-9]{1,5})?|https?://\[[0-9a-f:]+\](:[0-9]{1,5})?")

Port = Annotated[int, Field(ge=1, le=65535)]
PortOrNone = Annotated[int, Field(ge=0, le=65535)]
Network = IPv4Network | IPv6Network


class Settings(BaseModel):
    """The settings of the service. Names or descriptions contain the units."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)

    app_env: AppEnv = Field(
        AppEnv.DEVELOPMENT, description="`production` refuses unsafe settings at start"
    )
    debug: bool = Field(
        False, description="logs everything and ignores LOG_LEVEL; never in production"
    )
    log_level: str = Field(
        "INFO",
        pattern="^(DEBUG|INFO|WARNING|ERROR)$",
        description="lowest severity of written log lines",
    )
    secret_key: SecretStr = Field(
        SecretStr(DEVELOPMENT_SECRET),
        description=f"signs JWTs and sessions; at least {MIN_SECRET_LENGTH} characters",
    )
    admin_email: str = Field(
        DEFAULT_ADMIN_EMAIL, description="email of the first admin, whom `seed` makes"
    )
    admin_password: SecretStr = Field(
        SecretStr(DEFAULT_ADMIN_PASSWORD),
        min_length=MIN_PASSWORD_LENGTH,
        description="the first admin's password",
    )

    database_url: SecretStr = Field(
        description="PostgreSQL 15 or newer: `postgresql://user:password@host:port/name`"
    )
    database_pool_size: int = Field(
        8,
        ge=1,
        le=200,
        description="database connections of a process; an API process has half as many more",
    )
    database_timeout_seconds: float = Field(
        5.0, gt=0, description="longest wait for a connection or a statement"
    )
    redis_url: SecretStr = Field(description="Redis or Valkey: `redis://:password@host:port/0`")
    redis_timeout_seconds: float = Field(2.0, ge=2, description="longest time of one call")

    api_host: str = Field("127.0.0.1", description="address that the API listens on")
    api_port: Port = Field(5000, description="port of the API")
    api_processes: int = Field(2, ge=1, le=64, description="gunicorn workers of the API")
    admin_host: str = Field("127.0.0.1", description="address that the admin UI listens on")
    admin_port: Port = Field(3030, description="port of the admin UI")
    api_url: str = Field(
        "", description="URL of the API for the admin UI; empty is API_HOST and API_PORT"
    )
    public_api_url: str = Field(
        "",
        description="URL of the API for customers, used in examples; empty is the URL for "
        "the admin UI",
    )
    metrics_host: str = Field(
        "127.0.0.1",
        description="address that metrics are served on; customers must not reach it",
    )
    api_metrics_port: PortOrNone = Field(
        0, description="port of the API's `/metrics`; 0 turns metrics off"
    )
    admin_metrics_port: PortOrNone = Field(0, description="the same for the admin UI")
    worker_metrics_port: PortOrNone = Field(
        0, description="the same for a worker; each worker of a machine needs its own"
    )
    metrics_dir: str = Field(
        "",
        description="directory in which counters outlive their processes; without it the "
        "counters of a "
        "killed worker start at zero",
    )
    traces_endpoint: str = Field(
        "",
        pattern="^(https?://.+)?$",
        description="receiver of spans by OTLP over HTTP: `http://collector:4318/v1/traces`; "
        "needs the extra `tracing`",
    )
    traces_sample_ratio: float = Field(
        1.0, ge=0, le=1, description="traced share of the requests whose caller does not decide"
    )
    max_body_bytes: int = Field(
        2 * 1024**2,
        ge=1024,
        description="largest body of a request with a prompt; other bodies may have 64 KiB",
    )
    body_seconds: float = Field(
        30.0, gt=0, description="longest time in which the body of a request must arrive"
    )
    max_batch_lines: int = Field(
        50_000, ge=1, le=1_000_000, description="lines of one batch, blank ones not counted"
    )
    max_batch_bytes: int = Field(
        200 * 1024**2,
        ge=1024,
        description="largest file of a batch; each of its lines is at most MAX_BODY_BYTES long",
    )
    max_open_batches: int = Field(
        10, ge=1, le=10_000, description="batches of a key that have not ended"
    )
    upload_seconds: float = Field(
        600.0, gt=0, description="longest time in which the file of a batch must arrive"
    )
    upload_stall_seconds: float = Field(30.0, gt=0, description="longest pause of an upload")
    file_days: int = Field(
        30, ge=1, le=3650, description="default life of an uploaded file in days"
    )
    retain_prompts_days: int = Field(
        0,
        ge=0,
        le=36_500,
        description="days after the end of a job or batch until its requests and completions are "
        "deleted; 0 keeps them",
    )
    retain_jobs_days: int = Field(
        0,
        ge=0,
        le=36_500,
        description="days after which finished jobs and batches are deleted; 0 keeps them. "
        "Usage records "
        "are never deleted",
    )
    retain_webhooks_days: int = Field(
        0,
        ge=0,
        le=36_500,
        description="days after which webhook messages and their attempts are deleted; 0 "
        "keeps them",
    )
    retain_audit_days: int = Field(
        0,
        ge=0,
        le=36_500,
        description="days after which entries of the audit trail are deleted; 0 keeps them",
    )
    max_files_per_user: int = Field(
        1000, ge=1, le=10_000, description="most uploaded files of one user at once"
    )
    max_file_bytes_per_user: int = Field(
        4 * 1024**3, ge=1024, description="most bytes of the uploaded files of one user at once"
    )
    stream_seconds: float = Field(
        3600.0, gt=0, description="longest time that one connection streams a job's text"
    )
    response_cache_seconds: int = Field(
        3600,
        ge=0,
        description="life of a cached completion of a request with `cache: true`; 0 is off",
    )
    response_cache_billing: CacheBilling = Field(
        CacheBilling.FREE,
        description="`free` counts no tokens of a cached completion, `full` counts all",
    )
    sync_wait_seconds: float = Field(
        600.0,
        gt=0,
        le=600,
        description="how long a synchronous request waits before its 202; OpenAI's clients "
        "wait as long",
    )
    jwt_access_minutes: int = Field(60, ge=1, description="life of a JWT")
    jwt_refresh_days: int = Field(30, ge=1, description="life of a refresh token")
    default_rate_limit: int = Field(
        60,
        ge=1,
        le=10**6,
        description="requests a minute of a key; a customer cannot exceed it for own keys",
    )
    default_token_limit: int = Field(
        0, ge=0, le=10**9, description="tokens a minute of a key, likewise; 0 is no limit"
    )
    default_monthly_token_limit: int = Field(
        0,
        ge=0,
        le=10**15,
        description="tokens a calendar month (UTC) of a key, likewise; 0 is no limit",
    )
    default_max_in_flight: int = Field(
        0,
        ge=0,
        le=10**6,
        description="jobs of a key that wait or run at once, likewise; 0 is no limit",
    )
    poll_rate_limit: int = Field(
        1200, ge=1, le=10**6, description="polls of jobs and limits a minute of each caller"
    )
    write_rate_limit: int = Field(
        120,
        ge=1,
        le=10**6,
        description="requests a minute with which a user changes something; the limits of "
        "keys apply to "
        "generations",
    )
    upload_bytes_per_minute: int = Field(
        1024**3,
        ge=1024,
        description="bytes a minute of the files that each user uploads; one file with a "
        "`Content-Length` always passes",
    )
    max_waits_per_user: int = Field(
        200,
        ge=1,
        le=10**6,
        description="most waiting or streaming connections of a user in one API process",
    )
    max_queue_seconds: float = Field(
        120.0,
        gt=0,
        description="a longer backlog of the interactive queue rejects new requests: 503",
    )
    max_admission_seconds: float = Field(
        1.0,
        gt=0,
        description="an API process that takes longer to admit a request rejects new ones: 503",
    )
    max_queue_length: int = Field(
        20_000, ge=1, description="most jobs that wait on the interactive queue"
    )
    max_keys_per_user: int = Field(
        50, ge=1, description="most keys of a customer; deleted keys do not count"
    )
    registration_open: bool = Field(True, description="allows everyone to register as a customer")
    login_attempts_per_email: int = Field(
        10, ge=1, description="wrong passwords for one email from one address before both must wait"
    )
    login_attempts_per_email_anywhere: int = Field(
        100,
        ge=1,
        description="wrong passwords for one email from all addresses; beyond them, addresses "
        "that never signed in with it must wait",
    )
    login_attempts_per_address: int = Field(
        100, ge=1, description="failed sign-ins from one address before it must wait"
    )
    login_window_seconds: int = Field(
        900, ge=1, description="how long failed sign-ins count, from the first one"
    )
    registration_attempts_per_email: int = Field(
        5, ge=1, description="registrations of one email from one address before both must wait"
    )
    registration_attempts_per_address: int = Field(
        20, ge=1, description="attempts to register from one address before it must wait"
    )
    registration_window_seconds: int = Field(
        3600, ge=1, description="how long registrations count, from the first one"
    )
    trusted_proxies: int = Field(
        0,
        ge=0,
        le=10,
        description="number of proxies in front that set X-Forwarded-For and -Proto; 0 "
        "ignores both",
    )
    cors_origins: str = Field(
        "",
        description="pages that may call from a browser, separated by commas: "
        "`https://app.example.com`",
    )
    webhook_timeout_seconds: float = Field(
        10.0, gt=0, le=60, description="longest time for the response of a webhook's receiver"
    )
    webhook_allowed_networks: str = Field(
        "",
        description="private networks that webhooks may go to: `10.1.0.0/16,fd00:1::/64`; "
        "public addresses are always allowed",
    )
    price_per_million_prompt_tokens: Decimal = Field(
        Decimal(0),
        ge=0,
        description="price of a million prompt tokens in the usage report, in CURRENCY",
    )
    price_per_million_completion_tokens: Decimal = Field(
        Decimal(0), ge=0, description="the same for generated tokens"
    )
    currency: str = Field(
        "USD", pattern="^[A-Z]{3}$", description="currency of the prices, as in ISO 4217"
    )

    model_path: str = Field(
        "Qwen/Qwen2.5-Coder-32B-Instruct", description="model directory on disk, or its hub name"
    )
    model_name: str = Field("qwen-32b-coder", description="the name that customers see")
    prompt_mode: PromptMode = Field(
        PromptMode.CHAT,
        description="`chat` renders `prompt` with the model's chat template; `raw` completes it",
    )
    max_tokens_limit: int = Field(8192, ge=1, description="largest `maxTokens` of a request")

    engine: EngineKind = Field(
        EngineKind.TRANSFORMERS, description="`echo` runs no model: it repeats the prompt"
    )
    echo_tokens_per_second: float = Field(
        0.0, ge=0, description="tokens a second of each choice of the echo engine; 0 is at once"
    )
    engine_dtype: str = Field(
        "auto",
        pattern="^(auto|float32|bfloat16|float16)$",
        description="type of the weights; `auto` is bfloat16 on a GPU and float32 on a CPU",
    )
    engine_attention: Attention = Field(
        Attention.AUTO,
        description="`auto` is FlashAttention on a GPU and its replacement on a CPU",
    )
    engine_max_sequences: int = Field(
        32, ge=1, le=1024, description="most sequences of one forward pass"
    )
    engine_max_batch_tokens: int = Field(
        512,
        ge=16,
        description="most tokens of one forward pass: bounds how long a prefill stalls",
    )
    engine_cache_blocks: int = Field(
        0, ge=0, description="pages of the attention cache; 0 sizes it by memory on a GPU"
    )
    engine_page_size: int = Field(0, ge=0, description="tokens of a page of the cache; 0 is 256")
    engine_async_batching: bool = Field(
        False, description="prepare the next step while one runs (GPU only)"
    )
    engine_cuda_graphs: bool = Field(False, description="replay captured steps (GPU only)")
    engine_prefix_sharing: bool = Field(
        False, description="share cached prompt prefixes between the requests of a key"
    )
    engine_prefix_common: bool = Field(
        False,
        description="share them between all keys: response times then reveal the prompts of others",
    )
    engine_tensor_parallel: int = Field(
        1, ge=1, le=16, description="GPUs of one machine that share the model"
    )
    engine_threads: int = Field(0, ge=0, description="torch threads on a CPU; 0 is one per core")
    engine_stall_seconds: float = Field(
        60.0, gt=0, description="a step longer than this counts as hung: the worker exits"
    )

    worker_jobs: int = Field(
        512,
        ge=1,
        le=4096,
        description="interactive jobs that one worker holds at once, for the fair scheduler "
        "to choose from",
    )
    worker_bulk_jobs: int = Field(
        0,
        ge=0,
        le=4096,
        description="bulk jobs that one worker holds besides; 0 is twice ENGINE_MAX_SEQUENCES, "
        "so that bulk jobs alone can fill the engine",
    )
    lease_seconds: float = Field(
        10.0,
        ge=1,
        description="a job whose worker sends no heartbeat for so long (at least 3) is requeued",
    )
    max_attempts: int = Field(3, ge=1, description="attempts of a job before it fails")
    drain_seconds: float = Field(
        30.0, ge=0, description="time in which a stopping worker finishes its jobs"
    )

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Settings:
        """Read the settings from `environment`; empty values count as not given.

        Raises:
            SettingsError: with one line for each fault, all at once.
        """
        return read_environment(cls, environment)

    def to_environment(self) -> dict[str, str]:
        """Return the environment for child processes with the same settings."""
        environment = {}
        for name in type(self).model_fields:
            value = getattr(self, name)
            raw = value.get_secret_value() if isinstance(value, SecretStr) else value
            environment[name.upper()] = str(raw)
        # The environment contains the secrets: child processes must not read the files again.
        environment.update({name + SUFFIX: "" for name in SECRET_NAMES})
        return environment

    @property
    def effective_log_level(self) -> str:
        return "DEBUG" if self.debug else self.log_level

    @property
    def bulk_jobs(self) -> int:
        """The most bulk jobs of one worker at once."""
        return self.worker_bulk_jobs or 2 * self.engine_max_sequences

    @property
    def inner_api_url(self) -> str:
        """The URL of the API for the admin UI."""
        if self.api_url:
            return self.api_url.rstrip("/")
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.api_host, self.api_host)  # noqa: S104 - binds nothing
        return (
            f"http://[{host}]:{self.api_port}" if ":" in host else f"http://{host}:{self.api_port}"
        )

    @property
    def customer_api_url(self) -> str:
        """The URL of the API for customers."""
        return self.public_api_url.rstrip("/") or self.inner_api_url

    @property
    def is_production(self) -> bool:
        return self.app_env is AppEnv.PRODUCTION

    @property
    def allowed_origins(self) -> frozenset[str]:
        """The pages that may call from a browser."""
        given = (origin.strip() for origin in self.cors_origins.split(","))
        return frozenset(origin for origin in given if origin)

    @property
    def webhook_networks(self) -> tuple[Network, ...]:
        """The private networks that webhooks may call."""
        given = (network.strip() for network in self.webhook_allowed_networks.split(","))
        return tuple(ip_network(network) for network in given if network)

    @property
    def model_is_local(self) -> bool:
        return Path(self.model_path).is_dir()

    @field_validator("database_url")
    @classmethod
    def _name_the_driver(cls, url: SecretStr) -> SecretStr:
        """Accept the usual form of the URL; SQLAlchemy needs our driver in it."""
        scheme, separator, rest = url.get_secret_value().partition("://")
        if scheme in {"postgresql", "postgres"}:
            return SecretStr(f"postgresql+psycopg2{separator}{rest}")
        return url

    @model_validator(mode="after")
    def _check_urls(self) -> Settings:
        faults = []
        if not _is_url(self.database_url, {"postgresql+psycopg2"}):
            faults.append("DATABASE_URL must be postgresql://user:password@host:port/name")
        if not _is_url(self.redis_url, {"redis", "rediss", "unix"}):
            faults.append("REDIS_URL must be redis://, rediss:// or unix://, escaped as URLs are")
        if not all(map(_ORIGIN.fullmatch, self.allowed_origins)):
            faults.append("CORS_ORIGINS must be origins such as https://app.example.com")
        for name in ("api_url", "public_api_url"):
            if not _is_web_address(getattr(self, name)):
                faults.append(f"{name.upper()} must be such as https://api.example.com")
        try:
            _ = self.webhook_networks
        except ValueError:
            faults.append("WEBHOOK_ALLOWED_NETWORKS must be networks such as 10.1.0.0/16")
        for program in ("api", "admin"):
            if getattr(self, f"{program}_metrics_port") == getattr(self, f"{program}_port"):
                name = program.upper()
                faults.append(f"{name}_METRICS_PORT must not be the public {name}_PORT")
        if self.is_production:
            faults += self._production_faults()
        if faults:
            raise ValueError("\n".join(faults))
        return self

    def _production_faults(self) -> list[str]:
        secret = self.secret_key.get_secret_value()
        faults = []
        if self.debug:
            faults.append("DEBUG must be off in production")
        if secret == DEVELOPMENT_SECRET:
            faults.append("SECRET_KEY must be set in production")
        elif len(secret) < MIN_SECRET_LENGTH:
            faults.append(f"SECRET_KEY must have at least {MIN_SECRET_LENGTH} characters")
        admin_password = self.admin_password.get_secret_value()
        if admin_password == DEFAULT_ADMIN_PASSWORD:
            faults.append("ADMIN_PASSWORD must not be the default in production")
        elif fault := password_fault(admin_password, email=self.admin_email):
            faults.append(f"ADMIN_PASSWORD {fault}")
        database = urlsplit(self.database_url.get_secret_value()).path.lstrip("/")
        if database == EMBEDDED_DATABASE:
            faults.append("DATABASE_URL must not be the embedded database in production")
        return faults


def _is_url(url: SecretStr, schemes: set[str]) -> bool:
    """Return whether it is a URL with one of these schemes and a valid port, if any."""
    parts = urlsplit(url.get_secret_value())
    try:
        return parts.scheme in schemes and (parts.port is None or parts.port > 0)
    except ValueError:
        return False


def _is_web_address(text: str) -> bool:
    """Return whether it is empty or the URL of a web server."""
    if not text:
        return True
    has_host = bool(urlsplit(text).hostname) if "[" not in text or "]" in text else False
    return has_host and _is_url(SecretStr(text), {"http", "https"})


#: The environment variables of secrets, which files may also provide.
SECRET_NAMES = secret_names(Settings)

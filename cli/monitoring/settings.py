"""The settings of alerts: thresholds and receivers.

Not part of `core.config.settings`: only `bountycoder monitoring` reads them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, model_validator

from core.config.environment import read_environment

Ratio = Annotated[float, Field(gt=0, lt=1)]
Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=0)]
#: As Prometheus writes them: `90s`, `1h30m`.
Duration = Annotated[str, Field(pattern=r"^([0-9]+(ms|s|m|h|d|w))+$")]
#: No control characters: they could end a value in the rendered files.
Text = Annotated[str, Field(pattern=r"^[^\x00-\x1f\x7f]*$")]

RUNBOOKS = "https://github.com/TerminallyLazy/bountyCoder/blob/main/docs/operations.md"


class MonitoringSettings(BaseModel):
    """Thresholds and receivers of alerts. Names or descriptions contain the units."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)

    alert_window: Duration = Field("5m", description="time that rates and shares are taken over")
    alert_hold: Duration = Field("5m", description="how long a warning's condition must hold")
    alert_hold_critical: Duration = Field("1m", description="the same for a critical alert")
    alert_restart_window: Duration = Field("15m", description="time that restarts are counted over")
    alert_token_window: Duration = Field("1h", description="time that tokens are counted over")

    alert_tokens: Positive = Field(20_000_000, description="tokens within ALERT_TOKEN_WINDOW")
    alert_error_ratio: Ratio = Field(0.05, description="share of requests answered with 5xx")
    alert_failed_jobs_ratio: Ratio = Field(0.05, description="share of jobs that fail")
    alert_api_seconds: Positive = Field(
        1.0, description="95th percentile of the time of calls that do not generate"
    )
    alert_first_token_seconds: Positive = Field(
        5.0, description="95th percentile of the time to the first token, interactive jobs"
    )
    alert_tokens_per_second: Positive = Field(
        30.0, description="one interactive stream in ten may be slower than this"
    )
    alert_refusals_per_second: Positive = Field(
        1.0, description="requests refused by a limit of a key or caller"
    )
    alert_queue_seconds: Positive = Field(60.0, description="wait of the oldest interactive job")
    alert_bulk_queue_seconds: Positive = Field(
        3600.0, description="wait of the oldest bulk job that was released"
    )
    alert_worker_restarts: Count = Field(
        1, description="tolerated restarts of one worker within ALERT_RESTART_WINDOW"
    )
    alert_engine_restarts: Count = Field(0, description="the same of an engine's loop")
    alert_container_restarts: Count = Field(2, description="the same of a container")
    alert_gpu_celsius: Positive = Field(85.0, description="temperature of a GPU")
    alert_gpu_memory_ratio: Ratio = Field(
        0.98, description="used share of a GPU's memory; the engine's cache takes most by design"
    )
    alert_cpu_ratio: Ratio = Field(0.9, description="busy share of a machine's processors")
    alert_memory_ratio: Ratio = Field(0.92, description="used share of a machine's memory")
    alert_disk_ratio: Ratio = Field(0.85, description="used share of a file system")
    alert_connections_ratio: Ratio = Field(
        0.85, description="used share of PostgreSQL's connections"
    )
    alert_redis_memory_ratio: Ratio = Field(0.85, description="used share of Redis' `maxmemory`")
    alert_backup_hours: Positive = Field(26.0, description="age of the last good backup")
    alert_certificate_days: Positive = Field(14.0, description="days until a certificate ends")

    alert_runbooks: Text = Field(RUNBOOKS, description="page that alerts link to, by their names")
    alert_group_wait: Duration = Field(
        "30s", description="how long the first alert waits for others, to be sent together"
    )
    alert_group_interval: Duration = Field("5m", description="time between two messages of a group")
    alert_repeat_interval: Duration = Field(
        "4h", description="time after which an alert that still fires is sent again"
    )
    alert_email_to: Text = Field(
        "", description="receivers of alerts by email: comma-separated addresses"
    )
    alert_email_from: Text = Field("", description="sender of these emails")
    alert_smtp: Text = Field(
        "", pattern=r"^([^\s:]+:[0-9]+)?$", description="mail server: `smtp.example.com:587`"
    )
    alert_smtp_user: Text = Field("", description="sign-in at the mail server, if it wants one")
    alert_smtp_password_file: Text = Field(
        "", description="file with its password, where Alertmanager sees it"
    )
    alert_slack_url_file: Text = Field(
        "", description="file with the address of a Slack webhook, where Alertmanager sees it"
    )
    alert_slack_channel: Text = Field("", description="Slack channel: `#operations`")
    alert_webhook_url: Text = Field(
        "", pattern=r"^(https?://\S+)?$", description="address that alerts are posted to as JSON"
    )
    alert_webhook_token_file: Text = Field(
        "", description="file with a bearer token for it, where Alertmanager sees it"
    )

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> MonitoringSettings:
        """Read the settings; empty values count as not given.

        Raises:
            SettingsError: with one line for each fault, all at once.
        """
        return read_environment(cls, environment)

    @property
    def has_receiver(self) -> bool:
        """Return whether alerts have a receiver."""
        return bool(self.alert_email_to or self.alert_slack_url_file or self.alert_webhook_url)

    @model_validator(mode="after")
    def _check_receivers(self) -> MonitoringSettings:
        faults = []
        if self.alert_email_to and not (self.alert_email_from and self.alert_smtp):
            faults.append("ALERT_EMAIL_TO needs ALERT_EMAIL_FROM and ALERT_SMTP")
        if bool(self.alert_smtp_user) != bool(self.alert_smtp_password_file):
            faults.append("ALERT_SMTP_USER and ALERT_SMTP_PASSWORD_FILE need each other")
        if bool(self.alert_slack_url_file) != bool(self.alert_slack_channel):
            faults.append("ALERT_SLACK_URL_FILE and ALERT_SLACK_CHANNEL need each other")
        if self.alert_webhook_token_file and not self.alert_webhook_url:
            faults.append("ALERT_WEBHOOK_TOKEN_FILE needs ALERT_WEBHOOK_URL")
        if faults:
            raise ValueError("\n".join(faults))
        return self

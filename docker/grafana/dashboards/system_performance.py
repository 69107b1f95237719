"""System Performance: machines, GPUs, containers and servers."""

from __future__ import annotations

from cli.monitoring.settings import MonitoringSettings
from docker.grafana.dashboards.board import Board, Row
from docker.grafana.dashboards.panel import Limit, figure, lines, rows
from docker.grafana.dashboards.query import Query, per_second
from docker.grafana.dashboards.server_rows import SERVER_ROWS

_ALERTS = MonitoringSettings.from_environment({})
_OURS = '{job=~"bountycoder-.+"}'
_NETWORK = '{device!~"lo|veth.*|br-.*|docker.*"}'
_FILES = '{fstype!~"tmpfs|ramfs|overlay|squashfs|iso9660"}'
_GPU = "GPU {{gpu}} ({{uuid}})"
_IDLE = 'rate(node_cpu_seconds_total{mode="idle"}[$__rate_interval])'

BOARD = Board(
    uid="system-performance",
    title="System Performance",
    description="Load of machines, GPUs, containers and servers.",
    rows=[
        Row(
            "Availability",
            [
                figure(
                    "Targets that respond",
                    "Share of all scrape targets.",
                    "percentunit",
                    Query("avg(up)"),
                    limit=Limit(1, "TargetDown", is_floor=True),
                ),
                figure(
                    "Workers that take jobs",
                    "As reported by the API.",
                    "none",
                    Query("max(bountycoder_workers_ready)"),
                    limit=Limit(1, "NoWorkers", is_floor=True),
                ),
                figure(
                    "PostgreSQL",
                    "1 if the API reaches it.",
                    "none",
                    Query("max(bountycoder_database_up)"),
                    limit=Limit(1, "DatabaseDown", is_floor=True),
                ),
                figure(
                    "Redis",
                    "1 if the API reaches it.",
                    "none",
                    Query("max(bountycoder_redis_up)"),
                    limit=Limit(1, "RedisDown", is_floor=True),
                ),
                figure(
                    "Certificate",
                    "Time until the first one expires.",
                    "s",
                    Query("min(probe_ssl_earliest_cert_expiry) - time()"),
                    limit=Limit(
                        _ALERTS.alert_certificate_days * 86400, "CertificateExpiring", is_floor=True
                    ),
                ),
                figure(
                    "Last backup",
                    "Time since the last good one.",
                    "s",
                    Query("time() - max(bountycoder_backup_last_success_timestamp_seconds != 0)"),
                    limit=Limit(_ALERTS.alert_backup_hours * 3600, "BackupTooOld"),
                ),
                rows(
                    "Targets that do not respond",
                    "Scrape targets that are down now; empty is good.",
                    Query("up == 0", is_instant=True),
                    span=24,
                ),
            ],
        ),
        Row(
            "Processors and memory",
            [
                lines(
                    "Processors busy",
                    "Of all processors of a machine.",
                    "percentunit",
                    Query(f"1 - avg by (instance) ({_IDLE})", "{{instance}}"),
                    limit=Limit(_ALERTS.alert_cpu_ratio, "HighCpu"),
                    max_value=1,
                ),
                lines(
                    "Memory used",
                    "Memory that is not available to programs.",
                    "percentunit",
                    Query(
                        "1 - node_memory_MemAvailable_bytes / node_memory_MemTotal_bytes",
                        "{{instance}}",
                    ),
                    limit=Limit(_ALERTS.alert_memory_ratio, "HighMemory"),
                    max_value=1,
                ),
                lines(
                    "Load for each processor",
                    "Tasks that run or wait, over one minute.",
                    "none",
                    Query(
                        "max by (instance) (node_load1) / count by (instance) "
                        '(node_cpu_seconds_total{mode="idle"})',
                        "{{instance}}",
                    ),
                ),
                lines(
                    "Processor time of our programs",
                    "1 is one processor all the time.",
                    "none",
                    per_second(f"process_cpu_seconds_total{_OURS}", "job", "{{job}}"),
                    span=12,
                    is_stacked=True,
                ),
                lines(
                    "Memory of our programs",
                    "Resident, without that of GPUs.",
                    "bytes",
                    Query(f"sum by (job) (process_resident_memory_bytes{_OURS})", "{{job}}"),
                    span=12,
                    is_stacked=True,
                ),
            ],
        ),
        Row(
            "GPUs",
            [
                lines(
                    "GPU utilisation",
                    "Share of time in which a kernel ran.",
                    "percentunit",
                    Query("max by (gpu, uuid) (bountycoder_gpu_utilization_ratio)", _GPU),
                    span=6,
                    max_value=1,
                ),
                lines(
                    "GPU memory",
                    "The engine's cache takes most of it at the start.",
                    "percentunit",
                    Query(
                        "max by (gpu, uuid) (bountycoder_gpu_memory_used_bytes"
                        " / bountycoder_gpu_memory_total_bytes)",
                        _GPU,
                    ),
                    span=6,
                    limit=Limit(_ALERTS.alert_gpu_memory_ratio, "GpuMemoryFull"),
                    max_value=1,
                ),
                lines(
                    "GPU temperature",
                    "A GPU slows down when it is too hot.",
                    "celsius",
                    Query("max by (gpu, uuid) (bountycoder_gpu_temperature_celsius)", _GPU),
                    span=6,
                    limit=Limit(_ALERTS.alert_gpu_celsius, "GpuHot"),
                ),
                lines(
                    "GPU power",
                    "Drawn now.",
                    "watt",
                    Query("max by (gpu, uuid) (bountycoder_gpu_power_watts)", _GPU),
                    span=6,
                ),
            ],
        ),
        Row(
            "Network and disks",
            [
                lines(
                    "Network",
                    "Of a machine, without virtual devices.",
                    "Bps",
                    per_second(
                        f"node_network_receive_bytes_total{_NETWORK}", "instance", "{{instance}} in"
                    ),
                    per_second(
                        f"node_network_transmit_bytes_total{_NETWORK}",
                        "instance",
                        "{{instance}} out",
                    ),
                ),
                lines(
                    "Disks",
                    "Read and written.",
                    "Bps",
                    per_second("node_disk_read_bytes_total", "instance", "{{instance}} read"),
                    per_second("node_disk_written_bytes_total", "instance", "{{instance}} written"),
                ),
                lines(
                    "Disks busy",
                    "Share of time in which a disk was active.",
                    "percentunit",
                    Query(
                        "max by (instance, device)"
                        " (rate(node_disk_io_time_seconds_total[$__rate_interval]))",
                        "{{instance}} {{device}}",
                    ),
                    max_value=1,
                ),
                lines(
                    "File systems used",
                    "By mount point.",
                    "percentunit",
                    Query(
                        "max by (instance, mountpoint) (1 - node_filesystem_avail_bytes"
                        f"{_FILES} / node_filesystem_size_bytes{_FILES})",
                        "{{instance}} {{mountpoint}}",
                    ),
                    span=24,
                    limit=Limit(_ALERTS.alert_disk_ratio, "DiskFull"),
                    max_value=1,
                ),
            ],
        ),
        Row(
            "Containers",
            [
                lines(
                    "Processors of containers",
                    "1 is one processor all the time.",
                    "none",
                    per_second('container_cpu_usage_seconds_total{name!=""}', "name", "{{name}}"),
                    span=6,
                ),
                lines(
                    "Memory of containers",
                    "Working set.",
                    "bytes",
                    Query(
                        'sum by (name) (container_memory_working_set_bytes{name!=""})', "{{name}}"
                    ),
                    span=6,
                ),
                lines(
                    "Network of containers",
                    "In and out together.",
                    "Bps",
                    Query(
                        "sum by (name) ("
                        'rate(container_network_receive_bytes_total{name!=""}[$__rate_interval])'
                        ' + rate(container_network_transmit_bytes_total{name!=""}'
                        "[$__rate_interval]))",
                        "{{name}}",
                    ),
                    span=6,
                ),
                lines(
                    "Restarts of containers",
                    "Within the last quarter of an hour.",
                    "none",
                    Query(
                        'max by (name) (resets(container_cpu_usage_seconds_total{name!=""}[15m]))',
                        "{{name}}",
                    ),
                    span=6,
                    limit=Limit(_ALERTS.alert_container_restarts, "ContainerRestarting"),
                ),
            ],
        ),
        *SERVER_ROWS,
    ],
)

"""The metrics page for Prometheus, and a server for programs without an HTTP server."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterable
from importlib.metadata import version
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from prometheus_client import CollectorRegistry, make_wsgi_app
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from core.observability.metric_files import MetricFiles
from core.observability.metrics import PREFIX

PATH = "/metrics"
#: The timeout of each step of a scrape.
CLIENT_SECONDS = 10.0


def metrics_page(
    program: str, files: MetricFiles, collectors: Iterable[Collector] = ()
) -> WSGIApplication:
    """Return the page of a program: the counters and facts of all its processes, and more.

    Args:
        collectors: further metrics, collected with each scrape.
    """
    registry = CollectorRegistry()
    for collector in (BuildInfo(program), ProcessCollectors(files), *collectors):
        registry.register(collector)
    MultiProcessCollector(registry, str(files.path))
    metrics = make_wsgi_app(registry)

    def page(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if environ["PATH_INFO"] == PATH:
            body: Iterable[bytes] = metrics(environ, start_response)
            return body
        start_response("404 Not Found", [("Content-Type", "text/plain")])
        return [f"metrics are at {PATH}\n".encode()]

    return page


def serve_page(page: WSGIApplication, host: str, port: int) -> None:
    """Serve the page on a port in a background thread until the process ends.

    Raises:
        OSError: the port cannot be opened.
    """
    server_class = _Server6 if ":" in host else _Server
    server = make_server(host, port, page, server_class=server_class, handler_class=_Handler)
    threading.Thread(target=server.serve_forever, name="metrics", daemon=True).start()


class BuildInfo(Collector):
    def __init__(self, program: str) -> None:
        self._labels = [version("bountycoder"), program]

    def collect(self) -> Iterable[Metric]:
        info = GaugeMetricFamily(
            f"{PREFIX}_build_info", "Which program this is.", labels=["version", "program"]
        )
        info.add_metric(self._labels, 1)
        yield info


class ProcessCollectors(Collector):
    """The kernel's metrics of each process of the program, by the number of its slot."""

    def __init__(self, files: MetricFiles) -> None:
        self._files = files

    def describe(self) -> Iterable[Metric]:
        return []

    def collect(self) -> Iterable[Metric]:
        metrics: dict[str, Metric] = {}
        for slot, process_id in self._files.live_processes().items():
            for found in _metrics_of(process_id):
                metric = metrics.setdefault(
                    found.name, Metric(found.name, found.documentation, found.type)
                )
                for sample in found.samples:
                    metric.add_sample(sample.name, {"process": str(slot)}, sample.value)
        return metrics.values()


def _metrics_of(process_id: int) -> Iterable[Metric]:
    return ProcessCollector(pid=lambda: process_id, registry=None).collect()


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _Server6(_Server):
    address_family = socket.AF_INET6


class _Handler(WSGIRequestHandler):
    timeout = CLIENT_SECONDS

    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing: otherwise each scrape would be logged."""

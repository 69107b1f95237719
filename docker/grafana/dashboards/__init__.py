"""Grafana's dashboards as code, one module for each, beside the generated JSON."""

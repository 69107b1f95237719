"""Grafana: data sources, dashboards."""

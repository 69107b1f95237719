"""The configuration of Prometheus and Alertmanager: rules, thresholds, receivers."""

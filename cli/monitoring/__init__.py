"""What Prometheus and Alertmanager are told of this service: rules, thresholds, receivers."""

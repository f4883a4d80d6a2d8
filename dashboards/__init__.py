"""What Prometheus and Grafana read: rules by hand, dashboards from `source`. Not shipped in the wheel."""

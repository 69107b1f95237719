"""The dashboards as code, each in a file of its own beside the JSON that it makes."""

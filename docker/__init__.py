"""What runs the service in containers, and the code that makes its files."""

"""The files that run the service in containers, and the code that generates some of them."""

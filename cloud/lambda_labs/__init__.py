"""Workers on instances of Lambda's cloud. `lambda` alone is a keyword of Python."""

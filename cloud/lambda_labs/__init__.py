"""Workers on instances of Lambda's cloud. `lambda` alone would be no name for Python."""

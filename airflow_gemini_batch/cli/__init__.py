"""The command line, ``gemini-batch``: one module a subcommand."""

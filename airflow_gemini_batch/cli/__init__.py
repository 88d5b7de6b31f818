"""The command line, ``gemini-batch``: one module per subcommand."""

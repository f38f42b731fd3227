"""The command line, one file per command: parse, check the arguments, import the heavy modules, call, print."""

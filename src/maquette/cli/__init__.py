"""The command line, one file a verb: parse, check names and values, import what computes, call, print."""

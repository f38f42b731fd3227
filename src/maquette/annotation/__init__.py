"""Conditions drawn and texts written for a whole data set, into shards: by one process, many, or a cluster."""

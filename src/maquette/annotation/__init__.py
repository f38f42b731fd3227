"""Condition maps and captions for a whole data set, written as shards by one process, several, or a cluster."""

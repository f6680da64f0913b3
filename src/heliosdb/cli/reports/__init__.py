"""Reports for auditors and model cards: read from the catalog, written in the formats people ask for."""

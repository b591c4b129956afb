"""Raw text to token shards, on datatrove."""

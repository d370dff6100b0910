"""Bulk scoring: billions of pairs by the head alone, in shards, in bounded memory."""

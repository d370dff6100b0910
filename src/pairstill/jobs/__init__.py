"""Long work as shards with receipts: resumable after a kill, the same result whatever the engine."""

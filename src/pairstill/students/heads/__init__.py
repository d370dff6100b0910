"""What turns prepared representations and an index into logits."""

"""Making tuple sets: hard negatives, transfer sets, the built-in corpus."""

from pairstill.mining.mine import check_mining, mine_tuple_set
from pairstill.mining.python_sources import python_source_pairs
from pairstill.mining.settings import MiningSettings

__all__ = ["MiningSettings", "check_mining", "mine_tuple_set", "python_source_pairs"]

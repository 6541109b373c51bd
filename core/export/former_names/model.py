"""core.model"""

from core.network.inspection import probabilities as probabilities
from core.network.parameters import architecture_of as architecture_of

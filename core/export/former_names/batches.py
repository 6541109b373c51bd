"""core.batches"""

from core.data.images import Images as Images
